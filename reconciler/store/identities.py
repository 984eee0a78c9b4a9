"""Device secrets: encrypted at rest with a key that is not in the database.

Called by the `device` command (make, rotate, show) and by the authenticator of the device endpoint (look up).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Connection, delete, insert, select, update

from reconciler import errors
from reconciler.protocol.topics import Address
from reconciler.store import dialects, tables

SECRET_BYTES = 16


class Vault:
    """Encrypts and decrypts secrets.

    Args:
        key: 32 bytes in URL-safe base64, as `Vault.new_key` makes them.

    Raises:
        UserError: the key is malformed.
    """

    def __init__(self, key: bytes) -> None:
        try:
            self._fernet = Fernet(key)
        except ValueError as error:
            raise errors.UserError(
                "the secret key is malformed",
                remedy="It is 32 bytes in URL-safe base64; leave it away to have one made.",
            ) from error

    @staticmethod
    def new_key() -> bytes:
        """A fresh random key."""
        return Fernet.generate_key()

    def seal(self, secret: str) -> bytes:
        """A device's secret, encrypted."""
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """A device's secret.

        Raises:
            StalledError: it was encrypted with another key.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise errors.StalledError(
                "a device's secret was encrypted with another key",
                remedy="Give the key that the data directory was made with (its file secret.key, or --secret-key).",
            ) from error


def load_or_make_key(file: Path) -> bytes:
    """The key in a file of the data directory, made (readable by its owner only) at first use.

    Raises:
        StalledError: the file can't be written.
    """
    try:
        if not file.exists():
            half = file.with_suffix(f".{os.getpid()}")
            half.touch(mode=0o600)
            half.write_bytes(Vault.new_key())
            with contextlib.suppress(FileExistsError):  # another process made one meanwhile: keep that
                os.link(half, file)
            half.unlink()
        return file.read_bytes().strip()
    except OSError as error:
        raise errors.StalledError(
            f"the secret key {file} can't be made: {error.strerror}",
            remedy="Mend the data directory's permissions.",
        ) from error


def new_secret() -> str:
    """A random device secret: 32 hexadecimal digits, as device makers know them."""
    return secrets.token_hex(SECRET_BYTES)


def sealed_secret(connection: Connection, address: Address) -> bytes | None:
    """The encrypted secret of a device on the wire; None when it, or its product, is unknown, or it has none."""
    product, device, identity = tables.product, tables.device, tables.identity
    query = (
        select(identity.c.secret)
        .join(device, device.c.id == identity.c.device_id)
        .join(product, product.c.id == device.c.product_id)
        .where(product.c.product_key == address.product_key, device.c.name == address.device_name)
        .where(~product.c.removed)
    )
    return connection.execute(query).scalar_one_or_none()


def put(connection: Connection, device_id: int, sealed: bytes, now: datetime) -> bool:
    """Gives a device its secret; True when it replaces an older one."""
    identity = tables.identity
    rotated = connection.execute(
        update(identity).where(identity.c.device_id == device_id).values(secret=sealed, rotated_at=now)
    )
    if rotated.rowcount:
        return True
    connection.execute(insert(identity).values(device_id=device_id, secret=sealed, created_at=now))
    return False


def sealed_secrets(connection: Connection, device_ids: Iterable[int]) -> dict[int, bytes]:
    """The encrypted secrets of those of some devices that have one."""
    identity = tables.identity
    query = select(identity.c.device_id, identity.c.secret).where(
        identity.c.device_id.in_(dialects.members(device_ids))
    )
    return {row.device_id: row.secret for row in connection.execute(query)}


def exists(connection: Connection, device_id: int) -> bool:
    """True when the device has a secret already."""
    identity = tables.identity
    return (
        connection.execute(select(identity.c.device_id).where(identity.c.device_id == device_id)).first()
        is not None
    )


def drop(connection: Connection, device_id: int) -> None:
    """Takes a device's secret away: it can't log in any more."""
    connection.execute(delete(tables.identity).where(tables.identity.c.device_id == device_id))
