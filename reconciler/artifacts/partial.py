"""A file that is on its way into the store: what has come of it survives a killed process, so that the rest suffices.

Made by `store.FileStore.partial`, fed by `fetch`. Beside the bytes lies a note of where they came from and of the
version of the file there, without which they are worth nothing. All calls block.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

from reconciler.artifacts.digests import Digests
from reconciler.artifacts.room import Share

_CHUNK_BYTES = 1 << 20


class Partial:
    """The beginning of a file, open for more.

    Args:
        place: where its bytes are.
        descriptor: of that place, open.
        share: the room that it may take.
    """

    def __init__(self, place: pathlib.Path, descriptor: int, digests: Digests, share: Share) -> None:
        self.place = place
        self.descriptor = descriptor
        self._share = share
        self._digests = digests
        self._note = place.with_suffix(".origin")
        self.size = 0
        """Bytes that are here."""

    @classmethod
    @contextlib.contextmanager
    def opened(cls, place: pathlib.Path, share: Share) -> Iterator[Partial]:
        """The file that lies at a place, digested first, or a new one. When nothing comes, nothing stays behind."""
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with Digests() as digests:
                partial = cls(place, descriptor, digests, share)
                while chunk := os.read(descriptor, _CHUNK_BYTES):
                    partial._count(chunk)
                try:
                    yield partial
                finally:
                    if not partial.size:
                        partial.discard()
        finally:
            os.close(descriptor)

    @property
    def sha256(self) -> str:
        """Of what is here."""
        return self._digests.sha256

    @property
    def md5(self) -> str:
        """Of what is here."""
        return self._digests.md5

    def validator(self, source: str) -> str | None:
        """The version at the source that these bytes are of; None when they can't be continued from there."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        found = note.get("validator") if isinstance(note, dict) and note.get("source") == source else None
        return found if isinstance(found, str) and self.size else None

    def restart(self, source: str, validator: str | None) -> None:
        """Begins anew with a version of the file at a source."""
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        self._digests.restart()
        self.size = 0
        self._note.write_text(json.dumps({"source": source, "validator": validator}), encoding="utf-8")

    def expect(self, size: int) -> None:
        """The whole file has so many bytes.

        Raises:
            NoRoomError: what is missing does not fit.
        """
        self._share.promise(size - self.size)

    def write(self, chunk: bytes) -> None:
        """Appends.

        Raises:
            NoRoomError: there is no room for it.
        """
        for start in range(0, len(chunk), _CHUNK_BYTES):
            piece = chunk[start : start + _CHUNK_BYTES]
            self._share.take(len(piece))
            view = memoryview(piece)
            while view:
                view = view[os.write(self.descriptor, view) :]
            self._count(piece)

    def discard(self) -> None:
        """Nothing of it is kept; its room is free once it is closed."""
        self.place.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _count(self, piece: bytes) -> None:
        self._digests.update(piece)
        self.size += len(piece)
