"""An order: upgrade these devices to this package, under these rules (platform rules §4, §6).

`BatchSpec.target` answers whom the batch is for: `target.how` says which of the five ways, and exactly one of
the fields of that name is set.
"""

from __future__ import annotations

import decimal
import enum
import math
from datetime import timedelta
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from reconciler.domain import limits as limit
from reconciler.domain.diagnostics import Code
from reconciler.domain.resources import base, clauses
from reconciler.domain.resources import tags as tag

_RETRY_INTERVALS = tuple(timedelta(minutes=minutes) for minutes in (0, 10, 30, 60, 1440))


class Strategy(enum.StrEnum):
    """Static: the devices that match when it is accepted. Dynamic: also those that match later."""

    STATIC = "Static"
    DYNAMIC = "Dynamic"


class How(enum.StrEnum):
    """The ways to say whom a batch is for."""

    ALL = "all"
    DEVICES = "devices"
    DEVICES_FROM = "devicesFrom"
    GRAY = "gray"
    GROUP = "group"


class Conflict(enum.StrEnum):
    """What happens to a new task whose device is in another one."""

    KEEP = "Keep"
    OVERWRITE = "Overwrite"
    WAIT = "Wait"


class Delivery(enum.StrEnum):
    """Push: the reconciler notifies devices. Pull: devices ask."""

    PUSH = "Push"
    PULL = "Pull"


class Download(enum.StrEnum):
    """How devices fetch the file."""

    AUTO = "Auto"
    HTTPS = "HTTPS"
    HTTP = "HTTP"
    MQTT = "MQTT"


class State(enum.StrEnum):
    """What Git wants of the batch."""

    ACTIVE = "Active"
    CANCELED = "Canceled"


class CancelScope(enum.StrEnum):
    """Which unfinished tasks end when the batch is cancelled."""

    SCHEDULED = "Scheduled"
    UNCONFIRMED = "Unconfirmed"
    QUEUED = "Queued"
    NOTIFIED = "Notified"
    IN_PROGRESS = "InProgress"


DEFAULT_ON_CANCEL = (CancelScope.SCHEDULED, CancelScope.UNCONFIRMED, CancelScope.QUEUED)


class Everything(base.Model):
    """`{}`: every device of the product."""


class BatchDevicesFrom(base.DevicesFrom):
    """A CSV file beside the manifest: one device name a line, after an optional header `name`."""

    skip_unknown: bool = Field(
        default=False, description="true: names that no device has are left out. false: they fail the batch."
    )


class Gray(base.Model):
    """A share of the matching devices, chosen at random but always the same."""

    percent: float = Field(
        description="Percent of the matching devices, over 0 and up to 100, with up to 3 decimals.",
        examples=[12.5],
        json_schema_extra={"exclusiveMinimum": 0, "maximum": 100},
    )

    @pydantic.field_validator("percent")
    @classmethod
    def _three_decimals(cls, percent: float) -> float:
        if not math.isfinite(percent) or not 0 < percent <= 100:
            raise base.problem(Code.RANGE, f"a percentage is over 0 and up to 100, this is {percent:g}")
        exponent = decimal.Decimal(str(percent)).as_tuple().exponent
        if isinstance(exponent, int) and exponent < -3:
            raise base.problem(Code.RANGE, f"a percentage has up to 3 decimals, this is {percent}")
        return percent


