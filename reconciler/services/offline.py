"""Plans from Git alone: what one commit changes against another, taken as if all of the other were in force.

Called by `plan --offline`, without database and credentials. The plan is made by the same `domain.plan` as the
daemon's; whom it touches is only estimated, from the devices that Git lists, and every number says so. What is in
force in truth, what devices report, and which batches are over, only the state knows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from reconciler.domain import acceptance, actual, limits, plan, resources, targeting
from reconciler.domain import desired as desires
from reconciler.domain.actual import ActualState, Phase, Run, RunType, Stored
from reconciler.domain.desired import Declaration, DesiredState, Key
from reconciler.domain.diagnostics import Diagnostic
from reconciler.domain.downloads import Ways
from reconciler.domain.resources import Kind, State, Strategy
from reconciler.services import lists, planned
from reconciler.services.reach import Estimate
from reconciler.source import history, validate
from reconciler.source.tree import Tree
from reconciler.store import revisions

_LISTED = 5
_Device = tuple[str, str]
"""Product and name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """A commit, read and checked."""

    revision: str
    subject: str
    files: Tree
    desired: DesiredState
    diagnostics: tuple[Diagnostic, ...]
    confirmed_cancels: int | None = None
    lacks: int | None = 0
    """Commits of the other side that this one's history has not; None where that can't be known."""


def read(here: history.History, asked: str, allowed: limits.Limits) -> tuple[Side, Side]:
    """The two commits of a range, read and checked; what is alike in both is read once.

    Raises:
        UserError: there is no such range, or a commit of it is not here.
    """
    cache = validate.Cache()
    ids = here.commits(asked)
    names = (name or "HEAD" for name in asked.replace("...", "..").split(".."))
    shown = (
        side if commit.startswith(name) else name  # an id needs no second time
        for commit, name, side in zip(ids, names, ("BASE", "HEAD"), strict=True)
    )
    base, head = (_side(here, commit, name, allowed, cache) for commit, name in zip(ids, shown, strict=True))
    return base, dataclasses.replace(head, lacks=here.lacks(ids[1], ids[0]))


def _side(
    here: history.History, commit: str, name: str, allowed: limits.Limits, cache: validate.Cache
) -> Side:
    files, about = here.tree(commit), here.describe(commit)
    checked = validate.check(files, allowed, cache=cache)
    return Side(
        revision=revisions.text(commit, name),
        subject=about.subject,
        files=files,
        desired=checked.desired,
        diagnostics=tuple(checked.diagnostics),
        confirmed_cancels=about.confirmed_cancels,
    )


def compare(base: Side, head: Side, allowed: limits.Limits, now: datetime) -> dict[str, Any]:
    """What `head` changes against `base`, as `planned.document` has it.

    Every way to download counts as configured, and nothing is held because it is seen for the first time.
    """
    state = _state(base, head, now)
    ways = Ways(https=True, http=True)
    policy = plan.Policy(hold_first_sight=False, limits=allowed, ways=ways, awaits_files=False)
    found = plan.diff(head.desired, state, policy)
    estimates = _Estimates(base, head, found, allowed, now)
    looked = planned.Looked(
        basis=planned.Basis.GIT,
        revision=head.revision,
        subject=head.subject,
        base=base.revision,
        diagnostics=head.diagnostics,
        notes=tuple(_notes(base, head)),
    )
    known = {action.key: estimate for action in found.actions if (estimate := estimates.of(action))}
    return planned.document(looked, found, state, estimates=known)


def _notes(base: Side, head: Side) -> Iterator[str]:
    remedy = "Bring the branch up to date, or compare it with where the two parted: BASE...HEAD."
    yield from planned.lacking(head.lacks, head.revision, base.revision, remedy)
    yield (
        f"from Git alone: {base.revision} stands for what is in force, and its active batches count as running; which "
        "devices need what, and how far batches are, only a plan against the daemon's state knows"
    )
    if base.desired.broken:
        count = len(base.desired.broken)
        yield (
            f"{count} object{'s' * (count != 1)} of {base.revision} {'are' if count != 1 else 'is'} not valid there: "
            "what is in force of them can't be known from Git"
        )


def _state(base: Side, head: Side, now: datetime) -> ActualState:
    """What the daemon would have, had it carried out `base` at once and nothing else happened."""
    stored = {key: _stored(declaration, base, now) for key, declaration in base.desired.declarations.items()}
    return ActualState(objects=stored, confirmed_cancels=head.confirmed_cancels, now=now)


def _stored(declaration: Declaration, base: Side, now: datetime) -> Stored:
    resource = declaration.resource
    return Stored(
        path=declaration.path,
        digest=declaration.digest,
        spec=desires.content(resource, declaration.files, declaration.roster),
        declared_digest=declaration.digest,
        run=_run(resource, base, now) if isinstance(resource, resources.Batch) else None,
    )


