"""What every source of files is for a fetch: something that is opened at a byte, and streams from there.

`https`, `s3` and `local` are the real ones; `fetch` uses them through this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from reconciler import errors
from reconciler.artifacts.network import Halt


class OtherPartError(errors.TransientError):
    """The source does not continue where we were: what came so far is worth nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A file that streams."""

    chunks: Iterator[bytes]
    """Raises a TransientError when the source goes away."""
    start: int
    """Where the chunks begin: where they were asked for, or 0 when the source does not continue that version."""
    size: int | None
    """Bytes of the whole file; None when the source doesn't say."""
    validator: str | None
    """What tells this version of the file from others; None: it can't be continued later."""
    has_end: bool = True
    """False when nobody can tell a whole file from one that broke off."""


class Origin(Protocol):
    """A kind of source."""

    def open(
        self, source: str, halt: Halt, *, start: int, validator: str | None
    ) -> AbstractContextManager[Opened]:
        """Opens a file at a byte, when it is still the version that the validator tells; else at its beginning.

        Raises:
            OtherPartError: it has to be opened at its beginning.
            TransientError: the source is away, or has no such file now.
            RefusedError: this is nowhere to fetch files from.
        """
        ...
