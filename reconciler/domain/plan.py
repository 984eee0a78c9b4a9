"""Decides what to do: `diff(desired, actual) -> Plan`, actions with reasons (manifests "How a change is read").

The same plan is printed by `plan`, applied by the daemon, and only looked at by whoever wants to know whether
there is drift. `diff(x, x)` is empty, and so is a plan after an apply. Actions are on objects, never on tasks.
What is refused is not an action: the object goes on as it was, OutOfSync, with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from reconciler.domain import acceptance, arrivals, changes, guards, lifecycle, resources, trials
from reconciler.domain.actions import HOLDS, Action, Look, Plan, Policy, Reason, Verb, Verdict
from reconciler.domain.actual import ActualState, Phase, Run, RunType, Stored
from reconciler.domain.desired import Declaration, DesiredState, Key
from reconciler.domain.resources import CancelScope, Kind, State

__all__ = ["HOLDS", "Action", "Plan", "Policy", "Reason", "Verb", "Verdict", "diff", "statuses_on_cancel"]

_SCOPES: Mapping[CancelScope, lifecycle.Status] = {
    CancelScope.UNCONFIRMED: lifecycle.Status.CONFIRM,
    CancelScope.QUEUED: lifecycle.Status.QUEUED,
    CancelScope.NOTIFIED: lifecycle.Status.NOTIFIED,
    CancelScope.IN_PROGRESS: lifecycle.Status.IN_PROGRESS,
}
_STAGES = {Verb.CANCEL: 0, Verb.CREATE: 1, Verb.CHANGE: 1, Verb.REMOVE: 2}
_KINDS = list(Kind)


def diff(desired: DesiredState, actual: ActualState, policy: Policy) -> Plan:
    """What makes the database what Git says."""
    look = Look(desired, actual, policy)
    found = [*_declared(desired, actual), *_broken(look), *_gone(desired, actual)]
    actions = [item for item in found if isinstance(item, Action)]
    verdicts = [item for item in found if isinstance(item, Verdict)]
    for rule in guards.RULES:
        while refused := rule(actions, verdicts, look):  # which may leave another without its ground
            keys = {verdict.key for verdict in refused}
            actions = [action for action in actions if action.key not in keys]
            verdicts += refused
    warned = [_warned(action, look) for action in actions]
    return Plan(tuple(sorted(warned, key=_order)), tuple(sorted(verdicts, key=_by_key)))


def statuses_on_cancel(scopes: Iterable[str], run: Run) -> tuple[lifecycle.Status, ...]:
    """The statuses of the tasks that end when a batch's run is cancelled by its `onCancel` (platform rules §6)."""
    listed = {CancelScope(scope) for scope in scopes}
    not_started = run.type is RunType.STATIC and not run.started
    if not_started and CancelScope.SCHEDULED in listed:
        return lifecycle.UNFINISHED
    return tuple(status for scope, status in _SCOPES.items() if scope in listed)


def _warned(action: Action, look: Look) -> Action:
    warnings = (*action.warnings, *acceptance.warnings(action, look), *arrivals.warnings(action, look))
    return dataclasses.replace(action, warnings=warnings)


def _order(action: Action) -> tuple[int, int, bool, str]:
    """Cancellations before creations; what is referred to before what refers to it, removed the other way round.

    Runs are accepted in the order of their names, after what only changes.
    """
    kind = _KINDS.index(action.key.kind)
    in_stage = -kind if action.verb is Verb.REMOVE else kind
    return _STAGES[action.verb], in_stage, action.starts_run, action.key.name


def _by_key(verdict: Verdict) -> tuple[int, str]:
    return _KINDS.index(verdict.key.kind), verdict.key.name


def _declared(desired: DesiredState, actual: ActualState) -> Iterable[Action | Verdict]:
    for key, declaration in desired.declarations.items():
        stored = actual.objects.get(key)
        if stored is None or not stored.in_force:
            yield _new(declaration, stored, actual)
            continue
        item = _existing(declaration, stored)
        if item is not None:
            yield item


def _new(declaration: Declaration, stored: Stored | None, actual: ActualState) -> Action | Verdict:
    """An object that was never accepted, or that was removed and is back."""
    resource = declaration.resource
    create = Action(Verb.CREATE, declaration.key, "new in Git", declaration)
    if isinstance(resource, resources.Product):
        return _product_key(resource, declaration.key, actual) or create
    if isinstance(resource, resources.Batch):
        return _new_batch(create, resource, stored)
    if isinstance(resource, resources.DeviceInventory):
        return create
    refused = changes.refused(declaration, stored)
    if refused is None and isinstance(resource, resources.Package):
        return trials.tried(create, stored)
    return refused or create


def _new_batch(create: Action, batch: resources.Batch, stored: Stored | None) -> Action:
    if batch.spec.state is State.CANCELED:
        stopped = dataclasses.replace(create, why="new in Git, cancelled from the start")
        return _ends_more(stopped, batch, stored)
    if stored is not None and stored.run is not None:
        return _again(create, stored, stored.run)
    return dataclasses.replace(create, starts_run=True)


def _product_key(product: resources.Product, key: Key, actual: ActualState) -> Verdict | None:
    """A product key is one product's, while that is in Git; and a product that is back keeps its own."""
    for other, stored in actual.objects.items():
        if other.kind is not Kind.PRODUCT:
            continue
        has = (stored.spec or {}).get("productKey", other.name)
        if other == key and stored.digest is not None and has != product.product_key:
            return Verdict(key, Reason.IMMUTABLE, changes.message(Kind.PRODUCT, ["productKey"]))
        if other != key and stored.in_force and has == product.product_key:
            message = f"product key {has} is that of {other}: remove that first, in a commit before this"
            return Verdict(key, Reason.TAKEN, message)
    return None


