"""SHA-256 and MD5 of a stream, both at once: MD5 in a thread of its own, as it is the slower one.

Called by the store for everything that comes in, and for what lies there already. It decides nothing.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
from collections.abc import Callable
from typing import Self

_CHUNK_BYTES = 1 << 20
_INLINE_BYTES = 1 << 16
"""A smaller piece is digested before a thread would have begun."""


class Digests:
    """Digests of what was fed so far. At most two pieces are held at any time."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._beside = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="digests")
        self._running: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._beside.shutdown()

    def update(self, piece: bytes) -> None:
        """Feeds some bytes; they may not be changed afterwards."""
        self._settle()
        if len(piece) < _INLINE_BYTES:
            self._md5.update(piece)
        else:
            self._running = self._beside.submit(self._md5.update, piece)
        self._sha256.update(piece)

    def restart(self) -> None:
        """Forgets everything."""
        self._settle()
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def sha256(self) -> str:
        """In lower-case hex."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """In lower-case hex."""
        self._settle()
        return self._md5.hexdigest()

    def _settle(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None


def sha256_of(descriptor: int, between: Callable[[], None]) -> str:
    """The SHA-256 of an open file, from its beginning, in lower-case hex.

    Args:
        descriptor: the file.
        between: called between any two pieces; what it raises ends the reading.
    """
    digest, at, buffer = hashlib.sha256(), 0, memoryview(bytearray(_CHUNK_BYTES))
    while count := os.preadv(descriptor, [buffer], at):
        digest.update(buffer[:count])
        at += count
        between()
    return digest.hexdigest()
