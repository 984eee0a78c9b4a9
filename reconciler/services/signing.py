"""The signing keys of products (secure upgrade, platform rules §2): read, looked at again and again, and signed with.

A product whose key can't be used is held in the database, with the reason and its remedy: its runs push and offer
nothing until somebody mends it, and go on by themselves then. A key stays in memory when its file vanishes, for what
was claimed just before; nothing is claimed after.

`Keyring` signs, for `offers`; `Signing` is the service that the daemon runs; the `keys` command reads by `load` too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from reconciler import errors
from reconciler.services import backoff
from reconciler.services.clock import Clock
from reconciler.store import events, products, signing_keys
from reconciler.store.database import Connection, Database
from reconciler.store.products import Signing as Asked
from reconciler.store.signing_keys import SigningKey

LOOK_SECONDS = 2.0
MOST_BYTES = 64 * 1024
"""A private key is much smaller; whatever a manifest names, no more of it is read."""

_log = logging.getLogger(__name__)


def load(reference: str, environment: Mapping[str, str]) -> bytes:
    """The text of a private key, as `resources.KeySource.reference` says where it is.

    Raises:
        UserError: it is not there. The error tells nothing of what is.
    """
    kind, _, name = reference.partition(":")
    if kind == "file":
        return read_file(Path(name))
    if name not in environment:
        raise errors.UserError(
            f"the environment variable {name} is not set",
            remedy="Set it to the private key in PEM where the daemon runs, and start the daemon again.",
        )
    return environment[name].replace("\\n", "\n").encode()  # an .env file has one line for each variable


def read_file(file: Path) -> bytes:
    """The text of a private key's file.

    Raises:
        UserError: it can't be read, or is no file.
    """
    remedy = "Put the private key (PEM) there, readable by the daemon's user alone."
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise errors.UserError(f"{file} is not a file", remedy=remedy)
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "the path is malformed"
        raise errors.UserError(f"{file} can't be read: {why}", remedy=remedy) from error
    if len(text) > MOST_BYTES:
        raise errors.UserError(f"{file} is too long to be a private key", remedy=remedy)
    return text


class Keyring:
    """The keys that were read, by their references.

    Args:
        environment: the process's variables.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._keys: dict[str, tuple[bytes, SigningKey]] = {}

    def look(self, reference: str) -> SigningKey:
        """The key as it is now; its text is only read again where it changed.

        Raises:
            UserError: it is not there, or is none.
        """
        text = load(reference, self._environment)
        if self._keys.get(reference, (b"", None))[0] != text:
            where = reference.partition(":")[2]
            self._keys[reference] = text, signing_keys.read(text, where)
        return self._keys[reference][1]

    def sign(self, reference: str, digest: str) -> str:
        """The signature, in base64, over the bytes of a digest that is given in hex.

        Raises:
            StalledError: the key was never read: nothing unsigned goes out.
        """
        if reference not in self._keys:
            raise errors.StalledError(
                "a push was due before its product's signing key was read",
                remedy="`reconciler describe product` says what is wrong with the key.",
            )
        return self._keys[reference][1].sign(bytes.fromhex(digest))


class Signing:
    """Holds the products whose keys can't be used, and lets them go on when they can."""

    def __init__(self, database: Database, keyring: Keyring, clock: Clock) -> None:
        self._database = database
        self.keyring = keyring
        self._clock = clock

    async def run(self) -> None:
        """Looks every two seconds, until cancelled."""
        retry = backoff.Backoff(LOOK_SECONDS, 30.0)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except errors.ReconcilerError as error:
                _log.warning("signing keys are not looked at: %s", error.message)
                await asyncio.sleep(retry.failed())
            else:
                retry.succeeded()

    async def look(self) -> None:
        """Reads every key that a product names, and notes what changed.

        Raises:
            TransientError: the database is away.
        """
        for asked in await self._database.read(products.signing):
            held = await asyncio.to_thread(self._problem, asked)
            if held != asked.held:
                await self._database.write(_note, asked, held, self._clock)
                if held is not None:
                    _log.warning("product %s is held: %s", asked.name, held)

    def _problem(self, asked: Asked) -> str | None:
        try:
            self.keyring.look(asked.key)
        except errors.UserError as error:
            return f"its signing key can't be used: {error.message}. {error.remedy}"
        return None


def _note(connection: Connection, asked: Asked, held: str | None, clock: Clock) -> None:
    now = clock.now()
    changed = products.note_signing(connection, asked, held, now)
    if not changed or (held is None and asked.held == products.UNREAD):  # the usual way: nobody needs to know
        return
    message = held or "its signing key can be used again: pushes go on"
    line = events.Event(type=events.Type.SIGNING, kind="Product", name=asked.name, message=message)
    events.append(connection, now, [line])
