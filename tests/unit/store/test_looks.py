"""What people see: objects, tasks, devices, the log. And what the rows of objects mean for the next plan."""

from __future__ import annotations

import pytest
import seed
from seed import BATCH, NOW, PRODUCT, SECOND

from reconciler.domain import lifecycle
from reconciler.domain.desired import Key
from reconciler.domain.plan import Reason
from reconciler.domain.resources import Kind
from reconciler.store import about, events, objects, products, revisions, runs, status

FLEET = ["dev-1", "dev-2", "dev-3"]
KEY = Key(Kind.BATCH, BATCH)

FILE = products.File("firmware.bin", 1, 2048, f"sha-{BATCH}", "m")


@pytest.fixture
def looked(database):
    """A batch under way: dev-1 failed, dev-2 is at work, dev-3 waits; dev-4 was left out."""
    with database.writing() as connection:
        objects.start_daemon(connection, NOW)
        seed.product(connection)
        seed.package(connection)
        seed.inventory(connection, [*FLEET, "dev-4"], tags={"dev-1": {"site": "a"}})
    seed.materialize(database)
    with database.writing() as connection:
        seed.report(connection, {"dev-1": "1.3.0", "dev-4": "1.4.0"})
        seed.batch(connection)
    seed.materialize(database)
    with database.writing() as connection:
        seed.online(connection, ["dev-2"])
        seed.send(connection, "dev-1", lifecycle.progressed(-4, "worn out"))
        seed.send(connection, "dev-2", lifecycle.progressed(20, ""))
    return database


def test_a_revision_reads_as_its_branch_and_sha():
    assert revisions.text("abc", "refs/heads/main") == "main@sha1:abc"
    assert str(objects.Revision("abc", "v1.0")) == "v1.0@sha1:abc"


def test_objects_are_listed_by_kind_and_name(looked):
    with looked.reading() as connection:
        assert [(o.kind, o.name) for o in status.objects(connection)] == [
            ("Batch", BATCH), ("DeviceInventory", "all"), ("Package", BATCH), ("Product", PRODUCT),
        ]  # fmt: skip
        assert [o.name for o in status.objects(connection, "Product")] == [PRODUCT]
        assert status.objects(connection, "Product", "nobody") == []


def test_a_batch_shows_its_newest_run_with_counts_failures_and_left_outs(looked):
    with looked.reading() as connection:
        run = status.objects(connection, "Batch")[0].run
    assert (run.package, run.product, run.target_version) == (BATCH, PRODUCT, "1.4.0")
    assert run.counts == {"FAILED": 1, "IN_PROGRESS": 1, "QUEUED": 1}
    assert (run.total, run.failures, run.left_out) == (3, {"burn-failed": 1}, {"already-on-target": 1})
    assert run.revision == f"main@sha1:{seed.SHA}"


def test_tasks_are_chosen_by_batch_device_and_status(looked):
    def devices(limit=10, **wanted):
        with looked.reading() as connection:
            return [t.device for t in status.tasks(connection, status.TaskFilter(**wanted), limit)]

    assert devices() == ["dev-3", "dev-2", "dev-1"]
    assert devices(batch=BATCH) == FLEET
    assert devices(batch="other") == []
    assert devices(device="dev-2") == ["dev-2"]
    assert devices(status="FAILED") == ["dev-1"]
    assert devices(batch=BATCH, status="QUEUED", device="dev-3") == ["dev-3"]
    assert devices(limit=2, batch=BATCH) == ["dev-1", "dev-2"]


def test_a_task_shows_what_happened_to_it(looked):
    with looked.reading() as connection:
        task = status.tasks(connection, status.TaskFilter(device="dev-1"), 1)[0]
    assert (task.status, task.reason, task.step, task.step_description) == (
        "FAILED", "burn-failed", -4, "worn out",
    )  # fmt: skip
    assert (task.source_version, task.target_version, task.facts.online) == ("1.3.0", "1.4.0", False)


def test_a_device_shows_versions_tags_and_presence(looked):
    with looked.reading() as connection:
        one, two = status.devices_of(connection, product=PRODUCT)[:2]
        assert status.devices_of(connection, product="other") == []
        assert len(status.devices_of(connection, limit=2)) == 2
    assert (one.versions, one.tags, one.online) == ({"default": "1.3.0"}, {"site": "a"}, False)
    assert (two.versions, two.online, two.online_since) == ({}, True, NOW)


def test_a_new_daemon_believes_in_no_presence_of_the_old_one(looked):
    with looked.writing() as connection:
        assert objects.start_daemon(connection, NOW + SECOND) == (2, NOW)
        assert not any(device.online for device in status.devices_of(connection))
        assert about.heartbeat(connection) == NOW + SECOND
        objects.beat(connection, NOW + 2 * SECOND)
        assert about.heartbeat(connection) == NOW + 2 * SECOND


def test_a_database_without_a_daemon_has_no_heartbeat(database):
    with database.reading() as connection:
        assert about.heartbeat(connection) is None


def test_a_batch_that_left_git_is_shown_until_its_last_task_has_ended(looked):
    with looked.writing() as connection:
        runs.cancel(connection, 1, runs.Cancellation("git", (lifecycle.Status.QUEUED,)), NOW)
        objects.remove(connection, KEY, 1, NOW)
    seed.settle(looked)
    with looked.reading() as connection:
        found = status.objects(connection, "Batch")
    assert [(o.name, o.reason) for o in found] == [(BATCH, "Removed")]
    with looked.writing() as connection:
        seed.send(connection, "dev-2", lifecycle.progressed(-1, ""))
        assert status.objects(connection, "Batch") == []
        assert [o.name for o in status.objects(connection, "Batch", BATCH)] == [BATCH]


