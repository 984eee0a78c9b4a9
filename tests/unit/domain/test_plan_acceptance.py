"""When a batch may begin, and what is said of one that begins all the same: schedules, ways to download, groups."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from plans import (
    BATCH,
    GROUP,
    NOW,
    actual,
    base,
    batch,
    by_tag,
    desired,
    diff,
    dynamic,
    fleet,
    group,
    inventory,
    package,
    product,
    run,
    said,
)

from reconciler.domain import acceptance, plan
from reconciler.domain.actual import Phase
from reconciler.domain.downloads import Ways
from reconciler.domain.lifecycle import UNFINISHED, Status
from reconciler.domain.plan import Reason

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SECOND = timedelta(seconds=1)


def at(lead, end=None):
    """A schedule that starts, and ends, so long after now."""
    found = {"start": (NOW + lead).isoformat()}
    return found | ({"end": (NOW + end).isoformat()} if end is not None else {})


def planned_with(schedule, **allowed):
    return diff(desired(*fleet(batch(schedule=schedule))), actual(*base()), allowed=allowed)


# --- schedules ---


@pytest.mark.parametrize(
    ("lead", "accepted"), [(7 * DAY - SECOND, True), (7 * DAY, True), (7 * DAY + SECOND, False)]
)
def test_a_start_further_ahead_than_seven_days_waits_until_it_has_come_near(lead, accepted):
    planned = planned_with(at(lead))
    assert bool(planned.actions) is accepted
    if not accepted:
        assert said(planned) == ([], {"all": Reason.TOO_FAR_AHEAD})
        assert planned.refused[0].message == (
            "starts 2026-11-08T12:00:01Z, more than 7 days ahead: "
            "it will be accepted by itself from 2026-11-01T12:00:01Z on"
        )


def test_a_batch_that_waits_is_accepted_by_a_later_pass_without_a_new_commit():
    want = desired(*fleet(batch(schedule=at(9 * DAY))))
    assert said(diff(want, actual(*base()))) == ([], {"all": Reason.TOO_FAR_AHEAD})
    later = diff(want, actual(*base(), now=NOW + 2 * DAY))
    assert said(later) == (["create all"], {})
    first, second = (diff(want, actual(*base(), now=NOW + n * HOUR)) for n in (1, 2))
    assert first == second


@pytest.mark.parametrize(("longest", "accepted"), [(HOUR, True), (HOUR - SECOND, False)])
def test_the_operator_says_how_far_ahead_a_start_may_be(longest, accepted):
    planned = planned_with(at(HOUR), schedule_lead_longest=longest)
    assert bool(planned.actions) is accepted
    if not accepted:
        assert "more than 59m59s ahead" in planned.refused[0].message


@pytest.mark.parametrize(
    ("lead", "warning"),
    [
        (5 * MINUTE + SECOND, None),
        (5 * MINUTE, None),
        (
            5 * MINUTE - SECOND,
            "its start 2026-11-01T12:04:59Z is less than 5m ahead: it starts at once",
        ),
        (SECOND, "its start 2026-11-01T12:00:01Z is less than 5m ahead: it starts at once"),
        (timedelta(0), "its start 2026-11-01T12:00:00Z is past: it starts at once"),
        (-HOUR, "its start 2026-11-01T11:00:00Z is past: it starts at once"),
    ],
)
def test_a_start_that_is_near_or_past_is_a_warning_and_the_batch_starts_at_once(lead, warning):
    (action,) = planned_with(at(lead)).actions
    assert action.starts_run
    assert action.warnings == ((warning,) if warning else ())
    schedule = action.declaration.resource.spec.schedule
    begins = acceptance.starts_at(schedule, NOW, timedelta(minutes=5))
    assert begins == (None if warning else NOW + lead)


def test_a_batch_without_a_schedule_starts_at_once_and_nothing_is_said():
    (action,) = diff(desired(*fleet()), actual(*base())).actions
    assert (acceptance.starts_at(None, NOW, HOUR), action.warnings) == (None, ())


@pytest.mark.parametrize(("end", "over"), [(-SECOND, True), (timedelta(0), True), (SECOND, False)])
def test_a_batch_whose_end_has_passed_is_accepted_and_creates_no_task(end, over):
    (action,) = planned_with(at(-2 * HOUR, end)).actions
    assert action.starts_run
    assert action.warnings == (
        ("its schedule ended " + (NOW + end).strftime("%Y-%m-%dT%H:%M:%SZ") + ": it creates no task",)
        if over
        else ("its start 2026-11-01T10:00:00Z is past: it starts at once",)
    )


@pytest.mark.parametrize(
    ("before", "after", "warning"),
    [
        (None, 3 * HOUR, None),
        (3 * HOUR, None, None),
        (3 * HOUR, 2 * HOUR, None),
        (3 * HOUR, -HOUR, "its schedule ends with this, 2026-11-01T11:00:00Z is past: what was not notified"),
        (-HOUR, 3 * HOUR, "its schedule had ended 2026-11-01T11:00:00Z already: what was cancelled then"),
        (-HOUR, -HOUR + MINUTE, "its schedule had ended 2026-11-01T11:00:00Z already"),
    ],
)
def test_the_end_of_a_schedule_can_move_and_what_that_can_not_undo_is_said(before, after, warning):
    old, new = (batch(schedule=at(-3 * HOUR, end)) for end in (before, after))
    (action,) = diff(desired(*fleet(new)), actual(*fleet(old))).actions
    assert (action.verb, action.changed, action.starts_run) == ("change", ("schedule.end",), False)
    assert len(action.warnings) == (warning is not None)
    assert not warning or action.warnings[0].startswith(warning)


@pytest.mark.parametrize("life", [None, run(Phase.CANCELED)])
def test_the_end_of_a_batch_that_does_not_run_is_its_own_matter(life):
    old, new = (batch(schedule=at(-3 * HOUR, end), state="Canceled") for end in (-HOUR, 2 * HOUR))
    (action,) = diff(desired(*fleet(new)), actual(*fleet(old), state={BATCH: {"run": life}})).actions
    assert action.warnings == ()


@pytest.mark.parametrize(("after", "warned"), [(2 * HOUR, True), (None, True), (-MINUTE, False)])
def test_an_end_that_is_put_off_does_not_bring_back_a_batch_that_is_over(after, warned):
    old, new = (batch(schedule=at(-3 * HOUR, end)) for end in (-HOUR, after))
    over = {BATCH: {"run": run(Phase.COMPLETED)}}
    (action,) = diff(desired(*fleet(new)), actual(*fleet(old), state=over)).actions
    assert action.warnings == ("it has ended, and creates no task: write a new Batch",) * warned


# --- what is planned, and cancelled ---


@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [
        (["Scheduled"], UNFINISHED),
        (["Scheduled", "Notified"], UNFINISHED),
        (["Unconfirmed"], (Status.CONFIRM,)),
        ([], ()),
    ],
)
def test_scheduled_is_every_task_of_a_static_batch_that_has_not_started(scopes, statuses):
    one = batch(onCancel=scopes, schedule=at(HOUR))
    have = actual(*fleet(one), state={BATCH: {"run": run(Phase.PLANNED, QUEUED=2)}})
    for want in (base(), fleet(batch(onCancel=scopes, schedule=at(HOUR), state="Canceled"))):
        planned = diff(desired(*want), have)
        assert said(planned) == (["cancel all"], {})
        assert planned.actions[0].statuses == statuses


def test_scheduled_is_nothing_of_a_dynamic_batch_that_waits():
    one = dynamic("all", "1", onCancel=["Scheduled"])
    have = actual(*fleet(one), state={BATCH: {"run": run(Phase.PLANNED, kind="Dynamic", QUEUED=2)}})
    assert diff(desired(*base()), have).actions[0].statuses == ()


def test_batches_that_are_planned_count_as_running_for_the_guard():
    many = [batch(f"b{number}") for number in range(4)]
    state = {one.key: {"run": run(Phase.PLANNED)} for one in many}
    assert set(said(diff(desired(*base()), actual(*fleet(*many), state=state)))[1].values()) == {
        Reason.MASS_CANCEL
    }


def test_tasks_of_a_cancelled_batch_end_where_on_cancel_lists_them_only_now():
    old = batch(state="Canceled", onCancel=["Queued"])
    new = batch(state="Canceled", onCancel=["Queued", "Notified", "InProgress"])
    have = actual(*fleet(old), state={BATCH: {"run": run(Phase.CANCELED, QUEUED=1, NOTIFIED=2)}})
    (action,) = diff(desired(*fleet(new)), have).actions
    assert (action.verb, action.cancels_run, action.statuses) == ("cancel", True, (Status.NOTIFIED,))
    assert (action.why, action.changed) == ("onCancel lists more: changed in Git", ("onCancel",))
    assert diff(desired(*fleet(new)), actual(*fleet(new), state={BATCH: {"run": run()}})) == plan.Plan()
    drained = actual(*fleet(old), state={BATCH: {"run": run(Phase.CANCELED)}})
    assert said(diff(desired(*fleet(new)), drained)) == (["change all"], {})


def test_the_old_tasks_end_too_when_a_batch_is_asked_for_again_with_a_wider_on_cancel():
    old, new = batch(onCancel=["Queued"]), batch(onCancel=["Notified"])
    have = actual(*fleet(old), state={BATCH: {"run": run(Phase.CANCELED, by_git=False, NOTIFIED=2)}})
    (action,) = diff(desired(*fleet(new)), have).actions
    assert (action.verb, action.starts_run) == ("change", True)
    assert (action.cancels_run, action.statuses) == (True, (Status.NOTIFIED,))


def test_a_deleted_batch_comes_back_to_end_what_was_left_of_it():
    new = batch(state="Canceled", onCancel=["Notified"])
    gone = {"removed": True, "run": run(Phase.CANCELED, NOTIFIED=2)}
    (action,) = diff(desired(*fleet(new)), actual(*fleet(batch()), state={BATCH: gone})).actions
    assert (action.verb, action.statuses) == ("cancel", (Status.NOTIFIED,))


def test_what_is_left_of_a_batch_that_never_started_is_scheduled_still():
    old, new = (batch(state="Canceled", onCancel=scopes) for scopes in ([], ["Scheduled"]))
    left = dataclasses.replace(run(Phase.CANCELED, CONFIRM=1, QUEUED=2), started=False)
    (action,) = diff(desired(*fleet(new)), actual(*fleet(old), state={BATCH: {"run": left}})).actions
    assert action.statuses == (Status.CONFIRM, Status.QUEUED)


# --- ways to download ---


@pytest.mark.parametrize(
    ("wanted", "ways", "refused"),
    [
        ("HTTPS", Ways(https=False), True),
        ("HTTPS", Ways(https=True), False),
        ("HTTP", Ways(https=True, http=False), True),
        ("Auto", Ways(https=False), False),
        ("MQTT", Ways(https=False), False),
    ],
)
def test_a_download_that_is_not_configured_is_refused_when_a_batch_begins(wanted, ways, refused):
    one = batch(download=wanted)
    planned = diff(desired(*fleet(one)), actual(*base()), ways=ways)
    assert said(planned) == (([], {"all": Reason.DOWNLOAD}) if refused else (["create all"], {}))
    assert diff(desired(*fleet(one)), actual(*fleet(one)), ways=ways) == plan.Plan()


# --- groups ---


def test_groups_come_before_batches_and_a_changed_one_too():
    want = [*base(), group(), batch("new", target={"group": "beta"})]
    planned = diff(desired(*want), actual(*base()))
    assert said(planned) == (["create beta", "create new"], {})
    before = actual(*base(), group(devices=["dev-2"]))
    assert said(diff(desired(*want), before)) == (["change beta", "create new"], {})


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (group(), group(devices=["dev-2"]), ("devices",)),
        (group(), group(devices=["dev-1"], title="Others"), ("title",)),
        (by_tag(), group(selector={"matchTags": {"region": "us"}}), ("selector",)),
    ],
)
def test_what_a_group_is_may_change(before, after, changed):
    planned = diff(desired(*base(), after), actual(*base(), before))
    assert said(planned) == (["change beta"], {})
    assert planned.actions[0].changed == changed


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        (group(), by_tag(), "devices, selector"),
        (by_tag(), group(), "devices, selector"),
        (by_tag(), by_tag(product="fan"), "product"),
    ],
)
@pytest.mark.parametrize("removed", [True, False])
def test_a_group_stays_static_or_dynamic_and_of_its_product(before, after, fields, removed):
    have = actual(*base(), product("fan"), before, state={GROUP: {"removed": removed}})
    planned = diff(desired(*base(), product("fan"), after), have)
    assert said(planned) == ([], {"beta": Reason.IMMUTABLE})
    assert planned.refused[0].message.startswith(f"{fields}: ")


@pytest.mark.parametrize("one", [dynamic(group="beta"), batch(target={"group": "beta"})])
def test_a_group_leaves_and_the_batches_that_were_accepted_go_on(one):
    have = actual(*fleet(one), by_tag() if one.resource.spec.strategy == "Dynamic" else group())
    planned = diff(desired(*fleet(one)), have)
    assert said(planned) == (["remove beta"], {})
    after = actual(*fleet(one), by_tag(), state={GROUP: {"removed": True}})
    assert diff(desired(*fleet(one)), after) == plan.Plan()
    suspended = batch(target={"group": "beta"}, suspend=True)
    plain = actual(*fleet(batch(target={"group": "beta"})))
    assert said(diff(desired(*fleet(suspended)), plain)) == (["change all"], {})


@pytest.mark.parametrize("state", [{}, {GROUP: {"removed": True}}, {GROUP: {"digest": None}}, None])
def test_no_batch_begins_for_a_group_that_git_does_not_hold(state):
    one = batch(target={"group": "beta"})
    have = actual(*base(), *([] if state is None else [group()]), state=state)
    planned = diff(desired(*fleet(one)), have)
    assert planned.verdicts[0].reason is Reason.REFERENCE
    assert planned.verdicts[0].message == "there is no DeviceGroup/beta: declare it, or correct the name"
    assert "create all" not in said(planned)[0]
    stopped = batch(target={"group": "beta"}, state="Canceled")
    assert "create all" in said(diff(desired(*fleet(stopped)), have))[0]


@pytest.mark.parametrize(
    ("count", "warning"),
    [
        (0, None),
        (1, "1 of its group's names is no device, and skipped: x0"),
        (2, "2 of its group's names are no devices, and skipped: x0, x1"),
        (
            1200,
            "1,200 of its group's names are no devices, and skipped: x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, …",
        ),
    ],
)
def test_a_batch_that_begins_for_a_group_says_which_of_its_names_are_no_devices(count, warning):
    one = batch(target={"group": "beta"})
    have = actual(*base(), group(), unknown_devices={GROUP: tuple(f"x{number}" for number in range(count))})
    (action,) = diff(desired(*fleet(one), group()), have).actions
    assert action.warnings == ((warning,) if warning else ())
    goes_on = dataclasses.replace(actual(*fleet(one), group()), unknown_devices={GROUP: ("x0",)})
    changed = batch(target={"group": "beta"}, timeout="5m")
    assert diff(desired(*fleet(changed), group()), goes_on).actions[0].warnings == ()


def test_no_batch_begins_for_a_group_that_is_not_as_git_says():
    one = batch(target={"group": "beta"})
    have = actual(*base(), group())
    assert said(diff(desired(*fleet(one), by_tag()), have))[1] == {
        "beta": Reason.IMMUTABLE,
        "all": Reason.REFERENCE,
    }
    assert said(diff(desired(*fleet(one), broken=[GROUP]), have))[1] == {
        "beta": Reason.INVALID,
        "all": Reason.REFERENCE,
    }
    unread = diff(desired(*fleet(one), broken_paths=["beta.yaml"]), have)
    assert said(unread)[1] == {"beta": Reason.UNREADABLE, "all": Reason.REFERENCE}
    assert "DeviceGroup/beta, which it needs, is not as Git says" in unread.verdicts[-1].message
    stopped = batch(target={"group": "beta"}, state="Canceled")
    assert said(diff(desired(*fleet(stopped), broken=[GROUP]), have))[0] == ["create all"]


def test_a_product_stays_while_a_group_is_of_it():
    planned = diff(desired(group()), actual(product(), group()))
    assert said(planned) == ([], {"lamp": Reason.IN_USE})
    planned = diff(desired(product("fan")), actual(product(), group(), inventory()))
    assert said(planned)[0] == ["create fan", "remove beta", "remove berlin", "remove lamp"]


# --- lives ---


def test_runs_begin_in_the_order_of_their_names_after_what_only_changes():
    stopped = batch("b", state="Canceled")
    have = actual(*base(), stopped, batch("z"), state={stopped.key: {"run": None}})
    planned = diff(desired(*base(), batch("a"), batch("b"), batch("c"), batch("z", timeout="5m")), have)
    assert said(planned)[0] == ["change z", "create a", "change b", "create c"]


def test_a_batch_that_was_cancelled_by_hand_runs_again_when_its_spec_changes():
    have = actual(*fleet(), state={BATCH: {"run": run(Phase.CANCELED, by_git=False, NOTIFIED=1)}})
    assert diff(desired(*fleet()), have) == plan.Plan()
    (action,) = diff(desired(*fleet(batch(timeout="5m"))), have).actions
    assert (action.verb, action.starts_run) == ("change", True)
    assert action.why == (
        "changed in Git after it was cancelled by hand: a new run behind 1 unfinished task of its run 1"
    )
    stop = diff(desired(*fleet(batch(state="Canceled"))), have)
    assert [(one.verb, one.starts_run) for one in stop.actions] == [("change", False)]
    fixed = diff(desired(*fleet(batch(delivery="Pull"))), have)
    assert said(fixed) == ([], {"all": Reason.IMMUTABLE})


def test_tasks_of_a_life_before_the_last_still_need_their_package():
    old = dataclasses.replace(run(Phase.CANCELED, NOTIFIED=2), package="lamp-1")
    have = actual(
        *base(),
        package("lamp-1", version="1"),
        batch(),
        state={BATCH: {"earlier": (old,), "run": run(Phase.COMPLETED)}},
    )
    planned = diff(desired(*fleet()), have)
    assert said(planned) == ([], {"lamp-1": Reason.IN_USE})
    assert planned.verdicts[0].message == "can't be removed: 2 unfinished tasks of Batch/all need it"
