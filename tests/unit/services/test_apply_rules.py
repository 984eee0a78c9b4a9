"""Every rule of a batch on its way from a manifest to the rows that the engine works on; groups; trials of packages."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from rig import SOURCE, TARGET, Rig, base, batch, document
from sqlalchemy import select, update

from reconciler.domain.plan import Reason
from reconciler.services import observe
from reconciler.store import objects, tables

ONE, TWO, THREE = "dev-1", "dev-2", "dev-3"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def group(name="beta", **spec):
    spec = spec or {"devices": [ONE, TWO]}
    return {f"{name}.yaml": document("DeviceGroup", name, **{"product": "lamp", **spec})}


def selected(name="beta", **tags):
    return group(name, selector={"matchTags": tags or {"region": "eu"}})


def dynamic(name="all", *versions, **spec):
    target = {"group": spec.pop("group")} if "group" in spec else {"all": {}, "sourceVersions": [*versions]}
    return batch(name, strategy="Dynamic", target=target, **spec)


def tried(**verification):
    spec = {"verification": {"devices": [ONE], **verification}} if verification != {"none": True} else {}
    files = [{"name": "app.bin", "source": "app.bin"}]
    return {
        "package.yaml": document("Package", "lamp-2", product="lamp", version=TARGET, files=files, **spec)
    }


def package(rig: Rig, name="lamp-2"):
    return rig.rows(select(tables.package).where(tables.package.c.name == name))[0]


def plan_of(rig: Rig, *parts):
    found = rig.read_tree({name: text for part in parts for name, text in part.items()})
    with rig.database.reading() as connection:
        return observe.make_plan(connection, found, rig.policy, rig.clock.now()).plan


# --- the fields of a batch ---


async def test_a_batch_that_says_nothing_has_the_rules_defaults(rig):
    await rig.commit(base(ONE), batch())
    run = rig.run()
    assert (run.type, run.conflict, run.download, run.tags, run.source_versions) == (
        "Static",
        "Keep",
        "Auto",
        {},
        [],
    )
    assert (run.push_rate, run.push_delivery, run.retry_limit, run.gray) == (1000, True, 0, None)
    flags = run.multi_module, run.confirm, run.suspended, run.new_reports_only, run.allow_downgrade, run.delta
    assert flags == (False,) * 6
    times = run.timeout, run.no_response, run.retry_interval, run.start_at, run.end_at
    assert times == (None,) * 5
    assert (run.roster_id, run.group_id) == (None, None)


async def test_every_field_of_a_static_batch_arrives(rig):
    start = rig.clock.now() + HOUR
    wanted = batch(
        target={"gray": {"percent": 12.345}, "sourceVersions": ["1.0.1", SOURCE]},
        schedule={"start": start.isoformat(), "end": (start + DAY).isoformat()},
        pushRatePerMinute=500,
        retry={"interval": "10m", "limit": 2},
        timeout="60m",
        noResponseTimeout="24h",
        conflict="Wait",
        delivery="Pull",
        confirm=True,
        download="MQTT",
        allowDowngrade=True,
        multiModule=True,
        tags={"site": "berlin"},
        suspend=True,
    )
    applied = await rig.commit(base(ONE), wanted)
    assert applied.plan.verdicts == ()
    run = rig.run()
    assert (run.type, run.gray, run.source_versions) == ("Static", 12_345, [SOURCE, "1.0.1"])
    assert (run.start_at, run.end_at) == (start, start + DAY)
    assert (run.push_rate, run.push_delivery, run.conflict, run.download) == (500, False, "Wait", "MQTT")
    assert (run.retry_interval, run.retry_limit) == (10 * MINUTE, 2)
    assert (run.timeout, run.no_response, run.tags) == (HOUR, DAY, {"site": "berlin"})
    assert (run.confirm, run.allow_downgrade, run.multi_module, run.suspended) == (True,) * 4
    assert run.phase == "PLANNED"


@pytest.mark.parametrize(
    ("percent", "thousandths"), [(0.001, 1), (0.29, 290), (28.999, 28_999), (33.333, 33_333), (100, 100_000)]
)
async def test_a_share_is_kept_exactly(rig, percent, thousandths):
    await rig.commit(base(ONE), batch(target={"gray": {"percent": percent}}))
    assert rig.run().gray == thousandths


async def test_a_dynamic_batch_by_versions_arrives(rig):
    await rig.commit(base(ONE), dynamic("all", SOURCE, newReportsOnly=True))
    run = rig.run()
    assert (run.type, run.source_versions, run.new_reports_only, run.phase) == (
        "Dynamic",
        [SOURCE],
        True,
        "IN_PROGRESS",
    )


async def test_a_delta_s_source_version_is_its_batches_condition(rig):
    files = [{"name": "app.bin", "source": "app.bin"}]
    delta = {"type": "Delta", "sourceVersion": SOURCE, "version": TARGET, "product": "lamp", "files": files}
    parts = base(ONE) | {"package.yaml": document("Package", "lamp-2", **delta)}
    await rig.commit(parts, batch(target={"devices": [ONE]}))
    run = rig.run()
    assert (run.delta, run.source_versions, package(rig).source_version) == (True, [SOURCE], SOURCE)


# --- schedules ---


@pytest.mark.parametrize(("lead", "waits"), [(5 * MINUTE, True), (5 * MINUTE - timedelta(seconds=1), False)])
async def test_a_start_that_is_too_near_is_at_once_and_the_log_says_so(rig, lead, waits):
    start = rig.clock.now() + lead
    applied = await rig.commit(base(ONE), batch(schedule={"start": start.isoformat()}))
    assert (rig.run().start_at, rig.run().phase) == ((start, "PLANNED") if waits else (None, "IN_PROGRESS"))
    warnings = [action.warnings for action in applied.plan.actions if action.starts_run]
    assert warnings == [
        () if waits else (f"its start {_at(start)} is less than 5m ahead: it starts at once",)
    ]
    (line,) = [line for line in rig.events("created") if line.kind == "Batch"]
    assert ("; warning: its start" in line.message) is not waits


async def test_a_start_that_is_too_far_ahead_is_accepted_by_a_later_pass_of_the_same_commit(rig):
    start = rig.clock.now() + 8 * DAY
    found = rig.read_tree(base(ONE) | batch(schedule={"start": start.isoformat()}))
    applied = await rig.apply(found)
    assert [verdict.reason for verdict in applied.plan.refused] == [Reason.TOO_FAR_AHEAD]
    assert (rig.object("all").sync, rig.rows(select(tables.run))) == ("OutOfSync", [])
    before = rig.dump()
    rig.clock.advance(3600)
    assert not (await rig.apply(found)).changed
    assert rig.dump() == before
    rig.clock.advance(23 * 3600)
    await rig.apply(found)
    assert (rig.object("all").sync, rig.run().start_at, rig.run().phase) == ("Synced", start, "PLANNED")


async def test_a_batch_whose_end_has_passed_creates_no_task(rig):
    start = rig.clock.now() - 3 * HOUR
    schedule = {"start": start.isoformat(), "end": (start + 2 * HOUR).isoformat()}
    applied = await rig.commit(base(ONE), batch(schedule=schedule))
    assert rig.rows(select(tables.task)) == []
    assert (rig.run().phase, rig.object("all").sync) == ("COMPLETED", "Synced")
    assert "it creates no task" in applied.plan.actions[-1].warnings[0]


def _at(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- changes in place ---


async def test_what_may_change_in_place_reaches_the_run(rig):
    start = rig.clock.now() + HOUR
    schedule = {"start": start.isoformat(), "end": (start + DAY).isoformat()}
    await rig.commit(base(ONE), batch(schedule=schedule, timeout="30m"))
    later = {**schedule, "end": (start + 2 * DAY).isoformat()}
    changes = {
        "pushRatePerMinute": 10,
        "retry": {"interval": "0s", "limit": 5},
        "tags": {"a": "b"},
        "suspend": True,
    }
    applied = await rig.commit(base(ONE), batch(schedule=later, timeout="40m", **changes))
    (action,) = applied.plan.actions
    assert action.changed == (
        "pushRatePerMinute",
        "retry",
        "schedule.end",
        "suspend",
        "tags",
        "timeout",
    )
    run = rig.run()
    assert (run.number, run.push_rate, run.timeout, run.tags) == (1, 10, 40 * MINUTE, {"a": "b"})
    assert (run.retry_interval, run.retry_limit, run.suspended, run.end_at) == (
        timedelta(0),
        5,
        True,
        start + 2 * DAY,
    )
    await rig.commit(base(ONE), batch(schedule={"start": start.isoformat()}))
    run = rig.run()
    assert (run.push_rate, run.timeout, run.tags, run.suspended) == (1000, None, {}, False)
    assert (run.retry_interval, run.retry_limit, run.end_at) == (None, 0, None)


async def test_the_source_versions_of_a_dynamic_batch_change_in_place(rig):
    await rig.commit(base(ONE), dynamic("all", "0.9.0"))
    await rig.commit(base(ONE), dynamic("all", "0.9.0", SOURCE))
    assert (rig.run().number, rig.run().source_versions) == (1, ["0.9.0", SOURCE])


async def test_a_refused_part_of_a_batch_is_named_and_nothing_of_it_changes(rig):
    await rig.commit(base(ONE), batch(schedule={"start": (rig.clock.now() + HOUR).isoformat()}))
    later = {"start": (rig.clock.now() + 2 * HOUR).isoformat()}
    await rig.commit(base(ONE), batch(schedule=later, pushRatePerMinute=10))
    assert rig.object("all").message.startswith("schedule.start: a field that can't change once accepted")
    assert (rig.run().push_rate, rig.run().start_at) == (1000, rig.clock.now() + HOUR)


async def test_two_dynamic_batches_for_one_version_are_one_too_many(rig):
    await rig.commit(base(ONE), dynamic("a", SOURCE))
    applied = await rig.commit(base(ONE), dynamic("a", SOURCE), dynamic("b", SOURCE))
    assert [verdict.reason for verdict in applied.plan.refused] == [Reason.DYNAMIC_OVERLAP]
    await rig.commit(base(ONE), dynamic("b", SOURCE))
    assert (rig.run("a").phase, rig.run("b").phase) == ("CANCELED", "IN_PROGRESS")


# --- lives ---


async def test_a_batch_that_has_not_started_ends_whole_when_it_is_cancelled(rig):
    schedule = {"start": (rig.clock.now() + HOUR).isoformat()}
    await rig.commit(base(ONE, TWO), batch(schedule=schedule, onCancel=["Scheduled"], confirm=True))
    assert rig.status(ONE) == "CONFIRM"
    await rig.commit(base(ONE, TWO))
    assert [rig.status(name) for name in (ONE, TWO)] == ["CANCELED canceled"] * 2


async def test_a_wider_on_cancel_ends_what_is_left_of_a_cancelled_batch(rig):
    await rig.commit(base(ONE, TWO), batch(onCancel=[]))
    await rig.commit(base(ONE, TWO), batch(onCancel=[], state="Canceled"))
    assert rig.status(ONE) == "QUEUED"
    wider = base(ONE, TWO), batch(onCancel=["Queued"], state="Canceled", timeout="7m")
    applied = await rig.commit(*wider)
    assert [action.verb for action in applied.plan.actions] == ["cancel"]
    assert [rig.status(name) for name in (ONE, TWO)] == ["CANCELED canceled"] * 2
    assert (rig.run().phase, rig.run().canceled_by, rig.run().timeout) == ("CANCELED", "git", 7 * MINUTE)
    assert plan_of(rig, *wider).actions == ()


async def test_who_cancelled_a_batch_stays_when_git_ends_more_of_it(rig):
    await rig.commit(base(ONE), batch(onCancel=[]))
    assert (await rig.order("cancel", batch="all")).ok
    await rig.commit(base(ONE), batch(onCancel=["Queued"], state="Canceled"))
    assert (rig.status(ONE), rig.run().canceled_by) == ("CANCELED canceled", "alice")


async def test_a_new_life_begins_while_the_last_one_drains_and_its_package_stays(rig):
    await rig.commit(base(ONE, TWO), batch(onCancel=[]))
    await rig.commit(base(ONE, TWO))
    await rig.commit(base(ONE, TWO), batch(onCancel=[]))
    assert (rig.run().number, rig.task(ONE).hold) == (2, "behind")
    await rig.commit(base(ONE, TWO), batch(onCancel=["Queued"], state="Canceled"))
    applied = await rig.commit(document_only_product())
    reasons = {verdict.key.name: verdict.reason for verdict in applied.plan.refused}
    assert reasons["lamp-2"] == Reason.IN_USE


def document_only_product():
    return {"fan.yaml": document("Product", "fan")}


async def test_labels_are_kept_and_a_change_of_them_alone_changes_nothing_else(rig):
    def labelled(**metadata):
        data = json.loads(batch()["all.yaml"])
        data["metadata"] |= metadata
        return {"all.yaml": json.dumps(data).encode()}

    await rig.commit(base(ONE), labelled(labels={"team": "eu"}))
    assert rig.object("all").metadata == {"labels": {"team": "eu"}}
    before = rig.run()
    said = {"labels": {"team": "us"}, "annotations": {"note": "moved"}}
    applied = await rig.commit(base(ONE), labelled(**said))
    assert (applied.plan.actions, applied.changed) == ((), True)
    assert (rig.object("all").metadata, rig.run()) == (said, before)
    await rig.commit(base(ONE), labelled(labels={"team": "us"}) | {"broken.yaml": b"kind: ["})
    await rig.commit(base(ONE), {"all.yaml": b"kind: ["})
    assert rig.object("all").metadata == {"labels": {"team": "us"}}


# --- groups ---


async def test_a_static_group_s_list_is_the_batch_s_own_from_its_acceptance_on(rig):
    files = {"beta.csv": b"name\ndev-1\ndev-2\n"}
    listed = group(devicesFrom={"file": "beta.csv"}) | files
    await rig.commit(base(ONE, TWO, THREE), listed, batch(target={"group": "beta"}))
    assert {row.device_id for row in rig.rows(select(tables.task))} == {1, 2}
    kept = rig.run().roster_id
    await rig.commit(base(ONE, TWO, THREE), group(devices=[THREE]), batch(target={"group": "beta"}))
    assert (rig.object("beta").sync, rig.run().roster_id) == ("Synced", kept)
    await rig.commit(
        base(ONE, TWO, THREE),
        group(devices=[THREE]),
        batch("next", target={"group": "beta"}),
        batch(target={"group": "beta"}),
    )
    assert (rig.status(THREE, "next"), rig.run("next").roster_id != kept) == ("QUEUED", True)


async def test_names_of_a_static_group_that_are_no_devices_are_told_with_their_lines(rig):
    listed = group(devicesFrom={"file": "beta.csv"}) | {"beta.csv": b"name\ndev-1\nnobody\n"}
    planned = plan_of(rig, base(ONE), listed, batch(target={"group": "beta"}))
    assert planned.actions[-1].warnings == (
        "1 of its group's names is no device, and skipped: nobody (beta.csv:3)",
    )
    await rig.commit(base(ONE), listed, batch(target={"group": "beta"}))
    assert rig.status(ONE) == "QUEUED"
    inline = plan_of(rig, base(ONE), group(devices=[ONE]), batch("next", target={"group": "beta"}))
    assert inline.actions[-1].warnings == ()


async def test_a_group_and_a_batch_share_a_list_and_an_inventory_has_its_own(rig):
    names = b"name\ndev-1\n"
    parts = base() | {
        "a.csv": names,
        "inventory.yaml": document(
            "DeviceInventory", "berlin", product="lamp", devicesFrom={"file": "a.csv"}
        ),
    }
    target = {"devicesFrom": {"file": "a.csv"}}
    await rig.commit(parts, group(devicesFrom={"file": "a.csv"}), batch(target=target))
    assert len(rig.rows(select(tables.roster))) == 2


async def test_a_dynamic_group_has_its_members_when_the_commit_is_applied_and_may_leave(rig):
    tagged = {"devices": [{"name": ONE, "tags": {"region": "eu"}}, {"name": TWO, "tags": {"region": "us"}}]}
    parts = base() | {"inventory.yaml": document("DeviceInventory", "berlin", product="lamp", **tagged)}
    await rig.commit(parts)
    await rig.commit(parts, selected(), dynamic("all", group="beta"))
    member, named = tables.membership, tables.device
    query = select(named.c.name).join(member, member.c.device_id == named.c.id).where(member.c.present)
    assert rig.rows(query) == [(ONE,)]
    run, (found,) = rig.run(), rig.rows(select(tables.device_group))
    assert (run.type, run.group_id, run.roster_id, run.source_versions) == ("Dynamic", found.id, None, [])
    before = rig.dump("object", "revision", "event")
    titled = group(title="Another name", selector={"matchTags": {"region": "eu"}})
    await rig.commit(parts, titled, dynamic("all", group="beta"))
    assert rig.dump("object", "revision", "event") == before
    await rig.commit(parts, selected(region="us"), dynamic("all", group="beta"))
    assert rig.rows(query) == [(TWO,)]
    applied = await rig.commit(parts, dynamic("all", group="beta"))
    assert applied.plan.verdicts == ()
    assert (rig.rows(query), rig.object("beta").removed, rig.run().phase) == ([], True, "IN_PROGRESS")
    assert plan_of(rig, parts, dynamic("all", group="beta")) == observe.plan.Plan()


async def test_no_batch_begins_for_a_group_that_is_missing_until_it_is_there(rig):
    wanted = batch(target={"group": "beta"})
    applied = await rig.commit(base(ONE), wanted)
    assert [(v.key.name, v.reason) for v in applied.plan.refused] == [("all", Reason.REFERENCE)]
    await rig.commit(base(ONE), group(devices=[ONE]), wanted)
    assert rig.status(ONE) == "QUEUED"


async def test_unknown_names_of_a_file_are_told_with_their_lines(rig):
    target = {"devicesFrom": {"file": "some.csv"}}
    applied = await rig.commit(base(ONE), batch(target=target), {"some.csv": b"name\ndev-1\n\ndev-9\n"})
    (verdict,) = applied.plan.refused
    assert verdict.details == ("no device has the name dev-9 (some.csv:4)",)
    assert verdict.message.startswith(
        "no device has the name dev-9 (some.csv:4): declare it, correct it, or set"
    )


# --- trials ---


async def test_a_package_is_tried_out_on_its_test_devices_first(rig):
    await rig.commit({k: v for k, v in base(ONE, TWO).items() if k != "package.yaml"})
    await rig.arrive(ONE)
    await rig.commit(base(ONE, TWO) | tried(sourceVersions=[SOURCE], timeout="30m"))
    run = rig.run("lamp-2")
    assert (run.type, run.number, run.source_versions, run.phase) == ("Verify", 1, [SOURCE], "IN_PROGRESS")
    assert (run.conflict, run.push_rate, run.retry_limit, run.push_delivery) == ("Wait", 10_000, 0, True)
    assert (run.timeout, run.no_response, run.confirm, run.tags) == (30 * MINUTE, 30 * MINUTE, False, {})
    assert package(rig).verification == "verifying"
    await rig.commit(base(ONE, TWO) | tried(sourceVersions=[SOURCE], timeout="30m"), batch())
    assert rig.run().phase == "PLANNED"
    rig.check()


async def test_a_trial_takes_a_day_unless_it_says_another_time(rig):
    await rig.commit(base(ONE) | tried())
    assert (rig.run("lamp-2").timeout, rig.run("lamp-2").no_response) == (DAY, DAY)


async def test_a_package_needs_no_verification_unless_it_asks_for_one(rig):
    await rig.commit(base(ONE))
    assert package(rig).verification == "not-required"
    assert rig.rows(select(tables.run)) == []


async def test_another_attempt_ends_the_trial_under_way_whole_and_begins_anew(rig):
    await rig.commit(base(ONE) | tried())
    await rig.arrive(ONE)
    await rig.wait(3)
    assert rig.status(ONE, "lamp-2") == "NOTIFIED"
    await rig.commit(base(ONE) | tried(attempt=2))
    assert (rig.run("lamp-2").number, package(rig).verification) == (2, "verifying")
    phases = rig.rows(select(tables.run.c.phase).order_by(tables.run.c.id))
    assert phases == [("CANCELED",), ("IN_PROGRESS",)]


async def test_without_its_verification_a_package_s_batches_start(rig):
    await rig.commit(base(ONE, TWO) | tried(), batch(target={"devices": [TWO]}))
    with rig.database.writing() as connection:
        connection.execute(update(tables.package).values(verification="failed"))
        connection.execute(update(tables.run).where(tables.run.c.type == "Verify").values(phase="COMPLETED"))
    applied = await rig.commit(base(ONE, TWO), batch(target={"devices": [TWO]}))
    assert "its verification failed" in applied.plan.actions[0].warnings[0]
    assert package(rig).verification == "not-required"
    (line,) = [line for line in rig.events("changed") if line.kind == "Package"]
    assert "warning: its verification failed" in line.message


async def test_a_title_changes_nothing_of_a_verification(rig):
    await rig.commit(base(ONE) | tried())
    with rig.database.writing() as connection:
        connection.execute(update(tables.package).values(verification="verified"))
        connection.execute(update(tables.run).values(phase="COMPLETED"))
    manifest = json.loads(tried()["package.yaml"])
    manifest["spec"]["title"] = "Another"
    await rig.commit(base(ONE) | {"package.yaml": json.dumps(manifest).encode()})
    assert (package(rig).verification, rig.run("lamp-2").number) == ("verified", 1)


async def test_unknown_test_devices_refuse_the_package(rig):
    applied = await rig.commit(base(TWO) | tried())
    assert [(v.key.name, v.reason) for v in applied.plan.refused] == [("lamp-2", Reason.UNKNOWN_DEVICES)]
    await rig.commit(base(ONE) | tried())
    assert rig.run("lamp-2").phase == "IN_PROGRESS"
    applied = await rig.commit(base(ONE) | tried(devices=[ONE, "dev-9"]))
    assert [v.reason for v in applied.plan.refused] == [Reason.UNKNOWN_DEVICES]
    assert rig.run("lamp-2").number == 1


async def test_a_package_that_is_tried_out_stays_until_that_is_over(rig):
    await rig.commit(base(ONE) | tried())
    without = {name: text for name, text in base(ONE).items() if name != "package.yaml"}
    applied = await rig.commit(without)
    assert [(v.key.name, v.reason) for v in applied.plan.refused] == [("lamp-2", Reason.IN_USE)]
    await rig.commit(base(ONE))
    await rig.commit(without)
    assert rig.object("lamp-2").removed


async def test_an_empty_database_tries_out_nothing_that_it_finds(tmp_path, database):
    careful = Rig(tmp_path, database, hold_first_sight=True)
    await careful.boot()
    applied = await careful.commit(base(ONE) | tried(), batch())
    assert {v.key.name: v.reason for v in applied.plan.held} == {
        "lamp-2": Reason.FIRST_SIGHT,
        "all": Reason.FIRST_SIGHT,
    }
    assert careful.rows(select(tables.run)) == []
    with careful.database.writing() as connection:
        assert objects.confirm(connection, None) == ["all", "lamp-2"]
    await careful.commit(base(ONE) | tried(), batch())
    assert (careful.run("lamp-2").phase, careful.run("all").phase) == ("IN_PROGRESS", "PLANNED")
    await careful.kill()
