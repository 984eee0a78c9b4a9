"""Decides where firmware files lie on our disk: each under the SHA-256 of its content, complete or not at all.

Apply and fetches put files in, who sends them opens them, the collector takes them out. Nothing here knows packages, or
where a file comes from. A file is opened only when it is known to be what its name says: it was digested by this
process, and is the same file as then. One that turns out to be another is taken out of the way.
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
from collections.abc import Callable, Iterable, Iterator

from reconciler import errors
from reconciler.artifacts.digests import Digests, sha256_of
from reconciler.artifacts.network import Halt
from reconciler.artifacts.partial import Partial
from reconciler.artifacts.room import NoRoomError, Room, Share

_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FRESH_SECONDS = 3600.0
"""What was put, or asked for, so recently is somebody's who has not said so yet."""
_TRUSTED_SECONDS = 24 * 3600.0
"""A disk that forgets changes no time of a file: for so long what was digested counts as what is there."""
_MOST_DAMAGED = 3
"""Files that are kept for an operator to look at."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_FULL = {*_NO_SPACE, errno.EFBIG}


class MismatchError(errors.UserError):
    """What came is not what the manifest says: another size or another digest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A file that is in the store."""

    sha256: str
    md5: str
    size: int
    """Bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Damage:
    """A file of the store that was not what its name says."""

    what: str
    """What was found, in words."""
    place: pathlib.Path | None
    """Where it lies now; None when it could not be moved: then it stays, and is opened for nobody."""


class UnverifiedError(errors.ReconcilerError):
    """Nobody knows whether a file is what its name says, until it is read."""


_Identity = tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Verdict:
    """What was found out about the file that lies, or lay, under a digest."""

    of: _Identity
    is_right: bool
    until: float


