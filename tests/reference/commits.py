"""What a commit means: manifests.md `How a change is read`; platform-rules.md §3 verification, §4 changes, §6."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reference import bounds, judgement, matching, queueing
from reference.words import CANCELED, COMPLETED, HIGHEST_RATE, Device, Group, Package, Run, Spec


@dataclass
class Manifests:
    """Everything that Git declares: devices are `product/name` with their tags."""

    packages: dict[str, Package] = field(default_factory=dict)
    batches: dict[str, Spec] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    devices: dict[str, dict[str, str]] = field(default_factory=dict)
    open_products: frozenset[str] = frozenset()
    """Those whose devices may register themselves."""


@dataclass
class Batch:
    """A batch that was accepted: its last accepted spec, and its lives."""

    spec: Spec
    runs: list[Run]
    in_git: bool = True

    @property
    def run(self):
        return self.runs[-1]


def commit(fleet, desired):
    """Carries out a commit; returns what was refused, by name. In one commit, cancellations come before creations."""
    refused = _invalid(desired)
    _cancel(fleet, desired.batches, refused)
    _declare(fleet, desired)
    _packages(fleet, desired.packages, refused)
    _cancelled_from_the_start(fleet, desired.batches, refused)
    waiting = []
    for name, spec in sorted(desired.batches.items()):
        if spec.state == "Active" and name not in refused:
            problems = _active(fleet, name, spec, waiting)
            if problems:
                refused[name] = problems
    for name, spec in waiting:
        wrong = spec.package in refused
        problems = [f"{spec.package} is not as Git says"] if wrong else _accept(fleet, name, spec)
        if problems:
            refused[name] = problems
    return refused


def _invalid(desired):
    """Manifests that are wrong in themselves. They are never the same as absent: what they declared stays as it is."""
    found = {}
    for name, spec in desired.batches.items():
        package = desired.packages.get(spec.package)
        problems = ["no such package"] if package is None else bounds.problems(spec, package)
        if problems:
            found[name] = problems
    return found


def _cancel(fleet, batches, refused):
    for name, batch in fleet.batches.items():
        spec = batches.get(name)
        if spec is None:
            if batch.run.running:
                fleet.cancel_run(batch.run, batch.spec.on_cancel)
            batch.in_git = False
        elif spec.state == "Canceled" and batch.in_git and name not in refused:
            _canceled(fleet, name, batch, spec, refused)
    fleet.unborn = {name: spec for name, spec in fleet.unborn.items() if name in batches}


def _cancelled_from_the_start(fleet, batches, refused):
    """What is new, or back, and cancelled: it has no new life, and yet needs a package that is as Git says."""
    for name, spec in batches.items():
        batch = fleet.batches.get(name)
        if name in refused or spec.state == "Active" or (batch is not None and batch.in_git):
            continue
        if name not in fleet.unborn and spec.package in refused:
            refused[name] = [f"{spec.package} is not as Git says"]
        elif batch is not None:
            _canceled(fleet, name, batch, spec, refused)
        elif problems := _fixed(fleet.unborn.get(name, spec), spec):
            refused[name] = problems
        else:
            fleet.unborn[name] = spec  # cancelled from the start: accepted, without a life


def _canceled(fleet, name, batch, spec, refused):
    """Git wants it cancelled, which counts whatever else the commit changes beside it."""
    if batch.run.running:
        fleet.cancel_run(batch.run, spec.on_cancel)
    elif batch.in_git and spec != batch.spec:
        problems = _fixed(batch.spec, spec)
        if problems:
            refused[name] = problems
            return
        batch.run.spec = bounds.changed(batch.run.spec, spec)
    _end_more(fleet, batch, spec)
    batch.spec, batch.in_git = spec, True


def _end_more(fleet, batch, spec):
    """What is left of a cancelled life ends, too, where `onCancel` lists it only now."""
    if batch.run.phase == CANCELED:
        listed, before = (
            fleet.ending(batch.run, spec.on_cancel),
            fleet.ending(batch.run, batch.spec.on_cancel),
        )
        fleet.end_of(batch.run, listed - before)


def _fixed(old, new):
    """What refuses a change, as it is of something that can't change."""
    fields = bounds.immutable(old, new)
    return [f"immutable: {', '.join(fields)}"] if fields else []


