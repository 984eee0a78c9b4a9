"""Reads a CSV file of NAME,SECRET lines into identities: streamed, so that a million lines need no memory.

Called by `device import`. A line that can't be used is reported and skipped; lines that were imported before change
nothing, so an import that was interrupted is simply done again.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from reconciler import errors
from reconciler.domain import resources
from reconciler.domain.limits import Limits
from reconciler.store import devices, identities
from reconciler.store.database import Connection, Database

_CHUNK = 1000
_LISTED = 50
_LINE_BYTES = 4096
_LONGEST_SECRET = 128


def secret_problem(secret: str) -> str | None:
    """Why a text can't be a device's secret; None when it can. Never says the secret itself."""
    if not secret:
        return "the secret is empty"
    if len(secret) > _LONGEST_SECRET:
        return f"the secret is longer than {_LONGEST_SECRET} characters"
    if not all("!" <= sign <= "~" for sign in secret):
        return "the secret may hold printable ASCII characters only, and no space"
    return None


@dataclasses.dataclass(slots=True)
class Result:
    """What an import did; `flaws` lists the first lines that can't be used."""

    imported: int = 0
    unchanged: int = 0
    refused: int = 0
    flaws: list[tuple[int, str]] = dataclasses.field(default_factory=list)

    def refuse(self, line: int, message: str) -> None:
        """Notes a line that can't be used."""
        self.refused += 1
        if len(self.flaws) < _LISTED:
            self.flaws.append((line, message))


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    number: int
    name: str
    secret: str


class Import:
    """Gives the devices of one product the secrets of a file."""

    def __init__(
        self, database: Database, vault: identities.Vault, product_id: int, allowed: Limits, now: datetime
    ) -> None:
        self._database = database
        self._vault = vault
        self._product_id = product_id
        self._limits = allowed
        self._now = now
        self._result = Result()

    def run(self, file: Path) -> Result:
        """Reads the whole file, a thousand lines a transaction.

        Raises:
            UserError: the file can't be read.
        """
        try:
            lines = self._lines(file)
            while chunk := list(itertools.islice(lines, _CHUNK)):
                with self._database.writing() as connection:
                    self._keep(connection, chunk)
        except OSError as error:
            raise errors.UserError(f"{file} can't be read: {error.strerror}") from error
        self._result.flaws.sort()
        return self._result

    def _lines(self, file: Path) -> Iterator[_Line]:
        with file.open("rb") as stream:
            for number, raw in enumerate(iter(lambda: stream.readline(_LINE_BYTES), b""), 1):
                cells = _cells(raw)
                if cells is None:
                    self._result.refuse(number, "not a line of CSV in UTF-8")
                elif any(cells) and not (number == 1 and _is_header(cells)):
                    yield from self._checked(number, cells)

    def _checked(self, number: int, cells: list[str]) -> Iterator[_Line]:
        if len(cells) != 2:
            complaint: str | None = f"{len(cells)} column{'s' * (len(cells) != 1)} instead of NAME,SECRET"
        else:
            complaint = resources.device_name_problem(cells[0], self._limits) or secret_problem(cells[1])
        if complaint:
            self._result.refuse(number, complaint)
        else:
            yield _Line(number, *cells)

    def _keep(self, connection: Connection, lines: list[_Line]) -> None:
        listed = list(dict.fromkeys(line.name for line in lines))
        known = devices.enrol(connection, self._product_id, listed, self._now)
        sealed = identities.sealed_secrets(connection, known.values())
        secrets = {device_id: self._vault.open(secret) for device_id, secret in sealed.items()}
        for line in lines:
            device_id = known[line.name]
            has = secrets.get(device_id)
            if has is None:
                identities.put(connection, device_id, self._vault.seal(line.secret), self._now)
                secrets[device_id] = line.secret
                self._result.imported += 1
            elif has == line.secret:
                self._result.unchanged += 1
            else:
                self._result.refuse(
                    line.number, f"{line.name} has another secret already: `device rotate` replaces it"
                )


def _cells(raw: bytes) -> list[str] | None:
    """The cells of a line; None when it is none."""
    if len(raw) == _LINE_BYTES:
        return None
    try:
        text = raw.decode("utf-8").lstrip("\N{BYTE ORDER MARK}").rstrip("\r\n")
        return [cell.strip() for cell in next(csv.reader([text], strict=True), [])]
    except (UnicodeDecodeError, csv.Error):
        return None


def _is_header(cells: list[str]) -> bool:
    return [cell.lower() for cell in cells] == ["name", "secret"]