class FileStore:
    """Files by content.

    Args:
        root: the folder, which is ours alone.
        now: seconds, monotonic.
        room: how much of the disk files may take; None for all of it.
    """

    def __init__(
        self, root: pathlib.Path, now: Callable[[], float] = time.monotonic, room: Room | None = None
    ) -> None:
        self._root = root
        self._now = now
        self._room = room or Room(root, 0)
        self._unfinished = root / "unfinished"
        self._partial = root / "partial"
        self._damaged = root / "damaged"
        self._moving = threading.Lock()
        """Held by who puts a file under its name, takes it away, or says something about it."""
        self._asked: dict[str, float] = {}
        """When each file was put, or asked for, in this process."""
        self._verdicts: dict[str, _Verdict] = {}

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
            TransientError: the disk is full, or has no room for this beside what is to stay free.
            StalledError: the folder cannot be written.
        """
        with self._temporary() as (place, descriptor), self._room.share() as share:
            if expect_size is not None:
                with self._explained():
                    share.promise(expect_size)
            stored = self._write(chunks, descriptor, expect_size, share)
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

        When the rest does not fit, what came is given up: the database and other files need that room.

        Raises:
            TransientError: the disk is full, or has too little room, also in what is done with it.
            StalledError: the folder cannot be written.
        """
        place = self._partial / self.path(sha256).name
        with self._explained(), self._room.share() as share, Partial.opened(place, share) as opened:
            try:
                yield opened
            except (OSError, NoRoomError) as problem:
                if isinstance(problem, NoRoomError) or problem.errno in _NO_SPACE:
                    opened.discard()
                raise

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
        self._publish(partial.place, partial.descriptor, stored.sha256)
        partial.discard()
        return stored

    def open(self, sha256: str) -> int:
        """Opens a file that is known to be what its name says; the descriptor is the caller's to close.

        Raises:
            UnverifiedError: it is here, and nobody knows: `verify` finds out.
            OSError: it is not here, or can't be opened.
        """
        place = self.path(sha256)
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        verdict = self._verdicts.get(sha256)
        if verdict is None or verdict.of != _identity(os.fstat(descriptor)) or verdict.until < self._now():
            os.close(descriptor)
            raise UnverifiedError(f"{place} was not verified")
        if not verdict.is_right:
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "it is damaged", str(place))
        return descriptor

    def verify(self, sha256: str, halt: Halt) -> Damage | None:
        """Reads all of a file: afterwards it is known, or out of the way. None: it is right, or not here at all.

        Args:
            sha256: its name.
            halt: ends it early.

        Raises:
            HaltedError: it was ended.
            OSError: it can't be opened, or read for a reason that lies elsewhere.
        """
        place = self.path(sha256)
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            seen = _identity(os.fstat(descriptor))
            what = _complaint(descriptor, sha256, halt)
            with self._moving:
                if not what:
                    if seen == _identity(os.fstat(descriptor)):  # else it was touched meanwhile: once more
                        self._say(sha256, seen, is_right=True)
                    return None
                if not _is_at(place, seen):  # another one lies there by now
                    return None
                return Damage(what, self._set_aside(place, seen))
        finally:
            os.close(descriptor)

    def holds(self, sha256: str) -> bool:
        """True when the file is here; it is not taken out for the next hour, so that who asks may count on it."""
        with self._moving:
            try:
                found = self.path(sha256).stat()
            except FileNotFoundError:
                return False
            self._asked[sha256] = self._now()
            verdict = self._verdicts.get(sha256)
            return verdict is None or verdict.is_right or verdict.of != _identity(found)

    def discard(self, sha256: str) -> bool:
        """Takes a file out that nobody put or asked for in the last hour; False when it stays."""
        with self._moving, self._explained():
            asked = self._asked.get(sha256)
            if asked is not None and self._now() - asked < _FRESH_SECONDS:
                return False
            self.path(sha256).unlink(missing_ok=True)
            self._asked.pop(sha256, None)
            self._verdicts.pop(sha256, None)
        return True

    def everything(self) -> set[str]:
        """The digests of all files that are here.

        Raises:
            StalledError: a folder can't be read.
        """
        names: set[str] = set()
        with self._explained():
            for folder in self._root.glob("[0-9a-f][0-9a-f]"):
                with contextlib.suppress(FileNotFoundError):
                    names.update(place.name for place in folder.iterdir())
        return set(filter(_SHA256.fullmatch, names))

    def forget_partials(self, wanted: Iterable[str]) -> None:
        """Removes what had come of files that nobody wants any more; not what moved in the last hour.

        Raises:
            StalledError: the folder can't be written.
        """
        kept = frozenset(wanted)
        with self._explained():
            for place in self._partial.iterdir():
                with contextlib.suppress(FileNotFoundError):  # a fetch that got nothing took its own away
                    if place.stem not in kept and time.time() - place.stat().st_mtime > _FRESH_SECONDS:
                        place.unlink()

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

    def _write(self, chunks: Iterable[bytes], descriptor: int, most: int | None, share: Share) -> Stored:
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
                        share.take(len(piece))
                        _write_all(descriptor, piece)
            return Stored(digests.sha256, digests.md5, size)

    def _publish(self, place: pathlib.Path, descriptor: int, sha256: str) -> None:
        """The content is on the disk before its name is, and the name before we say so."""
        final = self.path(sha256)
        os.fsync(descriptor)
        if not final.parent.exists():
            final.parent.mkdir(exist_ok=True)
            _sync_folder(self._root)
        with self._moving:
            place.replace(final)
            self._asked[sha256] = self._now()
            self._say(sha256, _identity(os.fstat(descriptor)), is_right=True)  # a new name is a change, too
        _sync_folder(final.parent)

    def _say(self, sha256: str, of: _Identity, *, is_right: bool) -> None:
        self._verdicts[sha256] = _Verdict(of, is_right, self._now() + _TRUSTED_SECONDS)

    def _set_aside(self, place: pathlib.Path, seen: _Identity) -> pathlib.Path | None:
        """Moves a damaged file to where an operator can look at it, and removes those that lay there longest."""
        aside = self._damaged / place.name
        try:
            self._damaged.mkdir(exist_ok=True)
            place.replace(aside)
        except OSError:
            self._say(place.name, seen, is_right=False)
            return None
        lying = sorted(self._damaged.iterdir(), key=lambda each: each.stat().st_ctime_ns)
        for old in lying[:-_MOST_DAMAGED]:
            old.unlink(missing_ok=True)
        return aside

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


def _identity(found: os.stat_result) -> _Identity:
    """What differs as soon as somebody writes to a file, or puts another one in its place."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_at(place: pathlib.Path, seen: _Identity) -> bool:
    """Whether the file that was seen lies at a place, whatever became of its content."""
    try:
        return _identity(place.stat())[:2] == seen[:2]
    except FileNotFoundError:
        return False


def _complaint(descriptor: int, sha256: str, halt: Halt) -> str:
    """Why an open file is not the one with this digest; empty when it is.

    Raises:
        HaltedError: it was ended.
        OSError: it can't be read, and the disk is not the reason.
    """
    try:
        found = sha256_of(descriptor, halt.check)
    except OSError as problem:
        if problem.errno != errno.EIO:
            raise
        return "the disk can't read it"
    return "" if found == sha256 else f"its SHA-256 is {found}"
