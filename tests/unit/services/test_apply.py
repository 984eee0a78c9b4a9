"""A commit becomes state: in one transaction, with the commit on everything, and nothing when there is nothing."""

from __future__ import annotations

import dataclasses

import pytest
from rig import SOURCE, TARGET, Rig, address, base, batch, document
from sqlalchemy import func, select, text

from reconciler import errors
from reconciler.domain.plan import Reason, Verb
from reconciler.services import apply, observe, operate
from reconciler.store import commands, events, tables

ONE, TWO, THREE = "dev-1", "dev-2", "dev-3"


def plan_again(rig: Rig, *parts, policy=None):
    found = rig.read_tree({name: text for part in parts for name, text in part.items()})
    with rig.database.reading() as connection:
        return observe.make_plan(connection, found, policy or rig.policy, rig.clock.now()).plan


async def command(rig: Rig, type_: str, **arguments):
    """An operator's order, carried out."""
    with rig.database.writing() as connection:
        given = {"who": "ann", "why": "because", "now": rig.clock.now()}
        number = commands.submit(connection, type_, arguments, **given)
        operate.carry_out_all(connection, rig.presence, rig.clock.now(), rig.policy.ways)
        return commands.get(connection, number)


# --- a commit ---


async def test_a_commit_makes_objects_devices_and_a_run_and_is_recorded_on_each(rig):
    applied = await rig.commit(base(ONE, TWO), batch())
    assert applied.changed
    (revision,) = rig.rows(select(tables.revision))
    found = rig.rows(select(tables.object_))
    assert {(row.kind, row.name) for row in found} == {
        ("Product", "lamp"),
        ("Package", "lamp-2"),
        ("DeviceInventory", "berlin"),
        ("Batch", "all"),
    }
    assert {(row.sync, row.revision_id, row.removed) for row in found} == {("Synced", revision.id, False)}
    assert rig.rows(select(tables.device.c.name, tables.device.c.state).order_by("name")) == [
        (ONE, "declared"),
        (TWO, "declared"),
    ]
    run = rig.run()
    assert (run.phase, run.number, run.revision_id, run.target_version) == (
        "IN_PROGRESS",
        1,
        revision.id,
        TARGET,
    )
    tasks = rig.rows(select(tables.task.c.status, tables.task.c.revision_id))
    assert tasks == [("QUEUED", revision.id)] * 2
    assert [(line.kind, line.name) for line in rig.events("created")] == [
        ("Product", "lamp"),
        ("Package", "lamp-2"),
        ("DeviceInventory", "berlin"),
        ("Batch", "all"),
    ]
    assert {line.revision for line in rig.events("created")} == {f"main@sha1:{revision.sha}"}
    (blob,) = rig.rows(select(tables.blob))
    assert rig.files.path(blob.sha256).read_bytes() == b"firmware " * 10
    rig.check()


async def test_the_plan_after_an_apply_is_empty(rig):
    parts = base(ONE, TWO), batch(), batch("off", state="Canceled"), batch("named", target={"devices": [ONE]})
    await rig.commit(*parts)
    assert plan_again(rig, *parts) == observe.plan.Plan()


async def test_a_pass_that_changes_nothing_writes_nothing(rig):
    found = rig.read_tree(base(ONE) | batch())
    await rig.apply(found)
    before = rig.dump()
    rig.clock.advance(60)
    applied = await rig.apply(found)
    assert not applied.changed
    assert rig.dump() == before


async def test_a_commit_that_changes_nothing_is_recorded_and_no_more(rig):
    await rig.commit(base(ONE), batch())
    before = rig.dump("revision")
    await rig.commit(base(ONE), batch())
    assert rig.dump("revision") == before


async def test_going_back_to_an_earlier_commit_settles_after_one_pass(rig):
    first = rig.read_tree(base(ONE))
    await rig.apply(first)
    rig.clock.advance(60)
    await rig.apply(rig.read_tree(base(ONE) | batch()))
    rig.clock.advance(60)
    assert (await rig.apply(first)).changed
    before = rig.dump()
    rig.clock.advance(60)
    assert not (await rig.apply(first)).changed
    assert rig.dump() == before


