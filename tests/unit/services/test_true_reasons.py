"""What a trace and a batch's status say is what the engine did: after whole commits, with time between transactions."""

from __future__ import annotations

import functools
import hashlib
from datetime import timedelta

import pytest
from rig import SOURCE, TARGET, ManualClock, base, batch, document, package

from reconciler.cli import documents
from reconciler.domain import conditions, waiting
from reconciler.services import trace
from reconciler.store import fetches, materialization, status, task_views

ONE, TWO = "dev-1", "dev-2"


def traced(rig, device, name):
    """What is said of a device in one batch."""
    with rig.database.reading() as connection:
        (found,) = status.devices_of(connection, name=device)
        (one,) = trace.device(connection, found.id, rig.clock.now(), only=name)
    return one.trace


def waits(rig, name="all"):
    """What the first task of a batch waits for."""
    with rig.database.reading() as connection:
        (task, *_) = status.tasks(connection, status.TaskFilter(batch=name), 10)
        return task_views.Waits(connection, rig.clock.now()).of(task)


async def test_a_task_whose_packages_file_was_lost_waits_for_that_until_it_is_back(rig):
    await rig.commit(base(ONE), batch())
    await rig.arrive(ONE)
    sha256 = hashlib.sha256(base()["app.bin"]).hexdigest()
    await rig.database.write(fetches.lose, [sha256])
    assert await rig.wait(3) == 0
    assert waits(rig).wait is waiting.Wait.FILE
    assert (traced(rig, ONE, "all").decided_by, traced(rig, ONE, "all").remedy[:17]) == (
        "files",
        "it is got again b",
    )
    await rig.database.write(fetches.regain, [sha256])
    assert str(waits(rig)) == "its turn comes"
    assert await rig.push() == 1


@pytest.fixture
def ticking(rig, monkeypatch):
    """Time passes between any two looks at the clock, as it does in a daemon."""
    monkeypatch.setattr(rig.clock, "now", lambda: rig.clock.advance(0.003) or ManualClock.now(rig.clock))


async def test_only_who_was_declared_after_a_batch_had_chosen_its_devices_is_told_that_it_came_late(
    rig, ticking
):
    given = batch("old-ones", target={"all": {}, "sourceVersions": ["0.9.0"]})
    await rig.commit(base(ONE), given)
    kept_out = traced(rig, ONE, "old-ones")
    assert (kept_out.decided_by, kept_out.remedy) == (
        "source version", "let the device report its version, and write a new batch: this one does not look again",
    )  # fmt: skip
    await rig.commit(base(ONE, TWO), given)
    assert traced(rig, TWO, "old-ones").end == "no task: kept out by target"
    assert "after the batch had chosen its devices" in traced(rig, TWO, "old-ones").checks[1].compared


def ready(rig, name="all"):
    """What is said of a batch: its phase and `Ready`."""
    with rig.database.reading() as connection:
        (found,) = status.objects(connection, name=name)
    facts = documents.facts_of(found)
    said, *_ = conditions.conditions(facts)
    return conditions.phase(facts), said.status, said.reason


def schedule(rig, *hours):
    """From and until so many hours from now."""
    at = [(rig.clock.now() + timedelta(hours=each)).isoformat() for each in hours]
    return dict(zip(("start", "end"), at, strict=True))


CUT_OFF = "no task: its schedule ended before it had chosen all of its devices"


async def test_a_batch_whose_schedule_was_over_when_it_came_took_nobody_because_of_that(rig):
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch(schedule=schedule(rig, -5, -4)))
    assert ready(rig) == ("COMPLETED", False, "ScheduleEnded")
    assert traced(rig, ONE, "all").end == CUT_OFF


async def test_a_schedule_that_ends_while_devices_are_chosen_is_why_the_others_have_no_task(rig, monkeypatch):
    await rig.commit(base(ONE, TWO))
    monkeypatch.setattr(rig, "materialize", functools.partial(rig.database.write, lambda _connection: None))
    await rig.commit(base(ONE, TWO), batch(schedule=schedule(rig, -1, 1)))
    first = functools.partial(materialization.work, chunk=1)
    await rig.database.write(first, rig.presence, rig.clock.now())
    monkeypatch.undo()
    rig.clock.advance(3600)
    await rig.materialize()
    assert rig.status(ONE) == "CANCELED schedule-ended"
    assert traced(rig, TWO, "all").end == CUT_OFF
    assert ready(rig) == ("COMPLETED", False, "ScheduleEnded")


