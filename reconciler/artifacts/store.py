"""Decides where firmware files lie on our disk: each under the SHA-256 of its content, complete or not at all.

Apply and fetches put files in, the download server reads them, the collector takes them out. Nothing here knows
packages, or where a file comes from.
All calls block; they belong into a thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator

from reconciler import errors
from reconciler.artifacts.digests import Digests
from reconciler.artifacts.partial import Partial

_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FRESH_SECONDS = 3600.0
"""What was put, or asked for, so recently is somebody's who has not said so yet."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class MismatchError(errors.UserError):
    """What came is not what the manifest says: another size or another digest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A file that is in the store."""

    sha256: str
    md5: str
    size: int
    """Bytes."""


class FileStore:
    """Files by content.

    Args:
        root: the folder, which is ours alone.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._unfinished = root / "unfinished"
        self._partial = root / "partial"
        self._leaving = threading.Lock()

    def prepare(self) -> None:
        """To be called once at start: makes the folders, and removes what a killed process left unfinished.

        What it had fetched of a file from outside stays: the rest of it suffices.

        Raises:
            StalledError: the folder cannot be written.
        """
        with self._explained():
            if self._unfinished.exists():
                shutil.rmtree(self._unfinished)
            self._unfinished.mkdir(parents=True)
            self._partial.mkdir(exist_ok=True)

    def put(
        self, chunks: Iterable[bytes], *, expect_sha256: str | None = None, expect_size: int | None = None
    ) -> Stored:
        """Stores a file as it streams in; memory stays flat. Putting what is there already changes nothing.

        Args:
            chunks: the content. What it raises comes through, and nothing is stored.
            expect_sha256: in hex; None when anything is right.
            expect_size: bytes; None when anything is right. Reading stops as soon as there are more.

        Raises:
            MismatchError: the content is not the expected one.
            TransientError: the disk is full.
            StalledError: the folder cannot be written.
        """
        with self._temporary() as (place, descriptor):
            stored = self._write(chunks, descriptor, expect_size)
            if expect_size is not None and stored.size != expect_size:
                raise MismatchError(f"the file has {stored.size:,} bytes, not {expect_size:,}")
            if expect_sha256 is not None and stored.sha256 != expect_sha256.lower():
                raise MismatchError(f"the file's SHA-256 is {stored.sha256}, not {expect_sha256}")
            with self._explained():
                self._publish(place, descriptor, stored.sha256)
        return stored

    def path(self, sha256: str) -> pathlib.Path:
        """Where the file with this digest lies, if it is here.

        Raises:
            ValueError: this is no SHA-256 in lower-case hex.
        """
        if not _SHA256.fullmatch(sha256):
            raise ValueError(sha256)
        return self._root / sha256[:2] / sha256

    @contextlib.contextmanager
    def partial(self, sha256: str) -> Iterator[Partial]:
        """What has come of the file with this digest, open for more. One at a time may be open for a digest.

        Raises:
            TransientError: the disk is full, also in what is done with it.
            StalledError: the folder cannot be written.
        """
        place = self._partial / self.path(sha256).name
        with self._explained(), Partial.opened(place) as opened:
            yield opened

    def keep(self, partial: Partial, size: int | None = None) -> Stored:
        """A partial file that is whole becomes one of the store.

        Raises:
            MismatchError: it is not the file that it was opened for, and is gone.
        """
        stored = Stored(partial.sha256, partial.md5, partial.size)
        complaint = ""
        if size is not None and size != stored.size:
            complaint = f"the file has {stored.size:,} bytes, not {size:,}"
        elif stored.sha256 != partial.place.name:
            complaint = f"the file's SHA-256 is {stored.sha256}, not {partial.place.name}"
        if complaint:
            partial.discard()
            raise MismatchError(complaint)
        os.utime(partial.place)
        self._publish(partial.place, partial.descriptor, stored.sha256)
        partial.discard()
        return stored

    def holds(self, sha256: str) -> bool:
        """True when the file is here; it is not taken out for the next hour, so that who asks may count on it."""
        place = self.path(sha256)
        with self._leaving:
            try:
                if time.time() - place.stat().st_mtime > _FRESH_SECONDS / 2:
                    os.utime(place)
            except FileNotFoundError:
                return False
        return True

    def discard(self, sha256: str) -> bool:
        """Takes a file out that nobody put or asked for in the last hour; False when it stays."""
        place = self.path(sha256)
        with self._leaving, self._explained(), contextlib.suppress(FileNotFoundError):
            if time.time() - place.stat().st_mtime < _FRESH_SECONDS:
                return False
            place.unlink()
        return True

    def everything(self) -> Iterator[str]:
        """The digests of all files that are here."""
        for folder in self._root.glob("[0-9a-f][0-9a-f]"):
            yield from (place.name for place in folder.iterdir() if _SHA256.fullmatch(place.name))

    def forget_partials(self, wanted: Iterable[str]) -> None:
        """Removes what had come of files that nobody wants any more; not what moved in the last hour."""
        kept = frozenset(wanted)
        for place in self._partial.iterdir():
            if place.stem not in kept and time.time() - place.stat().st_mtime > _FRESH_SECONDS:
                place.unlink(missing_ok=True)

    def found(self, sha256: str) -> Stored | None:
        """The file that is here already; None when it isn't, or isn't what its name says. Reads all of it.

        Raises:
            StalledError: it is here, and cannot be read.
        """
        if not self.holds(sha256):
            return None
        size = 0
        with self._explained(), self.path(sha256).open("rb") as file, Digests() as digests:
            while piece := file.read(_CHUNK_BYTES):
                digests.update(piece)
                size += len(piece)
            stored = Stored(digests.sha256, digests.md5, size)
        return stored if stored.sha256 == sha256 else None

    def _write(self, chunks: Iterable[bytes], descriptor: int, most: int | None) -> Stored:
        size = 0
        with Digests() as digests:
            for chunk in chunks:
                size += len(chunk)
                if most is not None and size > most:
                    raise MismatchError(f"the file has more than {most:,} bytes")
                for start in range(0, len(chunk), _CHUNK_BYTES):
                    piece = chunk[start : start + _CHUNK_BYTES]
                    digests.update(piece)
                    with self._explained():
                        _write_all(descriptor, piece)
            return Stored(digests.sha256, digests.md5, size)

    def _publish(self, place: pathlib.Path, descriptor: int, sha256: str) -> None:
        """The content is on the disk before its name is, and the name before we say so."""
        final = self.path(sha256)
        os.fsync(descriptor)
        if not final.parent.exists():
            final.parent.mkdir(exist_ok=True)
            _sync_folder(self._root)
        place.replace(final)
        _sync_folder(final.parent)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[pathlib.Path, int]]:
        with self._explained():
            descriptor, name = tempfile.mkstemp(dir=self._unfinished)
        place = pathlib.Path(name)
        try:
            yield place, descriptor
        finally:
            os.close(descriptor)
            place.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What the operating system says, in our words."""
        try:
            yield
        except OSError as problem:
            if problem.errno in _FULL:
                text = f"the disk of {self._root} is full"
                raise errors.TransientError(text, remedy="make room", retry_after=60.0) from problem
            text = f"{self._root} cannot be written: {problem.strerror}"
            raise errors.StalledError(text, remedy="give the folder to the daemon's user") from problem


def _write_all(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
