"""Decides which certificate our own servers show, for HTTPS and for MQTT: the one that is in the files now.

Made by the composition root alone, for servers that take any `ssl.SSLContext`. A certificate is renewed by replacing
its files: connections that come later get the new one, those that are there keep theirs, nothing is restarted. What
can't be used is said, and the last good one stays.
"""

from __future__ import annotations

import logging
import pathlib
import ssl
import time
from collections.abc import Callable
from typing import Any, Self

from reconciler import errors

_log = logging.getLogger(__name__)

_LOOKS_EVERY = 5.0
_State = tuple[tuple[int, ...], ...]


class FreshContext(ssl.SSLContext):
    """A context whose connections are those of another one, which is made anew when the files change. Use `of`."""

    _files: tuple[pathlib.Path, pathlib.Path | None]
    _now: Callable[[], float]
    _current: ssl.SSLContext
    _state: _State
    _looked: float

    @classmethod
    def of(
        cls,
        certificate: pathlib.Path,
        key: pathlib.Path | None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> Self:
        """The context of a server.

        Args:
            certificate: a PEM file with the certificate chain.
            key: a PEM file with its private key; None when it is in the same file.
            now: seconds, monotonic.

        Raises:
            UserError: they can't be used.
        """
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made._files, made._now, made._looked = (certificate, key), now, now()
        made._state = _state(certificate, key)
        made._current = _load(certificate, key)
        return made

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """A new connection: each one is made here, asyncio's and the endpoint's own."""
        if self._now() - self._looked >= _LOOKS_EVERY:
            self._looked = self._now()
            self._look()
        return self._current.wrap_bio(*args, **kwargs)

    def _look(self) -> None:
        state = _state(*self._files)
        if state == self._state:
            return
        self._state = state  # also when they are of no use: half of them may be written yet
        try:
            self._current = _load(*self._files)
        except errors.UserError as problem:
            _log.error("%s; connections still get the last good one", problem.message)
        else:
            _log.info("the certificate %s was renewed", self._files[0])


def _state(*files: pathlib.Path | None) -> _State:
    """What changes when a file is written, replaced, or made readable (ctime); files that are away have none."""
    found = []
    for file in files:
        try:
            known = file.stat() if file else None
        except OSError:
            known = None
        found.append((known.st_ino, known.st_ctime_ns, known.st_size) if known else ())
    return tuple(found)


def _load(certificate: pathlib.Path, key: pathlib.Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as problem:
        text = f"the certificate {certificate} (key {key or 'in the same file'}) cannot be used: {problem}"
        raise errors.UserError(text, remedy="give PEM files, the key without a password") from problem
    return context