async def test_a_batch_that_was_cancelled_from_the_start_is_told_of_to_its_own_products_devices(rig):
    await rig.commit(base(ONE), batch(state="Canceled"))
    said = traced(rig, ONE, "all")
    assert (said.decided_by, said.end) == ("batch", "no task: the batch never began")
    assert said.checks[0].compared == "it never began: it came with `state: Canceled`"
    assert said.remedy == "take `state: Canceled` out of its manifest, if it is to begin"
    refused = await rig.commit(base(ONE), package(), batch(package="lamp-3"))
    assert [one.key.name for one in refused.plan.verdicts] == ["all"]
    said = traced(rig, ONE, "all")
    assert said.checks[0].compared == "it never began: Immutable"
    assert "package" in said.remedy
    other = {"product": "lantern", "version": "1.1.0", "files": [{"name": "app.bin", "source": "app.bin"}]}
    lantern = {
        "lantern.yaml": document("Product", "lantern", productKey="lanternkey"),
        "lantern-1.yaml": document("Package", "lantern-1", **other),
    }
    elsewhere = batch("elsewhere", package="lantern-1", state="Canceled")
    await rig.commit(base(ONE), batch(state="Canceled"), lantern, elsewhere)
    with rig.database.reading() as connection:
        (found,) = status.devices_of(connection, name=ONE)
        assert [one.name for one in trace.device(connection, found.id, rig.clock.now())] == ["all"]


async def failed(rig, name="all"):
    """A device fails in a batch, and what is said to do about it."""
    await rig.arrive(ONE)
    await rig.push()
    rig.progress(ONE, -4)
    await rig.hear()
    return traced(rig, ONE, name).remedy


BURNT = "the device could not write its flash: "


async def test_what_is_said_to_do_about_a_failure_is_what_would_not_be_refused(rig):
    await rig.commit(base(ONE), batch())
    assert await failed(rig) == BURNT + "`reconciler retry` tries again"
    await rig.commit(base(ONE), batch(state="Canceled"))
    assert traced(rig, ONE, "all").remedy == BURNT + "a new batch tries again"
    refused = await rig.order("retry", batch="all", device=ONE)
    assert (refused.ok, "a new batch" in refused.result) == (False, True)
    await rig.commit(base(TWO), batch(state="Canceled"))
    assert traced(rig, ONE, "all").remedy == BURNT + "the device is declared no more"


async def test_a_later_end_of_the_schedule_is_said_to_help_only_where_it_would(rig):
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    spec = {"target": {"devices": [ONE]}, "delivery": "Pull", "schedule": schedule(rig, -1, 1)}
    later = spec | {"schedule": schedule(rig, -1, 3)}
    await rig.commit(base(ONE), batch(**spec))
    await rig.wait(3600, each=1800)
    assert rig.status(ONE) == "CANCELED schedule-ended"
    ended = "the schedule ended before it was notified: "
    assert traced(rig, ONE, "all").remedy == ended + waiting.Again.LATER_END
    await rig.commit(base(ONE), batch(**later))
    assert traced(rig, ONE, "all").remedy == ended + waiting.Again.RETRY
    rig.inform(ONE, TARGET, number=5)
    await rig.hear()
    assert traced(rig, ONE, "all").remedy == ended + waiting.Again.THERE
    rig.inform(ONE, SOURCE, number=6)
    await rig.hear()
    await rig.commit(base(ONE))
    assert traced(rig, ONE, "all").remedy == ended + waiting.Again.NEW_BATCH


async def test_a_trial_is_tried_again_as_a_whole_and_named_as_such_where_it_has_a_device(rig):
    await rig.commit(base(ONE))
    files = [{"name": "app.bin", "source": "app.bin"}]
    spec = {"product": "lamp", "version": "2.0.0", "files": files, "verification": {"devices": [ONE]}}
    tried = base(ONE) | {"package.yaml": document("Package", "lamp-2", **spec)}
    await rig.commit(tried)
    await rig.commit(tried, package(), batch("later", package="lamp-3", conflict="Wait"))
    assert str(waits(rig, "later")) == "waits behind the verification of lamp-2"
    assert await failed(rig, "lamp-2") == BURNT + "raise `verification.attempt` in Git, for the whole trial"
