"""`reconciler trace`: what somebody reads at night, story by story. The texts lie in `traces/`.

To change one on purpose, delete it: the test that misses it writes it anew, and fails.
"""

from __future__ import annotations

import pathlib

import pytest
from rows import BATCH, HOUR, MINUTE, NOW, PACKAGE, PRODUCT, Rows

from reconciler.store import rates, tables

TEXTS = pathlib.Path(__file__).parent / "traces"


def upgraded(made):
    """It was upgraded, at its second attempt; another batch left it out, because it was there already."""
    device = made.device("dev-1", "1.4.0", online=True, modules={"mcu": "0.9"})
    made.group("beta-testers", ["dev-1", "dev-2"])
    run = made.run(retry_interval=10 * MINUTE, retry_limit=2, phase="COMPLETED", ended_at=NOW - MINUTE)
    task = made.task(
        run,
        device,
        "SUCCEEDED",
        pushes=2,
        attempt=1,
        first_pushed_at=NOW - 50 * MINUTE,
        started_at=NOW - 49 * MINUTE,
    )
    for ago, before, after, message in (
        (50, "QUEUED", "NOTIFIED", "push 1"),
        (49, "NOTIFIED", "NOTIFIED", "reported step -2; attempt 1 of 2 failed"),
        (1, "NOTIFIED", "SUCCEEDED", "reported version 1.4.0"),
    ):
        line = {"at": NOW - ago * MINUTE, "type": "task", "from_status": before, "to_status": after}
        made.add(tables.event, **line, run_id=run, task_id=task, device_id=device, message=message)
    again = made.run("again-to-1.4.0", phase="COMPLETED", ended_at=NOW)
    made.add(tables.left_out, run_id=again, device_id=device, reason="already-on-target", version="1.4.0")


def away(made):
    """Its batch is under way, and it is offline."""
    made.task(made.run(source_versions=["1.3.0", "1.3.1"]), made.device("dev-1", "1.3.0"))


def busy(made):
    """One batch has it, one failed because of that, and one waits behind."""
    device = made.device("dev-1", "1.3.0", online=True)
    pushed = {"pushes": 3, "last_pushed_at": NOW - 5 * MINUTE, "first_pushed_at": NOW - HOUR}
    made.task(
        made.run("hotfix", target_version="1.3.5"), device, "IN_PROGRESS", started_at=NOW - HOUR, **pushed
    )
    made.task(made.run(), device, "FAILED", reason="conflict")
    made.task(made.run("patient", conflict="Wait"), device, hold="behind")


def share(made):
    """A gray batch chose others; a second one chose it."""
    device = made.device("dev-1", "1.3.0")
    made.run("a-tenth", gray=10_000)
    made.task(made.run("most", gray=90_000), device, "NOTIFIED", pushes=1, last_pushed_at=NOW - MINUTE)


def not_for_it(made):
    """Whom batches are for: a list, a group, other versions, other devices than those that came later."""
    made.device("dev-1", "2.0.0")
    made.run("a-list", roster_id=made.list_of("l", ["dev-2"]))
    made.run(
        "by-group", type="Dynamic", group_id=made.group("beta-testers", selector={"matchTags": {"a": "b"}})
    )
    made.run("from-1.2", source_versions=["1.2.0"])
    made.run("delta", source_versions=["1.3.0"], delta=True)
    made.run("down")
    late = {"created_at": NOW - 3 * HOUR, "started_at": NOW - 3 * HOUR, "target_version": "2.1.0"}
    made.run("too-early", **late)


def dynamic(made):
    """The newest of several dynamic batches takes it; one looks at new reports only; one took it ten times."""
    device = made.device("dev-1", "1.3.0", online=True)
    running = {"type": "Dynamic", "source_versions": ["1.3.0"]}
    made.run("older", **running)
    newest = made.run("newest", **running)
    for number in range(1, 3):
        made.task(newest, device, "FAILED", reason="upgrade-failed", match_no=number)
    made.run("fresh", type="Dynamic", source_versions=["1.3.0"], module="mcu", new_reports_only=True)
    values = {"device_id": device, "product_id": 1, "module": "mcu", "version": "1.3.0"}
    made.add(tables.device_version, **values, reported_at=NOW - 2 * HOUR)
    made.run("over", phase="CANCELED", canceled_by="alice", ended_at=NOW, **running)


