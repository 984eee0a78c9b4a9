"""Keys of products that sign (secure upgrade, platform rules §2): made, read, shown, and signed with.

What is signed is fixed by the firmware in the field: the raw bytes of the file's digest, of `sign` as its device checks
it. With RSA by RSASSA-PKCS1-v1_5 and SHA-256 (over those bytes: the digest is digested once more), with Ed25519 as it
is; the signature in base64. AliOS Things' updater verifies just that, with a modulus of 2048 bits.

Called by the `keys` command and by `services.signing`. It knows bytes only: nothing of files, variables or products.
"""

from __future__ import annotations

import base64
import enum

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from reconciler import errors

RSA_BITS = 2048
"""Of a new key: what AliOS Things' updater has room for, and no more."""
_FEWEST_BITS, _MOST_BITS = 2048, 4096


class Type(enum.StrEnum):
    """What a key is for arithmetic."""

    RSA = "rsa"
    ED25519 = "ed25519"


class SigningKey:
    """A product's private key. It signs, and tells its public half; the private half is never told again.

    Args:
        key: as `read` and `make` found or made it.
    """

    def __init__(self, key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> None:
        self._key = key
        self._signed: dict[bytes, str] = {}

    def sign(self, digest: bytes) -> str:
        """The signature over a digest's bytes, in base64. The same digest gives the same signature."""
        if digest not in self._signed:  # there are few files, and many pushes of each
            self._signed[digest] = base64.b64encode(self._sign(digest)).decode()
        return self._signed[digest]

    def _sign(self, digest: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(digest, padding.PKCS1v15(), hashes.SHA256())
        return self._key.sign(digest)

    def public_pem(self) -> str:
        """The public key as everybody reads it (SubjectPublicKeyInfo in PEM)."""
        return self._public(serialization.Encoding.PEM).decode()

    def public_der(self) -> bytes:
        """The same as bytes."""
        return self._public(serialization.Encoding.DER)

    def _public(self, encoding: serialization.Encoding) -> bytes:
        return self._key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)

    def public_numbers(self) -> tuple[bytes, bytes]:
        """The bare key for a microcontroller: RSA's modulus and exponent, big endian; of Ed25519 its 32 bytes alone."""
        public = self._key.public_key()
        if isinstance(public, ed25519.Ed25519PublicKey):
            return public.public_bytes_raw(), b""
        numbers = public.public_numbers()
        return numbers.n.to_bytes(public.key_size // 8), numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8)

    def __str__(self) -> str:
        """What it is, without anything secret: `RSA, 2048 bits`."""
        return f"RSA, {self._key.key_size} bits" if isinstance(self._key, rsa.RSAPrivateKey) else "Ed25519"


def make(type_: Type) -> str:
    """A new private key: PKCS#8 in PEM, without a passphrase. It is a secret: whoever writes it down guards it."""
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    if type_ is Type.RSA:
        key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def read(pem: bytes, where: str) -> SigningKey:
    """A private key from its PEM.

    Args:
        pem: the text. Nothing of it is ever part of an error.
        where: what it was read from, for errors.

    Raises:
        UserError: it is none, or none that devices can verify.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise errors.UserError(
            f"the private key in {where} is encrypted",
            remedy="Take the passphrase off (`openssl pkey -in … -out …`), and guard the file instead.",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise errors.UserError(
            f"there is no private key in PEM in {where}", remedy="`reconciler keys create` makes one."
        ) from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return SigningKey(key)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise errors.UserError(
            f"the private key in {where} is neither RSA nor Ed25519",
            remedy="`reconciler keys create` makes one of these.",
        )
    if not _FEWEST_BITS <= key.key_size <= _MOST_BITS or key.key_size % 8:
        raise errors.UserError(
            f"the RSA key in {where} has {key.key_size} bits",
            remedy=f"It has {_FEWEST_BITS} to {_MOST_BITS}; AliOS Things' updater takes {RSA_BITS} only.",
        )
    return SigningKey(key)