def _run(batch: resources.Batch, base: Side, now: datetime) -> Run:
    spec = batch.spec
    canceled = spec.state is State.CANCELED
    started = spec.schedule is None or spec.schedule.start <= now
    phase = Phase.IN_PROGRESS if started else Phase.PLANNED
    return Run(
        id=0,
        number=1,
        phase=Phase.CANCELED if canceled else phase,
        package=spec.package,
        product=_package(base.desired, spec.package).spec.product,
        type=RunType(spec.strategy),
        canceled_by=actual.GIT if canceled else None,
        started=started,
    )


def _package(desired: DesiredState, name: str) -> resources.Package:
    package = desired.declarations[Key(Kind.PACKAGE, name)].resource
    assert isinstance(package, resources.Package)
    return package


class _Following(NamedTuple):
    """A dynamic batch for a group."""

    name: str
    group: str
    product: str


class _Estimates:
    """Whom one action after the other is for, as far as Git lists devices."""

    def __init__(
        self, base: Side, head: Side, found: plan.Plan, allowed: limits.Limits, now: datetime
    ) -> None:
        self._base = base
        self._head = head
        self._allowed = allowed
        self._now = now
        self._acted = {action.key: action for action in found.actions}
        self._following = list(self._dynamic_batches())
        self._known: dict[tuple[str, str], set[_Device]] = {}

    def of(self, action: plan.Action) -> Estimate | None:
        """Whom an action is for; None when it is for no device."""
        declaration = action.declaration
        estimate = None
        if action.starts_run and declaration is not None:
            estimate = self._begun(declaration)
        elif action.cancels_run:
            estimate = Estimate(ends_tasks=True)
        elif "target.sourceVersions" in action.changed and declaration is not None:
            estimate = self._widened(declaration)
        follows = tuple(self._follows(declaration)) if declaration is not None else ()
        warnings: tuple[str, ...] = ()
        if action.key in self._base.desired.broken:
            warnings = (f"it is not valid in {self._base.revision}: an earlier one may be in force",)
        if follows or warnings:
            estimate = estimate or Estimate()
            estimate = dataclasses.replace(
                estimate, follows=follows, warnings=(*estimate.warnings, *warnings)
            )
        return estimate

    # ------------------------------------------------------------------------------------ what begins

    def _begun(self, declaration: Declaration) -> Estimate:
        resource = declaration.resource
        if isinstance(resource, resources.Batch):
            return self._batch(declaration, resource.spec)
        assert isinstance(resource, resources.Package), "nothing else starts a run"
        warnings = self._strangers(declaration)
        estimate = Estimate(devices=_length(declaration), source="its list", is_trial=True, warnings=warnings)
        return self._sized(estimate, declaration, self._allowed.push_rate_highest)

    def _batch(self, declaration: Declaration, spec: resources.BatchSpec) -> Estimate:
        package = _package(self._head.desired, spec.package)
        schedule, source_version = spec.schedule, package.spec.source_version
        estimate = dataclasses.replace(
            self._whom(declaration, spec, package.spec.product),
            versions=(source_version,) if source_version is not None else spec.target.source_versions,
            start_at=acceptance.starts_at(schedule, self._now, self._allowed.schedule_lead_shortest),
            end_at=schedule.end if schedule is not None else None,
            gate=spec.package if package.spec.verification is not None else "",
            is_dynamic=spec.strategy is Strategy.DYNAMIC,
        )
        of_package = self._head.desired.declarations[Key(Kind.PACKAGE, spec.package)]
        return self._sized(estimate, of_package, spec.push_rate_per_minute)

    def _widened(self, declaration: Declaration) -> Estimate | None:
        """Whom a dynamic batch with more source versions looks at, if it runs: who is on one that is new to it."""
        before, batch = self._base.desired.declarations[declaration.key].resource, declaration.resource
        assert isinstance(before, resources.Batch), "its key says so"
        assert isinstance(batch, resources.Batch), "its key says so"
        if State.CANCELED in {before.spec.state, batch.spec.state}:
            return None
        had, has = before.spec.target.source_versions, batch.spec.target.source_versions
        added = tuple(version for version in has if version not in had)
        return dataclasses.replace(self._batch(declaration, batch.spec), versions=added) if added else None

    def _whom(self, declaration: Declaration, spec: resources.BatchSpec, product: str) -> Estimate:
        """Who is targeted, whatever they report."""
        is_over = acceptance.is_over(spec.schedule, self._now)
        if is_over or spec.new_reports_only:
            return Estimate(devices=0, is_complete=is_over)
        if lists.are_in(declaration):
            warnings = self._strangers(declaration)
            return Estimate(devices=_length(declaration), source="its list", warnings=warnings)
        name = spec.target.group
        group = (
            self._head.desired.declarations.get(Key(Kind.DEVICE_GROUP, name)) if name is not None else None
        )
        if group is not None and lists.are_in(group):
            return Estimate(devices=_length(group), source=f"the list of its group {name}")
        source = "the inventories in Git"
        if name is not None:
            count = sum(of_product == product for of_product, _ in self._members(self._head, name))
            return Estimate(devices=count, source=source, is_complete=False)
        count = sum(_length(inventory) for inventory in _inventories(self._head, product))
        if spec.target.gray is None:
            return Estimate(devices=count, source=source, is_complete=False)
        share = targeting.gray_count(count, targeting.thousandths(spec.target.gray.percent))
        return Estimate(devices=share, share_of=count, source=source, is_complete=False)

    def _sized(self, estimate: Estimate, package: Declaration, rate: int) -> Estimate:
        count, sizes = estimate.devices or 0, [file.size for file in package.files]
        shipped = None if None in sizes else count * sum(size or 0 for size in sizes)
        return dataclasses.replace(estimate, bytes_to_ship=shipped, minutes=math.ceil(count / rate))

    def _strangers(self, declaration: Declaration) -> tuple[str, ...]:
        """A warning about listed names that no inventory of the commit has: they may have registered themselves."""
        resource = declaration.resource
        name = resource.spec.package if isinstance(resource, resources.Batch) else declaration.name
        missing = dict.fromkeys(lists.names(self._head.files, declaration, self._allowed))
        for inventory in _inventories(self._head, _package(self._head.desired, name).spec.product):
            for listed in lists.names(self._head.files, inventory, self._allowed):
                missing.pop(listed, None)
        if not missing:
            return ()
        few = ", ".join([*missing][:_LISTED]) + (", …" if len(missing) > _LISTED else "")
        are = "is" if len(missing) == 1 else "are"
        return (f"{len(missing):,} of its names {are} in no inventory of this commit: {few}",)

    def _members(self, side: Side, group: str) -> set[_Device]:
        """Git's devices that a dynamic group may select; looked up once."""
        asked = side.revision, group
        if asked not in self._known:
            declaration = side.desired.declarations.get(Key(Kind.DEVICE_GROUP, group))
            self._known[asked] = _selected(side, declaration, self._allowed)
        return self._known[asked]

    # ------------------------------------------------------------------------------------ what follows

    def _dynamic_batches(self) -> Iterator[_Following]:
        """Each dynamic batch for a group that is active before and after, and left alone."""
        for declaration, batch in self._head.desired.of(resources.Batch):
            group = batch.spec.target.group
            before = self._base.desired.declarations.get(declaration.key)
            was = before.resource if before is not None else None
            action = self._acted.get(declaration.key)
            touched = action is not None and (action.starts_run or action.cancels_run)
            goes_on = isinstance(was, resources.Batch) and State.CANCELED not in {
                was.spec.state,
                batch.spec.state,
            }
            if group is not None and batch.spec.strategy is Strategy.DYNAMIC and goes_on and not touched:
                product = _package(self._head.desired, batch.spec.package).spec.product
                yield _Following(declaration.name, group, product)

    def _follows(self, declaration: Declaration) -> Iterator[str]:
        """Upgrades by dynamic batches, of devices that another selector or other tags bring into a group."""
        if declaration.kind not in {Kind.DEVICE_GROUP, Kind.DEVICE_INVENTORY}:
            return
        listed = None
        if declaration.kind is Kind.DEVICE_INVENTORY and self._following:
            listed = set(lists.names(self._head.files, declaration, self._allowed))
        for batch, group, product in self._following:
            key = Key(Kind.DEVICE_GROUP, group)
            if key != declaration.key and (listed is None or key in self._acted):
                continue  # a group that changes tells of its devices itself
            joined = self._members(self._head, group) - self._members(self._base, group)
            count = sum(
                of_product == product and (listed is None or name in listed) for of_product, name in joined
            )
            if count:
                devices = f"{count:,} device{'s' * (count != 1)} of Git's inventories"
                yield f"{devices} more in the group {group}: Batch/{batch} upgrades those that it fits"