async def test_a_moved_manifest_changes_its_place_and_nothing_else(rig):
    await rig.commit(base(ONE), batch())
    moved = base(ONE) | {"deep/down.yaml": batch()["all.yaml"]}
    before = rig.dump("object", "revision")
    applied = await rig.commit(moved)
    assert applied.plan == observe.plan.Plan()
    assert rig.object("all").path == "deep/down.yaml"
    assert rig.dump("object", "revision") == before


# --- what is wrong ---


async def test_an_object_that_is_not_valid_keeps_its_last_good_state_and_the_rest_goes_on(rig):
    await rig.commit(base(ONE), batch(pushRatePerMinute=100))
    broken = document("Batch", "all", package="lamp-2", target={"all": {}}, pushRatePerMinute=1)
    applied = await rig.commit(base(ONE), {"all.yaml": broken}, batch("other", target={"devices": [ONE]}))
    assert [(v.key.name, v.reason) for v in applied.plan.refused] == [("all", Reason.INVALID)]
    row = rig.object("all")
    assert (row.sync, row.reason, row.spec["pushRatePerMinute"]) == ("OutOfSync", "Invalid", 100)
    assert "push rate" in row.message
    assert rig.run().phase == "IN_PROGRESS"
    assert rig.object("other").sync == "Synced"
    await rig.commit(base(ONE), batch(pushRatePerMinute=100))
    row = rig.object("all")
    assert (row.sync, row.reason, row.message) == ("Synced", "", "")


async def test_a_broken_file_leaves_what_it_last_declared(rig):
    await rig.commit(base(ONE), batch())
    applied = await rig.commit(base(ONE), {"all.yaml": b"a: [1"})
    assert applied.plan.actions == ()
    assert (rig.object("all").reason, rig.run().phase) == ("Unreadable", "IN_PROGRESS")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.decode().encode("utf-16"),
        lambda text: text[:-2],
        lambda text: text.replace(b"Batch", b"Bacth"),
    ],
)
async def test_a_batch_that_moves_and_breaks_in_one_commit_is_not_cancelled(rig, spoil):
    await rig.commit(base(ONE), batch())
    spoilt = {"moved/eu.yaml": spoil(batch()["all.yaml"])}
    applied = await rig.commit(base(ONE), spoilt)
    assert [(v.key.name, v.reason) for v in applied.plan.verdicts] == [("all", Reason.UNREADABLE)]
    assert "moved/eu.yaml" in applied.plan.verdicts[0].message
    assert (applied.plan.actions, rig.run().phase) == ((), "IN_PROGRESS")
    await rig.commit(base(ONE), {"moved/eu.yaml": batch()["all.yaml"]})
    assert (rig.object("all").sync, rig.run().number) == ("Synced", 1)
    await rig.commit(base(ONE))
    assert rig.run().phase == "CANCELED"


async def test_a_product_loses_no_module_that_tasks_report_for(rig):
    files = [{"name": "app.bin", "source": "app.bin"}]
    mcu = document("Package", "lamp-2", product="lamp", module="mcu", version=TARGET, files=files)
    with_module = base(ONE, modules=[{"name": "mcu"}]) | {"package.yaml": mcu}
    await rig.commit(with_module, batch())
    await rig.arrive(ONE)
    await rig.wait(3)
    applied = await rig.commit(with_module, batch(), {"product.yaml": base()["product.yaml"]})
    assert (applied.plan.actions, rig.object("lamp").reason) == ((), "InUse")
    rig.inform(ONE, TARGET, module="mcu")
    await rig.hear()
    assert rig.status(ONE) == "SUCCEEDED"


async def test_a_refused_change_leaves_the_run_as_it_was(rig):
    await rig.commit(base(ONE, TWO), batch(pushRatePerMinute=100))
    await rig.commit(base(ONE, TWO), batch(pushRatePerMinute=50, target={"devices": [ONE]}))
    row = rig.object("all")
    assert (row.sync, row.reason) == ("OutOfSync", "Immutable")
    assert (rig.run().push_rate, rig.run().phase) == (100, "IN_PROGRESS")
    assert [line.name for line in rig.events("refused")] == ["all"]
    before = rig.dump("revision")
    await rig.commit(base(ONE, TWO), batch(pushRatePerMinute=50, target={"devices": [ONE]}))
    assert rig.dump("revision") == before


