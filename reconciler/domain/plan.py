"""Decides what to do: `diff(desired, actual) -> Plan`, actions with reasons (manifests "How a change is read").

The same plan is printed by `plan`, applied by the daemon, and only looked at by whoever wants to know whether
there is drift. `diff(x, x)` is empty, and so is a plan after an apply. Actions are on objects, never on tasks.
What is refused is not an action: the object goes on as it was, OutOfSync, with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from reconciler.domain import desired as desires
from reconciler.domain import guards, lifecycle, resources
from reconciler.domain.actions import HOLDS, Action, Plan, Policy, Reason, Verb, Verdict
from reconciler.domain.actual import ActualState, Phase, Run, Stored
from reconciler.domain.desired import Declaration, DesiredState, Key
from reconciler.domain.resources import CancelScope, Kind, State

__all__ = ["HOLDS", "Action", "Plan", "Policy", "Reason", "Verb", "Verdict", "diff", "statuses_on_cancel"]

MUTABLE: Mapping[Kind, frozenset[str]] = {
    Kind.PRODUCT: frozenset({"description", "modules", "versionFormat", "registration"}),
    Kind.PACKAGE: frozenset({"title", "description", "customInfo", "verification"}),
    Kind.DEVICE_INVENTORY: frozenset({"devices", "devicesFrom"}),
    Kind.DEVICE_GROUP: frozenset(),
    Kind.BATCH: frozenset({"pushRatePerMinute", "timeout", "tags", "state", "onCancel"}),
}
"""Fields that can change in place (platform rules §3, §4); a change of any other is refused."""

_SCOPES: Mapping[CancelScope, lifecycle.Status] = {
    CancelScope.QUEUED: lifecycle.Status.QUEUED,
    CancelScope.NOTIFIED: lifecycle.Status.NOTIFIED,
    CancelScope.IN_PROGRESS: lifecycle.Status.IN_PROGRESS,
}
_VERBS = [Verb.CANCEL, Verb.CREATE, Verb.CHANGE, Verb.REMOVE]
_KINDS = list(Kind)


def diff(desired: DesiredState, actual: ActualState, policy: Policy) -> Plan:
    """What makes the database what Git says."""
    look = guards.Look(desired, actual, policy)
    found = [*_declared(desired, actual), *_broken(look), *_gone(desired, actual)]
    actions = [item for item in found if isinstance(item, Action)]
    verdicts = [item for item in found if isinstance(item, Verdict)]
    for rule in guards.RULES:
        while refused := rule(
            actions, verdicts, look
        ):  # what is refused may leave another without its reason
            keys = {verdict.key for verdict in refused}
            actions = [action for action in actions if action.key not in keys]
            verdicts += refused
    return Plan(tuple(sorted(actions, key=_order)), tuple(sorted(verdicts, key=_by_key)))


def statuses_on_cancel(scopes: Iterable[str]) -> tuple[lifecycle.Status, ...]:
    """The task statuses that a batch's `onCancel` ends (platform rules §6)."""
    listed = {CancelScope(scope) for scope in scopes}
    return tuple(status for scope, status in _SCOPES.items() if scope in listed)


def _order(action: Action) -> tuple[int, int, str]:
    """Cancellations before creations; what is referred to before what refers to it, removed the other way round."""
    kind = _KINDS.index(action.key.kind)
    return _VERBS.index(action.verb), -kind if action.verb is Verb.REMOVE else kind, action.key.name


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
    key = declaration.key
    create = Action(Verb.CREATE, key, "new in Git", declaration)
    if isinstance(declaration.resource, resources.Product):
        return _product_key(declaration.resource, key, actual) or create
    if isinstance(declaration.resource, resources.Package):
        return (_refused_change(declaration, stored) if stored is not None else None) or create
    if not isinstance(declaration.resource, resources.Batch):
        return create
    if declaration.resource.spec.state is State.CANCELED:
        return dataclasses.replace(create, why="new in Git, cancelled from the start")
    if stored is not None and stored.run is not None:
        return _again(declaration, stored, create)
    return dataclasses.replace(create, starts_run=True)


def _product_key(product: resources.Product, key: Key, actual: ActualState) -> Verdict | None:
    """A product key is one product's, while that is in Git; and a product that is back keeps its own."""
    for other, stored in actual.objects.items():
        if other.kind is not Kind.PRODUCT:
            continue
        has = (stored.spec or {}).get("productKey", other.name)
        if other == key and stored.digest is not None and has != product.product_key:
            return Verdict(key, Reason.IMMUTABLE, _immutable(Kind.PRODUCT, ["productKey"]))
        if other != key and stored.in_force and has == product.product_key:
            message = f"product key {has} is that of {other}: remove that first, in a commit before this"
            return Verdict(key, Reason.TAKEN, message)
    return None


