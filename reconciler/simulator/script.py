"""The actions of a device's upgrade. Written by `device`, spoilt by `faults`, done by `runner`."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from reconciler.simulator.push import Push


@dataclasses.dataclass(frozen=True, slots=True)
class Say:
    """Publishes a message at QoS 1."""

    topic: str
    payload: bytes
    step: int | None = None
    """The step of a progress report."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fetch:
    """Downloads and checks one file after the other. When that fails, the rest of the script is not carried out."""

    push: Push


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Lets time pass."""

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Flash:
    """Writes a version to the device's memory. It shows with the next boot."""

    version: str


@dataclasses.dataclass(frozen=True, slots=True)
class Reboot:
    """Is gone for a while, forgets what was not said yet, and reports its version when it is back."""

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Away:
    """Loses the network for a while, and forgets nothing."""

    seconds: float


Action: TypeAlias = Say | Fetch | Wait | Flash | Reboot | Away
Script: TypeAlias = tuple[Action, ...]