async def test_unknown_devices_refuse_a_batch_and_are_named_until_they_are_declared(rig):
    wanted = batch("some", target={"devices": [ONE, "dev-8", "dev-9"]})
    applied = await rig.commit(base(ONE), wanted)
    assert [v.reason for v in applied.plan.refused] == [Reason.UNKNOWN_DEVICES]
    assert "dev-8, dev-9" in rig.object("some").message
    assert rig.rows(select(tables.run)) == []
    await rig.commit(base(ONE, "dev-8", "dev-9"), wanted)
    assert rig.object("some").sync == "Synced"
    assert len(rig.rows(select(tables.task))) == 3


async def test_a_new_batch_never_runs_with_what_a_refused_change_left_in_force(rig):
    await rig.commit(base(ONE))
    changed = base(ONE) | {"app.bin": b"another firmware"}
    applied = await rig.commit(changed, batch())
    assert {v.key.name: v.reason for v in applied.plan.refused} == {
        "lamp-2": Reason.IMMUTABLE,
        "all": Reason.REFERENCE,
    }
    assert rig.rows(select(tables.run)) == []
    await rig.commit(base(ONE), batch())
    assert rig.run().phase == "IN_PROGRESS"


@pytest.mark.parametrize("way", [(), (batch("some", target={"devices": [ONE, "dev-9"]}, state="Canceled"),)])
async def test_unknown_devices_refuse_a_second_run_too(rig, way):
    await rig.commit(base(ONE), batch("some", target={"devices": [ONE]}))
    wanted = batch("some", target={"devices": [ONE, "dev-9"]})
    await rig.commit(base(ONE))
    await rig.commit(base(ONE), *way)
    applied = await rig.commit(base(ONE), wanted)
    assert [v.reason for v in applied.plan.refused] == [Reason.UNKNOWN_DEVICES]
    assert (rig.run("some").number, rig.run("some").phase) == (1, "CANCELED")


async def test_unknown_devices_may_be_skipped(rig):
    target = {"devicesFrom": {"file": "some.csv", "skipUnknown": True}}
    await rig.commit(base(ONE), batch("some", target=target), {"some.csv": b"dev-1\ndev-9\n"})
    assert len(rig.rows(select(tables.task))) == 1


async def test_a_product_key_changes_hands_after_its_product_is_gone(rig):
    await rig.commit(base(ONE))
    other = {"other.yaml": document("Product", "bulb", productKey="lampkey")}
    applied = await rig.commit(other)
    assert [v.reason for v in applied.plan.refused] == [Reason.TAKEN]
    applied = await rig.commit(other)
    assert applied.plan.count(Verb.CREATE) == 1
    assert rig.rows(select(tables.product.c.name, tables.product.c.removed)) == [("bulb", False)]


# --- changes ---


async def test_the_push_rate_and_the_timeout_change_in_place(rig):
    await rig.commit(base(ONE), batch(pushRatePerMinute=100))
    run = rig.run()
    await rig.commit(base(ONE), batch(pushRatePerMinute=200, timeout="5m", tags={"site": "x"}))
    changed = rig.run()
    assert (changed.id, changed.push_rate, changed.timeout.seconds, changed.tags) == (
        run.id,
        200,
        300,
        {"site": "x"},
    )
    assert [line.message for line in rig.events("changed")] == [
        "changed in Git: pushRatePerMinute, tags, timeout"
    ]


async def test_a_device_that_is_declared_no_more_goes_on_in_its_batch_and_is_in_no_new_one(rig):
    await rig.commit(base(ONE, TWO), batch())
    await rig.commit(base(ONE), batch())
    assert rig.status(TWO) == "QUEUED"
    await rig.commit(base(ONE), batch("later"))
    assert rig.rows(select(func.count()).select_from(tables.task))[0][0] == 3
    assert (rig.status(ONE), rig.status(TWO)) == ("CANCELED canceled", "CANCELED canceled")
    await rig.commit(base(ONE, TWO), batch("later"), batch("again"))
    assert {rig.status(TWO, "again"), rig.status(ONE, "again")} == {"QUEUED", "FAILED conflict"}


