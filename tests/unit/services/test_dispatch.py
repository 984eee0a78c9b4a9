"""Pushes: at the rate, to who is there, once a minute at most, and again until somebody says that it arrived."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import shutil
import tempfile
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import SETTLE, SOURCE, START, TARGET, BrokerWire, Rig, address, base, batch, document, turn
from sqlalchemy import func, select, text, update

from reconciler import errors
from reconciler.services import sweep
from reconciler.services.dispatch import MOST_UNCONFIRMED
from reconciler.store import devices, joblist, tables
from reconciler.store.database import Database
from reconciler.transport.base import Delivery

ONE, TWO = "dev-1", "dev-2"
CROWD = [f"dev-{number:03}" for number in range(120)]


@pytest.fixture
async def ready(rig):
    """A device that is there, and a batch that waits for it."""
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch(timeout="60m"))
    return rig


class Meter:
    """When pushes went out, second by second."""

    def __init__(self, rig: Rig) -> None:
        self.at: list[float] = []
        rig.wire.on_push = lambda _push: self.at.append(rig.clock.monotonic())

    def most(self, seconds: float = 60.0) -> int:
        """The most pushes in any window that is this long."""
        return max((sum(0 <= at - first < seconds for at in self.at) for first in self.at), default=0)


# --- who is pushed ---


async def test_a_device_that_is_there_is_pushed_its_package(ready):
    assert await ready.push() == 1
    (push,) = ready.wire.published
    assert (push.address, push.topic) == (address(ONE), f"/ota/device/upgrade/lampkey/{ONE}")
    (said,) = ready.pushed(ONE)
    assert said["data"]["version"] == TARGET
    assert said["data"]["url"].startswith("http://download.example/")
    task = ready.task(ONE)
    now = ready.clock.now()
    assert (task.status, task.pushes, task.claim_epoch, task.push_due_at) == ("NOTIFIED", 1, None, None)
    assert (task.first_pushed_at, task.last_pushed_at) == (now, now)
    assert [line.message for line in ready.events("task")] == ["push 1"]
    assert await ready.wait(120) == 0
    ready.check()


async def test_devices_that_are_not_there_are_not_pushed_until_they_come(rig):
    await rig.commit(base(ONE), batch())
    assert await rig.wait(30) == 0
    rig.connect(ONE)
    assert await rig.wait(10) == 0
    assert await rig.wait(1) == 1
    assert rig.task(ONE).source_version is None


async def test_a_device_that_went_is_not_pushed(ready):
    ready.wire.disconnect(address(ONE))
    await ready.hear()
    assert await ready.wait(30) == 0
    assert ready.status(ONE) == "QUEUED"


async def test_a_batch_with_delivery_pull_is_never_pushed_but_answered(rig):
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch(delivery="Pull"))
    rig.inform(ONE, SOURCE)
    assert await rig.wait(90) == 0
    rig.wire.disconnect(address(ONE))
    await rig.arrive(ONE)
    assert await rig.wait(90) == 0
    rig.ask(ONE)
    await rig.hear()
    assert [said["data"]["version"] for said in rig.pushed(ONE)] == [TARGET]
    rig.inform(ONE, SOURCE)
    assert await rig.wait(90) == 0


async def test_nothing_is_claimed_while_devices_cannot_be_reached(ready):
    ready.wire.well = False
    assert await ready.wait(10) == 0
    assert ready.status(ONE) == "QUEUED"
    ready.wire.well = True
    assert await ready.wait(1) == 1


async def test_a_round_without_anything_to_do_writes_nothing(ready):
    await ready.push()
    before = ready.dump()
    await ready.push()
    assert ready.dump() == before


# --- how often ---


async def test_a_device_that_comes_back_is_pushed_again_after_a_minute(ready):
    await ready.push()
    ready.clock.advance(5)
    ready.wire.disconnect(address(ONE))
    ready.connect(ONE)
    assert await ready.wait(54) == 0
    assert await ready.wait(2) == 1
    assert ready.task(ONE).pushes == 2


@pytest.mark.parametrize("away", [75, 600])
async def test_a_device_that_comes_back_later_is_pushed_after_it_settled(ready, away):
    await ready.push()
    ready.wire.disconnect(address(ONE))
    await ready.wait(away)
    ready.connect(ONE)
    assert await ready.wait(10) == 0
    assert await ready.wait(1) == 1


async def test_a_device_that_flaps_is_pushed_once_a_minute_at_most(ready):
    meter = Meter(ready)
    for _ in range(40):
        ready.wire.disconnect(address(ONE))
        ready.connect(ONE)
        ready.inform(ONE, SOURCE)
        await ready.wait(15)
    assert len(meter.at) > 5
    assert meter.most() == 1


async def test_a_device_that_reports_its_source_again_is_pushed_again_but_not_within_a_minute(ready):
    meter = Meter(ready)
    for _ in range(30):
        ready.inform(ONE, SOURCE)
        await ready.wait(7)
    assert len(meter.at) == 4
    assert meter.most() == 1


async def test_after_the_end_nobody_is_pushed(ready):
    await ready.push()
    ready.inform(ONE, SOURCE)
    ready.inform(ONE, TARGET)
    assert await ready.wait(90) == 0


# --- what becomes of a push ---


async def test_a_push_that_is_not_acknowledged_comes_again_after_a_minute(ready):
    ready.wire.delivery = Delivery.TIMED_OUT
    assert await ready.push() == 1
    assert ready.task(ONE).claim_epoch is None
    ready.wire.delivery = Delivery.CONFIRMED
    assert await ready.wait(59) == 0
    assert await ready.wait(1) == 1
    assert await ready.wait(90) == 0
    assert ready.dispatch.counted == {"timed_out": 1, "confirmed": 1}


async def test_a_connection_that_is_busy_is_tried_again_after_a_minute(ready):
    ready.wire.delivery = Delivery.BUSY
    assert await ready.push() == 1
    ready.wire.delivery = Delivery.CONFIRMED
    assert await ready.wait(60) == 1


async def test_a_push_that_found_nobody_waits_for_the_device_to_come_back(ready):
    ready.wire.disconnect(address(ONE))  # nobody has heard of it yet
    assert await ready.push() == 1
    assert ready.dispatch.counted == {"offline": 1}
    assert await ready.wait(120) == 0
    ready.connect(ONE)
    assert await ready.wait(11) == 1


async def test_a_push_that_found_nobody_does_not_keep_a_device_waiting_that_is_back_already(ready):
    ready.wire.disconnect(address(ONE))
    await ready.dispatch.round()
    await turn()
    ready.connect(ONE)
    await ready.hear()
    assert await ready.wait(11) == 1


async def test_a_broker_that_was_away_gets_the_push_again(tmp_path, database):
    rig = Rig(tmp_path, database, BrokerWire())
    await rig.boot()
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch())
    rig.wire.delivery = Delivery.OFFLINE
    assert await rig.push() == 1
    rig.wire.delivery = Delivery.CONFIRMED
    assert await rig.wait(60) == 1
    assert await rig.wait(90) == 0
    await rig.kill()


async def test_what_was_acknowledged_is_settled_although_the_database_was_away(ready):
    await ready.dispatch.round()
    await turn()
    with ready.database.writing() as connection:
        connection.execute(text("ALTER TABLE task RENAME TO elsewhere"))
    with pytest.raises(errors.TransientError):
        await ready.dispatch.round()
    with ready.database.writing() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO task"))
    assert ready.task(ONE).claim_epoch is not None
    await ready.dispatch.round()
    assert ready.task(ONE).claim_epoch is None


# --- restarts ---


async def test_what_a_dead_daemon_claimed_is_pushed_again_when_the_device_comes_back(ready):
    await ready.dispatch.round()  # claimed and published, but never settled
    await ready.kill()
    ready.clock.advance(90)
    await ready.boot()
    assert await ready.wait(20) == 0
    await ready.arrive(ONE)
    assert await ready.wait(1) == 1
    assert ready.task(ONE).pushes == 2
    ready.check()


async def test_what_was_acknowledged_before_the_restart_is_pushed_on_reconnect_only_after_a_minute(ready):
    await ready.push()
    await ready.kill()
    await ready.boot()
    ready.connect(ONE)
    assert await ready.wait(59) == 0
    assert await ready.wait(2) == 1


async def test_a_push_that_was_due_before_a_restart_waits_for_its_device(ready):
    await ready.kill()
    await ready.boot()
    assert await ready.wait(5) == 0
    assert ready.task(ONE).push_due_at is None
    await ready.arrive(ONE)
    assert await ready.wait(1) == 1


async def test_with_a_broker_what_a_dead_daemon_claimed_is_due_when_the_backlog_can_be_heard(
    tmp_path, database
):
    rig = Rig(tmp_path, database, BrokerWire())
    await rig.boot()
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch())
    await rig.dispatch.round()
    await rig.kill()
    rig.clock.advance(61)
    await rig.boot()
    assert await rig.wait(9) == 0
    assert await rig.wait(1) == 1
    await rig.kill()


async def test_with_a_broker_tasks_that_were_made_while_no_daemon_ran_are_pushed(tmp_path, database):
    rig = Rig(tmp_path, database, BrokerWire())
    await rig.boot()
    await rig.commit(base(ONE, TWO))
    await rig.arrive(ONE)
    await rig.kill()
    rig.presence = devices.Presence(devices.NO_EPOCH, SETTLE)  # as `reconciler apply` has it
    await rig.commit(base(ONE, TWO), batch())
    await rig.boot()
    rig.connect(ONE)
    assert await rig.wait(9) == 0
    assert await rig.wait(100) == 1
    await rig.kill()
    await rig.boot()  # it has its push
    assert await rig.wait(100) == 0
    await rig.kill()


async def test_a_clock_that_is_set_back_keeps_no_push_waiting(rig):
    await rig.commit(base(ONE, TWO), batch())
    await rig.arrive(ONE)
    await rig.push()
    rig.inform(ONE, SOURCE)
    rig.connect(TWO)
    await rig.hear()
    rig.clock.jump(-3600)
    assert await rig.wait(61) == 2


async def test_a_device_that_came_before_the_clock_was_set_back_is_pushed_a_new_batch(rig):
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    rig.clock.jump(-3600)
    await rig.wait(1)
    await rig.commit(base(ONE), batch())
    assert await rig.wait(11) == 1


async def test_a_clock_that_was_set_back_between_two_daemons_keeps_no_push_waiting(ready):
    await ready.push()
    await ready.kill()
    ready.clock.jump(-3600)
    await ready.boot()
    ready.connect(ONE)
    assert await ready.wait(12) == 1


async def test_nothing_is_claimed_until_what_waited_for_us_could_be_heard(ready):
    ready.wire.connected = 9.9
    assert await ready.wait(3) == 0
    ready.wire.connected = 10.0
    ready.intake.age = lambda: 5.0
    assert await ready.wait(3) == 0
    ready.intake.age = lambda: 4.9
    assert await ready.wait(1) == 1


async def test_a_push_that_breaks_is_tried_again(ready, caplog):
    publish = ready.wire.publish

    async def breaks(*message):
        raise RuntimeError("no such thing")

    ready.wire.publish = breaks
    assert await ready.push() == 1
    assert "a push failed" in caplog.text
    assert ready.task(ONE).claim_epoch is None
    ready.wire.publish = publish
    assert await ready.wait(60) == 1


async def test_what_can_not_be_offered_keeps_nobody_else_from_being_pushed_or_heard(ready, caplog):
    with ready.database.writing() as connection:  # retried, after its way was taken from the settings
        connection.execute(tables.run.update().values(download="HTTPS"))
    assert await ready.push() == 1
    assert "a push failed" in caplog.text
    ready.ask(ONE)
    await ready.hear()
    assert "was not answered: a batch asks for downloads over HTTPS" in caplog.text
    assert ready.pushed(ONE) == []
    with ready.database.writing() as connection:
        connection.execute(tables.run.update().values(download="HTTP"))
    ready.ask(ONE)
    await ready.hear()
    assert [said["data"]["version"] for said in ready.pushed(ONE)] == [TARGET]


async def test_a_claim_counts_for_the_second_in_which_it_is_made(ready):
    with ready.database.writing():
        claiming = asyncio.create_task(ready.dispatch.round())
        await asyncio.sleep(0.05)
        ready.clock.advance(7)  # somebody else had the writer for so long
    assert await claiming == 1
    (slot,) = ready.rows(select(tables.rate_slot))
    assert slot.second == int(ready.clock.now().timestamp())
    assert ready.task(ONE).last_pushed_at == ready.clock.now()


# --- the rate ---


@pytest.mark.parametrize("rate", [10, 60, 100])
async def test_never_more_than_the_rate_goes_out_in_any_minute(rig, rate):
    await rig.commit(base(*CROWD))
    await rig.arrive(*CROWD)
    meter = Meter(rig)
    await rig.commit(base(*CROWD), batch(pushRatePerMinute=rate))
    await rig.wait(70)
    assert meter.most() == rate
    assert meter.most(1) == -(-rate // 60)
    assert len(meter.at) == rate + 9 * -(-rate // 60)  # from second 62 on, a new minute


async def test_the_rate_holds_across_restarts_and_changes(rig):
    await rig.commit(base(*CROWD))
    await rig.arrive(*CROWD)
    meter = Meter(rig)
    await rig.commit(base(*CROWD), batch(pushRatePerMinute=60))
    await rig.wait(25)
    await rig.commit(base(*CROWD), batch(pushRatePerMinute=30))
    await rig.kill()
    await rig.boot()
    await rig.arrive(*CROWD)
    await rig.wait(20)
    assert meter.most() <= 30
    await rig.wait(30)
    await rig.commit(base(*CROWD), batch(pushRatePerMinute=120))
    await rig.wait(60)
    assert meter.most() <= 120
    slots = rig.rows(select(func.sum(tables.rate_slot.c.pushed)))
    assert slots[0][0] <= len(meter.at)


class Ledger:
    """Every push and answer with its moment, and whether a push was one too many when it went out."""

    def __init__(self, rig: Rig, rate: int) -> None:
        self.rate = rate
        self.at: list[float] = []
        self.pushes = 0
        self._clock = rig.clock
        rig.wire.on_push = self._note

    def _note(self, push) -> None:
        now = self._clock.monotonic()
        self.at.append(now)
        if push.topic.endswith("get_reply"):
            return
        self.pushes += 1
        assert sum(now - 60 < at <= now for at in self.at) <= self.rate
        assert self.at.count(now) <= -(-self.rate // 60)


DOINGS = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("rate"), st.sampled_from([10, 30, 61, 120, 600])),
    st.tuples(st.just("ask"), st.integers(1, 40)),
    st.tuples(st.just("report"), st.just(0)),
    st.tuples(st.just("restart"), st.integers(0, 30)),
)


async def _pushed(folder: pathlib.Path, doings: list[tuple[str, int]]) -> None:
    database = Database(f"sqlite:///{folder / 'state.db'}")
    rig = Rig(folder, database)
    await rig.boot()
    names = CROWD[:60]
    await rig.commit(base(*names))
    await rig.arrive(*names)
    ledger = Ledger(rig, 60)
    await rig.commit(base(*names), batch(pushRatePerMinute=60))
    for what, number in [*doings, ("wait", 70)]:
        if what == "wait":
            await rig.wait(number)
        elif what == "rate":
            ledger.rate = number
            with database.writing() as connection:
                connection.execute(update(tables.run).values(push_rate=number))
        elif what == "restart":
            await rig.dispatch.round()  # claimed, published, never settled
            await rig.kill()
            rig.clock.advance(number)
            await rig.boot()
            await rig.arrive(*names)
        else:
            for name in names[: number or 60]:
                rig.ask(name) if what == "ask" else rig.inform(name, SOURCE)
            await rig.hear()
    assert ledger.pushes > 0
    await rig.kill()
    database.close()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(doings=st.lists(DOINGS, max_size=8))
def test_the_rate_holds_whatever_happens(empty_database, doings):
    folder = pathlib.Path(tempfile.mkdtemp())
    shutil.copy(empty_database, folder / "state.db")
    asyncio.run(_pushed(folder, doings))
    shutil.rmtree(folder)


async def test_answers_count_against_the_rate(rig):
    names = CROWD[:15]
    await rig.commit(base(*names))
    await rig.arrive(*names)
    await rig.commit(base(*names), batch(pushRatePerMinute=10))
    for name in names[:12]:
        rig.ask(name)
    await rig.hear()
    assert len(rig.wire.published) == 12
    assert await rig.wait(55) == 0
    assert await rig.wait(10) == 3


async def test_each_batch_has_its_own_rate(rig):
    names = CROWD[:20]
    await rig.commit(base(*names))
    await rig.arrive(*names)
    two = [
        batch(f"part-{part}", pushRatePerMinute=10, target={"devices": names[part::2]}) for part in range(2)
    ]
    await rig.commit(base(*names), *two)
    assert await rig.wait(10) == 20


async def test_pushes_on_their_way_are_bounded_but_slow_ones_do_not_stop_all(rig):
    crowd = [f"dev-{number:04}" for number in range(MOST_UNCONFIRMED * 2 + 20)]
    await rig.commit(base(*crowd[:0]), _list(crowd))
    await rig.arrive(*crowd[:450])
    await rig.arrive(*crowd[450:])
    stuck = asyncio.Event()
    publish = rig.wire.publish

    async def slow(*message):
        await stuck.wait()
        return await publish(*message)

    rig.wire.publish = slow
    await rig.commit(_list(crowd), base(), batch(pushRatePerMinute=10_000))
    for _ in range(2):
        await rig.dispatch.round()
    assert len(rig.dispatch._pushing) == 167  # one second's share of the rate
    rig.clock.advance(1)
    await rig.dispatch.round()
    assert len(rig.dispatch._pushing) == MOST_UNCONFIRMED
    rig.clock.advance(1)
    await rig.dispatch.round()
    assert len(rig.dispatch._pushing) == MOST_UNCONFIRMED
    rig.clock.advance(5)
    await rig.dispatch.round()
    assert len(rig.dispatch._pushing) == MOST_UNCONFIRMED + 167
    stuck.set()


def _list(names):
    text_ = "name\n" + "\n".join(names) + "\n"
    manifest = document("DeviceInventory", "crowd", product="lamp", devicesFrom={"file": "crowd.csv"})
    return {"crowd.csv": text_.encode(), "crowd.yaml": manifest}


async def test_the_daemon_s_loop_pushes_when_it_is_rung(ready):
    running = asyncio.create_task(ready.dispatch.run(ready.ingest.pushes_due))
    ready.ingest.pushes_due.ring()
    async with asyncio.timeout(10):
        while ready.task(ONE).status != "NOTIFIED" or ready.task(ONE).claim_epoch is not None:  # noqa: ASYNC110 - its own waiting
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_what_nobody_can_be_pushed_is_cleared_at_once_although_in_bounded_parts(rig, monkeypatch):
    monkeypatch.setattr(joblist, "CHUNK", 1)
    names = [f"dev-{number:02}" for number in range(30)]
    await rig.commit(base(*names))
    await rig.arrive(*names)
    await rig.commit(base(*names), batch())
    with rig.database.writing() as connection:
        connection.execute(
            update(tables.device).where(tables.device.c.name < names[-1]).values(online_epoch=None)
        )
    running = asyncio.create_task(rig.dispatch.run(rig.ingest.pushes_due))
    async with asyncio.timeout(10):
        while rig.status(names[-1]) != "NOTIFIED":  # noqa: ASYNC110 - its own waiting
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_how_often_a_task_is_pushed_is_the_operators_to_say(rig):
    with rig.database.writing() as connection:
        connection.execute(update(tables.daemon).values(push_interval=timedelta(minutes=5)))
    await rig.commit(base("dev-1"))
    await rig.arrive("dev-1")
    await rig.commit(base("dev-1"), batch())
    await rig.wait(3)
    before = len(rig.pushed("dev-1"))
    rig.inform("dev-1", SOURCE)
    await rig.wait(290, each=10)
    assert len(rig.pushed("dev-1")) == before == 1
    await rig.wait(30, each=10)
    assert len(rig.pushed("dev-1")) == before + 1


def test_a_daemon_that_starts_says_how_often_a_task_may_be_pushed(database):
    with database.writing() as connection:
        sweep.take_over(connection, START, None, timedelta(minutes=5))
        assert connection.execute(select(tables.daemon.c.push_interval)).scalar_one() == timedelta(minutes=5)
