"""Time: timeouts count only while we could have heard, and nothing is decided by our own absence."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from rig import SOURCE, TARGET, Rig, address, base, batch, package, turn
from sqlalchemy import text

from reconciler import errors
from reconciler.services.sweep import LONGEST_ABSENCE
from reconciler.transport.base import Intake

ONE, TWO = "dev-1", "dev-2"


class StaleIntake(Intake):
    """An intake whose oldest message has waited for as long as the test says."""

    waited = 0.0

    def age(self) -> float:
        return self.waited


@pytest.fixture
async def ready(rig):
    """A device in progress and one that was only notified; the timeout is ten minutes."""
    await rig.commit(base(ONE, TWO))
    await rig.arrive(ONE, TWO)
    await rig.commit(base(ONE, TWO), batch(timeout="10m"))
    await rig.wait(2)
    rig.progress(ONE, 10)
    await rig.hear()
    await rig.sweep.round()
    return rig


async def later(rig: Rig, seconds: int) -> int:
    """Time passes as it does for a daemon, in steps; how many tasks expired."""
    expired = 0
    for _ in range(0, seconds, 20):
        rig.clock.advance(20)
        expired += await rig.sweep.round()
    return expired


async def test_a_task_fails_after_its_timeout_and_not_before(ready):
    assert await later(ready, 580) == 0
    assert await later(ready, 20) == 1
    assert ready.status(ONE) == "FAILED timeout"
    assert ready.status(TWO) == "NOTIFIED"
    line = ready.events("task")[-1]
    assert (line.device, line.from_status, line.to_status) == (ONE, "IN_PROGRESS", "FAILED")
    assert line.message == "no version was reported in time"
    ready.check()


async def test_the_clock_runs_from_the_first_progress(ready):
    assert await later(ready, 300) == 0
    ready.progress(ONE, 90)
    ready.inform(ONE, SOURCE)
    ready.progress(TWO, 0)
    await ready.hear()
    assert await later(ready, 300) == 1
    assert [ready.status(ONE), ready.status(TWO)] == ["FAILED timeout", "IN_PROGRESS"]
    assert await later(ready, 300) == 1
    assert ready.run().phase == "COMPLETED"
    ready.check()


async def test_a_notified_task_never_times_out_unless_its_batch_says_how_long_it_may_be_silent(ready):
    await later(ready, 3600)
    assert ready.status(TWO) == "NOTIFIED"


async def test_at_a_hundred_percent_the_log_says_that_the_version_is_missing(ready):
    ready.progress(ONE, 100)
    await ready.hear()
    await later(ready, 600)
    assert ready.events("task")[-1].message == "100 %, but no version was reported"


async def test_many_timeouts_go_in_one_round(rig):
    names = [f"dev-{number:03}" for number in range(60)]
    await rig.commit(base(*names))
    await rig.arrive(*names)
    await rig.commit(base(*names), batch(timeout="1m"))
    for name in names:
        rig.progress(name, 1)
    await rig.hear()
    assert await later(rig, 60) == 60
    assert rig.run().phase == "COMPLETED"
    rig.check()


# --- silence ---


@pytest.fixture
async def silent(rig):
    """Two devices that were pushed their package; they may be silent for five minutes."""
    await rig.commit(base(ONE, TWO))
    await rig.arrive(ONE, TWO)
    await rig.commit(base(ONE, TWO), batch(noResponseTimeout="5m", timeout="30m"))
    assert await rig.push() == 2
    return rig


async def test_a_device_that_never_answers_its_push_fails_as_no_response(silent):
    silent.progress(TWO, 1)
    await silent.hear()
    assert await later(silent, 280) == 0
    assert await later(silent, 20) == 1
    assert [silent.status(ONE), silent.status(TWO)] == ["FAILED no-response", "IN_PROGRESS"]
    assert silent.events("task")[-1].message == "no progress was reported in time"
    assert await later(silent, 1500) == 1
    assert silent.status(TWO) == "FAILED timeout"
    silent.check()


async def test_silence_counts_from_the_first_push_and_a_push_again_does_not_restart_it(silent):
    await later(silent, 120)
    silent.inform(ONE, SOURCE)
    assert await silent.wait(1) == 1
    assert silent.task(ONE).pushes == 2
    assert await later(silent, 180) == 2


async def test_a_push_that_found_nobody_starts_no_clock(rig):
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch(noResponseTimeout="5m"))
    rig.wire.disconnect(address(ONE))  # nobody has heard of it yet
    assert await rig.push() == 1
    assert await later(rig, 3600) == 0
    rig.connect(ONE)
    assert await rig.wait(12) == 1
    assert await later(rig, 280) == 0
    assert await later(rig, 40) == 1


async def test_who_waited_behind_a_silent_device_s_task_goes_on(silent):
    await silent.commit(
        base(ONE, TWO), batch(noResponseTimeout="5m", timeout="30m"), package(),
        batch("second", package="lamp-3", conflict="Wait"),
    )  # fmt: skip
    assert silent.status(ONE, "second") == "QUEUED behind"
    await later(silent, 300)
    assert [silent.status(ONE), silent.status(ONE, "second")] == ["FAILED no-response", "QUEUED"]
    assert await silent.wait(2) == 2
    silent.check()


# --- schedules ---


def at(rig: Rig, minutes: int) -> str:
    return (rig.clock.now() + timedelta(minutes=minutes)).isoformat()


async def scheduled(rig: Rig, **spec):
    """A batch that starts in ten minutes and ends an hour later; a device that is there, and one that is not."""
    await rig.commit(base(ONE, TWO))
    await rig.arrive(ONE)
    spec = {"schedule": {"start": at(rig, 10), "end": at(rig, 70)}, "timeout": "120m", **spec}
    await rig.commit(base(ONE, TWO), batch(**spec))
    return spec


async def test_a_batch_starts_at_its_time_and_pushes_at_once(rig):
    await scheduled(rig)
    rig.ask(ONE)
    assert await rig.wait(599, each=599) == 0
    assert (rig.run().phase, rig.answers(ONE)) == ("PLANNED", [{}])
    assert await rig.wait(1) == 1
    assert (rig.run().phase, rig.run().started_at) == ("IN_PROGRESS", rig.clock.now())
    assert rig.status(ONE) == "NOTIFIED"
    rig.check()


async def test_at_its_end_what_was_not_notified_is_cancelled_and_the_rest_goes_on(rig):
    await scheduled(rig)
    assert await rig.wait(4199, each=323) == 1
    assert [rig.status(ONE), rig.status(TWO)] == ["NOTIFIED", "QUEUED"]
    await rig.wait(1)
    assert [rig.status(ONE), rig.status(TWO)] == ["NOTIFIED", "CANCELED schedule-ended"]
    rig.inform(ONE, TARGET)
    await rig.hear()
    assert rig.run().phase == "COMPLETED"
    rig.check()


@pytest.mark.parametrize("away", ["connection", "backlog", "daemon"])
async def test_schedules_are_by_the_clock_and_wait_for_nobody(rig, away):
    await scheduled(rig)
    if away == "connection":
        rig.wire.connected = 0.0
    elif away == "backlog":
        rig.sweep = rig.make_sweep(StaleIntake())
        rig.sweep._intake.waited = 3600.0
    else:
        await rig.kill()
        rig.clock.advance(600)
        await rig.boot()
    rig.clock.advance(600 if away != "daemon" else 1)
    await rig.sweep.round()
    assert rig.run().phase == "IN_PROGRESS"
    rig.clock.advance(3600)
    await rig.sweep.round()
    await rig.materialize()
    assert rig.status(TWO) == "CANCELED schedule-ended"


async def test_those_who_work_and_push_are_rung_when_a_batch_s_time_has_come(rig):
    await scheduled(rig)
    rig.clock.advance(599)
    await rig.sweep.round()
    assert not await rig.work.wait(0.01)
    rig.clock.advance(1)
    await rig.sweep.round()
    assert await rig.work.wait(1)
    assert await rig.ingest.pushes_due.wait(1)


async def test_a_second_without_anything_due_writes_nothing(rig):
    await scheduled(rig)
    await rig.sweep.round()
    with rig.database.writing():  # nobody else may write
        rig.clock.advance(4)
        async with asyncio.timeout(5):
            assert await rig.sweep.round() == 0


# --- while we could not have heard ---


@pytest.mark.parametrize("connected", [0.0, 59.9])
async def test_nothing_expires_before_the_connection_is_a_minute_old(ready, connected):
    ready.wire.connected = connected
    assert await later(ready, 1200) == 0
    ready.wire.connected = 60.0
    assert await later(ready, 20) == 1


async def test_nothing_expires_while_messages_wait_that_may_be_what_a_deadline_waits_for(ready):
    intake = StaleIntake()
    sweep = ready.make_sweep(intake)
    intake.waited = 5.0
    for _ in range(40):
        ready.clock.advance(20)
        assert await sweep.round() == 0
    intake.waited = 4.9
    assert await sweep.round() == 0
    ready.clock.advance(60)  # more may be on its way than had room here
    assert await sweep.round() == 1


async def test_nothing_expires_while_ingest_can_not_commit_what_a_deadline_waits_for(ready):
    store = ready.ingest._store
    tries = []

    async def fails(taken):
        tries.append(taken)
        raise errors.TransientError("away")

    ready.ingest._store = fails
    consuming = asyncio.create_task(ready.ingest.run(ready.intake))
    await later(ready, 580)
    ready.inform(ONE, TARGET)
    while not tries:  # noqa: ASYNC110 - its own pace
        await asyncio.sleep(0)
    assert len(ready.intake) == 0
    assert await later(ready, 20) == 0  # its deadline, but the message came before it
    ready.ingest._store = store
    async with asyncio.timeout(10):
        while ready.intake.age():  # noqa: ASYNC110 - its own pace
            await asyncio.sleep(0.01)
    assert await later(ready, 100) == 0
    assert ready.status(ONE) == "SUCCEEDED"
    consuming.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await consuming


async def test_nothing_expires_for_a_minute_after_the_database_was_away(ready):
    await later(ready, 580)
    with ready.database.writing() as connection:
        connection.execute(text("ALTER TABLE daemon RENAME TO elsewhere"))
    running = asyncio.create_task(ready.sweep.run())
    ready.clock.advance(20)
    async with asyncio.timeout(10):
        while ready.sweep.away is None:  # noqa: ASYNC110 - its own pace
            await asyncio.sleep(0.01)
    running.cancel()
    with ready.database.writing() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO daemon"))
    assert await later(ready, 40) == 0
    assert await later(ready, 20) == 1


@pytest.mark.parametrize("jump", [-120, 120])
async def test_a_clock_that_jumps_gives_no_second_minute_to_the_push_rate(rig, jump):
    fleet = [f"dev-{number:02}" for number in range(13)]
    await rig.commit(base(*fleet))
    await rig.arrive(*fleet)
    await rig.commit(base(*fleet), batch(pushRatePerMinute=10))
    assert await rig.wait(12) == 10
    rig.clock.jump(jump)
    assert await rig.push() == 0, "the jump is not noted yet"
    rig.ask(fleet[0])
    await rig.hear()  # who asks is answered all the same, which is a push by the new clock
    assert await rig.wait(45, each=3) == 0
    assert await rig.wait(21, each=3) > 0


@pytest.mark.parametrize("jump", [-3600, -31, 31, 3600])
async def test_a_clock_that_jumps_stops_expiry_for_a_minute_and_is_an_event(ready, jump):
    await later(ready, 580)
    ready.clock.jump(jump)
    ready.clock.advance(20)
    assert await ready.sweep.round() == 0
    (line,) = ready.events("clock-jump")
    assert line.message == f"the clock jumped by {jump:+} s; timeouts wait for 60 s"
    assert await later(ready, 40) == 0
    assert await later(ready, 20) == (1 if jump > 0 or jump == -31 else 0)


async def test_a_jump_that_could_not_be_noted_is_noted_as_soon_as_it_can_be(ready):
    ready.clock.jump(3600)
    for name, to in (("rate_slot", "elsewhere"), ("elsewhere", "rate_slot")):
        with ready.database.writing() as connection:
            connection.execute(text(f"ALTER TABLE {name} RENAME TO {to}"))
        with contextlib.suppress(errors.ReconcilerError):
            await ready.sweep.round()
    assert len(ready.events("clock-jump")) == 1


@pytest.mark.parametrize("drift", [-30, 30])
async def test_a_clock_that_drifts_is_no_jump(ready, drift):
    ready.clock.jump(drift)
    await ready.sweep.round()
    assert ready.events("clock-jump") == []


async def test_the_time_that_we_were_away_is_given_back(ready):
    before = ready.task(ONE).deadline_at
    ready.clock.advance(4)
    await ready.kill()
    ready.clock.advance(3600)
    await ready.boot()
    given = (ready.task(ONE).deadline_at - before).total_seconds()
    assert 3600 <= given <= 3605
    assert ready.task(TWO).deadline_at is None
    assert await later(ready, 580) == 0
    assert await later(ready, 40) == 1


async def test_a_clock_that_went_back_while_we_were_away_takes_nothing(ready):
    before = ready.task(ONE).deadline_at
    await ready.kill()
    ready.clock.jump(-3600)
    await ready.boot()
    assert ready.task(ONE).deadline_at == before


async def test_an_absence_that_only_a_wrong_clock_explains_is_not_given_back_whole(ready):
    before = ready.task(ONE).deadline_at
    await ready.kill()
    ready.clock.jump(400 * 86_400)
    await ready.boot()
    assert ready.task(ONE).deadline_at - before == LONGEST_ABSENCE
    assert "nobody was here for 400 days: 30 are given back" in ready.events("started")[-1].message


async def test_every_start_is_an_event_with_its_epoch(ready):
    await ready.kill()
    assert await ready.boot() == 2
    assert [line.message for line in ready.events("started")] == ["epoch 1", "epoch 2"]


async def test_the_heartbeat_is_written_every_five_seconds(ready):
    ready.clock.advance(5)
    await ready.sweep.round()
    before = ready.dump()
    ready.clock.advance(4)
    await ready.sweep.round()
    assert ready.dump() == before
    ready.clock.advance(1)
    await ready.sweep.round()
    (row,) = ready.dump()["daemon"]
    assert row.heartbeat_at == ready.clock.now()


async def test_the_daemon_s_loop_goes_round_at_once(ready):
    running = asyncio.create_task(ready.sweep.run())
    ready.clock.advance(7)
    async with asyncio.timeout(10):
        while ready.dump()["daemon"][0].heartbeat_at != ready.clock.now():  # noqa: ASYNC110 - its own pace
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_the_loop_is_known_to_live_while_the_database_keeps_a_round_waiting(ready):
    with ready.database.writing():
        ready.clock.advance(7)
        running = [asyncio.create_task(ready.sweep.run()), asyncio.create_task(ready.sweep.live())]
        await turn()
        assert ready.sweep.heartbeat == ready.clock.monotonic()
        assert ready.sweep.seen_at == ready.clock.now()
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_database_that_cannot_be_written_is_known_although_no_device_says_anything(ready):
    with ready.database.writing() as connection:
        connection.execute(text("ALTER TABLE daemon RENAME TO elsewhere"))
    ready.clock.advance(7)
    running = asyncio.create_task(ready.sweep.run())
    async with asyncio.timeout(10):
        while ready.sweep.away is None:  # noqa: ASYNC110 - its own pace
            await asyncio.sleep(0.01)
        with ready.database.writing() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO daemon"))
        while ready.sweep.away is not None:  # noqa: ASYNC110 - its own pace
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
