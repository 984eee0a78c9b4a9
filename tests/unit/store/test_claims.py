"""Pushes: who may be pushed; taken once, counted, settled, and due again when nobody knows what became of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rows import EPOCH, HOUR, KEY, MINUTE, NOW, Rows, counted
from rows import row as row_of
from sqlalchemy import select, update

from reconciler.domain import lifecycle
from reconciler.domain.lifecycle import Hold, Status
from reconciler.protocol.topics import Address
from reconciler.store import devices, events, joblist, pushes, rates, tables, tasks
from reconciler.store.pushes import Claimant, Outcome

SECOND = timedelta(seconds=1)
FLEET = ["dev-1", "dev-2", "dev-3"]
OURS = Claimant(EPOCH, devices.Presence(EPOCH, timedelta(0)))
NEXT = Claimant(EPOCH + 1, devices.Presence(EPOCH + 1, timedelta(0)))
"""The daemon after this one."""
PUSHED = {"pushes": 1, "first_pushed_at": NOW - HOUR, "last_pushed_at": NOW - HOUR}


@pytest.fixture
def rows(database):
    """A product, its package, and devices that are there, on 1.3.0; a writing transaction for the whole test."""
    with database.writing() as connection:
        made = Rows(connection)
        made.world()
        for name in FLEET:
            made.device(name, "1.3.0", online=True)
        yield made


@pytest.fixture
def run_id(rows):
    """A batch for the three, whose pushes are due."""
    made = rows.run()
    for device_id in (1, 2, 3):
        rows.task(made, device_id, push_due_at=NOW)
    return made


def claim(rows, run_id=1, *, now=NOW, limit=10, by=OURS):
    return list(pushes.claim(rows.connection, run_id, by, now, limit).taken)


def due(rows, now=NOW):
    return [found.run_id for found in pushes.runs_due(rows.connection, now)]


def settle(rows, claims, outcome, *, epoch=EPOCH, back=NOW):
    pushes.settle_pushes(rows.connection, epoch, [(claim, outcome) for claim in claims], back)


def task(rows, number=1):
    return row_of(rows.connection, tables.task, number)


def change(rows, table, number, **values):
    rows.connection.execute(update(table).where(table.c.id == number).values(**values))


def names(claims):
    return sorted(claim.address.device_name for claim in claims)


# --- which runs push ---


def test_a_run_is_due_only_while_a_push_of_it_is(rows, run_id):
    assert pushes.runs_due(rows.connection, NOW - SECOND) == []
    assert pushes.runs_due(rows.connection, NOW) == [pushes.Due(run_id, 600)]
    claim(rows)
    assert pushes.runs_due(rows.connection, NOW) == []


def test_runs_are_due_in_the_order_of_their_acceptance(rows, run_id):
    rows.run("between")
    last = rows.run("last")
    rows.task(last, rows.device("dev-4", online=True), push_due_at=NOW - HOUR)
    assert due(rows) == [run_id, last]


@pytest.mark.parametrize(
    "closed",
    [
        {"started_at": None, "phase": "PLANNED"},
        {"started_at": None, "phase": "CANCELED"},
        {"suspended": True},
        {"suspended_by": "alice"},
    ],
)
def test_a_run_that_is_suspended_or_has_not_started_pushes_nothing(rows, run_id, closed):
    change(rows, tables.run, run_id, **closed)
    assert due(rows) == []
    assert claim(rows) == []


def test_what_a_cancelled_run_left_goes_on(rows, run_id):
    change(rows, tables.run, run_id, phase="CANCELED")
    assert due(rows) == [run_id]
    assert len(claim(rows)) == 3


@pytest.mark.parametrize(
    ("kind", "halts"),
    [("cancel", True), ("start", True), ("end", True), ("create", False), ("scan", False)],
)
def test_a_run_pushes_nothing_while_a_job_may_end_its_tasks(rows, run_id, kind, halts):
    rows.add(tables.job, run_id=run_id, type=kind, arguments={})
    assert due(rows) == ([] if halts else [run_id])
    assert len(claim(rows)) == (0 if halts else 3)


def test_the_job_of_another_run_halts_nobody(rows, run_id):
    rows.add(tables.job, run_id=rows.run("other"), type="cancel", arguments={})
    assert len(claim(rows, run_id)) == 3


def test_after_the_end_of_the_schedule_only_what_was_notified_is_pushed(rows, run_id):
    change(rows, tables.run, run_id, end_at=NOW)
    change(rows, tables.task, 2, status="NOTIFIED")
    change(rows, tables.task, 3, status="QUEUED", hold="retry", retry_at=NOW)
    assert names(claim(rows, now=NOW - SECOND + MINUTE - MINUTE)) == []
    assert names(claim(rows)) == ["dev-2"]
    change(rows, tables.run, run_id, end_at=NOW + SECOND)
    assert names(claim(rows)) == ["dev-1", "dev-3"]


# --- which tasks are pushed, and how they move ---


@pytest.mark.parametrize("state", [*lifecycle.TABLE], ids="-".join)
def test_a_claim_moves_a_task_after_the_table_and_takes_nothing_else(rows, state):
    run = rows.run()
    more = {"retry_at": NOW} if state.hold is Hold.RETRY else {}
    rows.task(run, 1, str(state.status), hold=str(state.hold), push_due_at=NOW, **more)
    before = task(rows)
    rule = lifecycle.TABLE[state].get(lifecycle.Trigger.CLAIMED)
    assert len(claim(rows)) == (rule is not None)
    after = task(rows)
    if rule is None:
        assert after == before
        return
    assert (after.status, after.hold, after.retry_at) == (rule.to.status, "none", None)
    assert (after.pushes, after.push_due_at, after.claim_epoch) == (1, None, EPOCH)
    assert counted(rows.connection, run) == {rule.to.status: 1}


def test_each_due_push_is_taken_once(rows, run_id):
    first = claim(rows, limit=2)
    second = claim(rows)
    assert names(first + second) == FLEET
    assert claim(rows) == []


def test_a_claim_is_told_to_whom_it_goes_and_which_push_it_is(rows, run_id):
    change(rows, tables.task, 1, pushes=4)
    made = claim(rows, limit=10)
    assert pushes.Claim(1, run_id, 5, Address(KEY, "dev-1")) in made


def test_the_oldest_due_push_goes_first(rows, run_id):
    change(rows, tables.task, 3, push_due_at=NOW - SECOND)
    assert names(claim(rows, limit=1)) == ["dev-3"]


def test_a_claim_counts_against_the_rate_and_has_a_line_in_the_log(rows, run_id):
    claim(rows)
    first = task(rows)
    assert (first.first_pushed_at, first.last_pushed_at) == (NOW, NOW)
    assert counted(rows.connection, run_id) == {"NOTIFIED": 3}
    assert rates.recent(rows.connection, run_id, int(NOW.timestamp())) == {int(NOW.timestamp()): 3}
    lines = events.read(rows.connection, events.Filter(device="dev-1"), 9)
    assert [(line.from_status, line.to_status, line.message) for line in lines] == [
        ("QUEUED", "NOTIFIED", "push 1")
    ]


def test_a_later_push_moves_no_status_and_keeps_when_the_first_was(rows):
    run = rows.run()
    rows.task(run, 1, "IN_PROGRESS", push_due_at=NOW, started_at=NOW - MINUTE, **PUSHED)
    claim(rows)
    after = task(rows)
    assert (after.status, after.pushes, after.first_pushed_at) == ("IN_PROGRESS", 2, NOW - HOUR)
    assert counted(rows.connection, run) == {"IN_PROGRESS": 1}


def test_nobody_is_pushed_who_is_not_there(rows, run_id):
    assert claim(rows, by=NEXT) == []
    assert due(rows) == []


def test_stale_pushes_do_not_hide_those_of_devices_that_are_there(rows, run_id):
    change(rows, tables.device, 3, online_epoch=EPOCH + 1)
    assert names(claim(rows, limit=1, by=NEXT)) == ["dev-3"]


@pytest.mark.parametrize("is_delta", [False, True], ids=["nobody there", "not on the source version"])
def test_what_nobody_can_be_pushed_is_cleared_in_bounded_parts(rows, run_id, monkeypatch, is_delta):
    monkeypatch.setattr(joblist, "CHUNK", 1)
    if is_delta:
        change(rows, tables.run, run_id, delta=True, source_versions=["1.2.0"])
        version = tables.device_version
        rows.connection.execute(update(version).where(version.c.device_id == 3).values(version="1.2.0"))
    else:
        rows.connection.execute(update(tables.device).where(tables.device.c.id < 3).values(online_epoch=None))
    found = [pushes.claim(rows.connection, run_id, OURS, NOW, 1) for _ in range(3)]
    assert [(names(each.taken), each.is_more) for each in found] == [
        ([], True),
        (["dev-3"], False),
        ([], False),
    ]
    assert due(rows) == []


# --- the clock of those that never answer ---


def test_the_first_push_starts_the_clock_of_those_that_never_answer(rows, run_id):
    change(rows, tables.run, run_id, no_response=HOUR)
    claim(rows)
    assert task(rows).deadline_at == NOW + HOUR


def test_without_such_a_timeout_a_push_starts_no_clock(rows, run_id):
    claim(rows)
    assert task(rows).deadline_at is None


@pytest.mark.parametrize("running", [{"first_pushed_at": NOW - MINUTE}, {"started_at": NOW - MINUTE}])
def test_a_push_again_does_not_start_it_again(rows, running):
    run = rows.run(no_response=HOUR)
    rows.task(run, 1, "NOTIFIED", push_due_at=NOW, deadline_at=NOW + SECOND, **running)
    claim(rows)
    assert task(rows).deadline_at == NOW + SECOND


def test_an_unconfirmed_first_push_of_a_device_that_is_gone_started_no_clock(rows, run_id):
    change(rows, tables.run, run_id, no_response=HOUR)
    settle(rows, claim(rows), Outcome.GONE)
    after = task(rows)
    assert (after.status, after.deadline_at, after.first_pushed_at) == ("NOTIFIED", None, None)
    change(rows, tables.task, 1, push_due_at=NOW + MINUTE)
    claim(rows, now=NOW + MINUTE)
    assert task(rows).deadline_at == NOW + MINUTE + HOUR


def test_a_later_push_of_a_device_that_is_gone_leaves_the_clock_running(rows):
    run = rows.run(no_response=2 * HOUR)
    rows.task(run, 1, "NOTIFIED", push_due_at=NOW, deadline_at=NOW + HOUR, **PUSHED)
    settle(rows, claim(rows), Outcome.GONE)
    assert (task(rows).deadline_at, task(rows).first_pushed_at) == (NOW + HOUR, NOW - HOUR)


@pytest.mark.parametrize("outcome", [Outcome.CONFIRMED, Outcome.LATER])
def test_a_push_to_a_device_that_is_there_started_the_clock(rows, run_id, outcome):
    change(rows, tables.run, run_id, no_response=HOUR)
    settle(rows, claim(rows), outcome)
    assert task(rows).deadline_at == NOW + HOUR


# --- deltas ---


@pytest.fixture
def delta(rows):
    """A delta from 1.3.0; its tasks wait for their next attempt, and the second device left that version."""
    made = rows.run(delta=True, source_versions=["1.3.0"])
    change(rows, tables.package, 1, source_version="1.3.0")
    for device_id in (1, 2, 3):
        rows.task(made, device_id, "IN_PROGRESS", hold="retry", push_due_at=NOW, retry_at=NOW, started_at=NOW)
    version = tables.device_version
    rows.connection.execute(update(version).where(version.c.device_id == 2).values(version="1.2.0"))
    return made


def test_a_delta_is_not_pushed_to_who_left_its_source_version_and_its_task_ends(rows, delta):
    assert names(claim(rows)) == ["dev-1", "dev-3"]
    after = task(rows, 2)
    assert (after.status, after.reason, after.hold) == ("FAILED", "unexpected-version", "none")
    assert counted(rows.connection, delta) == {"IN_PROGRESS": 2, "FAILED": 1}
    line = events.read(rows.connection, events.Filter(device="dev-2"), 9)[-1]
    assert "not on the delta's source version" in line.message


def test_who_left_the_source_version_takes_nobody_s_turn(rows, delta):
    change(rows, tables.task, 2, push_due_at=NOW - MINUTE)
    assert names(claim(rows, limit=1)) == ["dev-1"]


def test_a_full_package_goes_to_whatever_version_a_device_reports(rows, run_id):
    version = tables.device_version
    rows.connection.execute(update(version).values(version="0.1"))
    assert names(claim(rows)) == FLEET


# --- what becomes of a push ---


def test_a_confirmed_push_is_not_due_again(rows, run_id):
    settle(rows, claim(rows), Outcome.CONFIRMED)
    assert (task(rows).claim_epoch, task(rows).push_due_at) == (None, None)
    assert pushes.recover_claims(rows.connection, EPOCH + 1, NOW) == 0


def test_an_unacknowledged_push_is_due_again_after_a_minute(rows, run_id):
    settle(rows, claim(rows), Outcome.LATER)
    assert claim(rows, now=NOW + MINUTE - SECOND) == []
    assert names(claim(rows, now=NOW + MINUTE)) == FLEET
    assert (task(rows).pushes, task(rows).first_pushed_at) == (2, NOW)


def test_a_push_to_a_device_that_is_gone_is_due_as_soon_as_it_comes_back(rows, run_id):
    settle(rows, claim(rows), Outcome.GONE)
    assert claim(rows, now=NOW + SECOND) == []
    tasks.due_again(rows.connection, [2], NOW + 2 * SECOND)
    assert names(claim(rows, now=NOW + 2 * SECOND)) == ["dev-2"]


def test_a_device_that_came_back_before_its_lost_push_was_settled_does_not_wait_a_minute(rows, run_id):
    claims = claim(rows)
    tasks.due_again(rows.connection, [2], NOW + SECOND)
    assert task(rows, 2).push_due_at == NOW + MINUTE
    settle(rows, claims, Outcome.GONE, back=NOW + 5 * SECOND)
    assert task(rows, 2).push_due_at == NOW + 5 * SECOND
    assert task(rows, 1).push_due_at is None


def test_the_outcome_of_an_older_push_does_not_touch_a_newer_one(rows, run_id):
    older = claim(rows)
    tasks.due_again(rows.connection, [1, 2, 3], NOW + 2 * MINUTE)
    claim(rows, now=NOW + 2 * MINUTE)
    settle(rows, older, Outcome.CONFIRMED)
    assert task(rows).claim_epoch == EPOCH


def test_an_outcome_of_another_process_changes_nothing(rows, run_id):
    settle(rows, claim(rows), Outcome.CONFIRMED, epoch=EPOCH + 1)
    assert task(rows).claim_epoch == EPOCH


def test_what_a_device_said_meanwhile_wins_over_the_outcome_of_its_push(rows, run_id):
    claims = claim(rows)
    (before,) = tasks.active(rows.connection, [1])[1]
    after = lifecycle.step(before, lifecycle.progressed(-1, "no"), NOW).task
    tasks.save(rows.connection, [tasks.Change(before, after, ())], NOW)
    settle(rows, claims, Outcome.LATER)
    ended = task(rows)
    assert (ended.status, ended.push_due_at, ended.claim_epoch) == ("FAILED", None, None)


@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.LATER])
def test_the_outcome_of_a_push_brings_no_retry_forward(rows, outcome):
    run = rows.run(retry_interval=HOUR, retry_limit=1)
    rows.task(run, 1, push_due_at=NOW)
    claims = claim(rows)
    (before,) = tasks.active(rows.connection, [1])[1]
    after = lifecycle.step(before, lifecycle.progressed(-1, "no"), NOW).task
    tasks.save(rows.connection, [tasks.Change(before, after, ())], NOW)
    settle(rows, claims, outcome)
    waiting = task(rows)
    assert (waiting.hold, waiting.retry_at, waiting.push_due_at) == ("retry", NOW + HOUR, NOW + HOUR)
    assert waiting.claim_epoch is None


# --- restarts ---


def test_after_a_restart_unsettled_claims_are_due_again_and_settled_ones_are_not(rows, run_id):
    change(rows, tables.run, run_id, no_response=HOUR)
    claims = claim(rows)
    settle(rows, claims[:1], Outcome.CONFIRMED)
    assert pushes.recover_claims(rows.connection, EPOCH + 1, NOW + SECOND) == 2
    assert pushes.recover_claims(rows.connection, EPOCH + 1, NOW + SECOND) == 0
    lost = task(rows, claims[1].task_id)
    assert (lost.push_due_at, lost.first_pushed_at, lost.deadline_at) == (NOW + SECOND, None, None)
    assert names(claim(rows, now=NOW + SECOND)) == names(claims[1:])


def test_with_exact_presence_an_unsettled_claim_waits_for_its_device(rows, run_id):
    claim(rows)
    pushes.recover_claims(rows.connection, EPOCH + 1, None)
    assert task(rows).push_due_at is None


# --- a clock that was set back ---


def test_a_clock_that_was_set_back_keeps_no_push_waiting_for_longer_than_a_minute(rows, run_id):
    change(rows, tables.task, 1, push_due_at=NOW + HOUR, last_pushed_at=NOW + HOUR)
    pushes.forget_future(rows.connection, NOW)
    assert (task(rows).push_due_at, task(rows).last_pushed_at) == (NOW + MINUTE, None)
    assert task(rows, 2).push_due_at == NOW


def test_a_clock_that_was_set_back_keeps_a_retry_waiting_for_its_interval_only(rows):
    run = rows.run(retry_interval=HOUR, retry_limit=2)
    late, fine = NOW + 5 * HOUR, NOW + HOUR / 2
    for number, at in enumerate((late, fine), 1):
        rows.task(run, number, "IN_PROGRESS", hold="retry", retry_at=at, push_due_at=at)
    pushes.forget_future(rows.connection, NOW)
    assert (task(rows, 1).retry_at, task(rows, 1).push_due_at) == (NOW + HOUR, NOW + HOUR)
    assert (task(rows, 2).retry_at, task(rows, 2).push_due_at) == (fine, fine)


def test_a_retry_whose_batch_has_none_any_more_waits_for_a_day_at_most(rows):
    rows.task(rows.run(), 1, "NOTIFIED", hold="retry", retry_at=NOW + 48 * HOUR)
    pushes.forget_future(rows.connection, NOW)
    assert (task(rows).retry_at, task(rows).push_due_at) == (NOW + 24 * HOUR, None)


# --- cost ---


def test_picking_and_marking_takes_as_many_statements_for_one_task_as_for_many(rows, run_id):
    counts_ = []
    for limit in (1, 2):
        made = []
        with _counting(rows.connection, made):
            claim(rows, limit=limit)
        counts_.append(len(made))
    assert counts_[0] == counts_[1] <= 9


class _counting:  # noqa: N801 - reads like the function that it is
    def __init__(self, connection, made):
        self._raw, self._made = connection.connection.driver_connection, made

    def __enter__(self):
        self._raw.set_trace_callback(self._made.append)

    def __exit__(self, *_):
        self._raw.set_trace_callback(None)


def test_statuses_are_those_of_the_table(rows, run_id):
    claim(rows)
    found = set(rows.connection.execute(select(tables.task.c.status)).scalars())
    assert found == {str(Status.NOTIFIED)}
