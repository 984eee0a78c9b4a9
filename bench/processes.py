"""Processes of their own for what is measured, so that memory, caches and CPU time are its own.

They are forked from a server that has imported the project already: a start takes milliseconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

FOLDER = "BENCH_FOLDER"
"""The environment's name for the folder that the scripts of one run share."""

_MADE = multiprocessing.get_context("forkserver")
_MADE.set_forkserver_preload(
    ["reconciler.bootstrap"]
)  # not __main__: Python before 3.14 forgets where that is


@contextlib.contextmanager
def playing(role: Callable[..., None], *args: Any) -> Iterator[Connection]:
    """A function in another process, and the pipe to it, which is its first argument."""
    ours, theirs = _MADE.Pipe()
    process = _MADE.Process(target=role, args=(theirs, *args))
    process.start()
    theirs.close()
    try:
        yield ours
        process.join()
    finally:
        process.kill()
        process.join()


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls it in another process; what it returns."""
    with playing(_call, function, args, kwargs) as pipe:
        try:
            found: T = pipe.recv()
        except EOFError:
            sys.exit(f"{function.__name__} failed in its process")
        return found


def _call(
    pipe: Connection, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    pipe.send(function(*args, **kwargs))


def megabytes(field: str = "VmRSS") -> float:
    """Resident memory of this process: now, or (VmHWM) its peak."""
    found = re.search(rf"{field}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def forget_peak() -> None:
    """VmHWM counts from here."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
