"""What keeps an action from being carried out, whatever it is on: rules over a plan's actions, one after the other.

Those about a batch's own wishes are in `acceptance` and `dynamic`; here are the words that somebody must say, and what
objects need of each other.

`plan.diff` asks each rule until it has nothing more to say. A rule answers with verdicts; their actions are
dropped, and the objects stay as they are. No rule makes an action.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.domain import acceptance, arrivals, dynamic, resources, trials
from reconciler.domain.actions import HOLDS, Action, Look, Reason, Rule, Verb, Verdict
from reconciler.domain.actual import Run, Stored
from reconciler.domain.desired import Declaration, Key
from reconciler.domain.resources import Kind

STARTING = frozenset({Kind.BATCH, Kind.PACKAGE})
"""Kinds whose acceptance may touch devices: batches, and packages that are tried out."""


def is_first_seen(key: Key, look: Look) -> bool:
    """True for what Git held before this database followed it, as far as anybody can tell."""
    stored = look.actual.objects.get(key)
    accepted = stored is not None and stored.digest is not None and not look.actual.foreign
    return look.policy.hold_first_sight and look.actual.first_sight and not accepted


def _unconfirmed(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """Nothing that is found in Git at first sight touches a device until somebody says so."""
    del verdicts
    message = "was in Git before this database followed it: `reconciler confirm {}`, or change its spec"
    return [
        Verdict(action.key, Reason.FIRST_SIGHT, message.format(action.key.name), holds=True)
        for action in actions
        if action.starts_run and _waits(action, look)
    ]


def _waits(action: Action, look: Look) -> bool:
    assert action.declaration is not None
    stored = look.actual.objects.get(action.key)
    held = stored.held if stored is not None else None
    if held is None:
        return is_first_seen(action.key, look)
    return held.digest in {"", action.declaration.digest} and not held.confirmed


def _mass_cancel(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """A missing folder, or a commit that cancels most of what runs, is more often a mistake than a wish.

    So is another repository over the same state: what it lacks is not deleted.
    """
    del verdicts
    desired, actual, policy = look.desired, look.actual, look.policy
    running = {
        key
        for key, stored in actual.objects.items()
        if key.kind is Kind.BATCH and stored.run is not None and stored.run.goes_on
    }
    cancels = [action for action in actions if action.cancels_run and action.key in running]
    emptied = (
        not desired.declarations and not desired.broken and any(s.in_force for s in actual.objects.values())
    )
    many = len(cancels) >= policy.mass_cancel_least and len(cancels) > policy.mass_cancel_share * len(running)
    if not (emptied or many or actual.foreign) or actual.confirmed_cancels == len(cancels):
        return []
    removals = [action for action in actions if action.verb is Verb.REMOVE]
    affected = removals * (emptied or actual.foreign) + cancels
    message = (
        f"this commit {'is of another repository or ref: it ' * actual.foreign}"
        f"cancels {len(cancels)} of {len(running)} running batches"
        f"{' and leaves nothing declared' * emptied}: confirm with `reconciler confirm --cancel {len(cancels)}` "
        f"or a commit trailer `Confirm-Cancel: {len(cancels)}`"
    )
    return [Verdict(action.key, Reason.MASS_CANCEL, message) for action in affected]


def _baseless(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """What is new, or runs, on the ground of something that is not as Git says: it would be another upgrade."""
    wrong = {verdict.key: verdict.reason for verdict in verdicts}
    found = []
    for action in actions:
        missing = next(_ground(action, wrong, look), None)
        if missing is not None:
            remedy = f"{'confirm' if wrong[missing] in HOLDS else 'mend'} that first"
            if wrong[missing] is Reason.FETCHING:
                remedy = "it is accepted by itself when that is here"
            message = f"{missing}, which it needs, is not as Git says ({wrong[missing]}): {remedy}"
            found.append(Verdict(action.key, Reason.REFERENCE, message))
    return found


def _ground(action: Action, wrong: Iterable[Key], look: Look) -> Iterator[Key]:
    """The wrong objects that an action stands on: it refers to them, or they say which devices its run has."""
    if action.declaration is None or not (action.verb is Verb.CREATE or action.starts_run):
        return
    needed = list(_refers(action.declaration))
    resource = action.declaration.resource
    if action.starts_run and isinstance(resource, resources.Batch) and resource.spec.target.group is not None:
        needed.append(Key(Kind.DEVICE_GROUP, resource.spec.target.group))
    for key in needed:
        if key in look.desired.declarations:
            needed.extend(_refers(look.desired.declarations[key]))
    for key in wrong:
        lists_devices = action.starts_run and key.kind is Kind.DEVICE_INVENTORY
        if key in needed or (lists_devices and _is_of(key, needed, look)):
            yield key


def _is_of(inventory: Key, needed: Collection[Key], look: Look) -> bool:
    """Whether an inventory is of one of the needed products; of one that was never valid nobody knows."""
    stored = look.actual.objects.get(inventory)
    products = set(_references(inventory.kind, (stored.spec if stored else None) or {}))
    if inventory in look.desired.declarations:
        products.update(_refers(look.desired.declarations[inventory]))
    return not products or not products.isdisjoint(needed)


def _refers(declaration: Declaration) -> Iterable[Key]:
    return _references(declaration.kind, resources.normalised(declaration.resource))


def _still_used(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """Removals that something in force, or an unfinished task, still needs."""
    del verdicts
    leaving = {action.key: action for action in actions if action.declaration is None}
    users: dict[Key, str] = {}
    for key, stored in look.actual.objects.items():
        if stored.in_force and key not in leaving:
            used = set(_references(key.kind, stored.spec or {}))
            if stored.run is not None:
                used.add(Key(Kind.PRODUCT, stored.run.product))
            users.update(dict.fromkeys(used, f"{key} refers to it"))
    for key, stored in look.actual.objects.items():
        users.update(_needed_by_tasks(key, stored, actions))
        if key in leaving and key.kind is Kind.PACKAGE and (why := trials.unfinished(stored)):
            users[key] = why
    return [
        Verdict(key, Reason.IN_USE, f"can't be removed: {users[key]}")
        for key, action in leaving.items()
        if key in users and action.verb is Verb.REMOVE
    ]


def _cut_off(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """Changes of a product after which a package in force, and so its tasks, would not be understood any more."""
    del verdicts
    leaving = {action.key for action in actions if action.declaration is None}
    packages = [
        (key, stored.spec or {})
        for key, stored in look.actual.objects.items()
        if key.kind is Kind.PACKAGE and stored.in_force and key not in leaving
    ]
    found = []
    for action in actions:
        product = action.declaration.resource if action.declaration is not None else None
        if action.verb is Verb.CHANGE and isinstance(product, resources.Product):
            unfit = (f"{key} {why}" for key, spec in packages if (why := _unfit(spec, product)))
            found += [
                Verdict(action.key, Reason.IN_USE, f"can't be changed: {why}")
                for why in itertools.islice(unfit, 1)
            ]
    return found


def _unfit(package: Mapping[str, Any], product: resources.Product) -> str:
    """Why a package of a product can't be one any more; empty when it can."""
    module, version = package.get("module", resources.DEFAULT_MODULE), package["version"]
    if package["product"] != product.metadata.name:
        return ""
    if module not in product.modules:
        return f"is for its module {module}"
    numeric = product.spec.version_format is resources.VersionFormat.NUMERIC
    if numeric and not resources.NUMERIC_VERSION.fullmatch(version):
        return f"has the version {version}, not x.y.z"
    return ""