def _declare(fleet, desired):
    """Devices, tags and groups; membership is complete when the commit is (§7)."""
    fleet.groups, fleet.open_products = dict(desired.groups), desired.open_products
    for key in sorted(desired.devices.keys() | fleet.devices.keys()):
        device = fleet.devices.get(key)
        if device is None:
            device = fleet.devices[key] = Device(*key.split("/"))
        in_git = key in desired.devices
        registered = in_git and not device.in_git
        if in_git and not device.known:
            fleet.meet(device)
        if in_git or device.in_git:
            device.in_git = device.declared = in_git
            device.tags = dict(desired.devices.get(key, {}))
        matching.refresh(fleet, device)
        if registered:
            fleet.trigger(device, ("registered", None))


def _packages(fleet, packages, refused):
    for name in sorted(fleet.packages.keys() - packages.keys()):
        used = any(run.package.name == name and (run.running or fleet.draining(run)) for run in fleet.runs)
        named = [*fleet.unborn.values(), *(batch.spec for batch in fleet.batches.values() if batch.in_git)]
        if used or any(spec.package == name for spec in named):
            refused[name] = ["a package whose batch is unfinished can't be deleted"]
        else:
            del fleet.packages[name]
            fleet.trials.pop(name, None)
    for name, package in sorted(packages.items()):
        old = fleet.packages.get(name)
        if old is not None and replace(old, verification=None) != replace(package, verification=None):
            refused[name] = ["a package's content never changes under the same name"]
            continue
        changed = package.verification if old is None or old.verification != package.verification else None
        unknown = (
            [name for name in changed.devices if not fleet.declared(package.product, name)] if changed else []
        )
        if unknown:
            refused[name] = [f"unknown test device {one}" for one in unknown]
            continue
        fleet.packages[name] = package
        if old is None or old.verification != package.verification:
            _try_out(fleet, package)


def _try_out(fleet, package):
    """§3: a package's trial; a changed one is a new trial, and the old one is cancelled whole."""
    old = fleet.trials.pop(package.name, None)
    if old is not None and old.running:
        fleet.cancel_run(old, whole=True)
        for device in fleet.devices.values():  # who waited longer comes before the new trial
            queueing.promote(fleet, device)
    trial = package.verification
    if trial is None:
        return
    spec = Spec(
        package.name,
        target=("devices", *trial.devices),
        sources=trial.sources,
        rate=HIGHEST_RATE,
        timeout=trial.timeout,
        no_response=trial.timeout,
        conflict="Wait",
    )
    number = 1 + sum(1 for run in fleet.runs if run.type == "Verify" and run.owner == package.name)
    run = fleet.add_run(package.name, number, "Verify", spec, package)
    fleet.trials[package.name] = run
    fleet.start(run)
    _choose(fleet, run)


def _active(fleet, name, spec, waiting):
    """A batch that Git wants Active: new, back, changed, or as it was. Returns what refuses it."""
    batch = fleet.batches.get(name)
    if batch is None:
        problems = _fixed(fleet.unborn.get(name, spec), spec)
        waiting += [] if problems else [(name, spec)]
        return problems
    deleted, cancelled = not batch.in_git, batch.spec.state == "Canceled"
    same = replace(batch.spec, state="Active") == spec
    problems = [] if deleted else _fixed(batch.spec, spec)
    if problems:
        return problems
    if batch.run.phase == CANCELED:
        stays = (
            batch.run.stopped_by_operator and not cancelled
        )  # a batch that an operator cancelled stays so (§6)
        if not same or ((cancelled or deleted) and not stays):
            waiting.append((name, spec))
        return []
    if deleted and not same:
        waiting.append((name, spec))  # a new batch that has an old one's name
        return []
    if same:
        batch.spec, batch.in_git = spec, True  # if it had ended by itself, it stays ended
        return []
    return _change(fleet, batch, spec)