async def test_devices_that_need_no_upgrade_are_left_out_and_counted(rig):
    await rig.commit(base(ONE, TWO, THREE))
    for name, version in ((ONE, TARGET), (TWO, "3.0"), (THREE, SOURCE)):
        await rig.arrive(name, version=version)
    await rig.commit(base(ONE, TWO, THREE), batch())
    left = rig.rows(select(tables.left_out.c.reason, tables.left_out.c.version).order_by("version"))
    assert left == [("already-on-target", TARGET), ("downgrade", "3.0")]
    assert len(rig.rows(select(tables.task))) == 1
    rig.check()


async def test_a_batch_that_finds_nobody_completes(rig):
    await rig.commit(base(ONE), batch(target={"all": {}, "sourceVersions": ["1.9"]}))
    assert rig.run().phase == "COMPLETED"


# --- cancelling ---


async def moving(rig: Rig, **spec):
    """Three devices: one queued, one notified, one in progress."""
    await rig.commit(base(ONE, TWO, THREE))
    await rig.arrive(TWO, THREE)
    await rig.commit(base(ONE, TWO, THREE), batch(**spec))
    await rig.wait(3)
    rig.progress(THREE, 10)
    await rig.hear()
    statuses = [rig.status(name) for name in (ONE, TWO, THREE)]
    assert statuses == ["QUEUED", "NOTIFIED", "IN_PROGRESS"]


async def test_a_deleted_batch_is_cancelled_by_its_last_on_cancel(rig):
    await moving(rig, onCancel=["Notified"])
    await rig.commit(base(ONE, TWO, THREE))
    assert [rig.status(name) for name in (ONE, TWO, THREE)] == [
        "QUEUED",
        "CANCELED canceled",
        "IN_PROGRESS",
    ]
    assert (rig.run().phase, rig.object("all").removed) == ("CANCELED", True)
    rig.check()


async def test_a_cancelled_batch_goes_on_with_what_is_on_its_way(rig):
    await moving(rig)
    await rig.commit(base(ONE, TWO, THREE), batch(state="Canceled"))
    assert [rig.status(name) for name in (ONE, TWO, THREE)] == [
        "CANCELED canceled",
        "NOTIFIED",
        "IN_PROGRESS",
    ]
    rig.inform(TWO, TARGET)
    rig.progress(THREE, -1)
    await rig.hear()
    assert [rig.status(TWO), rig.status(THREE)] == ["SUCCEEDED", "FAILED upgrade-failed"]
    assert rig.run().phase == "CANCELED"
    rig.check()


async def test_a_new_batch_in_the_same_commit_gets_the_devices_of_the_cancelled_one(rig):
    await rig.commit(base(ONE, TWO), batch())
    await rig.commit(base(ONE, TWO), batch("next"))
    assert [rig.status(ONE), rig.status(ONE, "next")] == ["CANCELED canceled", "QUEUED"]


async def test_active_again_is_a_new_run(rig):
    await rig.commit(base(ONE), batch())
    await rig.commit(base(ONE), batch(state="Canceled"))
    await rig.commit(base(ONE), batch())
    assert (rig.run().number, rig.run().phase, rig.status(ONE)) == (2, "IN_PROGRESS", "QUEUED")
    rig.check()


async def test_a_package_leaves_only_after_the_last_task_that_needs_it(rig):
    await moving(rig)
    fan = {"fan.yaml": document("Product", "fan")}
    applied = await rig.commit(fan)
    assert {v.key.name: v.reason for v in applied.plan.refused} == {
        "lamp": Reason.IN_USE,
        "lamp-2": Reason.IN_USE,
    }
    for name in (TWO, THREE):
        rig.inform(name, TARGET)
    await rig.hear()
    assert (await rig.commit(fan)).plan.count(Verb.REMOVE) == 2
    assert rig.object("lamp").removed


