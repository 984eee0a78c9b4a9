"""One attempt to get one file into the store: continued where the last one ended, checked, whole or not at all.

Called by the fetch service, in a thread. Whether and when there is another attempt is decided there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from reconciler import errors
from reconciler.artifacts.network import Halt, RefusedError
from reconciler.artifacts.origin import Opened, Origin, OtherPartError
from reconciler.artifacts.partial import Partial
from reconciler.artifacts.store import FileStore, MismatchError, Stored
from reconciler.domain import foreign

Progress = Callable[[int, int | None], None]
"""Told how many bytes are here, and of how many, where that is known."""


class PartsError(errors.TransientError):
    """What came is not the file, and may be of two versions of it, or half of one: it has to come anew."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A file that a manifest names."""

    source: str
    """Its URL."""
    sha256: str
    size: int | None
    """Bytes; None when the manifest doesn't say."""


class Fetcher:
    """Gets files.

    Args:
        files: where they go.
        origins: by the scheme of a URL.
        most: bytes that a file may have.
    """

    def __init__(self, files: FileStore, origins: Mapping[str, Origin], most: int) -> None:
        self._files = files
        self._origins = origins
        self._most = most
        self._doubted: dict[str, str] = {}
        """What came last from each source that doesn't say where a file ends: its digest, which was the wrong one."""

    def fetch(self, wanted: Wanted, halt: Halt, progress: Progress) -> Stored:
        """The file is in the store. One that is there already is read instead: it was kept just before a crash.

        Raises:
            MismatchError: what is at the source is another file than the manifest says.
            RefusedError: nothing may be fetched from there.
            PartsError: it has to come anew.
            TransientError: it did not come whole; what came is kept.
            NoRoomError: it does not fit on the disk; what came is given up.
            StalledError: it can't be written.
        """
        if complaint := foreign.problem(wanted.source):
            raise RefusedError(complaint, remedy="Correct the source.")
        if (here := self._files.found(wanted.sha256)) is not None and wanted.size in {None, here.size}:
            return here
        origin = self._origins[foreign.place(wanted.source).scheme]
        with self._files.partial(wanted.sha256) as partial:
            if partial.sha256 == wanted.sha256:  # it was whole when the process was killed
                return self._files.keep(partial, wanted.size)
            validator = partial.validator(wanted.source)
            start = partial.size if validator is not None else 0
            try:
                with origin.open(wanted.source, halt, start=start, validator=validator) as opened:
                    self._check_size(opened, wanted, partial)
                    if not opened.start:
                        partial.restart(wanted.source, opened.validator)
                    self._take(opened, wanted, partial, progress)
            except OtherPartError:
                partial.discard()
                raise
            return self._finish(opened, wanted, partial)

    def _check_size(self, opened: Opened, wanted: Wanted, partial: Partial) -> None:
        """What has the wrong size is not even fetched."""
        size = opened.size
        if size is not None and wanted.size is not None and size != wanted.size:
            partial.discard()
            raise MismatchError(f"the file there has {size:,} bytes, not {wanted.size:,}")
        if size is not None and size > self._most:
            raise RefusedError(f"the file there has {size:,} bytes, more than {self._most:,}")

    def _take(self, opened: Opened, wanted: Wanted, partial: Partial, progress: Progress) -> None:
        size = opened.size or wanted.size
        most = min(size or self._most, self._most)
        if size is not None:
            partial.expect(size)
        progress(partial.size, size)
        for chunk in opened.chunks:
            if partial.size + len(chunk) > most:
                partial.discard()
                raise MismatchError(f"the file there has more than {most:,} bytes")
            partial.write(chunk)
            progress(partial.size, size)

    def _finish(self, opened: Opened, wanted: Wanted, partial: Partial) -> Stored:
        size = opened.size or wanted.size
        if size is not None and partial.size < size:
            text = f"the connection broke after {partial.size:,} of {size:,} bytes"
            raise errors.TransientError(text, retry_after=0.0)
        came = partial.sha256
        try:
            return self._files.keep(partial, wanted.size)
        except MismatchError as error:
            if opened.start:  # maybe of two versions: the next attempt tells
                text = f"what came in parts does not fit together: {error.message}"
                raise PartsError(text, retry_after=0.0) from error
            is_whole = opened.has_end or wanted.size is not None or self._doubted.get(wanted.source) == came
            if not is_whole:  # it breaks off nowhere twice
                self._doubted[wanted.source] = came
                text = f"the server does not say how long it is, so it may have broken off: {error.message}"
                raise PartsError(text, retry_after=0.0) from error
            self._doubted.pop(wanted.source, None)
            raise