def _change(fleet, batch, spec):
    """A change in place where the rules allow it; else it is refused whole and the batch goes on under its old spec."""
    run = batch.run
    problems = (
        bounds.clashes(spec, run.package, _dynamic(fleet, run)) if spec.sources != run.spec.sources else []
    )
    if problems:
        return problems
    rescan = set(spec.sources) != set(run.spec.sources)
    batch.spec, run.spec = spec, bounds.changed(run.spec, spec)
    batch.in_git = True
    for earlier in batch.runs[:-1]:
        if fleet.draining(earlier):
            earlier.spec = replace(earlier.spec, suspend=spec.suspend)
    if spec.end is None or spec.end > fleet.now:
        run.schedule_ended = False
    if rescan:
        fleet.scan(run)
    return []


def _accept(fleet, name, spec):
    """A new life of a batch, when nothing refuses it."""
    package = fleet.packages[spec.package]
    problems = [
        *bounds.clashes(spec, package, _dynamic(fleet)),
        *_references(fleet, spec, package),
    ]
    if bounds.too_far_ahead(spec, fleet.now):
        problems.append("starts more than 7 days ahead")
    if problems:
        return problems
    batch = fleet.batches.setdefault(name, Batch(spec, []))
    if batch.runs and batch.in_git:
        _end_more(fleet, batch, spec)
    run = fleet.add_run(name, len(batch.runs) + 1, spec.strategy, spec, package)
    run.start_at = bounds.effective_start(spec, fleet.now)
    batch.spec, batch.in_git = spec, True
    batch.runs.append(run)
    if spec.end is not None and spec.end <= fleet.now:
        run.schedule_ended, run.phase = (
            True,
            COMPLETED,
        )  # §4: a new batch whose end has passed creates no task
        return []
    fleet.start(run)
    if spec.strategy == "Static":
        _choose(fleet, run)
    return []


def _dynamic(fleet, besides=None):
    """The running dynamic batches, as (spec, package)."""
    return [
        (run.spec, run.package)
        for run in fleet.runs
        if run.type == "Dynamic" and run.running and run is not besides
    ]


def _references(fleet, spec, package):
    """Names that a new batch speaks of, and that there must be."""
    if spec.target[0] == "group":
        group = fleet.groups.get(spec.target[1])
        if group is None:
            return ["no such group"]
        if (group.devices is None) != (spec.strategy == "Dynamic"):
            return ["a static batch takes a static group, a dynamic batch a dynamic one"]
        if group.product not in (None, package.product):
            return ["the group is of another product"]
    if spec.target[0] == "devices":
        unknown = [name for name in spec.target[1:] if not fleet.declared(package.product, name)]
        return [f"unknown device {name}" for name in unknown]
    return []


def _choose(fleet, run):
    """§4 target, and what is left out at acceptance. Busy devices are judged like others: conflicts come after."""
    fitting = []
    for device in _targeted(fleet, run):
        verdict = judgement.judge(run, device.versions.get(run.package.module))
        if verdict is None:
            fitting.append(device)
        else:
            run.left_out[device.key] = verdict
            run.already_there += verdict == judgement.ALREADY
    if run.spec.target[0] == "gray":
        parameters = fleet.gray_parameters(run.owner)
        fitting.sort(key=lambda device: (judgement.gray_key(device, parameters), device.name))
        fitting = fitting[: judgement.gray_count(len(fitting), run.spec.target[1])]
    for device in sorted(fitting, key=lambda device: device.name):
        queueing.admit(fleet, run, device)


def _targeted(fleet, run):
    """The devices that the target names; with `all` and `gray`, source versions narrow it before any are left out."""
    kind, *rest = run.spec.target
    names = fleet.groups[rest[0]].devices if kind == "group" else rest
    for device in sorted(fleet.devices.values(), key=lambda device: device.name):
        if not device.declared or device.product != run.package.product:
            continue
        if kind in ("all", "gray"):
            present = device.versions.get(run.package.module)
            anybody = (
                run.package.source or not run.spec.sources
            )  # who has no use for a delta is left out of it
            if anybody or present in (*run.spec.sources, run.package.version):
                yield device
        elif device.name in names:
            yield device
