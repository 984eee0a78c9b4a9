"""What a run is made of: the manifests of a batch, or of a package that is tried out, in the words of the store.

Called by `carrying` when a run begins or changes, and by `preview` for the same conditions. Decides nothing.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import NamedTuple

from reconciler.domain import acceptance, actual, lifecycle, resources, targeting
from reconciler.domain.limits import Limits
from reconciler.domain.plan import Action
from reconciler.store import runs


class Fitting(NamedTuple):
    """What a package asks of devices, whoever upgrades to it."""

    module: str
    version: str
    source_version: str | None
    """Of a delta."""


class Where(NamedTuple):
    """The rows that a run belongs to."""

    object_id: int
    package_id: int
    product_id: int
    revision_id: int


class Whom(NamedTuple):
    """The list or the dynamic group that a run is for; neither: devices of its product."""

    roster_id: int | None = None
    group_id: int | None = None


def fitting(package: resources.Package) -> Fitting:
    """What a declared package asks of devices."""
    spec = package.spec
    return Fitting(spec.module, spec.version, spec.source_version)


def conditions(spec: resources.BatchSpec, package: Fitting) -> targeting.Conditions:
    """What a batch asks of a device's version. A delta has a source version of its own, and no other."""
    versions = spec.target.source_versions if package.source_version is None else (package.source_version,)
    return targeting.Conditions(
        package.module, package.version, versions, allow_downgrade=spec.allow_downgrade
    )


def batch(resource: resources.Batch, package: Fitting, where: Where, whom: Whom) -> runs.NewRun:
    """A batch's next life, but for its schedule."""
    spec = resource.spec
    return runs.NewRun(
        **where._asdict(),
        **whom._asdict(),
        batch=resource.metadata.name,
        type=actual.RunType(spec.strategy),
        conditions=conditions(spec, package),
        delta=package.source_version is not None,
        gray=targeting.thousandths(spec.target.gray.percent) if spec.target.gray is not None else None,
        new_reports_only=spec.new_reports_only,
        conflict=spec.conflict,
        multi_module=spec.multi_module,
        confirm=spec.confirm,
        push_rate=spec.push_rate_per_minute,
        push_delivery=spec.delivery is resources.Delivery.PUSH,
        timeout=spec.timeout,
        no_response=spec.no_response_timeout,
        retry=_retry(spec),
        download=spec.download,
        tags=spec.tags,
        suspended=spec.suspend,
    )


def scheduled(
    new: runs.NewRun, schedule: resources.Schedule | None, limits: Limits, now: datetime
) -> runs.NewRun:
    """The run with its start and end, when it is accepted now: a start that is past or too near is at once."""
    start_at = acceptance.starts_at(schedule, now, limits.schedule_lead_shortest)
    return dataclasses.replace(new, start_at=start_at, end_at=schedule.end if schedule is not None else None)


def changes(spec: resources.BatchSpec, package: Fitting) -> runs.Changes:
    """What of a run may change while it goes on, as Git says it now."""
    return runs.Changes(
        push_rate=spec.push_rate_per_minute,
        timeout=spec.timeout,
        retry=_retry(spec),
        tags=spec.tags,
        end_at=spec.schedule.end if spec.schedule is not None else None,
        suspended=spec.suspend,
        source_versions=conditions(spec, package).source_versions,
    )


def trial(resource: resources.Package, where: Where, roster_id: int, limits: Limits) -> runs.NewRun:
    """A package's trial (platform rules §3): pushed at once, without a rate, retries, or a conflict that fails."""
    wanted = resource.spec.verification
    assert wanted is not None, "only a package with a verification is tried out"
    timeout = wanted.timeout or limits.verification_timeout
    return runs.NewRun(
        **where._asdict(),
        roster_id=roster_id,
        batch=resource.metadata.name,
        type=actual.RunType.VERIFY,
        conditions=trial_conditions(resource),
        delta=resource.spec.source_version is not None,
        conflict=resources.Conflict.WAIT,
        push_rate=limits.push_rate_highest,
        timeout=timeout,
        no_response=timeout,
    )


def trial_conditions(resource: resources.Package) -> targeting.Conditions:
    """What a trial asks of its devices' version."""
    spec, package = resource.spec, fitting(resource)
    wanted = spec.verification.source_versions if spec.verification is not None else ()
    versions = wanted if package.source_version is None else (package.source_version,)
    return targeting.Conditions(package.module, package.version, versions)


def verification(action: Action, resource: resources.Package) -> actual.Verification | None:
    """How a package's trial stands when the action has been carried out; None: as it did."""
    if resource.spec.verification is None:
        return actual.Verification.NOT_REQUIRED
    return actual.Verification.VERIFYING if action.starts_run else None


def _retry(spec: resources.BatchSpec) -> lifecycle.Retry | None:
    return lifecycle.Retry(spec.retry.interval, spec.retry.limit) if spec.retry is not None else None