def test_a_batch_that_is_back_but_refused_says_why_and_not_that_it_is_removed(looked):
    with looked.writing() as connection:
        runs.cancel(connection, 1, runs.Cancellation("git", ()), NOW)
        objects.remove(connection, KEY, 1, NOW)
        seed.refuse(connection, *KEY, Reason.REFERENCE, "its package is gone")
        found = status.objects(connection, "Batch")[0]
    assert (found.reason, found.message) == ("Reference", "its package is gone")


def test_the_log_is_read_oldest_first_and_only_its_newest_lines(looked):
    with looked.writing() as connection:
        for number in range(5):
            events.append(connection, NOW, [events.Event(type=events.Type.COMMAND, message=str(number))])
        events.append(connection, NOW, [])
        found = events.read(connection, events.Filter(), 3)
        assert [line.message for line in found] == ["2", "3", "4"]
        assert [line.message for line in events.read(connection, events.Filter(after=found[1].id), 9)] == [
            "4"
        ]


def test_the_log_of_a_batch_holds_what_happened_to_it_and_to_its_tasks(looked):
    with looked.writing() as connection:
        line = {"type": events.Type.COMMAND, "kind": "Batch"}
        events.append(connection, NOW, [events.Event(**line, name=BATCH), events.Event(**line, name="other")])
        task = events.Event(type=events.Type.TASK, run_id=1, task_id=1, device_id=1, revision_id=1)
        events.append(connection, NOW, [task])
        found = events.read(connection, events.Filter(batch=BATCH), 100)
        assert [line.type for line in found] == ["materialized", "command", "task"]
        assert (found[-1].batch, found[-1].device, found[-1].revision) == (
            BATCH, "dev-1", f"main@sha1:{seed.SHA}",
        )  # fmt: skip
        assert found[1].revision is None
        by_device = events.read(connection, events.Filter(device="dev-1"), 100)
        by_name = events.read(connection, events.Filter(kind="Batch", name="other"), 100)
    assert [line.type for line in by_device] == ["task"]
    assert [line.name for line in by_name] == ["other"]


def test_what_stands_beside_an_object_is_found(looked):
    with looked.reading() as connection:
        assert about.products(connection) == [about.Product(1, PRODUCT, seed.KEY)]
        assert about.device_count(connection, 1) == {"declared": 4}
        assert about.files(connection) == about.files(connection, BATCH) == {2: (FILE,)}
        assert about.files(connection, "other") == {}
        assert about.left_out(connection, 4) == [about.LeftOut(BATCH, "already-on-target", "1.4.0")]
        assert about.left_out(connection, 1) == []
        assert sorted(about.device_names(connection)) == [*FLEET, "dev-4"]


def test_what_a_device_is_offered_comes_from_the_runs_package(looked):
    with looked.reading() as connection:
        offer = products.offers(connection, [1])[1]
        assert (offer.version, offer.files) == ("1.4.0", (FILE,))


def test_accepting_an_object_again_keeps_its_identity(looked):
    with looked.writing() as connection:
        before = objects.object_id(connection, KEY)
        assert seed.declare(connection, *KEY, {"package": BATCH}, NOW + SECOND) == before
        found = status.objects(connection, "Batch")[0]
    assert (found.created_at, found.updated_at) == (NOW, NOW + SECOND)


def test_a_refused_change_leaves_what_is_in_force(looked):
    with looked.writing() as connection:
        seed.refuse(connection, *KEY, Reason.IMMUTABLE, "write a new Batch")
        stored = objects.load(connection).objects[KEY]
        assert (stored.digest, stored.declared_digest) == (f"digest-{BATCH}", "other-digest")
        assert (stored.synced, stored.reason) == (False, "Immutable")
        objects.note(connection, [objects.Note(KEY, "b.yaml", f"digest-{BATCH}", None)], 1, NOW)
        assert objects.load(connection).objects[KEY].synced


def test_a_held_batch_is_released_by_name_or_with_all_others(database):
    with database.writing() as connection:
        for name in ("one", "two", "three"):
            seed.refuse(connection, Kind.BATCH, name, Reason.FIRST_SIGHT)
        assert objects.confirm(connection, ["one", "nobody"]) == ["one"]
        held = objects.load(connection).objects
        assert held[Key(Kind.BATCH, "one")].held.confirmed
        assert not held[Key(Kind.BATCH, "two")].held.confirmed
        assert objects.confirm(connection, None) == ["one", "three", "two"]
        assert [line.type for line in events.read(connection, events.Filter(), 9)] == ["held"] * 3


def test_confirmed_cancellations_count_for_their_commit_only(database):
    with database.writing() as connection:
        objects.confirm_cancels(connection, "abc", 3, "alice", NOW)
        objects.confirm_cancels(connection, "abc", 4, "alice", NOW)
        assert objects.load(connection, "abc").confirmed_cancels == 4
        assert objects.load(connection, "def").confirmed_cancels is None


def test_a_database_sees_everything_for_the_first_time_until_a_commit_was_taken_over_whole(database):
    with database.writing() as connection:
        assert objects.load(connection).first_sight
        assert objects.newest_revision(connection) is None
        assert seed.revision(connection) == seed.revision(connection)
        assert objects.load(connection).first_sight
        objects.take_over(connection)
        assert not objects.load(connection).first_sight
        assert objects.newest_revision(connection).sha == seed.SHA


def test_a_plan_sees_a_run_with_what_it_still_has_to_do(looked):
    with looked.reading() as connection:
        run = objects.load(connection).objects[KEY].run
    assert (run.number, run.phase, run.draining) == (1, "IN_PROGRESS", 2)
