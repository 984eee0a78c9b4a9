"""What a process is given before it serves a fleet: called by the daemon, once, before anything connects."""

from __future__ import annotations

import contextlib
import gc
import resource


def prepare() -> None:
    """Gets this process ready for many connections and many messages. Doing it again changes nothing."""
    _allow_sockets()
    _collect_seldom()


def _allow_sockets() -> None:
    """As many open sockets as it may have: many systems begin with 1,024, fewer than a fleet needs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # where "as many as it may" is not a number that it may
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _collect_seldom() -> None:
    """Garbage in cycles is looked for seldom, and not among what was there before the work began.

    A burst makes thousands of values that live until its commit. With Python's usual thresholds each one has the
    process looked through, sessions and all: an eighth of ingest's time. Next to nothing here is in cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