def gates(made):
    """What keeps tasks back that were made: a verification, a time, a suspension, a confirmation."""
    device = made.device("dev-1", "1.3.0", online=True)
    package = made.package("firmware-1.5.0", "1.5.0", verification="failed")
    planned = {"phase": "PLANNED", "started_at": None}
    made.task(made.run("unproved", package_id=package, target_version="1.5.0", **planned), device)
    for name, run, status in (
        ("tonight", planned | {"start_at": NOW + 10 * HOUR, "end_at": NOW + 20 * HOUR}, "QUEUED"),
        ("stopped", {"suspended_by": "alice", "suspended_at": NOW - MINUTE}, "QUEUED"),
        ("careful", {"confirm": True}, "CONFIRM"),
    ):
        made.task(made.run(name, **run), device, status, holds=False)


def at_night(made):
    """A retry waits for its time; the rate of another batch is used up; one pulls."""
    device = made.device("dev-1", "1.3.0", online=True)
    retry = {"retry_interval": 30 * MINUTE, "retry_limit": 5}
    failed = {
        "attempt": 1,
        "retry_at": NOW + 20 * MINUTE,
        "step": -3,
        "pushes": 1,
        "last_pushed_at": NOW - HOUR,
    }
    made.task(made.run(**retry), device, "IN_PROGRESS", hold="retry", started_at=NOW - HOUR, **failed)
    slow = made.run("slow", push_rate=10)
    rates.take(made.connection, int(NOW.timestamp()) - 20, {slow: 10})
    made.task(slow, device, push_due_at=NOW - MINUTE, holds=False)
    made.task(made.run("pull", push_delivery=False), device, holds=False)


def held(made):
    """Nothing of its batches ever began; a verification of other devices is left away."""
    made.device("dev-1", "1.3.0")
    never = {"digest": None, "spec": None, "sync": "OutOfSync"}
    made.object("Batch", "eu", **never, reason="FirstSight", message="confirm it: `reconciler confirm eu`")
    made.object("Batch", "us", **never, reason="UnknownDevices", message="nobody declares dev-9")
    made.run(PACKAGE, type="Verify", roster_id=made.list_of("v", ["lab-1"]))


STORIES = [upgraded, away, busy, share, not_for_it, dynamic, gates, at_night, held]


@pytest.fixture
def at_noon(monkeypatch):
    monkeypatch.setattr("reconciler.cli.looking.now", lambda: NOW)


def tell(database, story):
    with database.writing() as connection:
        made = Rows(connection)
        made.world()
        story(made)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_story_reads_as_it_should(database, reconciler, at_noon, story):
    tell(database, story)
    ran = reconciler("trace", "dev-1")
    assert ran.code == 0
    text = TEXTS / f"{story.__name__}.txt"
    if not text.exists():
        text.write_text(ran.out, encoding="utf-8")
        pytest.fail(f"{text} was missing: read it, and commit it when it is right")
    assert ran.out == text.read_text(encoding="utf-8")


def test_every_text_has_its_story():
    assert {text.stem for text in TEXTS.iterdir()} == {story.__name__ for story in STORIES}


def test_machines_get_the_same(database, reconciler, at_noon):
    tell(database, busy)
    found = reconciler("trace", f"{PRODUCT}/dev-1", "-o", "json").json
    assert found["device"]["metadata"]["name"] == "dev-1"
    patient, failed, hotfix = found["batches"]
    assert (patient["name"], patient["decidedBy"], patient["task"]["status"]["waitsFor"]) == (
        "patient", "queue", "waits behind another task",
    )  # fmt: skip
    assert (failed["name"], failed["decidedBy"], failed["task"]["status"]["occupiedBy"]) == (
        BATCH,
        "conflict",
        "hotfix",
    )
    assert [check["rule"] for check in failed["checks"]][:2] == ["batch", "target"]
    assert "`reconciler retry`" in failed["remedy"]
    assert (hotfix["decidedBy"], hotfix["run"]) == (None, 1)