async def test_a_mass_cancellation_waits_for_its_number(rig):
    many = [batch(f"b{number}", target={"devices": [name]}) for number, name in enumerate((ONE, TWO, THREE))]
    await rig.commit(base(ONE, TWO, THREE), *many)
    applied = await rig.commit(base(ONE, TWO, THREE))
    assert len(applied.plan.held) == 3
    assert {rig.run(f"b{number}").phase for number in range(3)} == {"IN_PROGRESS"}
    assert rig.object("b0").reason == "MassCancel"
    applied = await rig.commit(base(ONE, TWO, THREE), confirmed=3)
    assert {rig.run(f"b{number}").phase for number in range(3)} == {"CANCELED"}


async def test_an_operator_confirms_the_cancellations_of_one_commit(rig):
    many = [batch(f"b{number}", target={"devices": [name]}) for number, name in enumerate((ONE, TWO, THREE))]
    await rig.commit(base(ONE, TWO, THREE), *many)
    found = rig.read_tree(base(ONE, TWO, THREE))
    await rig.apply(found)
    assert (await command(rig, "confirm", cancels=3, revision=found.revision.sha)).ok
    await rig.apply(found)
    assert rig.run("b0").phase == "CANCELED"


async def test_an_empty_tree_changes_nothing(rig):
    await rig.commit(base(ONE), batch())
    await rig.commit({"README": b"x"})
    assert (rig.run().phase, rig.object("lamp").removed) == ("IN_PROGRESS", False)


async def test_a_batch_that_an_operator_cancelled_stays_so(rig):
    await rig.commit(base(ONE), batch())
    done = await command(rig, "cancel", batch="all")
    assert done.ok
    assert (rig.run().phase, rig.run().canceled_by) == ("CANCELED", "ann")
    await rig.commit(base(ONE), batch())
    assert (rig.run().phase, rig.run().number) == ("CANCELED", 1)


async def test_an_operator_s_cancel_outlives_that_the_batch_is_deleted_and_back(rig):
    await rig.commit(base(ONE), batch())
    await command(rig, "cancel", batch="all")
    await rig.commit(base(ONE))
    await rig.commit(base(ONE), batch())
    assert (rig.run().phase, rig.run().number, rig.object("all").removed) == ("CANCELED", 1, False)


@pytest.mark.parametrize("name", ["nobody", "all"])
async def test_an_operator_who_can_not_cancel_is_told_why(rig, name):
    await rig.commit(base(ONE), batch(state="Canceled"))
    done = await command(rig, "cancel", batch=name)
    assert (done.ok, done.result) == (False, f"there is no batch {name} with a run")


async def test_a_command_that_this_daemon_does_not_know_fails_and_does_not_come_again(rig):
    done = await command(rig, "dance")
    assert done.ok is False
    with rig.database.reading() as connection:
        assert commands.waiting(connection) == []


# --- first sight ---


@pytest.fixture
async def careful(tmp_path, database):
    made = Rig(tmp_path, database, hold_first_sight=True)
    await made.boot()
    yield made
    await made.kill()


async def test_an_empty_database_holds_the_batches_it_finds_until_they_are_confirmed(careful):
    applied = await careful.commit(base(ONE), batch())
    assert [v.reason for v in applied.plan.held] == [Reason.FIRST_SIGHT]
    assert (careful.object("all").reason, careful.rows(select(tables.run))) == ("FirstSight", [])
    assert len(careful.rows(select(tables.device))) == 1
    await careful.commit(base(ONE, TWO), batch())
    assert careful.rows(select(tables.run)) == []
    done = await command(careful, "confirm", batches=None)
    assert (done.ok, done.result) == (True, "confirmed all")
    await careful.commit(base(ONE, TWO), batch())
    assert (careful.object("all").sync, careful.run().phase) == ("Synced", "IN_PROGRESS")
    assert len(careful.rows(select(tables.task))) == 2


async def test_batches_of_later_commits_and_changed_ones_are_not_held(careful):
    await careful.commit(base(ONE), batch())
    await careful.commit(base(ONE), batch(timeout="5m"), batch("later"))
    assert (careful.run().number, careful.run("later").number) == (1, 1)


