"""Decides which devices a batch or a group is for (platform rules §4 "target", "at acceptance and at the start", §7).

Whether a version fits depends on nothing else of a device, so the store asks once per version that the product's
devices report, never once per device, and puts the answers into its one statement. What depends on the device itself
(its share of a gray batch, its tags) is compiled to SQL there; the readings here serve single devices, and property
tests hold the two together.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


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


# -------------------------------------------------------------------------------------------- gray batches

MODULUS = 2**31 - 1
"""A prime, so that every (a, b) orders all devices in another way."""
WHOLE = 100_000
"""All devices, in thousandths of a percent."""


def hash31(product_key: str, device_name: str) -> int:
    """A device's place on the ring of 31 bits: kept with the device, the same for ever."""
    digest = hashlib.sha256(f"{product_key}/{device_name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def gray_parameters(batch: str) -> tuple[int, int]:
    """How a batch's name orders devices: the factor (never 0) and the offset of `gray_key`."""
    digest = hashlib.sha256(batch.encode()).digest()
    factor = 1 + int.from_bytes(digest[:8], "big") % (MODULUS - 1)
    return factor, int.from_bytes(digest[8:16], "big") % MODULUS


def gray_key(hash31: int, a: int, b: int) -> int:
    """A device's place in a gray batch. Its share are the lowest ones; where two are equal, the names decide."""
    return (hash31 * a + b) % MODULUS


def gray_count(base: int, thousandths: int) -> int:
    """How many of `base` fitting devices a share takes, in thousandths of a percent: rounded down, but at least one.

    In whole numbers, because 29 % of 100 is 28.999… in binary fractions.
    """
    return max(1, base * thousandths // WHOLE) if base else 0


def thousandths(percent: float) -> int:
    """A share in thousandths of a percent: exact, where binary fractions are not."""
    return int(Decimal(str(percent)) * 1000)


# ------------------------------------------------------------------------------------------ dynamic groups


def selects(
    selector: Mapping[str, Any], product: str, tags: Mapping[str, str], versions: Mapping[str, str]
) -> bool:
    """Whether a device is a member of a dynamic group (platform rules §7): every condition holds.

    As label selectors are read elsewhere, `NotIn` holds for a device without the tag, too.

    Args:
        selector: of the group's spec, as its manifest writes it; `product` in it, where given, is the group's.
        product: the device's.
        tags: the device's.
        versions: what its modules report.
    """
    if selector.get("product") not in (None, product):
        return False
    module = selector.get("module")
    if module is not None and versions.get(module["name"]) != module["version"]:
        return False
    wanted = selector.get("matchTags") or {}
    return all(tags.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, tags) for expression in selector.get("matchExpressions") or ()
    )


def _holds(expression: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    value = tags.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case operator:
            assert operator == "DoesNotExist", operator
            return value is None