def test_one_batch_alone_can_be_asked_for(database, reconciler, at_noon):
    tell(database, busy)
    assert [
        one["name"] for one in reconciler("trace", "dev-1", "--batch", "hotfix", "-o", "json").json["batches"]
    ] == ["hotfix"]
    ran = reconciler("trace", "dev-1", "--batch", "hotfox")
    assert (ran.code, "Did you mean hotfix?" in ran.err) == (1, True)


def test_a_batch_of_another_product_is_no_unknown_one(database, reconciler, at_noon):
    def story(made):
        made.device("dev-1", "1.3.0")
        of = made.object("Product", "lamp")
        values = {"numeric_versions": False, "auto_registration": False, "modules": []}
        made.add(tables.product, object_id=of, name="lamp", product_key="lampkey", **values)
        made.run("lamps", product_id=2)

    tell(database, story)
    ran = reconciler("trace", "dev-1", "--batch", "lamps")
    assert (ran.code, ran.err) == (1, "error: batch 'lamps' is for another product than thermostat\n")


def test_the_operators_own_limit_of_matches_is_told(database, reconciler, at_noon):
    tell(database, dynamic)
    out = reconciler("trace", "dev-1", "--limits", "matches-per-device=2").out
    assert "matched 2 of 2 times: it takes the device no more" in out


def test_a_verification_that_is_asked_for_is_shown_also_for_other_devices(database, reconciler, at_noon):
    tell(database, held)
    out = reconciler("trace", "dev-1", "--batch", PACKAGE).out
    assert f"verification of {PACKAGE}, run 1" in out
    assert "a list of devices" not in out
    assert "the device is not in it" in out


def test_batches_that_left_git_are_shown_only_where_they_touched_the_device(database, reconciler, at_noon):
    def story(made):
        device = made.device("dev-1", "1.3.0")
        touched, untouched = made.run("touched"), made.run("untouched")
        made.task(touched, device)
        removed = tables.object_.update().values(removed=True)
        made.connection.execute(removed.where(tables.object_.c.kind == "Batch"))
        return untouched

    tell(database, story)
    assert [one["name"] for one in reconciler("trace", "dev-1", "-o", "json").json["batches"]] == ["touched"]


def test_a_batch_whose_devices_are_being_chosen_says_so(database, reconciler, at_noon):
    def story(made):
        made.device("dev-1", "1.3.0")
        made.add(tables.job, run_id=made.run(), type="create", arguments={})

    tell(database, story)
    assert "=> no task yet: the batch is choosing its devices" in reconciler("trace", "dev-1").out


def test_a_device_must_be_one(database, reconciler, at_noon):
    def story(made):
        made.device("dev-1", "1.3.0")
        made.device("lonely")
        of = made.object("Product", "lamp")
        values = {"numeric_versions": False, "auto_registration": False, "modules": []}
        made.add(tables.product, object_id=of, name="lamp", product_key="lampkey", **values)
        made.device("dev-1", "1.3.0", product_id=2)

    tell(database, story)
    ran = reconciler("trace", "dev-1")
    assert (ran.code, "Give --product: lamp, thermostat." in ran.err) == (1, True)
    assert reconciler("trace", "dev-1", "--product", "lampkey").out.startswith("lamp/dev-1: default 1.3.0")
    assert "no batch of its product" in reconciler("trace", "lamp/dev-1").out
    assert reconciler("trace", "lonely").out.startswith("thermostat/lonely: reported no version; offline")
    assert "Did you mean lonely?" in reconciler("trace", "lonly").err
