"""Decides which fields of an accepted object differ from what Git says now, and which of them can change in place.

Called by `plan`. What can't change once accepted is named by its path in the spec (platform rules §3, §4, "After
creation these can change in place").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.domain import desired as desires
from reconciler.domain import resources
from reconciler.domain.actions import Reason, Verdict
from reconciler.domain.actual import Stored
from reconciler.domain.desired import Declaration
from reconciler.domain.resources import Kind, Strategy

MUTABLE: Mapping[Kind, frozenset[str]] = {
    Kind.PRODUCT: frozenset(
        {"description", "modules", "versionFormat", "registration", "signing", "md5Name"}
    ),
    Kind.PACKAGE: frozenset({"title", "description", "customInfo", "verification"}),
    Kind.DEVICE_INVENTORY: frozenset({"devices", "devicesFrom"}),
    Kind.DEVICE_GROUP: frozenset({"title", "devices", "devicesFrom", "selector"}),
    Kind.BATCH: frozenset(
        {"pushRatePerMinute", "timeout", "retry", "tags", "schedule.end", "suspend", "state", "onCancel"}
    ),
}
"""Fields that can change in place; a change of any other is refused."""

_OF_DYNAMIC_BATCHES = frozenset({"target.sourceVersions"})
_MEMBERS = frozenset({"devices", "devicesFrom", "selector"})
_PARTS = frozenset({"target", "schedule"})
"""Fields of which some parts can change and others can't: their parts are compared one by one."""
_REMEDIES = {Kind.PACKAGE: "publish a new Package", Kind.BATCH: "write a new Batch"}


def changed(declaration: Declaration, stored: Stored) -> tuple[str, ...]:
    """The fields of the spec that are not as in force, as paths: `timeout`, `schedule.end`."""
    new = dict(_fields(desires.content(declaration.resource, declaration.files, declaration.roster)))
    old = dict(_fields(stored.spec or {}))
    return tuple(sorted(field for field in {*new, *old} if new.get(field) != old.get(field)))


def _fields(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in spec.items():
        if name in _PARTS:
            yield from ((f"{name}.{part}", its) for part, its in value.items())
        else:
            yield name, value


def refused(declaration: Declaration, stored: Stored | None) -> Verdict | None:
    """Why an object that was accepted once can't become this; None when it can, and when it never was."""
    if stored is None or stored.digest is None:
        return None
    fixed = immutable(declaration, stored)
    if not fixed:
        return None
    return Verdict(declaration.key, Reason.IMMUTABLE, message(declaration.kind, fixed))


def immutable(declaration: Declaration, stored: Stored) -> list[str]:
    """Those of the changed fields that can't change in place."""
    return sorted(set(changed(declaration, stored)) - _mutable(declaration, stored))


def _mutable(declaration: Declaration, stored: Stored) -> frozenset[str]:
    resource, fields = declaration.resource, MUTABLE[declaration.kind]
    if isinstance(resource, resources.Batch) and resource.spec.strategy is Strategy.DYNAMIC:
        return fields | _OF_DYNAMIC_BATCHES
    if isinstance(resource, resources.DeviceGroup):  # its batches are static, or dynamic, with it
        was_dynamic = "selector" in (stored.spec or {})
        return fields if was_dynamic == (resource.spec.selector is not None) else fields - _MEMBERS
    return fields


def message(kind: Kind, fields: list[str]) -> str:
    """The words of such a refusal."""
    what = "a field" if len(fields) == 1 else "fields"
    remedy = _REMEDIES.get(kind, f"write a new {kind}")
    return f"{', '.join(fields)}: {what} that can't change once accepted; {remedy}, or revert the change"