class Target(base.Model):
    """Whom the batch is for: exactly one of the five ways, and for some of them the source versions."""

    model_config = clauses.rules(
        clauses.exactly_one("all", "devices", "devicesFrom", "gray", "group"),
        clauses.when(
            clauses.filled("sourceVersions"), clauses.any_of(clauses.given("all"), clauses.given("gray"))
        ),
    )

    all: Everything | None = Field(
        default=None, description="`{}`: every device that matches the source versions."
    )
    devices: (
        Annotated[
            tuple[base.DeviceName, ...],
            Field(strict=False),
            base.Unique("device", 1, most_of="devices_per_manifest"),
        ]
        | None
    ) = Field(
        default=None,
        description="Names of devices; for more than 200 use devicesFrom.",
        examples=[["thermo-0001", "thermo-0002"]],
    )
    devices_from: BatchDevicesFrom | None = Field(
        default=None, description="A CSV file with names of devices."
    )
    gray: Gray | None = Field(
        default=None, description="A share of the devices that match. Static batches only."
    )
    group: base.Name | None = Field(
        default=None,
        description="A DeviceGroup: a static one for a static batch, a dynamic one for a dynamic batch.",
        examples=["beta-testers"],
    )
    source_versions: Annotated[
        tuple[base.Version, ...], Field(strict=False), base.Unique("version", 0, 10)
    ] = Field(
        default=(),
        description="Only devices that report one of these; with all and gray. Empty: any. Quote them.",
        examples=[["1.3.0", "1.3.1"]],
    )

    @property
    def how(self) -> How:
        """Which of the five ways this target is written in."""
        return self._ways()[0]

    def _ways(self) -> list[How]:
        said = {
            How.ALL: self.all,
            How.DEVICES: self.devices,
            How.DEVICES_FROM: self.devices_from,
            How.GRAY: self.gray,
            How.GROUP: self.group,
        }
        return [how for how, value in said.items() if value is not None]

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> Self:
        ways = self._ways()
        if len(ways) != 1:
            given = f"has {' and '.join(ways)}" if ways else "has none of them"
            raise base.problem(
                Code.COMBINATION,
                f"a target is exactly one of all, devices, devicesFrom, gray, group; this {given}",
                remedy="keep one of them" if ways else "for every device write `all: {}`",
                at=() if not ways else (ways[1].value,),
            )
        return self

    @pydantic.model_validator(mode="after")
    def _versions_of_all(self) -> Self:
        if self.source_versions and self.how not in {How.ALL, How.GRAY}:
            raise base.problem(
                Code.COMBINATION,
                f"source versions go with all and gray only, not with {self.how}",
                remedy="remove `sourceVersions`",
                at=("sourceVersions",),
            )
        return self


class Schedule(base.Model):
    """When a static batch starts and ends."""

    start: base.Moment = Field(
        description="When it starts: RFC 3339 with an offset.", examples=["2026-12-01T02:00:00+01:00"]
    )
    end: base.Moment | None = Field(
        default=None,
        description="When tasks that were not notified are cancelled: 1 h to 30 days after the start.",
        examples=["2026-12-03T06:00:00+01:00"],
    )

    @pydantic.model_validator(mode="after")
    def _end_after_start(self) -> Self:
        if self.end is not None and not timedelta(hours=1) <= self.end - self.start <= timedelta(days=30):
            raise base.problem(
                Code.RANGE,
                "a schedule ends 1 hour to 30 days after its start",
                remedy="write an end in that span, or none",
                at=("end",),
            )
        return self


class Retry(base.Model):
    """How often a failed step is tried again."""

    interval: base.Duration = Field(
        description="How long to wait: 0s, 10m, 30m, 1h or 24h.",
        examples=["0s", "10m", "30m", "1h", "24h"],
    )
    limit: int = Field(description="How often: 1, 2 or 5 times.", json_schema_extra={"enum": [1, 2, 5]})

    @pydantic.field_validator("interval")
    @classmethod
    def _interval_offered(cls, interval: timedelta) -> timedelta:
        if interval not in _RETRY_INTERVALS:
            raise base.problem(
                Code.CHOICE, f"`{base.format_duration(interval)}` is none of 0s, 10m, 30m, 1h, 24h"
            )
        return interval

    @pydantic.field_validator("limit")
    @classmethod
    def _limit_offered(cls, times: int) -> int:
        if times not in {1, 2, 5}:
            raise base.problem(Code.CHOICE, f"`{times}` is none of 1, 2, 5")
        return times


