"""Why a device was (not) upgraded: each rule alone, and which of them decides. Whole texts: tests/unit/cli/traces."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.domain import targeting, trace, trace_facts, waiting
from reconciler.domain.actual import Phase, RunType, Verification
from reconciler.domain.lifecycle import Hold, Reason, Retry, Status
from reconciler.domain.targeting import LeftOut
from reconciler.domain.trace_facts import Rule

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ACCEPTED = NOW - HOUR
RULES = list(Rule)


def device(version="1.3.0", *, at=NOW - 2 * HOUR, **changes):
    report = trace_facts.Report(version, at) if version is not None else None
    values = {"name": "dev-1", "removed": False, "created_at": NOW - 24 * HOUR, "report": report}
    return trace_facts.Device(**values | changes)


def group(**changes):
    return trace_facts.Group(name="g", **changes)


def batch(**changes):
    asked = {"source_versions": (), "allow_downgrade": False}
    asked |= {name: changes.pop(name) for name in tuple(asked) if name in changes}
    chooses = changes.get("type") is not RunType.DYNAMIC and not changes.get("materializing")
    values = {
        "chosen_at": ACCEPTED if chooses else None,
        "name": "eu", "type": RunType.STATIC, "phase": Phase.IN_PROGRESS, "accepted_at": ACCEPTED,
        "started_at": ACCEPTED, "package": "fw", "conditions": targeting.Conditions("default", "1.4.0", **asked),
    } | changes  # fmt: skip
    return trace_facts.Batch(**{"stage": str(values["phase"]), **values})


def task(status=Status.QUEUED, **changes):
    mine = {"reason": None, "why": "because", "source_version": "1.3.0", "ended_at": None, "pushes": 0}
    mine |= {"last_pushed_at": None, "matches": 1}
    mine |= {name: changes.pop(name) for name in tuple(mine) if name in changes}
    facts = {
        "status": status, "created_at": NOW - 30 * MINUTE, "accepted_at": ACCEPTED, "started_at": ACCEPTED,
        "online": True, "push_rate": 60, "heartbeat_at": NOW,
    }  # fmt: skip
    return trace_facts.Task(facts=waiting.Facts(**facts | changes), **mine)


def traced(of=None, what=None, mine=None):
    found = trace.trace(of or device(), what or batch(), mine, NOW)
    rules = [check.rule for check in found.checks]
    assert [RULES.index(rule) for rule in rules] == sorted(RULES.index(rule) for rule in rules)
    return found


def check(found, rule):
    """The last check of a rule: a gray batch has two for its target."""
    return [each for each in found.checks if each.rule is rule][-1]


DYNAMIC = {"type": RunType.DYNAMIC, "source_versions": ("1.3.0",)}


def test_a_device_that_nothing_kept_out_did_not_fit_at_acceptance():
    found = traced()
    assert (found.decided_by, found.remedy) == (None, "write a new batch")
    assert found.end == "no task: it would fit now, and did not when the batch chose its devices"


@pytest.mark.parametrize(
    ("of", "what", "rule", "said"),
    [
        ({"removed": True}, {}, Rule.TARGET, "declared no more"),
        ({}, {"is_late": True}, Rule.TARGET, "after the batch had chosen its devices"),
        ({}, {"listed": False}, Rule.TARGET, "a list of devices: the device is not in it"),
        ({}, {"listed": False, "type": RunType.VERIFY}, Rule.TARGET, "the test devices of the package"),
        ({}, {"group": group(removed=False, member=False, joins=0)}, Rule.TARGET, "is not in group g now"),
        (
            {},
            {"group": group(removed=False, member=False, joins=2)},
            Rule.TARGET,
            "it was in it 2 times before",
        ),
        ({}, {"group": group(removed=True, member=False, joins=1)}, Rule.TARGET, "group g is removed"),
        (
            {},
            {"gray": trace_facts.Gray(10_000, targeting.MODULUS // 2)},
            Rule.TARGET,
            "the lowest 10.000%: beyond it",
        ),
        ({}, DYNAMIC | {"newer": "us"}, Rule.MATCHING, "batch us is newer"),
        ({}, DYNAMIC | {"new_reports_only": True}, Rule.MATCHING, "before the batch began"),
        ({"version": "1.2.0"}, {"source_versions": ("1.3.0",)}, Rule.SOURCE, "it reports 1.2.0; for 1.3.0"),
        (
            {"version": "1.2.0"},
            {"source_versions": ("1.3.0",), "delta": True},
            Rule.SOURCE,
            "a delta from 1.3.0",
        ),
        ({"version": None}, {"source_versions": ("1.3.0",)}, Rule.SOURCE, "it has reported no version"),
        ({"at": NOW}, {}, Rule.SOURCE, "but only since 2026-11-01 12:00:00Z"),
        ({"version": "1.4.0"}, {}, Rule.ALREADY, "there is nothing to do"),
        ({"version": "1.4.0"}, {"source_versions": ("1.3.0",)}, Rule.ALREADY, "there is nothing to do"),
        ({"version": "1.5.0"}, {}, Rule.DOWNGRADE, "the target 1.4.0 is lower"),
        (
            {},
            {"left_out": LeftOut.ALREADY, "left_out_version": "1.4.0"},
            Rule.ACCEPTANCE,
            "devices, on 1.4.0, it was",
        ),
        ({"at": NOW}, {"left_out": LeftOut.SOURCE}, Rule.ACCEPTANCE, "left out as source-version"),
        ({}, DYNAMIC | {"phase": Phase.CANCELED, "canceled_by": "bob"}, Rule.BATCH, "cancelled by bob"),
    ],
)
def test_the_first_rule_that_is_not_met_keeps_the_device_out(of, what, rule, said):
    found = traced(device(**of), batch(**what))
    assert found.decided_by is rule
    assert said in check(found, rule).compared
    assert found.end == f"no task: kept out by {rule}"
    assert found.remedy == next(each for each in found.checks if not each.ok).remedy


@pytest.mark.parametrize(
    ("of", "what"),
    [
        ({}, {"listed": True}),
        ({}, {"gray": trace_facts.Gray(50_000, targeting.MODULUS // 2)}),
        ({"version": "1.5.0"}, {"allow_downgrade": True}),
        ({"version": None}, {}),
        ({"at": ACCEPTED}, {}),
        ({"created_at": NOW, "at": NOW}, DYNAMIC),
        ({"at": NOW}, DYNAMIC | {"new_reports_only": True}),
        ({}, DYNAMIC | {"new_reports_only": True, "started_at": None}),
        ({"version": None}, {"type": RunType.DYNAMIC, "new_reports_only": True}),
        ({}, {"type": RunType.DYNAMIC, "group": group(removed=False, member=True, joins=1)}),
        ({"at": NOW}, {"materializing": True}),
    ],
)
def test_what_a_rule_allows_is_well(of, what):
    assert traced(device(**of), batch(**what)).decided_by is None


@pytest.mark.parametrize(
    ("what", "end", "remedy"),
    [
        ({"materializing": True}, "no task yet: the batch is choosing its devices", ""),
        (DYNAMIC, "no task yet: nothing is in the way now", "it matches when dev-1 reports next, or joins"),
        (DYNAMIC | {"started_at": None}, "no task yet: the batch has not started", "it starts in a moment"),
        (
            DYNAMIC | {"started_at": None, "start_at": NOW},
            "no task yet: the batch has not started",
            "it starts 2026-11-01 12:00:00Z",
        ),
        (
            DYNAMIC | {"started_at": None, "verification": Verification.VERIFYING},
            "no task yet: the batch has not started",
            "it waits for the verification of fw, which is verifying",
        ),
        (
            {"gray": trace_facts.Gray(50_000, 1)},
            "no task: others that fitted filled the share; its rank is just beyond the end",
            "write a batch for the rest, `all: {}`: who has the version already is left out",
        ),
    ],
)
def test_without_a_task_it_says_what_comes_next(what, end, remedy):
    found = traced(what=batch(**what))
    assert (found.decided_by, found.end, found.remedy) == (None, end, remedy)


def test_after_the_rule_that_decides_only_what_else_is_in_the_way_is_told():
    what = batch(group=group(removed=False, member=False, joins=0))
    assert [check.rule for check in traced(device("1.5.0"), what).checks] == [
        Rule.BATCH, Rule.TARGET, Rule.DOWNGRADE,
    ]  # fmt: skip
    later = batch(suspended="by bob", confirm=True, started_at=None, verification=Verification.FAILED)
    waits = traced(what=later, mine=task(Status.CONFIRM, started_at=None, verified=False))
    assert [check.rule for check in waits.checks if not check.ok] == [
        Rule.VERIFICATION, Rule.SUSPENSION, Rule.CONFIRMATION,
    ]  # fmt: skip
    assert [check.ok for check in waits.checks[-3:]] == [False] * 3


@pytest.mark.parametrize(
    ("of", "what", "remedy"),
    [
        (
            {"removed": True},
            {},
            "add it to an inventory, and write a new batch: this one does not look again",
        ),
        ({"removed": True}, DYNAMIC, "add it to an inventory"),
        (
            {"version": None},
            {"source_versions": ("1.3.0",)},
            "let the device report its version, and write a new batch: this one does not look again",
        ),
        ({"version": None}, DYNAMIC, "let the device report its version"),
        (
            {"version": None},
            {"source_versions": ("1.3.0",), "materializing": True},
            "let the device report its version",
        ),
    ],
)
def test_a_batch_that_has_chosen_its_devices_does_not_look_again(of, what, remedy):
    assert traced(device(**of), batch(**what)).remedy == remedy


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"phase": Phase.CANCELED, "canceled_by": "git"}, "it was cancelled by git"),
        ({"phase": Phase.COMPLETED}, "its schedule ended"),
        ({"gray": trace_facts.Gray(50_000, 1)}, "its schedule ended"),
    ],
)
def test_a_batch_that_was_over_before_it_had_chosen_all_of_its_devices_says_so(what, why):
    found = traced(what=batch(chosen_at=None, **what))
    assert found.end == f"no task: {why} before it had chosen all of its devices"
    assert (found.decided_by, found.remedy[:18]) == (Rule.ACCEPTANCE, "write a new batch:")
    elsewhere = traced(device("1.2.0"), batch(chosen_at=None, source_versions=("1.3.0",), **what))
    assert elsewhere.end == "no task: kept out by source version"
    assert "its schedule ended" not in traced(what=batch(chosen_at=None, **what), mine=task()).end


def test_a_batch_that_never_began_says_why():
    found = trace.never_began("FirstSight", "confirm it")
    assert (found.decided_by, found.end, found.remedy) == (
        Rule.BATCH, "no task: the batch never began", "confirm it",
    )  # fmt: skip


def test_what_git_says_otherwise_is_said_beside_the_phase():
    assert (
        "Git says otherwise now: Immutable"
        in check(traced(what=batch(note="Immutable")), Rule.BATCH).compared
    )


# ------------------------------------------------------------------------------------------ with a task


def test_with_a_task_the_rules_are_told_as_they_were_when_it_was_made():
    later = device("1.4.0", at=NOW, removed=True, created_at=NOW)
    what = batch(listed=False, gray=trace_facts.Gray(10_000, targeting.MODULUS), left_out=LeftOut.ALREADY)
    found = traced(later, what, task(Status.SUCCEEDED, ended_at=NOW))
    assert found.decided_by is None
    assert check(found, Rule.SOURCE).compared == "it came from 1.3.0; for any version"
    assert check(found, Rule.TARGET).compared.endswith("chosen")
    assert (found.end, found.remedy) == ("SUCCEEDED 2026-11-01 12:00:00Z", "because")
    assert found.checks[-1].rule is Rule.CONFLICT


@pytest.mark.parametrize(
    ("matches", "said"),
    [
        (1, "matched 1 of 10 times"),
        (9, "matched 9 of 10 times"),
        (10, "10 of 10 times: it takes the device no more"),
    ],
)
def test_a_dynamic_batch_counts_its_matches(matches, said):
    found = traced(what=batch(**DYNAMIC), mine=task(matches=matches))
    assert said in check(found, Rule.MATCHING).compared
    assert check(found, Rule.MATCHING).ok


def test_a_dynamic_batch_that_has_a_task_is_not_kept_out_by_what_is_newer_or_cancelled():
    what = batch(**DYNAMIC | {"newer": "us", "new_reports_only": True, "phase": Phase.CANCELED})
    assert traced(what=what, mine=task(Status.NOTIFIED)).decided_by is None


def test_the_members_of_a_group_are_told_how_often_they_matched():
    what = batch(type=RunType.DYNAMIC, group=group(removed=False, member=True, joins=1))
    assert check(traced(what=what), Rule.TARGET).compared == "in group g, joined once"
    assert check(traced(what=what, mine=task()), Rule.TARGET).compared.startswith("members of group g; taken")
    assert check(traced(what=what, mine=task()), Rule.MATCHING).compared == "matched once"


def test_of_a_task_that_has_or_had_the_device_it_is_not_said_whether_it_waited_for_that():
    assert check(traced(mine=task()), Rule.CONFLICT).compared == "no other task is in its way"
    ended = traced(mine=task(Status.CANCELED, reason=Reason.OVERWRITTEN))
    assert check(ended, Rule.CONFLICT).compared == "no other task made it fail"


def test_a_conflict_ends_it():
    found = traced(mine=task(Status.FAILED, reason=Reason.CONFLICT, ended_at=NOW))
    assert (found.decided_by, found.end) == (Rule.CONFLICT, "FAILED, conflict 2026-11-01 12:00:00Z")
    assert traced(mine=task(Status.FAILED, reason=Reason.TIMEOUT)).end == "FAILED, timeout"


PLANNED = {"started_at": None}


@pytest.mark.parametrize(
    ("what", "mine", "rule", "said", "remedy"),
    [
        (
            {"verification": Verification.VERIFYING}, PLANNED | {"verified": False}, Rule.VERIFICATION,
            "package fw: verifying", "`reconciler describe package fw`",
        ),
        (
            {"verification": Verification.FAILED}, PLANNED | {"verified": False, "start_at": NOW}, Rule.VERIFICATION,
            "package fw: failed", "`reconciler describe package fw`; then raise `verification.attempt`",
        ),
        (
            {"end_at": NOW + HOUR}, PLANNED | {"start_at": NOW + MINUTE}, Rule.SCHEDULE,
            "starts 2026-11-01 12:01:00Z; ends 2026-11-01 13:00:00Z", "wait for that time",
        ),
        ({}, PLANNED | {"start_at": NOW}, Rule.SCHEDULE, "its time came 2026-11-01 12:00:00Z; it is starting", None),
        ({}, PLANNED, Rule.SCHEDULE, "no start is set; it is starting", "look again in a moment"),
        ({"suspended": "by bob"}, {}, Rule.SUSPENSION, "suspended by bob", None),
        ({"unsigned": "no key: put one there"}, {}, Rule.SIGNING, "no key: put one there", None),
        ({"file_lost": True}, {}, Rule.FILES, "a file of package fw went missing from the store", None),
        (
            {"confirm": True}, {"status": Status.CONFIRM}, Rule.CONFIRMATION, "nobody has confirmed it",
            "`reconciler confirm eu --device dev-1`, inside of its schedule",
        ),
        (
            {}, {"hold": Hold.BEHIND, "occupied_by": "us"}, Rule.QUEUE, "waits behind us, since 2026-11-01 11:30:00Z",
            "it begins when the device's task of us ends",
        ),
        ({}, {"hold": Hold.BEHIND}, Rule.QUEUE, "waits behind another batch, since 2026-11-01 11:30:00Z", None),
        ({}, {"heartbeat_at": None}, Rule.DELIVERY, "the daemon is not running", "start `reconciler run`"),
        (
            {}, {"online": False, "last_seen_at": ACCEPTED}, Rule.DELIVERY,
            "device offline, since 2026-11-01 11:00:00Z",
            "it is pushed when the device comes online",
        ),
        ({}, {}, Rule.DELIVERY, "its turn comes, since 2026-11-01 11:30:00Z", "it is pushed in a moment"),
    ],
)  # fmt: skip
def test_the_first_gate_that_is_shut_is_why_it_waits(what, mine, rule, said, remedy):
    found = traced(what=batch(**what), mine=task(**mine))
    assert (found.decided_by, check(found, rule).compared) == (rule, said)
    assert found.end == f"{mine.get('status', Status.QUEUED)}: {said}"
    assert found.remedy
    assert remedy in {None, found.remedy}


def test_behind_a_shut_gate_nobody_looks_for_the_device():
    found = traced(what=batch(suspended="by bob"), mine=task(online=False))
    assert Rule.DELIVERY not in [each.rule for each in found.checks]


def test_a_verification_waits_for_no_verification_and_a_started_batch_for_none_either():
    itself = traced(what=batch(type=RunType.VERIFY, verification=Verification.VERIFYING), mine=task())
    assert check(itself, Rule.VERIFICATION).compared == "this is the verification"
    started = traced(what=batch(verification=Verification.FAILED), mine=task())
    assert check(started, Rule.VERIFICATION).ok


@pytest.mark.parametrize(("confirm", "said"), [(True, "confirmed"), (False, "none needed")])
def test_who_was_confirmed_is_told_apart_from_who_needed_none(confirm, said):
    assert check(traced(what=batch(confirm=confirm), mine=task()), Rule.CONFIRMATION).compared == said


def test_a_notified_task_tells_its_pushes_and_that_it_is_at_work():
    found = traced(mine=task(Status.NOTIFIED, pushes=2, last_pushed_at=NOW))
    assert found.decided_by is None
    assert check(found, Rule.DELIVERY).compared == "NOTIFIED; pushed 2 times, last 2026-11-01 12:00:00Z"
    assert (found.end, found.remedy) == ("NOTIFIED: because", "")


def test_a_failed_attempt_waits_for_its_next_one():
    retrying = {"hold": Hold.RETRY, "retry_at": NOW + MINUTE, "retry": Retry(MINUTE, 2)}
    found = traced(mine=task(Status.IN_PROGRESS, **retrying))
    assert (
        check(found, Rule.DELIVERY).compared == "next try at 2026-11-01 12:01:00Z, since 2026-11-01 12:00:00Z"
    )


@pytest.mark.parametrize("wait", waiting.Wait)
def test_every_way_to_wait_for_a_push_has_its_remedy(wait):
    gates = {
        "SUSPENDED", "SIGNING", "FILE", "VERIFICATION", "BEHIND", "SCHEDULED", "STARTING", "CONFIRMATION",
    }  # fmt: skip
    assert (wait in trace._DELIVERY) is (wait.name not in gates)


def test_suspension_and_verification_are_no_reasons_of_delivery():
    shut = dataclasses.replace(
        task().facts, suspended_at=NOW, unsigned_since=NOW, file_lost=True, verified=False
    )
    found = traced(mine=dataclasses.replace(task(), facts=shut))
    assert check(found, Rule.DELIVERY).compared.startswith("its turn comes")
