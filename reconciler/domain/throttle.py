"""Decides how many devices may be pushed now (platform rules §4 "push rate", engine §4).

Called by the claim, inside its transaction, with what was pushed in the last 61 seconds. A token bucket would let
nearly twice the rate through in some minute; slots a second never do, and they outlive restarts and changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

WINDOW_SECONDS = 61
"""One more than a minute: a push at the end of second 0 and one at the start of second 60 are 59.1 s apart."""


def allowance(rate_per_minute: int, pushed: Mapping[int, int], second: int) -> int:
    """How many pushes may start in `second` (Unix time).

    Args:
        rate_per_minute: devices a minute, as the batch says now.
        pushed: pushes already started, by Unix second; seconds that are further away than the window are ignored.
            Those just ahead count too: somebody with a newer look at the clock may have committed first, and a
            clock that was set back a little must not let the same minute be used twice.
        second: the second that is being filled.
    """
    recent = sum(count for at, count in pushed.items() if abs(second - at) < WINDOW_SECONDS)
    this_second = math.ceil(rate_per_minute / 60) - pushed.get(second, 0)
    return max(0, min(rate_per_minute - recent, this_second))