async def test_a_held_batch_that_was_broken_meanwhile_is_still_held(careful):
    await careful.commit(base(ONE), batch())
    await careful.commit(base(ONE), {"all.yaml": b"a: [1"})
    await careful.commit(base(ONE), {"all.yaml": document("Batch", "all", package="none")})
    assert careful.object("all").reason == "Invalid"
    applied = await careful.commit(base(ONE), batch())
    assert [v.reason for v in applied.plan.held] == [Reason.FIRST_SIGHT]
    assert careful.rows(select(tables.run)) == []


async def test_a_held_batch_is_held_also_while_its_devices_are_unknown(careful):
    wanted = batch("some", target={"devices": [ONE, TWO]})
    await careful.commit(base(ONE), wanted)
    await careful.commit(base(ONE, TWO), wanted)
    assert careful.object("some").reason == "FirstSight"
    assert careful.rows(select(tables.run)) == []


async def confirmed(rig: Rig, *parts: dict[str, bytes]):
    """Everything that is held is confirmed, and the next pass begins."""
    assert (await command(rig, "confirm", batches=None)).ok
    await rig.commit(*parts)


async def test_a_batch_that_the_first_commit_breaks_is_held_when_a_later_one_mends_it(careful):
    broken = base(ONE) | {"product.yaml": document("Product", "lamp", bogus=1)}
    await careful.commit(broken, batch())
    assert careful.object("all").reason == "Invalid"
    await careful.commit(broken, batch())
    for _ in range(2):
        applied = await careful.commit(base(ONE), batch())
        assert [v.reason for v in applied.plan.held] == [Reason.FIRST_SIGHT]
    assert careful.rows(select(tables.run)) == []
    await confirmed(careful, base(ONE), batch())
    assert careful.run().phase == "IN_PROGRESS"


async def test_what_nobody_can_name_at_first_sight_is_held_when_it_can_be_read(careful):
    strange = batch()["all.yaml"].decode().encode("utf-16")
    await careful.commit(base(ONE), {"all.yaml": strange})
    applied = await careful.commit(base(ONE), batch())
    assert [v.reason for v in applied.plan.held] == [Reason.FIRST_SIGHT]
    applied = await careful.commit(base(ONE), batch(), batch("later"))
    assert [v.key.name for v in applied.plan.held] == ["all"]
    assert careful.run("later").phase == "IN_PROGRESS"


async def test_what_was_confirmed_or_changed_needs_no_second_word_while_a_file_is_still_unreadable(careful):
    strange = {"strange.yaml": b"\xff\xfe"}
    one, two = batch("one", target={"devices": [ONE]}), batch("two", target={"devices": [TWO]})
    await careful.commit(base(ONE), strange, one, two)
    changed = batch("two", target={"devices": [TWO]}, timeout="5m")
    await careful.commit(base(ONE), strange, one, changed)
    assert careful.object("two").reason == "UnknownDevices"
    await careful.commit(base(ONE, TWO), strange, one, changed)
    assert careful.run("two").phase == "IN_PROGRESS"
    await confirmed(careful, base(ONE, TWO), strange, one, changed)
    assert careful.run("one").phase == "IN_PROGRESS"
    await careful.commit(base(ONE, TWO), strange, batch("one", target={"devices": [ONE]}, state="Canceled"))
    await careful.commit(base(ONE, TWO), strange, one)
    assert careful.run("one").number == 2


async def test_a_held_batch_that_left_git_and_is_back_is_still_held(careful):
    await careful.commit(base(ONE), batch())
    await careful.commit(base(ONE))
    assert careful.object("all").removed
    assert (await command(careful, "confirm", batches=None)).result == "nothing was held"
    applied = await careful.commit(base(ONE), batch())
    assert [v.reason for v in applied.plan.held] == [Reason.FIRST_SIGHT]
    assert careful.rows(select(tables.run)) == []
    await careful.commit(base(ONE))
    await careful.commit(base(ONE), batch(timeout="5m"))
    assert careful.run().phase == "IN_PROGRESS"


