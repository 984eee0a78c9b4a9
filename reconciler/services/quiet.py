"""Keeps the log readable when devices misbehave: one line a minute for each, and how many were left out."""

from __future__ import annotations

import collections
import logging

_SECONDS = 60.0


class QuietLog:
    """Logs at most once a minute for each key, and remembers a bounded number of keys.

    Args:
        log: where to.
        most: keys remembered; beyond that the oldest are forgotten.
    """

    def __init__(self, log: logging.Logger, most: int = 10_000) -> None:
        self._log = log
        self._most = most
        self._last: collections.OrderedDict[object, tuple[float, int]] = collections.OrderedDict()

    def warning(self, key: object, monotonic: float, message: str) -> None:
        """Logs `message`, unless the same key was logged less than a minute ago."""
        at, left_out = self._last.get(key, (-_SECONDS, 0))
        if monotonic - at < _SECONDS:
            self._last[key] = (at, left_out + 1)
            return
        self._log.warning("%s%s", message, f" ({left_out} more since the last line)" if left_out else "")
        self._last[key] = (monotonic, 0)
        self._last.move_to_end(key)
        if len(self._last) > self._most:
            self._last.popitem(last=False)
