"""Every number of platform rules §2 to §7: one below, at the limit, one above.

Two tables. LIMITS are those that manifests are checked by, and are tested here. ELSEWHERE says of every other number
which test is its own; a test looks that it is there.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import plans
import pydantic
import pytest

from reconciler.domain import acceptance, downloads, plan, resources, targeting
from reconciler.domain.limits import Limits
from reconciler.domain.resources import Kind
from reconciler.services import beginning
from reconciler.source import rosters, validate
from reconciler.source.tree import FolderTree

HERE = pathlib.Path(__file__).parent
TESTS = HERE.parent.parent
FILE = {"name": "app.bin", "source": "app.bin"}
SECOND = timedelta(seconds=1)
START = datetime(2026, 12, 1, 2, tzinfo=UTC)
SPECS: dict[Kind, dict[str, Any]] = {
    Kind.PRODUCT: {},
    Kind.PACKAGE: {"product": "p", "version": "1.4.0", "files": [FILE]},
    Kind.DEVICE_INVENTORY: {"product": "p", "devices": [{"name": "dev-1"}]},
    Kind.DEVICE_GROUP: {"product": "p", "title": "Beta", "devices": ["dev-1"]},
    Kind.BATCH: {"package": "p", "target": {"all": {}}},
}

Accepts = Callable[[int, Limits], bool]


@dataclasses.dataclass(frozen=True)
class Limit:
    """One row: `accepts` is asked for numbers about `least` and `most`; None: there is no such end."""

    paragraph: str
    what: str
    accepts: Accepts
    least: int | None = None
    most: int | None = None
    field: str = ""
    """Marked ⚙: the field of `Limits` that says `most`."""
    low_field: str = ""
    """The one that says `least`."""

    def cases(self) -> Iterable[tuple[int, bool]]:
        """Numbers, and whether they are allowed."""
        if self.least is not None:
            yield from ((self.least - 1, False), (self.least, True), (self.least + 1, True))
        if self.most is not None:
            yield from ((self.most - 1, True), (self.most, True), (self.most + 1, False))


def manifest(kind: Kind, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ota/v1",
        "kind": str(kind),
        "metadata": {"name": name},
        "spec": SPECS[kind] | spec,
    }


def spec(kind: Kind, write: Callable[[int], dict[str, Any]]) -> Accepts:
    """Whether a manifest with this in its spec is right by itself."""

    def accepts(number: int, limits: Limits) -> bool:
        try:
            resources.parse(kind, manifest(kind, "some-name", **write(number)), limits)
        except pydantic.ValidationError:
            return False
        return True

    return accepts


def fleet(*manifests: dict[str, Any], limits: Limits, content: str = "") -> bool:
    """Whether manifests and their product are right together, beside a file and a list."""
    documents = [json.dumps(one) for one in (manifest(Kind.PRODUCT, "p"), *manifests)]  # JSON is YAML
    files = {"app.bin": b"x" * 100, "x.csv": content.encode()}
    for place in range(0, len(documents), 500):  # a file has a limit of its own
        files[f"{place}.yaml"] = "\n---\n".join(documents[place : place + 500]).encode()
    return not validate.check(FolderTree(HERE, only=(), texts=files), limits).diagnostics


def names(count: int) -> list[str]:
    return [f"dev-{place}" for place in range(count)]


def texts(count: int) -> list[str]:
    return [str(place) for place in range(count)]


def written(span: timedelta) -> str:
    return f"{span // SECOND}s"


def moments(seconds: int) -> dict[str, Any]:
    end = START + seconds * SECOND
    return {"schedule": {"start": START.isoformat(), "end": end.isoformat()}}


def tags_of(size: int) -> dict[str, str]:
    """Ten tags with so many characters together."""
    values = [409 - 1] * 10
    values[0] += size - 4090
    return {str(place): "x" * length for place, length in enumerate(values)}


def listed(count: int, limits: Limits) -> bool:
    content = "".join(f"dev-{place}\n" for place in range(count)).encode()
    return csv_accepted(content, limits)


def csv_accepted(content: bytes, limits: Limits) -> bool:
    tree = FolderTree(HERE, texts={"x.csv": content})
    return rosters.check(tree, "x.csv", rosters.Shape.NAMES, limits).ref is not None


def sized(count: int, limits: Limits) -> bool:
    return csv_accepted(b"dev-1\n" + b"\n" * (count - 6), limits)


def over_mqtt(count: int, limits: Limits) -> bool:
    return not downloads.unfit(resources.Download.MQTT, [count], limits.mqtt_file_bytes)


def _groups(count: int, devices: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    return [manifest(Kind.DEVICE_GROUP, f"group-{place}", **devices(place)) for place in range(count)]


def packages(count: int, limits: Limits) -> bool:
    return fleet(
        *(manifest(Kind.PACKAGE, f"fw-{place}", version=f"1.{place}") for place in range(count)),
        limits=limits,
    )


def groups(count: int, limits: Limits) -> bool:
    return fleet(*_groups(count, lambda place: {"devices": [f"dev-{place}"]}), limits=limits)


def groups_of_one_device(count: int, limits: Limits) -> bool:
    return fleet(*_groups(count, lambda _: {"devices": ["dev-1"]}), limits=limits)


def group_file(count: int, limits: Limits) -> bool:
    group = manifest(Kind.DEVICE_GROUP, "beta", devicesFrom={"file": "x.csv"})
    del group["spec"]["devices"]
    return fleet(group, limits=limits, content="\n".join(names(count)))


def ahead(seconds: int, limits: Limits) -> bool:
    """Whether a batch whose start is so far ahead is accepted."""
    schedule = {"start": (plans.NOW + seconds * SECOND).isoformat()}
    want = plans.desired(*plans.base(), plans.batch(schedule=schedule))
    return not plan.diff(want, plans.actual(), plan.Policy(limits=limits)).verdicts


def waited_for(seconds: int, limits: Limits) -> bool:
    """Whether a start that is so near is waited for."""
    schedule = resources.Schedule.model_construct(start=START + seconds * SECOND, end=None)
    return acceptance.starts_at(schedule, START, limits.schedule_lead_shortest) is not None


def packages_of_a_group(count: int, limits: Limits) -> bool:
    fleet = [plans.product(), plans.by_tag(), plans.inventory()]
    for place in range(count):
        fleet += [
            plans.package(f"fw-{place}", version=f"2.{place}"),
            plans.dynamic(f"batch-{place}", group="beta", package=f"fw-{place}"),
        ]
    return not plan.diff(plans.desired(*fleet), plans.actual(), plan.Policy(limits=limits)).verdicts


PRODUCT, PACKAGE, BATCH = Kind.PRODUCT, Kind.PACKAGE, Kind.BATCH
INVENTORY, GROUP = Kind.DEVICE_INVENTORY, Kind.DEVICE_GROUP
HOUR, DAY = 3600, 86_400

LIMITS = [
    # §2
    Limit("§2", "letters of a module", spec(PRODUCT, lambda n: {"modules": [{"name": "m" * n}]}), 1, 64),
    Limit(
        "§2", "modules", spec(PRODUCT, lambda n: {"modules": [{"name": f"m{i}"} for i in range(n)]}), None, 10,
        "modules_per_product",
    ),
    Limit("§2", "alias", spec(PRODUCT, lambda n: {"modules": [{"name": "mcu", "alias": "a" * n}]}), 1, 64),
    Limit(
        "§2", "description of a module",
        spec(PRODUCT, lambda n: {"modules": [{"name": "mcu", "description": "a" * n}]}), None, 100,
    ),
    Limit("§2", "version", spec(PACKAGE, lambda n: {"version": "1" * n}), 1, 64),
    Limit(
        "§2", "version of a delta's source",
        spec(PACKAGE, lambda n: {"type": "Delta", "sourceVersion": "1" * n}), 1, 64,
    ),
    Limit(
        "§2", "source version of a batch",
        spec(BATCH, lambda n: {"target": {"all": {}, "sourceVersions": ["1" * n]}}), 1, 64,
    ),
    Limit(
        "§2", "device name", spec(INVENTORY, lambda n: {"devices": [{"name": "d" * n}]}), 4, 32,
        "device_name_longest", "device_name_shortest",
    ),
    Limit("§2", "device name in a file", lambda n, limits: csv_accepted(b"d" * n, limits), 4, 32,
          "device_name_longest", "device_name_shortest"),
    # §3
    Limit("§3", "title", spec(PACKAGE, lambda n: {"title": "t" * n}), 1, 40),
    Limit("§3", "title in Chinese", spec(PACKAGE, lambda n: {"title": "恒" * n}), 1, 40),
    Limit("§3", "description", spec(PACKAGE, lambda n: {"description": "d" * n}), None, 100),
    Limit("§3", "description in Chinese", spec(PACKAGE, lambda n: {"description": "恒" * n}), None, 100),
    Limit("§3", "custom info", spec(PACKAGE, lambda n: {"customInfo": "c" * n}), None, 4096),
    Limit("§3", "packages", packages, None, 500, "packages"),
    Limit(
        "§3", "bytes of a file", spec(PACKAGE, lambda n: {"files": [FILE | {"size": n}]}), 1, 2_000_000_000,
        "file_bytes",
    ),
    Limit("§3", "bytes of a file over MQTT", over_mqtt, None, 16_000_000, "mqtt_file_bytes"),
    Limit(
        "§3", "files", spec(PACKAGE, lambda n: {"files": [FILE | {"name": f"{i}.bin"} for i in range(n)]}), 1, 20,
    ),
    Limit("§3", "name of a file", spec(PACKAGE, lambda n: {"files": [FILE | {"name": "f" * n}]}), 1, 32),
    Limit("§3", "test devices", spec(PACKAGE, lambda n: {"verification": {"devices": names(n)}}), 1, 10),
    Limit(
        "§3", "minutes of a verification",
        spec(PACKAGE, lambda n: {"verification": {"devices": names(1), "timeout": f"{n}m"}}), 1, 1440,
    ),
    # §4
    Limit(
        "§4", "devices in a manifest", spec(BATCH, lambda n: {"target": {"devices": names(n)}}), 1, 200,
        "devices_per_manifest",
    ),
    Limit(
        "§4", "thousandths of a percent",
        spec(BATCH, lambda n: {"target": {"gray": {"percent": n / 1000}}}), 1, 100_000,
    ),
    Limit(
        "§4", "source versions",
        spec(BATCH, lambda n: {"target": {"all": {}, "sourceVersions": texts(n)}}), None, 10,
    ),
    Limit(
        "§4", "source versions of a dynamic batch",
        spec(BATCH, lambda n: {"strategy": "Dynamic", "target": {"all": {}, "sourceVersions": texts(n)}}), 1, 10,
    ),
    Limit("§4", "seconds until a start at most", ahead, None, 7 * DAY, "schedule_lead_longest"),
    Limit("§4", "seconds until a start at least", waited_for, 300, None, "", "schedule_lead_shortest"),
    Limit("§4", "seconds of a schedule", spec(BATCH, moments), HOUR, 30 * DAY),
    Limit(
        "§4", "push rate", spec(BATCH, lambda n: {"pushRatePerMinute": n}), 10, 10_000,
        "push_rate_highest", "push_rate_lowest",
    ),
    Limit("§4", "minutes of a timeout", spec(BATCH, lambda n: {"timeout": f"{n}m"}), 1, 1440),
    Limit("§4", "seconds of silence", spec(BATCH, lambda n: {"noResponseTimeout": f"{n}s"}), 1, 30 * DAY),
    Limit("§4", "tags", spec(BATCH, lambda n: {"tags": dict.fromkeys(texts(n), "x")}), None, 10),
    Limit("§4", "key of a tag", spec(BATCH, lambda n: {"tags": {"k" * n: "x"}}), 1, 30),
    Limit("§4", "value of a tag", spec(BATCH, lambda n: {"tags": {"key": "v" * n}}), 1, 1024),
    Limit("§4", "characters of tags", spec(BATCH, lambda n: {"tags": tags_of(n)}), None, 4096),
    Limit("§4", "packages of a group", packages_of_a_group, None, 5, "dynamic_packages_per_group"),
    # §7
    Limit(
        "§7", "devices of a group", spec(GROUP, lambda n: {"devices": names(n)}), None, 20_000,
        "devices_per_group",
    ),
    Limit("§7", "devices of a group's file", group_file, 1, 20_000, "devices_per_group"),
    Limit("§7", "groups of a device", groups_of_one_device, None, 10, "groups_per_device"),
    Limit("§7", "groups", groups, None, 1_000, "groups"),
    Limit("§7", "title of a group", spec(GROUP, lambda n: {"title": "g" * n}), 4, 30),
]  # fmt: skip

# What is too large to try as it is: its default is read, and the limit is tried with a smaller one.
LARGE = [
    Limit("§4", "devices in a file", listed, 1, 1_000_000, "devices_per_file"),
    Limit("§4", "bytes of a list", sized, None, 64_000_000, "device_file_bytes"),
]


def named(limit: Limit) -> str:
    return f"{limit.paragraph} {limit.what}"


@pytest.mark.parametrize(
    ("limit", "number", "allowed"),
    [
        pytest.param(limit, number, allowed, id=f"{named(limit)} {number}")
        for limit in LIMITS
        for number, allowed in limit.cases()
    ],
)
def test_a_limit_holds_to_the_one(limit, number, allowed):
    assert limit.accepts(number, Limits()) is allowed


@pytest.mark.parametrize("limit", LARGE, ids=named)
def test_a_large_limit_is_the_rules_and_holds_to_the_one_when_it_is_smaller(limit):
    assert getattr(Limits(), limit.field) == limit.most
    smaller = Limits(**{limit.field: 20})
    assert [limit.accepts(number, smaller) for number in (19, 20, 21)] == [True, True, False]


@pytest.mark.parametrize("limit", [one for one in LIMITS if one.field or one.low_field], ids=named)
def test_a_limit_in_force_is_the_operators(limit):
    if limit.most is not None:
        most = limit.most // 2
        fewer = changed(limit.field, most)
        assert [limit.accepts(number, fewer) for number in (most - 1, most, most + 1)] == [True, True, False]
    if limit.least is not None and limit.low_field:
        more = changed(limit.low_field, limit.least + 1)
        assert [limit.accepts(number, more) for number in (limit.least, limit.least + 1)] == [False, True]


def changed(field: str, number: int) -> Limits:
    """Limits with another number; of a time, seconds."""
    is_time = isinstance(getattr(Limits(), field), timedelta)
    return Limits(**{field: number * SECOND if is_time else number})


# --- what is a choice, not a number ---


@pytest.mark.parametrize("times", range(-1, 8))
def test_a_retry_is_tried_one_two_or_five_times(times):
    accepts = spec(BATCH, lambda n: {"retry": {"interval": "10m", "limit": n}})
    assert accepts(times, Limits()) is (times in {1, 2, 5})


@pytest.mark.parametrize("minutes", [0, 10, 30, 60, 1440])
@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_a_retrys_interval_is_one_of_five(minutes, seconds):
    accepts = spec(BATCH, lambda n: {"retry": {"interval": f"{n}s", "limit": 1}})
    if (number := minutes * 60 + seconds) >= 0:
        assert accepts(number, Limits()) is (seconds == 0)


@pytest.mark.parametrize("minutes", [10, 30, 60])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_retrys_interval_is_shorter_than_the_timeout(minutes, more):
    accepts = spec(BATCH, lambda n: {"retry": {"interval": f"{minutes}m", "limit": 1}, "timeout": f"{n}m"})
    assert accepts(minutes + more, Limits()) is (more > 0)


@pytest.mark.parametrize("timeout", [{}, {"timeout": "24h"}])
def test_a_retry_after_a_day_needs_that_there_is_no_timeout(timeout):
    accepts = spec(BATCH, lambda n: {"retry": {"interval": "24h", "limit": n}} | timeout)
    assert accepts(1, Limits()) is (not timeout)


@pytest.mark.parametrize("seconds", [59, 60, 61, 119, 120, 121])
def test_timeouts_are_whole_minutes(seconds):
    for accepts in (
        spec(BATCH, lambda n: {"timeout": f"{n}s"}),
        spec(PACKAGE, lambda n: {"verification": {"devices": names(1), "timeout": f"{n}s"}}),
    ):
        assert accepts(seconds, Limits()) is (seconds % 60 == 0)


@pytest.mark.parametrize(
    ("percent", "allowed"), [(0.001, True), (0.0001, False), (33.333, True), (33.3333, False)]
)
def test_a_percentage_has_three_decimals(percent, allowed):
    accepts = spec(BATCH, lambda _: {"target": {"gray": {"percent": percent}}})
    assert accepts(0, Limits()) is allowed


@pytest.mark.parametrize(
    "ending", [".bin", ".dav", ".tar", ".gz", ".tar.gz", ".tar.xz", ".zip", ".gzip", ".apk", ".pack"]
)
def test_a_file_has_one_of_the_formats_which_an_operator_may_change(ending):
    accepts = spec(PACKAGE, lambda _: {"files": [FILE | {"source": f"app{ending}"}]})
    assert accepts(0, Limits())
    assert not accepts(0, Limits(file_formats=(".img",)))
    assert len(Limits().file_formats) == 10


@pytest.mark.parametrize(("most", "fits"), [(99, False), (100, True), (101, True)])
def test_the_size_of_a_file_is_looked_at_too(most, fits):
    assert fleet(manifest(PACKAGE, "fw"), limits=Limits(file_bytes=most)) is fits


@pytest.mark.parametrize(("files", "fits"), [(1, True), (2, False)])
def test_a_download_over_mqtt_is_of_one_file(files, fits):
    assert (not downloads.unfit(resources.Download.MQTT, [5] * files, 100)) is fits


@pytest.mark.parametrize(
    ("fitting", "thousandths", "chosen"),
    [
        *((999, 100, 1), (1000, 100, 1), (1001, 100, 1), (1999, 100, 1), (2000, 100, 2), (2001, 100, 2)),
        *((1, 1, 1), (99_999, 1, 1), (200_000, 1, 2), (3, 33_333, 1), (6, 33_333, 1), (7, 100_000, 7)),
    ],
)
def test_a_share_is_rounded_down_and_at_least_one(fitting, thousandths, chosen):
    assert targeting.gray_count(fitting, thousandths) == chosen


@pytest.mark.parametrize("hours", [23, 24, 25])
def test_a_trial_that_does_not_say_how_long_takes_a_day_or_as_long_as_the_operator_says(hours):
    package = resources.parse(PACKAGE, manifest(PACKAGE, "fw", verification={"devices": names(1)}))
    span = timedelta(hours=hours)
    run = beginning.trial(package, beginning.Where(1, 2, 3, 4), 5, Limits(verification_timeout=span))
    assert run.timeout == run.no_response == span
    assert beginning.trial(package, beginning.Where(1, 2, 3, 4), 5, Limits()).timeout == timedelta(hours=24)


# --- what the engine keeps ---

ELSEWHERE = [
    ("unit/domain/test_throttle.py", "test_no_demand_gets_more_than_the_rate_into_any_minute"),
    ("unit/domain/test_throttle.py", "test_after_a_change_of_the_rate_the_new_one_holds"),
    ("unit/domain/test_retries.py", "test_so_many_attempts_follow_the_first_and_no_more"),
    (
        "unit/domain/test_retries.py",
        "test_a_retry_is_pushed_after_its_interval_and_a_minute_after_the_last_push",
    ),
    ("unit/domain/test_lifecycle.py", "test_a_task_is_pushed_again_at_most_once_a_minute"),
    ("unit/services/test_ingest.py", "test_whoever_comes_is_pushed_after_it_has_settled"),
]
"""The tests of the other numbers: pushes a minute, attempts, intervals, and the settle time (§4, §5)."""


@pytest.mark.parametrize(("file", "function"), ELSEWHERE)
def test_the_other_numbers_have_tests_of_their_own(file, function):
    assert f"def {function}(" in (TESTS / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Limits)])
def test_no_limit_is_accepted_and_ignored(field):
    package = TESTS.parent / "reconciler"
    readers = [path for path in package.rglob("*.py") if path != package / "domain" / "limits.py"]
    pattern = re.compile(rf"(limits|of_context\(info\.context\))\.{field}\b|\"{field}\"")
    assert any(pattern.search(path.read_text(encoding="utf-8")) for path in readers)
