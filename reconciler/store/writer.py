"""The one thread that writes: what is urgent goes before what waits, and nothing else changes its place.

Called by `database`. Messages of devices wait for their acknowledgement; a chunk of a million tasks, or a heartbeat,
does not mind. Who writes urgently waits for the end of that before it writes again, so the others have their turns.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Task = tuple[concurrent.futures.Future[Any], Callable[[], Any]]

_URGENT, _IN_TURN, _LAST = range(3)


class Writer:
    """Runs functions, one after the other, in a thread of its own."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: queue.PriorityQueue[tuple[int, int, _Task | None]] = queue.PriorityQueue()
        self._thread = threading.Thread(target=self._run, name="database-writer")
        self._thread.start()

    def submit(self, work: Callable[[], T], *, first: bool = False) -> concurrent.futures.Future[T]:
        """What `work` returns or raises, some time later; who cancels it before it begins is spared it."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._put(_URGENT if first else _IN_TURN, (future, work))
        return future

    def _put(self, urgency: int, task: _Task | None) -> None:
        self._waiting.put((urgency, next(self._numbers), task))

    def close(self) -> None:
        """Ends, after everything that waits was done."""
        self._put(_LAST, None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._waiting.get()[2]) is not None:
            _carry_out(*task)
            del task  # what it holds is not kept until the next one comes


def _carry_out(future: concurrent.futures.Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
        future.set_exception(error)
    else:
        future.set_result(result)
