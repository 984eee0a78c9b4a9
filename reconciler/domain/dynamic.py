"""Decides which dynamic batches may run beside each other (platform rules §4, "Dynamic batches").

A package's running dynamic batches are version-based with disjoint source versions, or one group-based one; and few
packages share a group. Rules of `plan.diff`, the last of all: what another rule keeps out is in nobody's way here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.domain import resources
from reconciler.domain.actions import Action, Look, Reason, Verdict
from reconciler.domain.desired import Key
from reconciler.domain.resources import Kind, Strategy


@dataclasses.dataclass(frozen=True, slots=True)
class _Claim:
    """What a dynamic batch takes for itself."""

    key: Key
    package: str
    versions: frozenset[str]
    """Empty: it is for a group."""
    group: str | None


def overlapping(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """Dynamic batches that begin, or change their versions, in the way of others: the first by name goes on."""
    del verdicts
    asked = {action.key: claim for action in actions if (claim := _asked(action, look)) is not None}
    ending = {action.key for action in actions if action.cancels_run}
    claims = [claim for key, claim in _running(look) if key not in asked and key not in ending]
    starting = {action.key for action in actions if action.starts_run}
    refused = []
    for key in sorted(asked, key=lambda key: (key in starting, key.name)):
        message = _conflict(asked[key], claims) or _crowd(
            asked[key], claims, look.policy.limits.dynamic_packages_per_group
        )
        if message:
            refused.append(Verdict(key, Reason.DYNAMIC_OVERLAP, message))
        else:
            claims.append(asked[key])
    return refused


def _running(look: Look) -> Iterator[tuple[Key, _Claim]]:
    for key, stored in look.actual.objects.items():
        if stored.run is not None and stored.run.goes_on and stored.spec is not None:
            claim = _claim(key, stored.spec)
            if claim is not None:
                yield key, claim


def _asked(action: Action, look: Look) -> _Claim | None:
    """What a batch wants for itself that it did not have."""
    if action.declaration is None:
        return None
    stored = look.actual.objects.get(action.key)
    runs = stored is not None and stored.run is not None and stored.run.goes_on
    if not (action.starts_run or (runs and "target.sourceVersions" in action.changed)):
        return None
    return _claim(action.key, resources.normalised(action.declaration.resource))


def _claim(key: Key, spec: Mapping[str, Any]) -> _Claim | None:
    if key.kind is not Kind.BATCH or spec.get("strategy") != Strategy.DYNAMIC:
        return None
    target = spec["target"]
    return _Claim(key, spec["package"], frozenset(target.get("sourceVersions", ())), target.get("group"))


def _conflict(asked: _Claim, claims: Iterable[_Claim]) -> str:
    """Which batch of its package is in its way; empty when none is."""
    for other in claims:
        if other.package != asked.package:
            continue
        if asked.group is not None or other.group is not None:
            how = f"is for the group {other.group}" if other.group else "is for source versions"
            return (
                f"{other.key}, another dynamic batch of {asked.package}, {how}: a package has version-based ones or "
                f"a single group-based one; cancel {other.key} first"
            )
        shared = sorted(asked.versions & other.versions)
        if shared:
            return (
                f"{other.key}, another dynamic batch of {asked.package}, is for the version {', '.join(shared)} "
                f"too: cancel it first, or take the version out of one"
            )
    return ""


def _crowd(asked: _Claim, claims: Iterable[_Claim], most: int) -> str:
    """Which other packages have the group already, when they are too many; empty when there is room."""
    if asked.group is None:
        return ""
    packages = sorted({other.package for other in claims if other.group == asked.group})
    if len(packages) < most:
        return ""
    return (
        f"the group {asked.group} has dynamic batches of {len(packages)} packages already "
        f"({', '.join(packages)}), at most {most} are allowed: cancel one first"
    )