def _again(create: Action, stored: Stored, run: Run) -> Action:
    """A batch that was deleted and is back: a run that ended by itself or by hand stays so, else a new one."""
    assert create.declaration is not None
    same = stored.digest == create.declaration.digest
    alike = set(changes.changed(create.declaration, stored)) <= {"state"}
    if alike and run.phase is Phase.COMPLETED:
        return dataclasses.replace(create, why="back in Git; its run had ended by itself and stays ended")
    if same and run.was_stopped:
        return dataclasses.replace(create, why="back in Git; its run was cancelled by hand and stays so")
    return _another_run(run, dataclasses.replace(create, why="back in Git: a new run"))


def _another_run(run: Run, action: Action) -> Action:
    tasks = f"{run.draining} unfinished task{'s' * (run.draining != 1)}"
    waits = f" behind {tasks} of its run {run.number}" if run.draining else ""
    return dataclasses.replace(action, why=f"{action.why}{waits}", starts_run=True)


def _existing(declaration: Declaration, stored: Stored) -> Action | Verdict | None:
    if declaration.digest == stored.digest:
        return None
    changed = changes.changed(declaration, stored)
    change = Action(Verb.CHANGE, declaration.key, "changed in Git", declaration, changed=changed)
    if isinstance(declaration.resource, resources.Batch):
        spec = declaration.resource.spec
        if spec.state is State.CANCELED and stored.run is not None and stored.run.goes_on:
            return _cancel(declaration.key, "state: Canceled", stored.run, spec.on_cancel, declaration)
    refused = changes.refused(declaration, stored)
    if refused is not None:
        return refused
    if isinstance(declaration.resource, resources.Batch):
        return _lives_on(change, declaration.resource, stored)
    if isinstance(declaration.resource, resources.Package):
        return trials.tried(change, stored)
    return change


def _cancel(
    key: Key, why: str, run: Run, scopes: Iterable[str], declaration: Declaration | None = None
) -> Action:
    """The end of a batch's run. A cancellation counts whatever else the commit changed beside it."""
    statuses = statuses_on_cancel(scopes, run)
    return Action(Verb.CANCEL, key, why, declaration, cancels_run=True, statuses=statuses)


def _lives_on(change: Action, batch: resources.Batch, stored: Stored) -> Action:
    """What a change means for a batch's life: active again, or changed after it was cancelled by hand."""
    if batch.spec.state is not State.ACTIVE:
        return _ends_more(change, batch, stored)
    again = dataclasses.replace(change, why="active again") if "state" in change.changed else change
    if stored.run is None:
        return dataclasses.replace(again, starts_run=True)
    if stored.run.phase is Phase.CANCELED:
        by_hand = "changed in Git after it was cancelled by hand: a new run"
        another = _another_run(
            stored.run, again if again is not change else dataclasses.replace(change, why=by_hand)
        )
        return _ends_more(another, batch, stored)
    if stored.run.phase is Phase.COMPLETED and again is not change:
        return dataclasses.replace(again, why="active again; its run had ended by itself and stays ended")
    return change


def _ends_more(action: Action, batch: resources.Batch, stored: Stored | None) -> Action:
    """Tasks of a cancelled run that are still on their way end, too, where `onCancel` lists them only now."""
    run = stored.run if stored is not None else None
    if stored is None or run is None or run.phase is not Phase.CANCELED:
        return action
    before = statuses_on_cancel((stored.spec or {}).get("onCancel", resources.DEFAULT_ON_CANCEL), run)
    listed = statuses_on_cancel(batch.spec.on_cancel, run)
    more = tuple(status for status in listed if status not in before and run.unfinished.get(status))
    if not more:
        return action
    if not action.starts_run:
        why = f"onCancel lists more: {action.why}"
        action = dataclasses.replace(action, verb=Verb.CANCEL, why=why)
    return dataclasses.replace(action, cancels_run=True, statuses=more)


def _broken(look: Look) -> Iterable[Verdict]:
    """Invalid is never absent: these objects stay as they are, and say why."""
    desired, actual = look.desired, look.actual
    for key, messages in desired.broken.items():
        message = messages[0] if messages else "not valid"
        holds = key.kind in guards.STARTING and guards.is_first_seen(key, look)
        yield Verdict(key, Reason.INVALID, message, holds=holds)
    for key, stored in actual.objects.items():
        named = key in desired.declarations or key in desired.broken
        if named or not stored.in_force or desired.is_gone(key, stored.path):
            continue
        if desired.is_broken(stored.path):
            message = f"{stored.path}, which last declared it, is not valid or can't be read"
        else:
            message = f"{min(desired.unnamed)} can't be read, and may declare it now"
        yield Verdict(key, Reason.UNREADABLE, message)


def _gone(desired: DesiredState, actual: ActualState) -> Iterable[Action]:
    for key, stored in actual.objects.items():
        if stored.removed or not desired.is_gone(key, stored.path):
            continue
        if key.kind is Kind.BATCH and stored.run is not None and stored.run.goes_on:
            scopes = (stored.spec or {}).get("onCancel", resources.DEFAULT_ON_CANCEL)
            yield _cancel(key, "deleted from Git", stored.run, scopes)
        else:
            yield Action(Verb.REMOVE, key, "deleted from Git")