def _again(declaration: Declaration, stored: Stored, create: Action) -> Action | Verdict:
    """A batch that was deleted and is back: a run that ended by itself or by hand stays so, else a new one."""
    run = stored.run
    assert run is not None
    same = stored.digest == declaration.digest
    if same and run.phase is Phase.COMPLETED:
        return dataclasses.replace(create, why="back in Git; its run had ended by itself and stays ended")
    if same and run.was_stopped:
        return dataclasses.replace(create, why="back in Git; its run was cancelled by hand and stays so")
    return _another_run(run, dataclasses.replace(create, why="back in Git: a new run"))


def _another_run(run: Run, action: Action) -> Action | Verdict:
    if run.draining:
        message = (
            f"{run.draining} tasks of its run {run.number} are still on their way; "
            "a new run that waits behind them is not supported yet: wait until they have ended"
        )
        return Verdict(action.key, Reason.DRAINING, message)
    return dataclasses.replace(action, starts_run=True)


def _existing(declaration: Declaration, stored: Stored) -> Action | Verdict | None:
    if declaration.digest == stored.digest:
        return None
    changed = _changed(declaration, stored)
    if isinstance(declaration.resource, resources.Batch):
        action = _state_change(declaration, stored, changed)
        if action is not None:
            return action
    change = Action(Verb.CHANGE, declaration.key, "changed in Git", declaration, changed=changed)
    return _refused_change(declaration, stored) or change


def _refused_change(declaration: Declaration, stored: Stored) -> Verdict | None:
    """What was accepted once keeps its content (platform rules §3, §4)."""
    if stored.digest is None:
        return None
    immutable = sorted(set(_changed(declaration, stored)) - MUTABLE[declaration.kind])
    if not immutable:
        return None
    return Verdict(declaration.key, Reason.IMMUTABLE, _immutable(declaration.kind, immutable))


def _state_change(
    declaration: Declaration, stored: Stored, changed: tuple[str, ...]
) -> Action | Verdict | None:
    """Cancelled, or activated again. A cancellation counts whatever else the commit changed beside it."""
    assert isinstance(declaration.resource, resources.Batch)
    spec = declaration.resource.spec
    running = stored.run is not None and stored.run.phase is Phase.IN_PROGRESS
    if spec.state is State.CANCELED and running:
        statuses = statuses_on_cancel(spec.on_cancel)
        return Action(
            Verb.CANCEL, declaration.key, "state: Canceled", declaration, cancels_run=True, statuses=statuses
        )
    again = "state" in changed and spec.state is State.ACTIVE
    if not again or set(changed) - MUTABLE[Kind.BATCH]:
        return None
    change = Action(Verb.CHANGE, declaration.key, "active again", declaration, changed=changed)
    if stored.run is None:
        return dataclasses.replace(change, starts_run=True)
    if stored.run.phase is Phase.COMPLETED:
        return dataclasses.replace(change, why="active again; its run had ended by itself and stays ended")
    return _another_run(stored.run, change)


def _changed(declaration: Declaration, stored: Stored) -> tuple[str, ...]:
    """The fields of the spec that are not as in force."""
    new = desires.content(declaration.resource, declaration.file, declaration.roster)
    old = stored.spec or {}
    return tuple(sorted(field for field in {*new, *old} if new.get(field) != old.get(field)))


def _immutable(kind: Kind, fields: list[str]) -> str:
    what = "a field" if len(fields) == 1 else "fields"
    remedy = {
        Kind.PACKAGE: "publish a new Package",
        Kind.BATCH: "write a new Batch",
    }.get(kind, f"write a new {kind}")
    return f"{', '.join(fields)}: {what} that can't change once accepted; {remedy}, or revert the change"


def _broken(look: guards.Look) -> Iterable[Verdict]:
    """Invalid is never absent: these objects stay as they are, and say why."""
    desired, actual = look.desired, look.actual
    for key, messages in desired.broken.items():
        message = messages[0] if messages else "not valid"
        yield Verdict(
            key, Reason.INVALID, message, holds=key.kind is Kind.BATCH and guards.is_first_seen(key, look)
        )
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
        if stored.run is not None and stored.run.phase is Phase.IN_PROGRESS:
            scopes = (stored.spec or {}).get("onCancel", resources.DEFAULT_ON_CANCEL)
            statuses = statuses_on_cancel(scopes)
            yield Action(Verb.CANCEL, key, "deleted from Git", cancels_run=True, statuses=statuses)
        else:
            yield Action(Verb.REMOVE, key, "deleted from Git")