class BatchSpec(base.Model):
    """What the batch is to do."""

    model_config = clauses.rules(
        clauses.when(
            clauses.given(strategy="Dynamic"),
            clauses.all_of(
                clauses.none_of("schedule"),
                {
                    "properties": {
                        "target": clauses.any_of(
                            clauses.given("group"),
                            clauses.all_of(clauses.given("all"), clauses.filled("sourceVersions")),
                        )
                    }
                },
            ),
        ),
        clauses.when(clauses.given(newReportsOnly=True), clauses.given(strategy="Dynamic")),
        clauses.when(
            clauses.given(multiModule=True), {"properties": {"conflict": {"enum": ["Keep", "Wait"]}}}
        ),
    )

    title: Annotated[str, base.Text("a title", 100)] | None = Field(
        default=None,
        description="What people call it; at most 100 characters. Default: metadata.name.",
        examples=["Thermostats in Europe to 1.4.0"],
    )
    package: base.Name = Field(
        description="The name of the package to upgrade to.", examples=["thermostat-1.4.0"]
    )
    strategy: Annotated[Strategy, Field(strict=False)] = Field(
        default=Strategy.STATIC,
        description="Static: devices that match now. Dynamic: also those that match later.",
    )
    target: Target = Field(
        description="Whom it is for: exactly one of all, devices, devicesFrom, gray, group."
    )
    schedule: Schedule | None = Field(
        default=None, description="When it starts and ends; static batches only. Absent: at once."
    )
    push_rate_per_minute: int = Field(
        default=1000,
        validate_default=True,
        description="Devices that are notified in any 60 seconds, at most.",
        examples=[500],
        json_schema_extra={
            "minimum": limit.DEFAULT.push_rate_lowest,
            "maximum": limit.DEFAULT.push_rate_highest,
        },
    )
    retry: Retry | None = Field(default=None, description="How failed steps are tried again. Absent: never.")
    timeout: base.Minutes | None = Field(
        default=None,
        description="How long a device may take from its first progress report; 1m to 24h. Absent: for ever.",
    )
    no_response_timeout: base.Duration | None = Field(
        default=None,
        description="How long a notified device may stay silent before its task fails; at most 720h. "
        "Absent: for ever.",
        examples=["24h"],
    )
    conflict: Annotated[Conflict, Field(strict=False)] = Field(
        default=Conflict.KEEP,
        description="What becomes of a device that is in another task. Keep: the new task fails. "
        "Overwrite: the other one is cancelled, unless the device is at work for it; a dynamic batch takes no "
        "device from a newer dynamic one. Wait: the new task waits.",
    )
    delivery: Annotated[Delivery, Field(strict=False)] = Field(
        default=Delivery.PUSH, description="Push: devices are notified. Pull: they ask."
    )
    confirm: bool = Field(default=False, description="true: tasks wait until somebody confirms them.")
    download: Annotated[Download, Field(strict=False)] = Field(
        default=Download.AUTO,
        description="How devices fetch the file. Auto: over HTTPS where the server has it, else over HTTP. "
        "MQTT: in blocks, over their own connection; one file, 16 MB at most.",
    )
    allow_downgrade: bool = Field(
        default=False, description="true: devices on a higher dotted version are upgraded too."
    )
    new_reports_only: bool = Field(
        default=False, description="Dynamic only: devices that report a version after the batch began."
    )
    multi_module: bool = Field(
        default=False, description="true: one task per module instead of one per device."
    )
    tags: tag.Tags = Field(
        default={},
        description="Up to 10 keys and values that devices get with the push.",
        examples=[{"site": "berlin"}],
        json_schema_extra=tag.SCHEMA,
    )
    suspend: bool = Field(default=False, description="true: nothing is pushed until it is false again.")
    state: Annotated[State, Field(strict=False)] = Field(
        default=State.ACTIVE, description="Canceled: cancel it by `onCancel`."
    )
    on_cancel: Annotated[
        tuple[Annotated[CancelScope, Field(strict=False)], ...], Field(strict=False), base.Unique("scope")
    ] = Field(
        default=tuple(sorted(DEFAULT_ON_CANCEL)),
        description="Which unfinished tasks end when the batch is cancelled or deleted; the others go on.",
        examples=[["Scheduled", "Unconfirmed", "Queued", "Notified", "InProgress"]],
    )

    @pydantic.field_validator("push_rate_per_minute")
    @classmethod
    def _rate_allowed(cls, rate: int, info: pydantic.ValidationInfo) -> int:
        limits = limit.of_context(info.context)
        low, high = limits.push_rate_lowest, limits.push_rate_highest
        if not low <= rate <= high:
            raise base.problem(
                Code.RANGE, f"a push rate is {low:,} to {high:,} devices a minute, not {rate:,}"
            )
        return rate

    @pydantic.field_validator("no_response_timeout")
    @classmethod
    def _some_time(cls, span: timedelta) -> timedelta:
        if not timedelta(0) < span <= timedelta(days=30):
            raise base.problem(
                Code.RANGE, f"`{base.format_duration(span)}` is not more than 0s and at most 30 days (720h)"
            )
        return span

    @pydantic.model_validator(mode="after")
    def _retry_within_timeout(self) -> Self:
        if self.retry is None or self.timeout is None or self.retry.interval < self.timeout:
            return self
        remedy = "choose a shorter interval or a longer timeout"
        if self.retry.interval == timedelta(hours=24):
            remedy = "an interval of 24h needs no timeout: remove `timeout`, or choose a shorter interval"
        raise base.problem(
            Code.COMBINATION,
            f"the retry interval {base.format_duration(self.retry.interval)} is not shorter than the timeout "
            f"{base.format_duration(self.timeout)}",
            remedy=remedy,
            at=("retry", "interval"),
        )

    @pydantic.model_validator(mode="after")
    def _multi_module_keeps(self) -> Self:
        if self.multi_module and self.conflict is Conflict.OVERWRITE:
            raise base.problem(
                Code.COMBINATION,
                "multiModule and conflict Overwrite exclude each other",
                remedy="remove one of them",
                at=("multiModule",),
            )
        return self

    @pydantic.model_validator(mode="after")
    def _new_reports_of_dynamic(self) -> Self:
        if self.new_reports_only and self.strategy is Strategy.STATIC:
            raise base.problem(
                Code.COMBINATION,
                "newReportsOnly is for dynamic batches",
                remedy="remove it, or write `strategy: Dynamic`",
                at=("newReportsOnly",),
            )
        return self

    @pydantic.model_validator(mode="after")
    def _schedule_of_static(self) -> Self:
        if self.schedule is not None and self.strategy is Strategy.DYNAMIC:
            raise base.problem(
                Code.COMBINATION,
                "only a static batch has a schedule",
                remedy="remove it, or write `strategy: Static`",
                at=("schedule",),
            )
        return self

    @pydantic.model_validator(mode="after")
    def _target_of_dynamic(self) -> Self:
        if self.strategy is Strategy.STATIC or self.target.how is How.GROUP:
            return self
        if self.target.how is not How.ALL or not self.target.source_versions:
            raise base.problem(
                Code.COMBINATION,
                "a dynamic batch is for source versions (`all: {}` with 1 to 10 `sourceVersions`) or for a "
                "dynamic group",
                remedy="write one of these targets, or `strategy: Static`",
                at=("target",),
            )
        return self


class Batch(base.Manifest):
    """An order to upgrade devices."""

    kind: Literal["Batch"] = Field(description="What the document declares.")
    spec: BatchSpec = Field(description="What the batch is to do.")

    @property
    def title(self) -> str:
        """What people call the batch."""
        return self.spec.title or self.metadata.name
