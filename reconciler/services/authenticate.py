"""Says whether a device's password proves who it is. Given to the device endpoint by the composition root."""

from __future__ import annotations

from reconciler.protocol import login as logins
from reconciler.store import identities
from reconciler.store.database import Database


class DatabaseAuthenticator:
    """Looks secrets up, decrypts one, and compares.

    Args:
        database: where the sealed secrets are.
        vault: what opens them.
    """

    def __init__(self, database: Database, vault: identities.Vault) -> None:
        self._database = database
        self._vault = vault

    async def authenticate(self, login: logins.Login) -> bool:
        """True when the password is right. An unknown device, or one without a secret, is just wrong.

        Raises:
            TransientError: the database is away.
            StalledError: secrets were encrypted with another key.
        """
        sealed = await self._database.read(identities.sealed_secret, login.address)
        return sealed is not None and logins.verify(login, self._vault.open(sealed))