def _references(kind: Kind, spec: Mapping[str, Any]) -> Iterable[Key]:
    """What must stay while an object is in force. A batch's group may go: it is needed at acceptance only."""
    if kind is Kind.BATCH:
        yield Key(Kind.PACKAGE, spec["package"])
    elif "product" in spec:
        yield Key(Kind.PRODUCT, spec["product"])


def _needed_by_tasks(key: Key, stored: Stored, actions: Sequence[Action]) -> Iterator[tuple[Key, str]]:
    """What the unfinished tasks of an object's lives need, as far as the plan's own cancellations leave any."""
    for run in (stored.run, *stored.earlier):
        left = _left_after(run, [action for action in actions if action.key == key and run is stored.run])
        if run is not None and left:
            message = f"{left} unfinished tasks of {key} need it"
            yield Key(Kind.PACKAGE, run.package), message
            yield Key(Kind.PRODUCT, run.product), message


def _left_after(run: Run | None, actions: Sequence[Action]) -> int:
    """Unfinished tasks of a run once its cancellation has been carried out."""
    if run is None:
        return 0
    ended = {status for action in actions if action.cancels_run for status in action.statuses}
    return sum(count for status, count in run.unfinished.items() if status not in ended)


RULES: Sequence[Rule] = (
    _unconfirmed,
    _mass_cancel,
    acceptance.unknown_devices,
    acceptance.too_far_ahead,
    acceptance.no_way_to_download,
    acceptance.no_group,
    _still_used,
    _cut_off,
    arrivals.awaited,
    _baseless,
    dynamic.overlapping,
)
"""In their order: who waits for somebody's word is told that first."""
