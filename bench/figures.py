"""One line of a table: what was measured, the reference of the same run, their ratio, and the bound it must keep.

Printed by every script here; a missed bound is said, and is no failure of the run: figures are to be looked at.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence

_LARGE = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """A measurement in its unit; a unit that starts with a slash is a rate."""

    what: str
    value: float
    unit: str
    reference: float | None = None
    against: str = ""
    """What the reference is."""
    at_most: float | None = None
    """Bound of the value itself."""
    times: float | None = None
    """Bound of the ratio: at most so many times the reference; of a rate, at least."""

    @property
    def ratio(self) -> float | None:
        """Of the value to the reference."""
        return self.value / self.reference if self.reference else None

    @property
    def kept(self) -> bool | None:
        """Whether the bound is kept; None without one."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.times is None or self.ratio is None:
            return None
        return self.ratio >= self.times if self.unit.startswith("/") else self.ratio <= self.times

    @property
    def verdict(self) -> str:
        """The bound, and whether it is kept."""
        if self.kept is None:
            return ""
        sign = "≥" if self.unit.startswith("/") and self.at_most is None else "≤"
        bound = f"{self.times:g} times" if self.at_most is None else f"{self.at_most:g} {self.unit}"
        return f"{sign} {bound} {'ok' if self.kept else 'MISSED'}"

    def cells(self) -> tuple[str, str, str, str, str, str]:
        """The line."""
        reference = "" if self.reference is None else _written(self.reference, self.unit)
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.what, _written(self.value, self.unit), reference, self.against, ratio, self.verdict


def _written(value: float, unit: str) -> str:
    digits = 0 if value >= _LARGE else 1 if value >= 1 else 2
    return f"{value:,.{digits}f}{'' if unit.startswith('/') else ' '}{unit}"


_HEADS = ("", "figure", "reference", "", "ratio", "bound")


def show(title: str, figures: Sequence[Figure]) -> None:
    """Prints a table."""
    lines = [_HEADS, *(figure.cells() for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    align: tuple[Callable[[str, int], str], ...] = (
        str.ljust, str.rjust, str.rjust, str.ljust, str.rjust, str.ljust,
    )  # fmt: skip
    print(f"{title}\n")
    for line in lines:
        cells = (put(cell, width) for put, cell, width in zip(align, line, widths, strict=True))
        print("  ".join(cells).rstrip(), flush=True)
    print(flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them is."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def median(values: Sequence[float]) -> float:
    """The one in the middle."""
    return statistics.median(values)
