"""Decides how upgrades go wrong: each fault, at its rate, is a change to an upgrade's script.

Called by the device model for each push it follows. Rates are shares of upgrades (of messages for `repeat`),
0 to 1, drawn from the device's own generator.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from reconciler import errors
from reconciler.simulator.script import Action, Away, Fetch, Flash, Reboot, Say, Script, Wait


@dataclasses.dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, and how often.

    Raises:
        UserError: a rate is not between 0 and 1.
    """

    silent: float = 0.0
    """Never answers the push."""
    fail_upgrade: float = 0.0
    """Reports -1 at the start."""
    fail_download: float = 0.0
    """Reports -2 in the place of the download."""
    fail_verify: float = 0.0
    """Reports -3 after the download."""
    fail_burn: float = 0.0
    """Reports -4 after the download."""
    reboot: float = 0.0
    """Reboots half-way, with its old version."""
    offline: float = 0.0
    """Loses the network half-way, then goes on."""
    wrong_version: float = 0.0
    """Ends with a version that nobody asked for."""
    repeat: float = 0.0
    """Says a message twice."""
    reorder: float = 0.0
    """Says a report later than it should, perhaps after it has rebooted."""
    offline_seconds: float = 5.0
    version_instead: str = "0.0.0"

    def __post_init__(self) -> None:
        """Refuses rates that are none."""
        for field in dataclasses.fields(self):
            rate = getattr(self, field.name)
            if field.name not in _NO_RATES and not 0.0 <= rate <= 1.0:
                name = field.name.replace("_", "-")
                raise errors.UserError(f"the rate of {name} is {rate}", remedy="give a number from 0 to 1")


_NO_RATES = {"offline_seconds", "version_instead"}

Failure = Callable[[int, str], Say]
"""Makes the report of a failure, from its step and description."""


def afflict(script: Script, faults: Faults, rng: random.Random, failure: Failure) -> Script:
    """The script as it will be carried out. Each fault is drawn every time, so the rates are independent."""
    drawn = {field.name: rng.random() for field in dataclasses.fields(faults) if field.name not in _NO_RATES}

    def happens(name: str) -> bool:
        return drawn[name] < float(getattr(faults, name))

    if happens("silent"):
        return ()
    script = _cut(script, happens, failure)
    if happens("offline"):
        middle = _half_way(script)
        script = (*script[:middle], Away(faults.offline_seconds), *script[middle:])
    if happens("wrong_version"):
        script = tuple(Flash(faults.version_instead) if isinstance(a, Flash) else a for a in script)
    if happens("reorder"):
        script = _reordered(script, rng)
    return tuple(each for action in script for each in _repeated(action, faults.repeat, rng))


def _cut(script: Script, happens: Callable[[str], bool], failure: Failure) -> Script:
    """Ends the upgrade early; the first fault in the order of events wins."""
    after_fetch = next((i for i, action in enumerate(script) if isinstance(action, Fetch)), 0) + 1
    before_flash = next((i for i, action in enumerate(script) if isinstance(action, Flash)), len(script))
    if happens("fail_upgrade"):
        return (failure(-1, "simulated: upgrade failed"),)
    if happens("fail_download"):
        return (*script[: after_fetch - 1], failure(-2, "simulated: download failed"))
    if happens("reboot"):
        reboots = tuple(action for action in script if isinstance(action, Reboot))
        return (*script[: _half_way(script)], *reboots)
    if happens("fail_verify"):
        return (*script[:before_flash], failure(-3, "simulated: wrong checksum"))
    if happens("fail_burn"):
        return (*script[:before_flash], failure(-4, "simulated: burning failed"))
    return script


def _half_way(script: Script) -> int:
    """The place in the middle of the download."""
    waits = [i for i, action in enumerate(script) if isinstance(action, Wait)]
    return waits[len(waits) // 2] if waits else len(script)


def _reordered(script: Script, rng: random.Random) -> Script:
    """One of the reports is said at the place of a later action: of another report, or after the reboot."""
    reports = [i for i, action in enumerate(script) if isinstance(action, Say)]
    if not reports:
        return script
    late = rng.choice(reports)
    place = rng.choice([*(i for i in reports if i > late), len(script)])
    return (*script[:late], *script[late + 1 : place + 1], script[late], *script[place + 1 :])


def _repeated(action: Action, rate: float, rng: random.Random) -> Script:
    if isinstance(action, Say) and rng.random() < rate:
        return (action, action)
    return (action,)
