"""Decides who a connecting device says it is, and whether its password proves that (device protocol §3).

Called by the device endpoint, by an external broker's authentication hook, and (`make`) by the simulator. It
knows no secrets of its own and never looks at the time: some SDKs always send the same timestamp (trap 11),
so freshness proves nothing.
"""

from __future__ import annotations

import dataclasses
import hmac

from reconciler.protocol.topics import Address

DEFAULT_METHOD = "hmacmd5"
_DIGESTS = {"hmacmd5": "md5", "hmacsha1": "sha1", "hmacsha256": "sha256"}


class LoginError(ValueError):
    """What a client sent at login can't be read as a device's identity.

    Args:
        reason: what is wrong with it, for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Login:
    """What a device claims, and the password that should prove it."""

    address: Address
    """Who it says it is. Taken from the user name alone: client ids may be anything (trap 11)."""
    client_id: str
    """As sent, options and all."""
    cid: str
    """The part of the client id before the first `|`, which is signed."""
    sign_method: str
    """`hmacmd5`, `hmacsha1` or `hmacsha256`."""
    timestamp: str | None
    """As sent, signed when present; never checked for freshness."""
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What a device puts into its CONNECT."""

    client_id: str
    username: str
    password: str = dataclasses.field(repr=False)


def parse(client_id: str, username: str, password: str) -> Login:
    """Reads the three strings of a CONNECT.

    Only the shape of the names is looked at: whether they are well formed, `topics.is_well_formed` says.

    Raises:
        LoginError: the user name is not `deviceName&productKey`, or the sign method is none that we know.
    """
    name, _, product = username.partition("&")
    if not name or not product:
        raise LoginError(f"user name {username!r} is not deviceName&productKey")
    cid, _, rest = client_id.partition("|")
    options = dict(_option(part) for part in rest.rstrip("|").split(","))
    method = options.get("signmethod", DEFAULT_METHOD).lower()
    if method not in _DIGESTS:
        raise LoginError(f"signmethod {method!r} is none of {', '.join(_DIGESTS)}")
    return Login(Address(product, name), client_id, cid, method, options.get("timestamp"), password)


def _option(part: str) -> tuple[str, str]:
    key, _, value = part.partition("=")
    return key.strip().lower(), value.strip()


def sign(
    secret: str, address: Address, cid: str, *, method: str = DEFAULT_METHOD, timestamp: str | None = None
) -> str:
    """The password that proves an identity: lower-case hex of the HMAC over the signed text.

    Raises:
        LoginError: the sign method is none that we know.
    """
    if method not in _DIGESTS:
        raise LoginError(f"signmethod {method!r} is none of {', '.join(_DIGESTS)}")
    text = f"clientId{cid}deviceName{address.device_name}productKey{address.product_key}"
    if timestamp is not None:
        text += f"timestamp{timestamp}"
    return hmac.digest(secret.encode(), _encode(text), _DIGESTS[method]).hex()


def _encode(text: str) -> bytes:
    """UTF-8 of whatever a client sent; a broker's hook can pass on what is no proper text."""
    return text.encode(errors="surrogatepass")


def verify(login: Login, secret: str) -> bool:
    """True when the password was made with this secret. Takes the same time for every wrong password.

    The hex digits' case does not matter: the C SDK sends upper case (trap 11).
    """
    expected = sign(secret, login.address, login.cid, method=login.sign_method, timestamp=login.timestamp)
    return hmac.compare_digest(expected.encode(), _encode(login.password.lower()))


def make(
    address: Address,
    secret: str,
    *,
    cid: str | None = None,
    method: str = "hmacsha256",
    timestamp: str | None = "2524608000000",
) -> Credentials:
    """What a device with this secret sends at login, as the C SDK writes it.

    Args:
        address: who the device is.
        secret: its device secret.
        cid: the client id before the options; `pk.dn` when not given.
        method: `hmacmd5`, `hmacsha1` or `hmacsha256`.
        timestamp: signed when given; the C SDK always sends the default's.
    """
    cid = f"{address.product_key}.{address.device_name}" if cid is None else cid
    options = f"securemode=2,signmethod={method}" + ("" if timestamp is None else f",timestamp={timestamp}")
    password = sign(secret, address, cid, method=method, timestamp=timestamp).upper()
    return Credentials(f"{cid}|{options}|", f"{address.device_name}&{address.product_key}", password)
