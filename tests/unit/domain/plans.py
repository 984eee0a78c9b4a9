"""What plans are made of, written short: a lamp, its package, an inventory and batches, in Git and in the database."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from reconciler.domain import desired as desires
from reconciler.domain import limits, plan, resources
from reconciler.domain.actual import ActualState, Phase, Run, RunType, Stored, Verification
from reconciler.domain.desired import DesiredState, FileFact, Key, RosterRef
from reconciler.domain.lifecycle import Status
from reconciler.domain.resources import Kind

FIRMWARE = FileFact("artifacts/app.bin", 10, "a" * 64, "b" * 32)
LIST = RosterRef("eu.csv", 30, "c" * 64, 2)
PRODUCT, PACKAGE = Key(Kind.PRODUCT, "lamp"), Key(Kind.PACKAGE, "lamp-2")
BATCH, INVENTORY = Key(Kind.BATCH, "all"), Key(Kind.DEVICE_INVENTORY, "berlin")
GROUP = Key(Kind.DEVICE_GROUP, "beta")
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
TRIAL = {"devices": ["dev-1"]}


def declare(kind, name, spec, path="", *, files=(), roster=None):
    data = {"apiVersion": "ota/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return desires.declare(resources.parse(Kind(kind), data), path or f"{name}.yaml", 1, files, roster)


def product(name="lamp", **spec):
    return declare("Product", name, spec)


def package(name="lamp-2", path="", file=FIRMWARE, **spec):
    files = [{"name": "app.bin", "source": "artifacts/app.bin"}]
    return declare(
        "Package", name, {"product": "lamp", "version": "2", "files": files, **spec}, path, files=(file,)
    )


def inventory(name="berlin", **spec):
    return declare("DeviceInventory", name, {"product": "lamp", "devices": [{"name": "dev-1"}], **spec})


def batch(name="all", path="", roster=None, **spec):
    target = {"devicesFrom": {"file": roster.path}} if roster else {"all": {}}
    return declare("Batch", name, {"package": "lamp-2", "target": target, **spec}, path, roster=roster)


def dynamic(name="all", *versions, **spec):
    """A dynamic batch, by versions or for `group`."""
    target = {"group": spec.pop("group")} if "group" in spec else {"all": {}, "sourceVersions": [*versions]}
    return batch(name, strategy="Dynamic", target=target, **spec)


def group(name="beta", **spec):
    spec = spec or {"devices": ["dev-1"]}
    return declare("DeviceGroup", name, {"product": "lamp", **spec})


def by_tag(name="beta", **spec):
    return group(name, selector={"matchTags": {"region": "eu"}}, **spec)


def base():
    return product(), package(), inventory()


def fleet(*batches):
    return *base(), *(batches or (batch(),))


def desired(*declarations, broken=(), broken_paths=()):
    return DesiredState(
        {one.key: one for one in declarations},
        dict.fromkeys(broken, ("title: too long",)),
        frozenset(broken_paths),
    )


def run(phase=Phase.IN_PROGRESS, *, by_git=True, kind=RunType.STATIC, package="lamp-2", **unfinished):
    counts = {Status(status): count for status, count in unfinished.items()}
    canceled_by = ("git" if by_git else "ann") if phase is Phase.CANCELED else None
    started = phase is not Phase.PLANNED
    return Run(7, 1, phase, package, "lamp", counts, type=kind, canceled_by=canceled_by, started=started)


def trial(phase=Phase.IN_PROGRESS, verdict=Verification.VERIFYING, **more):
    """What the database holds of a package that is, or was, tried out."""
    return {"run": run(phase, kind=RunType.VERIFY, **more), "verification": verdict}


def stored(one, **changes):
    found = Stored(
        path=one.path,
        digest=one.digest,
        spec=desires.content(one.resource, one.files, one.roster),
        declared_digest=one.digest,
        run=run(QUEUED=5) if one.kind is Kind.BATCH else None,
    )
    return dataclasses.replace(found, **changes)


def actual(*declarations, state=None, **changes):
    objects = {one.key: stored(one) for one in declarations}
    for key, values in (state or {}).items():
        objects[key] = dataclasses.replace(objects[key], **values)
    return ActualState(objects=objects, **{"now": NOW, **changes})


def diff(want, have, *, allowed=None, **policy):
    numbers = dataclasses.replace(limits.DEFAULT, **(allowed or {}))
    return plan.diff(want, have, plan.Policy(**policy, limits=numbers))


def said(planned):
    """A plan, short: verb and name of each action in order; reasons by name."""
    return [f"{action.verb} {action.key.name}" for action in planned.actions], {
        verdict.key.name: verdict.reason for verdict in planned.verdicts
    }
