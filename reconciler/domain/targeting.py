"""Decides which devices a batch is for (platform rules §4 "target", "at acceptance and at the start").

A decision depends on a device's reported version only, so the store asks once per version that the product's
devices report, never once per device, and puts the answers into its one statement.
"""

from __future__ import annotations

import dataclasses
import enum
import re


class LeftOut(enum.StrEnum):
    """Why a device that a batch names is not upgraded by it."""

    ALREADY = "already-on-target"
    DOWNGRADE = "downgrade"
    SOURCE = "source-version"


@dataclasses.dataclass(frozen=True, slots=True)
class Conditions:
    """What a batch asks of a device's version."""

    module: str
    target_version: str
    source_versions: tuple[str, ...] = ()
    """Empty: any version, also one that was never reported."""
    allow_downgrade: bool = False


_DOTTED = re.compile(r"\d+(\.\d+)*")


def judge(conditions: Conditions, version: str | None) -> LeftOut | None:
    """Why a device on `version` (None: never reported) is left out; None when it is to be upgraded."""
    if version == conditions.target_version:
        return LeftOut.ALREADY
    if conditions.source_versions and version not in conditions.source_versions:
        return LeftOut.SOURCE
    if (
        version is not None
        and not conditions.allow_downgrade
        and is_downgrade(version, conditions.target_version)
    ):
        return LeftOut.DOWNGRADE
    return None


def is_downgrade(version: str, target_version: str) -> bool:
    """True when both are dotted numbers and the target is lower; trailing zeros don't count (1.2 is 1.2.0)."""
    if not (_DOTTED.fullmatch(version) and _DOTTED.fullmatch(target_version)):
        return False
    return _numbers(target_version) < _numbers(version)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