def _inventories(side: Side, product: str | None) -> Iterator[Declaration]:
    """The inventories of a product; of all, when it is None."""
    for declaration, inventory in side.desired.of(resources.DeviceInventory):
        if product in {None, inventory.spec.product}:
            yield declaration


def _length(declaration: Declaration) -> int:
    """How many devices an object lists."""
    if declaration.roster is not None:
        return declaration.roster.entries
    resource = declaration.resource
    if isinstance(resource, resources.DeviceInventory):
        return len(resource.spec.devices or ())
    return len(lists.named(resource) or ())


def _selected(side: Side, group: Declaration | None, allowed: limits.Limits) -> set[_Device]:
    """Git's devices that a dynamic group may select: by their tags, whatever they report."""
    if group is None or not isinstance(group.resource, resources.DeviceGroup):
        return set()
    spec = group.resource.spec
    selector: Mapping[str, Any] = resources.normalised(group.resource).get("selector", {})
    by_tags = {name: asked for name, asked in selector.items() if name != "module"}
    found = set()
    for declaration, inventory in side.desired.of(resources.DeviceInventory):
        product = inventory.spec.product
        if spec.selector is not None and spec.product in {None, product}:
            entries = lists.entries(side.files, declaration, allowed)
            found |= {
                (product, name)
                for name, tags in entries
                if targeting.selects(by_tags, product, tags or {}, {})
            }
    return found
