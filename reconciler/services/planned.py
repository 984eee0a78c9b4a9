"""What a plan says, as data: the JSON of `plan -o json` and of the API, of which text and Markdown are made too.

Filled by `planning` (against the live state) and `offline` (from Git alone). It decides nothing. Fields may be added
within a major version of the format; none changes its meaning or goes.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.domain import diagnostics, plan
from reconciler.domain.actual import ActualState, Stored
from reconciler.domain.desired import Key
from reconciler.domain.diagnostics import Diagnostic
from reconciler.services import reach as reached
from reconciler.services.reach import Estimate, Reach

FORMAT_VERSION = "1.3"
_NONE: Mapping[Key, Estimate] = types.MappingProxyType({})


class Basis(enum.StrEnum):
    """What a commit was compared with."""

    LIVE = "live"
    """The state of the daemon: what it really has."""
    GIT = "git"
    """Another commit, as if all of it were in force."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was planned, and with what it was compared."""

    basis: Basis
    revision: str
    subject: str
    base: str = ""
    """Of a plan from Git: the commit that stands for the state."""
    diagnostics: tuple[Diagnostic, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must know to read it right."""


def document(
    looked: Looked,
    planned: plan.Plan,
    state: ActualState,
    *,
    reaches: Iterable[Reach] = (),
    estimates: Mapping[Key, Estimate] = _NONE,
) -> dict[str, Any]:
    """A plan as JSON data.

    Args:
        looked: what was planned.
        planned: the plan.
        state: what it was compared with.
        reaches: whom its actions touch, where that is known.
        estimates: of a plan from Git: what Git alone says about whom they touch.
    """
    found = {reach.key: reach for reach in reaches}
    return {
        "formatVersion": FORMAT_VERSION,
        "basis": str(looked.basis),
        "revision": looked.revision,
        "subject": looked.subject,
        "base": looked.base or None,
        "notes": list(looked.notes),
        "summary": summary(planned),
        "totals": _totals(found.values()) if looked.basis is Basis.LIVE else None,
        "actions": [
            _action(action, found.get(action.key), estimates.get(action.key)) for action in planned.actions
        ],
        "refused": [
            _verdict(verdict, state.objects.get(verdict.key), looked.basis) for verdict in planned.verdicts
        ],
        "diagnostics": [diagnostics.plain(one) for one in looked.diagnostics],
    }


def lacking(count: int | None, revision: str, base: str, remedy: str) -> tuple[str, ...]:
    """The note that a commit lacks some of what is in force: else others' merges look like deletions of its own."""
    if not count:
        return ()
    commits = f"{count:,} commit{'s' * (count != 1)}"
    what = "what they brought" if count != 1 else "what it brought"
    note = (
        f"{revision} lacks {commits} of what is in force, {base}: {what} shows as deleted or changed back, which a "
        f"merge would not do. {remedy}"
    )
    return (note,)


def summary(planned: plan.Plan) -> str:
    """A plan in one line, as the CLI ends with it. What there is none of is not counted, but for the usual three."""
    verbs = plan.Verb.CREATE, plan.Verb.CHANGE, plan.Verb.CANCEL, plan.Verb.REMOVE
    counted = [(planned.count(verb), verb) for verb in verbs]
    listed = [f"{count} to {verb}" for count, verb in counted if count or verb is not plan.Verb.REMOVE]
    begins = f"Plan: {', '.join(listed)}" if planned.actions else "No changes"
    kept_out = [(len(planned.refused), "refused"), (len(planned.held), "held")]
    others = ", ".join(f"{count} {what}" for count, what in kept_out if count)
    return f"{begins}; {others}." if others else f"{begins}."


def _action(action: plan.Action, reach: Reach | None, estimate: Estimate | None) -> dict[str, Any]:
    known = reach or estimate
    return {
        "verb": str(action.verb),
        "kind": str(action.key.kind),
        "name": action.key.name,
        "why": action.why,
        "changed": list(action.changed),
        "warnings": [*action.warnings, *(known.warnings if known is not None else ())],
        "reach": reached.document(reach) if reach is not None else None,
        "estimate": reached.estimated(estimate) if estimate is not None else None,
    }


def _verdict(verdict: plan.Verdict, stored: Stored | None, basis: Basis) -> dict[str, Any]:
    return {
        "kind": str(verdict.key.kind),
        "name": verdict.key.name,
        "reason": str(verdict.reason),
        "held": verdict.reason in plan.HOLDS,
        "message": verdict.message,
        "details": list(verdict.details),
        "leaves": _leaves(stored, basis),
    }


def _leaves(stored: Stored | None, basis: Basis) -> dict[str, Any]:
    """What an object is that is not made what Git says: OutOfSync, and still at work where it was."""
    run = stored.run if stored is not None and basis is Basis.LIVE else None
    goes_on = run is not None and (run.goes_on or run.draining > 0)
    return {
        "sync": "OutOfSync",
        "inForce": stored is not None and stored.in_force,
        "run": run.number if run is not None and goes_on else None,
        "unfinishedTasks": run.draining if run is not None and goes_on else None,
    }


def _totals(reaches: Iterable[Reach]) -> dict[str, int]:
    """Over all actions. A device that two batches upgrade counts twice; batches are pushed side by side."""
    listed = list(reaches)
    return {
        "upgrades": sum(reach.upgraded + reach.waiting for reach in listed),
        "offline": sum(reach.offline for reach in listed),
        "offlineUpgrades": sum(reach.offline_upgraded for reach in listed),
        "conflicts": sum(reach.conflicts for reach in listed),
        "bytes": sum(reach.bytes_to_ship for reach in listed),
        "minutes": max((reach.minutes for reach in listed), default=0),
        "tasksCanceled": sum(reach.canceled for reach in listed),
        "tasksDraining": sum(reach.draining for reach in listed),
    }
