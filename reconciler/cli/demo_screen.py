"""What the demo shows: bars that move on a terminal, one line a second elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.simulator.fleet import Summary

_STAGES = (("waiting", "grey50"), ("notified", "yellow"), ("downloading", "cyan"), ("rebooting", "magenta"),
           ("upgraded", "green"), ("failed", "red"))  # fmt: skip
_BAR = 50


def stages(counts: Mapping[str, int], summary: Summary) -> dict[str, int]:
    """How many devices are at which point: what the tasks say, refined by what the devices are doing."""
    underway = counts.get("NOTIFIED", 0) + counts.get("IN_PROGRESS", 0)
    rebooting = min(underway, summary.states.get("rebooting", 0) + summary.states.get("offline", 0))
    downloading = min(underway - rebooting, summary.states.get("upgrading", 0))
    return {
        "waiting": counts.get("QUEUED", 0),
        "notified": underway - rebooting - downloading,
        "downloading": downloading,
        "rebooting": rebooting,
        "upgraded": counts.get("SUCCEEDED", 0),
        "failed": counts.get("FAILED", 0) + counts.get("CANCELED", 0),
    }


class Screen:
    """Standard output, as it is."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._started = time.monotonic()
        self._live: Any = None
        self._last = ("", 0.0)

    def say(self, text: str) -> None:
        """One line that stays."""
        print(text, flush=True)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Lets bars move in place, where that is possible."""
        if not self._terminal:
            yield
            return
        from rich.live import Live

        with Live(refresh_per_second=10) as self._live:
            yield
        self._live = None

    def show(self, counts: Mapping[str, int], summary: Summary, total: int) -> None:
        """The fleet at this moment."""
        found = stages(counts, summary)
        if self._live is not None:
            self._live.update(_bars(found, total))
            return
        line = " · ".join(f"{name} {count}" for name, count in found.items() if count or name == "upgraded")
        at = time.monotonic() - self._started
        ended = found["upgraded"] + found["failed"] == total
        if line != self._last[0] and (at - self._last[1] >= 1 or ended):
            print(f"{at:5.1f} s  {line}", flush=True)
            self._last = (line, at)


def _bars(found: Mapping[str, int], total: int) -> Any:
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    for name, colour in _STAGES:
        count = found[name]
        width = round(_BAR * count / total) if total else 0
        table.add_row(f"  {name:<12}", f"{count:>3}", f"[{colour}]{'█' * width}[/]")
    return table