async def test_another_repository_over_the_same_state_cancels_and_starts_nothing_by_itself(careful):
    ours = [base(ONE, TWO), batch("a", target={"devices": [ONE]})]
    theirs = {**base(ONE, TWO), **batch("b", target={"devices": [TWO]})}
    await careful.commit(*ours)
    await confirmed(careful, *ours)
    for _ in range(2):
        found = dataclasses.replace(careful.read_tree(theirs), origin="elsewhere main")
        applied = await careful.apply(found)
        assert {v.key.name: v.reason for v in applied.plan.held} == {
            "a": Reason.MASS_CANCEL,
            "b": Reason.FIRST_SIGHT,
        }
    before = careful.dump()
    assert not (await careful.apply(found)).changed
    assert (careful.run("a").phase, careful.dump()) == ("IN_PROGRESS", before)
    assert (await command(careful, "confirm", cancels=1, revision=found.revision.sha)).ok
    await careful.apply(found)
    assert careful.run("a").phase == "CANCELED"
    later = dataclasses.replace(careful.read_tree({**theirs, **batch("c")}), origin="elsewhere main")
    await careful.apply(later)
    assert (careful.object("b").reason, careful.run("c").phase) == ("FirstSight", "IN_PROGRESS")


async def test_another_repository_that_holds_the_same_changes_nothing(careful):
    found = careful.read_tree(base(ONE) | batch())
    await careful.apply(found)
    await confirmed(careful, base(ONE), batch())
    await careful.apply(dataclasses.replace(found, origin="moved main"))
    assert careful.run().phase == "IN_PROGRESS"
    await careful.apply(dataclasses.replace(careful.read_tree(base(ONE)), origin="moved main"))
    assert careful.run().phase == "CANCELED"


async def test_a_batch_that_another_repository_breaks_is_held_when_that_is_mended(careful):
    await careful.commit(base(ONE), batch(state="Canceled"))
    strange = base(ONE) | {"all.yaml": document("Batch", "all", package="none")}
    await careful.apply(dataclasses.replace(careful.read_tree(strange), origin="moved main"))
    found = dataclasses.replace(careful.read_tree(base(ONE) | batch()), origin="moved main")
    applied = await careful.apply(found)
    assert [v.reason for v in applied.plan.held] == [Reason.FIRST_SIGHT]


async def test_confirming_what_is_not_held_is_refused(careful):
    await careful.commit(base(ONE), batch())
    done = await command(careful, "confirm", batches=["none"])
    assert (done.ok, done.result) == (False, "not held: none")


# --- crashes ---


@pytest.mark.parametrize("table", ["run", "inventory", "package", "event"])
async def test_a_crash_in_the_middle_of_an_apply_leaves_nothing(rig, table):
    found = rig.read_tree(base(ONE) | batch())
    before = rig.dump("roster", "roster_entry")
    with rig.database.writing() as connection:
        connection.execute(
            text(f"CREATE TRIGGER boom BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'boom'); END")
        )
    with pytest.raises(Exception, match="boom"):
        await rig.apply(found)
    assert rig.dump("roster", "roster_entry") == before
    with rig.database.writing() as connection:
        connection.execute(text("DROP TRIGGER boom"))
    await rig.apply(found)
    assert rig.status(ONE) == "QUEUED"


async def test_what_is_not_staged_is_left_to_the_next_pass(rig):
    found = rig.read_tree(base(ONE) | batch())
    before = rig.dump()
    with pytest.raises(errors.TransientError):
        await rig.database.write(apply.apply, found, rig.policy, {}, rig.clock.now())
    assert rig.dump() == before


async def test_staging_twice_changes_nothing(rig):
    found = rig.read_tree(base(ONE, TWO))
    planned = plan_again(rig, base(ONE, TWO))
    rig.stage.prepare(found, planned)
    before = rig.dump()
    rig.stage.prepare(found, planned)
    assert rig.dump() == before


async def test_every_change_of_a_status_is_in_the_log(rig):
    await moving(rig)
    await rig.commit(base(ONE, TWO, THREE))
    with rig.database.reading() as connection:
        lines = events.read(connection, events.Filter(batch="all"), 100)
    moves = [(line.device, line.from_status, line.to_status) for line in lines if line.to_status]
    assert moves == [
        (TWO, "QUEUED", "NOTIFIED"),
        (THREE, "QUEUED", "NOTIFIED"),
        (THREE, "NOTIFIED", "IN_PROGRESS"),
        (ONE, "QUEUED", "CANCELED"),
    ]
    assert rig.wire.is_connected(address(TWO))
