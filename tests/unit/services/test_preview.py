"""What `reconciler plan` says of devices: as many as the batch then takes, in every way in which it can take them."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from rig import SOURCE, TARGET, base, batch, document, package
from sqlalchemy import event

from reconciler.domain import limits
from reconciler.domain.desired import Key
from reconciler.domain.resources import Kind
from reconciler.services import moving, observe, planning, preview, takers
from reconciler.store import census

NAMES = [f"dev-{number}" for number in range(8)]
EU = {"selector": {"matchTags": {"region": "eu"}}}


def group(name="beta-testers", **spec):
    return {f"{name}.yaml": document("DeviceGroup", name, **{"product": "lamp", **spec})}


def inventory(**tags):
    """All devices; those that are named with a region."""
    listed = [
        {"name": name, "tags": {"region": tags[name[-1:]]} if name[-1:] in tags else {}} for name in NAMES
    ]
    return {"inventory.yaml": document("DeviceInventory", "berlin", product="lamp", devices=listed)}


def dynamic(name, *versions, group=None, **spec):
    target = {"group": group} if group else {"all": {}, "sourceVersions": list(versions)}
    return batch(name, strategy="Dynamic", target=target, **spec)


def look(rig, *parts, allowed=limits.DEFAULT):
    """The reach of each action, by name, and the plan."""
    commit = rig.read_tree({name: text for part in parts for name, text in part.items()})
    with rig.database.reading() as connection:
        seen = observe.make_plan(connection, commit, rig.policy, rig.clock.now())
        found = preview.reaches(connection, commit, seen, allowed)
        return {reach.key.name: reach for reach in found}, seen.plan


@pytest.fixture
async def fleet(rig):
    """Eight devices: six on the source version, one on the target, one that never reported."""
    await rig.commit(base(*NAMES))
    await rig.arrive(*NAMES[:6])
    await rig.arrive(NAMES[6], version=TARGET)
    return rig


FLEET = base(*NAMES)


async def test_all_the_files_of_a_package_are_shipped(fleet):
    files = [{"name": name, "source": name} for name in ("app.bin", "web.zip")]
    package = document("Package", "lamp-2", product="lamp", version=TARGET, title="Two", files=files)
    found, _ = look(fleet, FLEET, {"package.yaml": package, "web.zip": b"<html>"}, batch())
    assert found == {}  # the files of a package stay as they are
    other = document("Package", "lamp-3", product="lamp", version="3.0.0", files=files)
    found, _ = look(fleet, FLEET, {"other.yaml": other, "web.zip": b"<html>"}, batch(package="lamp-3"))
    assert found["all"].bytes_to_ship == 8 * (90 + 6)


async def test_a_batch_is_for_all_that_fit_and_says_who_is_left_out(fleet):
    found, _ = look(fleet, FLEET, batch())
    reach = found["all"]
    assert (reach.upgraded, reach.offline, reach.left_out) == (7, 1, {"already-on-target": 1})
    assert (reach.bytes_to_ship, reach.minutes, reach.touched) == (7 * 90, 1, 7)
    assert (reach.is_dynamic, reach.share_of, reach.warnings) == (False, None, ())
    assert reach.examples == tuple(NAMES[:6] + NAMES[7:])
    await fleet.commit(FLEET, batch())
    assert len(fleet.rows(_tasks("all"))) == 7


async def test_examples_are_looked_for_among_the_first_devices_only(fleet, monkeypatch):
    monkeypatch.setattr(census, "_LOOKED_AT", 3)
    assert look(fleet, FLEET, batch())[0]["all"].examples == tuple(NAMES[:3])
    found, _ = look(fleet, FLEET, batch(target={"devices": NAMES[2:]}))
    assert found["all"].examples == tuple(NAMES[2:5])


async def test_devices_on_other_versions_are_none_of_a_batch_s_business(fleet):
    found, _ = look(fleet, FLEET, batch(target={"all": {}, "sourceVersions": [SOURCE, "0.1.0"]}))
    reach = found["all"]
    assert (reach.upgraded, reach.elsewhere, reach.left_out) == (6, 1, {"already-on-target": 1})
    assert reach.warnings == ("no device reports 0.1.0",)


@pytest.mark.parametrize(("percent", "taken"), [(50, 3), (14.286, 1), (0.001, 1), (100, 7)])
async def test_a_share_is_of_those_that_fit_and_says_how_many_it_takes(fleet, percent, taken):
    wanted = batch(target={"gray": {"percent": percent}})
    reach = look(fleet, FLEET, wanted)[0]["all"]
    assert (reach.upgraded, reach.share_of, reach.left_out) == (taken, 7, {"already-on-target": 1})
    assert reach.examples == ()
    await fleet.commit(FLEET, wanted)
    assert len(fleet.rows(_tasks("all"))) == taken


async def test_a_share_tells_who_is_on_other_versions_or_on_none(fleet):
    wanted = batch(target={"gray": {"percent": 50}, "sourceVersions": [SOURCE]})
    reach = look(fleet, FLEET, wanted)[0]["all"]
    assert (reach.upgraded, reach.share_of, reach.elsewhere, reach.left_out) == (
        3,
        6,
        1,
        {"already-on-target": 1},
    )


async def test_a_share_of_nobody_is_nobody(fleet):
    wanted = batch(target={"gray": {"percent": 50}, "sourceVersions": ["0.1.0"]})
    reach = look(fleet, FLEET, wanted)[0]["all"]
    assert (reach.upgraded, reach.share_of) == (0, 0)


@pytest.mark.parametrize(
    ("conflict", "met"), [("Keep", (4, 0, 0, 3)), ("Overwrite", (6, 2, 0, 1)), ("Wait", (4, 0, 3, 0))]
)
async def test_the_conflict_rule_says_what_becomes_of_devices_that_are_in_another_task(fleet, conflict, met):
    first = batch("first", target={"devices": NAMES[:3]})
    await fleet.commit(FLEET, first)
    await fleet.wait(2)
    fleet.progress(NAMES[0], 10)
    await fleet.hear()
    wanted = batch("second", conflict=conflict)
    reach = look(fleet, FLEET, first, wanted)[0]["second"]
    assert (reach.upgraded, reach.overwritten, reach.waiting, reach.conflicts) == met
    await fleet.commit(FLEET, first, wanted)
    made = fleet.rows(_tasks("second"))
    assert sum(row.reason == "conflict" for row in made) == reach.conflicts
    assert sum(row.hold == "behind" for row in made) == reach.waiting
    assert len(made) == reach.touched


async def test_tasks_that_the_same_commit_ends_are_in_nobody_s_way(fleet):
    first = batch("first", target={"devices": NAMES[:3]})
    await fleet.commit(FLEET, first)
    found, _ = look(fleet, FLEET, batch("second"))
    assert (found["first"].canceled, found["first"].draining) == (3, 0)
    assert (found["second"].upgraded, found["second"].conflicts) == (7, 0)


@pytest.mark.parametrize("before", [{"devices": NAMES[:2]}, {"gray": {"percent": 29}}])
async def test_of_two_batches_in_one_commit_the_later_one_meets_the_earlier_one(fleet, before):
    found, _ = look(fleet, FLEET, batch("a", target=before), batch("b"))
    assert (found["a"].upgraded, found["b"].upgraded, found["b"].conflicts) == (2, 5, 2)
    await fleet.commit(FLEET, batch("a", target=before), batch("b"))
    assert sum(row.reason == "conflict" for row in fleet.rows(_tasks("b"))) == 2


async def test_who_lists_its_devices_comes_before_a_dynamic_batch_and_the_newest_of_these_first(fleet):
    parts = [FLEET, package(), dynamic("a", SOURCE, package="lamp-3"), batch("b")]
    found, _ = look(fleet, *parts)
    assert (found["b"].upgraded, found["a"].upgraded, found["a"].conflicts) == (7, 0, 6)
    parts = [FLEET, package(), dynamic("a", SOURCE, TARGET, package="lamp-3"), dynamic("b", SOURCE)]
    found, _ = look(fleet, *parts)
    assert (found["a"].upgraded, found["a"].conflicts, found["b"].upgraded) == (1, 0, 6)
    assert found["a"].warnings == (
        "6 devices on its source versions go to a newer dynamic batch: only the newest one matches",
    )
    await fleet.commit(*parts)
    assert (len(fleet.rows(_tasks("a"))), len(fleet.rows(_tasks("b")))) == (1, 6)


async def test_an_older_dynamic_batch_that_overwrites_leaves_a_newer_one_its_devices(fleet):
    batches = [
        dynamic("a", group="beta-testers", conflict="Overwrite"),
        dynamic("b", group="beta-testers", package="lamp-3"),
    ]
    tagged = FLEET | inventory(**{"0": "eu", "1": "eu"})
    await fleet.commit(tagged)
    for devices in (tagged, FLEET | inventory(**{"0": "us", "1": "us", "2": "eu", "3": "eu"})):
        found, _ = look(fleet, devices, package(), group(**EU), *batches)
        assert (found["a"].overwritten, found["a"].conflicts, found["b"].upgraded) == (0, 2, 2)


async def test_a_dynamic_batch_that_waits_for_a_trial_takes_nobody_from_the_others_yet(fleet):
    tried = _tried(TARGET, devices=[NAMES[7]])
    parts = [FLEET | tried, package(), dynamic("a", SOURCE), dynamic("b", SOURCE, package="lamp-3")]
    found, _ = look(fleet, *parts)
    assert (found["a"].gate, found["a"].upgraded, found["b"].upgraded) == ("lamp-2", 0, 6)
    parts[3] = batch("b", package="lamp-3", conflict="Overwrite")
    found, _ = look(fleet, *parts)
    assert (found["a"].upgraded, found["a"].conflicts, found["b"].upgraded) == (0, 6, 8)


async def test_a_batch_whose_schedule_is_over_touches_nobody_and_is_in_nobody_s_way(fleet):
    start = fleet.clock.now() - timedelta(hours=4)
    over = {"start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
    found, _ = look(fleet, FLEET, package(), batch("a", schedule=over), batch("b", package="lamp-3"))
    assert (found["a"].touched, found["a"].left_out, found["a"].examples) == (0, {}, ())
    assert (found["b"].upgraded, found["b"].conflicts) == (8, 0)
    await fleet.commit(FLEET, package(), batch("a", schedule=over), batch("b", package="lamp-3"))
    assert not fleet.rows(_tasks("a"))


async def test_a_dynamic_batch_with_more_source_versions_tells_whom_it_upgrades_now(fleet):
    await fleet.arrive(NAMES[7], version="1.1.0")
    await fleet.commit(FLEET, dynamic("a", SOURCE))
    wider = dynamic("a", SOURCE, "1.1.0")
    reach = look(fleet, FLEET, wider)[0]["a"]
    assert (reach.upgraded, reach.is_dynamic, reach.examples) == (1, True, (NAMES[7],))
    assert (reach.bytes_to_ship, reach.left_out, reach.elsewhere) == (90, {}, 0)
    newer = [package(), dynamic("b", "1.1.0", package="lamp-3")]
    reach = look(fleet, FLEET, wider, *newer)[0]["a"]
    assert (reach.upgraded, len(reach.warnings)) == (0, 1)
    assert "a" not in look(fleet, FLEET, dynamic("a", SOURCE, pushRatePerMinute=10))[0]


async def test_devices_that_the_same_commit_takes_away_are_no_targets(fleet):
    fewer = base(*NAMES[:3])
    reach = look(fleet, fewer, batch())[0]["all"]
    assert (reach.upgraded, reach.examples) == (3, tuple(NAMES[:3]))
    reach = look(fleet, fewer, batch(target={"all": {}, "sourceVersions": [SOURCE]}))[0]["all"]
    assert (reach.upgraded, reach.elsewhere) == (3, 0)
    trial = _tried(TARGET, devices=[NAMES[0], NAMES[6]])
    await fleet.commit(fewer)
    back = look(fleet, FLEET | trial, batch())[0]
    assert (back["lamp-2"].upgraded, back["lamp-2"].left_out) == (1, {"already-on-target": 1})
    assert (back["all"].upgraded, back["all"].conflicts, back["all"].declared_here) == (6, 1, 0)
    moved = document("DeviceInventory", "other", product="lamp", devices=[{"name": NAMES[0]}])
    found, _ = look(fleet, base() | {"moved.yaml": moved}, batch())
    assert found["all"].upgraded == 1


async def test_who_is_away_is_told_apart_for_upgrades_and_conflicts(fleet):
    first = batch("first", target={"devices": NAMES[5:]})
    await fleet.commit(FLEET, first)
    reach = look(fleet, FLEET, first, package(), batch("second", package="lamp-3"))[0]["second"]
    assert (reach.upgraded, reach.conflicts, reach.offline, reach.offline_upgraded) == (6, 2, 1, 0)


async def test_batches_of_several_modules_exclude_each_other_only_where_one_is_not_multi_module(rig):
    mcu = document(
        "Package",
        "mcu-2",
        product="lamp",
        module="mcu",
        version=TARGET,
        files=[{"name": "a", "source": "app.bin"}],
    )
    parts = {**base(*NAMES, modules=[{"name": "mcu"}]), "mcu.yaml": mcu}
    await rig.commit(parts)
    one = batch("a", target={"devices": NAMES[:2]}, multiModule=True)
    found, _ = look(rig, parts, one, batch("b", package="mcu-2", multiModule=True))
    assert (found["b"].upgraded, found["b"].conflicts) == (8, 0)
    found, _ = look(rig, parts, one, batch("b", package="mcu-2"))
    assert (found["b"].upgraded, found["b"].conflicts) == (6, 2)
    await rig.commit(parts, one)
    found, _ = look(rig, parts, one, batch("b", package="mcu-2", multiModule=True))
    assert (found["b"].upgraded, found["b"].conflicts) == (8, 0)


async def test_a_new_life_waits_for_what_is_left_of_the_one_before(fleet):
    one = batch(onCancel=[])
    await fleet.commit(FLEET, one)
    stopped = batch(onCancel=[], state="Canceled")
    found, _ = look(fleet, FLEET, stopped)
    assert (found["all"].canceled, found["all"].draining) == (0, 7)
    await fleet.commit(FLEET, stopped)
    reach = look(fleet, FLEET, one)[0]["all"]
    assert (reach.upgraded, reach.waiting, reach.conflicts) == (0, 7, 0)


async def test_a_static_group_is_a_list_also_when_the_same_commit_declares_it(fleet):
    listed = group(devices=[NAMES[0], NAMES[6], "nobody-1"])
    wanted = batch(target={"group": "beta-testers"})
    reach = look(fleet, FLEET, listed, wanted)[0]["all"]
    assert (reach.upgraded, reach.left_out) == (1, {"already-on-target": 1})
    assert reach.examples == (NAMES[0],)


async def test_a_dynamic_batch_says_that_more_may_come(fleet):
    tagged = FLEET | inventory(**{"0": "eu", "6": "eu", "7": "eu"})
    await fleet.commit(tagged)
    reach = look(fleet, tagged, group(**EU), dynamic("a", group="beta-testers"))[0]["a"]
    assert (reach.upgraded, reach.is_dynamic) == (2, True)
    reach = look(fleet, tagged, dynamic("a", SOURCE))[0]["a"]
    assert (reach.upgraded, reach.elsewhere, reach.left_out) == (6, 1, {"already-on-target": 1})
    reach = look(fleet, tagged, dynamic("a", SOURCE, newReportsOnly=True))[0]["a"]
    assert (reach.upgraded, reach.is_dynamic) == (0, True)


async def test_a_group_that_asks_for_a_version_is_counted_like_any_other(fleet):
    asks = group(selector={"module": {"name": "default", "version": SOURCE}})
    reach = look(fleet, FLEET, asks, dynamic("a", group="beta-testers"))[0]["a"]
    assert (reach.upgraded, reach.examples) == (6, tuple(NAMES[:6]))
    await fleet.commit(FLEET, group(**EU), dynamic("a", group="beta-testers"))
    found, _ = look(fleet, FLEET, asks, dynamic("a", group="beta-testers"))
    assert found["beta-testers"].follows == (
        "6 devices more in the group beta-testers: Batch/a upgrades them",
    )


async def test_devices_that_the_same_commit_declares_are_counted_as_those_without_a_version(rig):
    reach = look(rig, base(*NAMES), batch())[0]["all"]
    assert (reach.upgraded, reach.declared_here, reach.offline) == (8, 8, 8)
    reach = look(rig, base(*NAMES), batch(target={"gray": {"percent": 25}}))[0]["all"]
    assert (reach.upgraded, reach.declared_here, reach.share_of) == (2, 8, 8)
    reach = look(rig, base(*NAMES), batch(target={"all": {}, "sourceVersions": [SOURCE]}))[0]["all"]
    assert (reach.upgraded, reach.declared_here) == (0, 8)
    tagged = base() | inventory(**{"0": "eu"})
    reach = look(rig, tagged, group(**EU), dynamic("all", group="beta-testers"))[0]["all"]
    assert (reach.upgraded, reach.declared_here) == (1, 1)


async def test_a_schedule_is_shown_and_a_window_that_is_too_short_is_a_warning(fleet):
    start = fleet.clock.now() + timedelta(hours=2)
    schedule = {"start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
    reach = look(fleet, FLEET, batch(schedule=schedule))[0]["all"]
    assert (reach.start_at, reach.end_at, reach.warnings) == (start, start + timedelta(hours=1), ())
    late = {
        "start": (start - timedelta(hours=3)).isoformat(),
        "end": (start - timedelta(hours=1, minutes=59, seconds=50)).isoformat(),
    }
    reach = look(fleet, FLEET, batch(schedule=late))[0]["all"]
    assert reach.start_at is None
    assert reach.warnings == ("its window is shorter than its pushes take at its rate",)


async def test_a_batch_says_which_verification_it_waits_for(fleet):
    tried = _tried(TARGET, devices=[NAMES[0], NAMES[6]])
    found, _ = look(fleet, FLEET | tried, batch())
    assert found["all"].gate == "lamp-2"
    trial = found["lamp-2"]
    assert (trial.is_trial, trial.upgraded, trial.left_out) == (True, 1, {"already-on-target": 1})
    assert (found["all"].upgraded, found["all"].conflicts) == (6, 1)
    assert look(fleet, FLEET, batch())[0]["all"].gate == ""


@pytest.mark.parametrize(("name", "warned"), [(NAMES[0], False), (NAMES[6], False), (NAMES[7], True)])
async def test_a_trial_that_none_of_its_devices_fits_is_a_warning(fleet, name, warned):
    found, _ = look(fleet, FLEET | _tried(TARGET, devices=[name], sourceVersions=[SOURCE]))
    assert found["lamp-2"].warnings == (
        ("none of its test devices fits, so that it fails at once",) if warned else ()
    )


def _tried(version, **verification):
    files = [{"name": "app.bin", "source": "app.bin"}]
    spec = {"product": "lamp", "version": version, "files": files, "verification": verification}
    return {"package.yaml": document("Package", "lamp-2", **spec)}


def _tasks(name):
    from sqlalchemy import select

    from reconciler.store import tables

    task, run = tables.task, tables.run
    return select(task).join(run, run.c.id == task.c.run_id).where(run.c.batch == name)


# --- what follows from groups and tags ---


@pytest.fixture
async def grouped(fleet):
    """A dynamic batch for a group that has one device."""
    await fleet.commit(*GROUPED)
    return fleet


GROUPED = [FLEET | inventory(**{"0": "eu"}), group(**EU), dynamic("follow", group="beta-testers")]


async def test_a_changed_selector_tells_whom_which_batch_upgrades_for_it(grouped):
    wider = group(selector={"matchExpressions": [{"key": "region", "operator": "DoesNotExist"}]})
    found, planned = look(grouped, GROUPED[0], wider, GROUPED[2])
    assert [action.key.name for action in planned.actions] == ["beta-testers"]
    assert found["beta-testers"].follows == (
        "6 devices more in the group beta-testers: Batch/follow upgrades them",
    )
    assert look(grouped, *GROUPED)[0] == {}
    titled = group(**EU, title="Another")
    assert look(grouped, GROUPED[0], titled, GROUPED[2])[0] == {}


async def test_changed_tags_tell_whom_which_batch_upgrades_for_them(grouped):
    moved = FLEET | inventory(**{"0": "eu", "1": "eu", "2": "us", "6": "eu"})
    found, _ = look(grouped, moved, *GROUPED[1:])
    assert found["berlin"].follows == ("1 device more in the group beta-testers: Batch/follow upgrades them",)
    new = document(
        "DeviceInventory", "berlin", product="lamp", devices=[{"name": "new-1", "tags": {"region": "eu"}}]
    )
    found, _ = look(grouped, moved | {"inventory.yaml": new}, *GROUPED[1:])
    assert found["berlin"].follows == ("1 device more in the group beta-testers: Batch/follow upgrades them",)


async def test_who_comes_back_to_a_group_is_upgraded_again_only_when_its_task_failed(grouped):
    await grouped.commit(FLEET | inventory(), *GROUPED[1:])
    assert look(grouped, *GROUPED)[0] == {}
    await grouped.wait(2)
    grouped.progress(NAMES[0], -1)
    await grouped.hear()
    found, _ = look(grouped, *GROUPED)
    assert (found["berlin"].upgraded, found["berlin"].bytes_to_ship) == (1, 90)


async def test_what_follows_goes_by_the_conflict_rule_and_the_newest_batch_comes_first(grouped):
    second = [
        package(),
        dynamic("newer", group="beta-testers", package="lamp-3"),
        batch("busy", target={"devices": NAMES[1:2]}),
    ]
    await grouped.commit(*GROUPED, *second)
    found, _ = look(grouped, FLEET | inventory(**{"0": "eu", "1": "eu", "2": "eu"}), *GROUPED[1:], *second)
    reach = found["berlin"]
    assert reach.follows == (
        "2 devices more in the group beta-testers: Batch/follow fails on them at once: conflict with another batch",
        "1 device more in the group beta-testers: Batch/newer upgrades them",
        "1 device more in the group beta-testers: Batch/newer fails on them at once: conflict with another batch",
    )
    assert (reach.upgraded, reach.conflicts) == (1, 3)


async def test_a_batch_that_the_same_commit_cancels_follows_nobody(grouped):
    moved = FLEET | inventory(**{"0": "eu", "1": "eu"})
    found, _ = look(grouped, moved, GROUPED[1], dynamic("follow", group="beta-testers", state="Canceled"))
    assert (list(found), found["follow"].follows) == (["follow"], ())


async def test_selectors_that_overlap_on_devices_are_a_warning(grouped):
    other = group("others", selector={"matchExpressions": [{"key": "region", "operator": "Exists"}]})
    found, _ = look(grouped, *GROUPED, other)
    assert found["others"].warnings == ("1 of its devices are in the group beta-testers too",)
    assert found["others"].key == Key(Kind.DEVICE_GROUP, "others")


async def test_an_inventory_is_read_only_where_a_batch_of_its_product_may_take_somebody(grouped):
    moved = FLEET | inventory(**{"0": "us"})

    def read(*parts):
        commit = grouped.read_tree({name: text for part in parts for name, text in part.items()})
        with grouped.database.reading() as connection:
            seen = observe.make_plan(connection, commit, grouped.policy, grouped.clock.now())
            going = takers.Takers(connection, commit, seen, limits.DEFAULT).running()
            found = moving.Moving(connection, commit, seen, limits.DEFAULT, going)
            return [declaration.name for declaration in found.due]

    assert read(moved, *GROUPED[1:]) == ["berlin"]
    assert read(*GROUPED) == []
    assert read(moved, GROUPED[1], dynamic("follow", group="beta-testers", state="Canceled")) == []


async def test_new_devices_of_a_group_are_not_for_a_batch_that_waits_for_their_new_reports(fleet):
    parts = [
        group(**EU),
        package(),
        dynamic("b", group="beta-testers", package="lamp-3", newReportsOnly=True),
    ]
    await fleet.commit(FLEET | inventory(), *parts)
    listed = [{"name": name} for name in NAMES] + [{"name": "new-1", "tags": {"region": "eu"}}]
    more = {"inventory.yaml": document("DeviceInventory", "berlin", product="lamp", devices=listed)}
    found, _ = look(fleet, FLEET | more, *parts, batch("s"))
    assert found.keys() == {"s"}
    assert (found["s"].upgraded, found["s"].conflicts) == (8, 0)


async def test_what_a_plan_asks_of_one_batch_grows_with_no_other_that_takes_other_devices(fleet):
    async def longest(count):
        """The length of the longest statement of a plan in which one device gets another tag."""
        new = [package(f"p{number}", f"{number}.9.0", title=f"Title {number}") for number in range(1, count)]
        batches = [dynamic(f"b{number}", f"0.{number}.0", package=f"p{number}") for number in range(1, count)]
        await fleet.commit(FLEET, *new, *batches)
        return max(map(len, statements(fleet, FLEET | inventory(**{"0": "us"}), *new, *batches)))

    assert await longest(3) == await longest(6)


def statements(rig, *parts):
    """What a plan asks of the database."""
    asked = []
    commit = rig.read_tree({name: text for part in parts for name, text in part.items()})
    with rig.database.reading() as connection:
        event.listen(connection, "before_cursor_execute", lambda *given: asked.append(given[2]))
        planning.live(connection, commit, rig.policy, rig.clock.now())
    return asked


async def test_a_device_that_a_batch_has_matched_as_often_as_it_may_is_not_promised_once_more(fleet):
    await fleet.commit(FLEET, dynamic("a", SOURCE))
    await fleet.wait(2)
    fleet.progress(NAMES[0], -1)
    fleet.inform(NAMES[0], "1.1.0")
    await fleet.hear()
    wider = dynamic("a", SOURCE, "1.1.0")
    assert look(fleet, FLEET, wider)[0]["a"].upgraded == 1
    once = dataclasses.replace(limits.DEFAULT, matches_per_device=1)
    assert look(fleet, FLEET, wider, allowed=once)[0]["a"].upgraded == 0
