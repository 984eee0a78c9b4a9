"""Why a device was (not) upgraded: the rules of platform rules §4 and §5, in order, for one device and one batch.

Facts go in, checks come out: what was compared, whether it was well, and what to do where it was not. Called by
`services.trace`. Nothing happens because of it, and it never decides differently from the rules: versions are judged
by `targeting`, waiting by `waiting`; what was decided at acceptance is what was recorded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import datetime

from reconciler.domain import targeting, waiting
from reconciler.domain.actual import Phase, RunType, Verification
from reconciler.domain.lifecycle import ENDED, Hold, Reason, Status
from reconciler.domain.trace_facts import Batch, Check, Device, Gray, Group, Rule, Task, Trace
from reconciler.domain.waiting import moment


def trace(device: Device, batch: Batch, task: Task | None, now: datetime) -> Trace:
    """Why the batch upgraded the device, did not, or has not yet."""
    if task is None:
        checks = tuple(_told(_selection(device, batch, None)))
        return Trace(checks, *_no_task(device, batch, checks))
    checks = (*_selection(device, batch, task), *_told(_gates(device, batch, task, now)))
    return Trace(checks, *_standing(task, checks))


def _told(checks: Iterable[Check]) -> Iterator[Check]:
    """Up to the rule that decides. After it nothing more is said to be well, only what else is in the way."""
    decided = False
    for check in checks:
        if not (decided and check.ok):
            yield check
        decided = decided or not check.ok


def never_began(reason: str, message: str) -> Trace:
    """Of a batch without a run: it is held, refused, or came cancelled, so that it touches nobody."""
    check = Check(Rule.BATCH, ok=False, compared=f"it never began: {reason}", remedy=message)
    return Trace((check,), "no task: the batch never began", message)


# --------------------------------------------------------------------------------------------- selection


def _selection(device: Device, batch: Batch, task: Task | None) -> Iterator[Check]:
    """Whether the batch is for the device; with a task: what was when that was made."""
    yield _batch(batch, task)
    yield _target(device, batch, task)
    if batch.gray is not None:
        yield _gray(batch, batch.gray, task)
    if batch.dynamic:
        yield _matching(device, batch, task)
    yield from _version(device, batch, task)
    if batch.left_out is not None and task is None:
        yield _left_out(batch, batch.left_out)
    elif task is None and batch.is_cut_off:
        yield _cut_off(batch)


def _batch(batch: Batch, task: Task | None) -> Check:
    since = moment(batch.accepted_at)
    said = f"{batch.stage}, accepted {since}" + (f"; Git says otherwise now: {batch.note}" * bool(batch.note))
    over = batch.phase is Phase.CANCELED and batch.dynamic and task is None
    if over:
        said += f"; cancelled by {batch.canceled_by}: it matches nobody any more"
    return Check(Rule.BATCH, not over, said, "write a new batch" if over else "")


def _target(device: Device, batch: Batch, task: Task | None) -> Check:
    """Is the device one of those that the batch is for?"""
    if task is not None:
        return Check(Rule.TARGET, ok=True, compared=f"{_whom(batch)}; taken {moment(task.facts.created_at)}")
    if device.removed:
        again = "" if batch.dynamic else f", and {_ANEW}"
        return _not(Rule.TARGET, "the device is declared no more", f"add it to an inventory{again}")
    if batch.listed is False:
        return _not(Rule.TARGET, f"{_whom(batch)}: the device is not in it", "write a batch that names it")
    if batch.group is not None:
        return _member(batch.group)
    if batch.is_late:
        late = f"the device was declared {moment(device.created_at)}, after the batch had chosen its devices"
        return _not(Rule.TARGET, late, "write a new batch; a dynamic one takes devices that come later")
    return Check(Rule.TARGET, ok=True, compared=_whom(batch))


def _whom(batch: Batch) -> str:
    if batch.type is RunType.VERIFY:
        return "the test devices of the package"
    if batch.group is not None:
        return f"members of group {batch.group.name}"
    if batch.listed is not None:
        return "a list of devices"
    return "a share of the product's devices" if batch.gray is not None else "every device of the product"


def _member(group: Group) -> Check:
    if group.removed:
        return _not(
            Rule.TARGET, f"group {group.name} is removed: nobody joins it", "write a new group and batch"
        )
    if not group.member:
        times = f"; it was in it {_times(group.joins)} before" * bool(group.joins)
        remedy = "change its tags, or the group's selector: `reconciler describe group` shows it"
        return _not(Rule.TARGET, f"the device is not in group {group.name} now{times}", remedy)
    return Check(Rule.TARGET, ok=True, compared=f"in group {group.name}, joined {_times(group.joins)}")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _gray(batch: Batch, gray: Gray, task: Task | None) -> Check:
    """Its rank against the share. Where exactly the share ends depends on who else fitted."""
    rank, share = gray.key / targeting.MODULUS, gray.thousandths / targeting.WHOLE
    said = f"its rank in {batch.name} is {rank:.5f} of 1; the share takes the lowest {share:.3%}"
    if task is not None:
        return Check(Rule.TARGET, ok=True, compared=f"{said}: chosen")
    if rank > share:
        return _not(Rule.TARGET, f"{said}: beyond it", _REST)
    return Check(Rule.TARGET, ok=True, compared=said)


_REST = "write a batch for the rest, `all: {}`: who has the version already is left out"


def _matching(device: Device, batch: Batch, task: Task | None) -> Check:
    """Of a dynamic batch: how often it took the device, and what else keeps it from matching."""
    matches = task.matches if task is not None else 0
    spent = ": it takes the device no more" * (matches >= batch.match_limit)
    count = f"matched {matches} of {batch.match_limit} times{spent}"
    if batch.group is not None:
        return Check(Rule.MATCHING, ok=True, compared=f"matched {_times(matches)}")
    if task is None and batch.newer is not None:
        newer = f"batch {batch.newer} is newer and takes the same versions: only the newest matches"
        return _not(Rule.MATCHING, newer, f"cancel {batch.newer}, or leave it to that one")
    report = device.report
    stale = batch.started_at is not None and report is not None and report.at <= batch.started_at
    if task is None and batch.new_reports_only and stale and report is not None:
        said = f"new reports only: its last new one came {moment(report.at)}, before the batch began"
        return _not(Rule.MATCHING, said, "it matches when the device reports next")
    return Check(Rule.MATCHING, ok=True, compared=count)


def _version(device: Device, batch: Batch, task: Task | None) -> Iterator[Check]:
    """The conditions on its version, by the one judgement that there is."""
    asked = batch.conditions
    version = task.source_version if task is not None else device.version
    came = "it came from" if task is not None else "it reports"
    has = f"{came} {version}" if version is not None else "it has reported no version"
    verdict = targeting.judge(asked, version) if task is None else None
    any_of = f"{'a delta from' if batch.delta else 'for'} {', '.join(asked.source_versions) or 'any version'}"
    late = (
        _reported_late(device, batch) if verdict is None and batch.left_out is None and task is None else ""
    )
    wrong = verdict is targeting.LeftOut.SOURCE or bool(late)
    remedy = "write a batch for its version"
    if version is None:
        again = f", and {_ANEW}" if batch.chosen_at is not None else ""
        remedy = f"let the device report its version{again}"
    yield Check(Rule.SOURCE, not wrong, f"{has}; {any_of}{late}", remedy if wrong else "")
    if wrong:
        return
    target = asked.target_version
    if verdict is targeting.LeftOut.ALREADY:
        yield _not(Rule.ALREADY, f"{has}, the target: there is nothing to do")
        return
    yield Check(Rule.ALREADY, ok=True, compared=f"the target is {target}")
    if verdict is targeting.LeftOut.DOWNGRADE:
        remedy = "write a batch with `allowDowngrade: true`, if that is wanted"
        yield _not(Rule.DOWNGRADE, f"{has}, and the target {target} is lower", remedy)
        return
    allowed = "it may go down" if asked.allow_downgrade else "the target is not lower"
    yield Check(Rule.DOWNGRADE, ok=True, compared=allowed)


_ANEW = "write a new batch: this one does not look again"


def _reported_late(device: Device, batch: Batch) -> str:
    """A static batch chose its devices by what they reported then."""
    report = device.report
    if batch.chosen_at is None or report is None or report.at <= batch.chosen_at:
        return ""
    return f"; but only since {moment(report.at)}, after the batch had chosen its devices"


def _left_out(batch: Batch, reason: targeting.LeftOut) -> Check:
    on = f", on {batch.left_out_version}" if batch.left_out_version else ""
    said = f"when the batch chose its devices{on}, it was left out as {reason}"
    return _not(Rule.ACCEPTANCE, said, _ANEW)


def _cut_off(batch: Batch) -> Check:
    end = (
        f"it was cancelled by {batch.canceled_by}" if batch.phase is Phase.CANCELED else "its schedule ended"
    )
    return _not(Rule.ACCEPTANCE, f"{end} before it had chosen all of its devices", _ANEW)


def _not(rule: Rule, compared: str, remedy: str = "") -> Check:
    return Check(rule, ok=False, compared=compared, remedy=remedy)


def _no_task(device: Device, batch: Batch, checks: tuple[Check, ...]) -> tuple[str, str]:
    """How it ends without a task: kept out by the first rule that was not well, or not yet come to it."""
    kept = next((check for check in checks if not check.ok), None)
    if kept is not None and kept.rule is Rule.ACCEPTANCE and batch.left_out is None:
        return f"no task: {kept.compared}", kept.remedy
    if kept is not None:
        return f"no task: kept out by {kept.rule}", kept.remedy
    if batch.materializing:
        return "no task yet: the batch is choosing its devices", ""
    if batch.dynamic:
        return _yet_to_match(device, batch)
    if batch.gray is not None:
        return "no task: others that fitted filled the share; its rank is just beyond the end", _REST
    return "no task: it would fit now, and did not when the batch chose its devices", "write a new batch"


def _yet_to_match(device: Device, batch: Batch) -> tuple[str, str]:
    if batch.started_at is None:
        return "no task yet: the batch has not started", _unstarted(batch)
    return "no task yet: nothing is in the way now", f"it matches when {device.name} reports next, or joins"


def _unstarted(batch: Batch) -> str:
    if not batch.verification.opens:
        return f"it waits for the verification of {batch.package}, which is {batch.verification}"
    return f"it starts {moment(batch.start_at)}" if batch.start_at is not None else "it starts in a moment"


# ------------------------------------------------------------------------------------------------- gates


def _gates(device: Device, batch: Batch, task: Task, now: datetime) -> Iterator[Check]:
    """What a task has to pass before its device is notified, as far as it came or has to go."""
    if task.reason is Reason.CONFLICT:
        yield _not(Rule.CONFLICT, "the device was in another task", task.why)
        return
    behind = task.facts.hold is Hold.BEHIND
    yield Check(Rule.CONFLICT, ok=True, compared=_met(task))
    if task.status in ENDED:
        return
    facts = task.facts
    passed = [
        _verification(batch, started=facts.started_at is not None),
        _schedule(batch, facts, now),
        _suspension(batch),
        *_signing(batch),
        *_files(batch),
        _confirmation(device, batch, task),
        _queue(facts) if behind else Check(Rule.QUEUE, ok=True, compared="it has the device"),
    ]
    yield from passed
    if all(check.ok for check in passed):
        yield _delivery(task, now)


def _met(task: Task) -> str:
    """Of one that waited behind another, nothing is kept when its turn has come."""
    if task.facts.hold is Hold.BEHIND:
        return "the device was in another task: it waits for that"
    return "no other task made it fail" if task.status in ENDED else "no other task is in its way"


def _verification(batch: Batch, *, started: bool) -> Check:
    if batch.type is RunType.VERIFY:
        return Check(Rule.VERIFICATION, ok=True, compared="this is the verification")
    said = f"package {batch.package}: {batch.verification}"
    if started or batch.verification.opens:
        return Check(Rule.VERIFICATION, ok=True, compared=said)
    failed = batch.verification is Verification.FAILED
    remedy = f"`reconciler describe package {batch.package}`"
    return _not(Rule.VERIFICATION, said, f"{remedy}; then raise `verification.attempt`" if failed else remedy)


def _schedule(batch: Batch, facts: waiting.Facts, now: datetime) -> Check:
    end = f"; ends {moment(batch.end_at)}" if batch.end_at is not None else ""
    if facts.started_at is not None:
        return Check(Rule.SCHEDULE, ok=True, compared=f"started {moment(facts.started_at)}{end}")
    if facts.start_at is not None and facts.start_at > now:
        return _not(Rule.SCHEDULE, f"starts {moment(facts.start_at)}{end}", "wait for that time")
    came = f"its time came {moment(facts.start_at)}" if facts.start_at is not None else "no start is set"
    if not facts.verified:
        return Check(Rule.SCHEDULE, ok=True, compared=f"{came}{end}")
    return _not(Rule.SCHEDULE, f"{came}{end}; it is starting", "look again in a moment")


def _suspension(batch: Batch) -> Check:
    if not batch.suspended:
        return Check(Rule.SUSPENSION, ok=True, compared="not suspended")
    return _not(
        Rule.SUSPENSION, f"suspended {batch.suspended}", "nothing is pushed or offered until that ends"
    )


def _signing(batch: Batch) -> Iterator[Check]:
    """Told only where it is in the way: most products sign nothing."""
    if batch.unsigned:
        yield _not(Rule.SIGNING, batch.unsigned, "nothing is pushed or offered until the key is there")


def _files(batch: Batch) -> Iterator[Check]:
    """Told only where it is in the way, too."""
    if batch.file_lost:
        remedy = (
            "it is got again by itself while Git names it, and nothing is pushed or offered until then: "
            "the daemon's log says what went wrong"
        )
        yield _not(Rule.FILES, f"a file of package {batch.package} went missing from the store", remedy)


def _confirmation(device: Device, batch: Batch, task: Task) -> Check:
    if task.status is Status.CONFIRM:
        order = f"`reconciler confirm {batch.name} --device {device.name}`, inside of its schedule"
        return _not(Rule.CONFIRMATION, "nobody has confirmed it", order)
    return Check(Rule.CONFIRMATION, ok=True, compared="confirmed" if batch.confirm else "none needed")


def _queue(facts: waiting.Facts) -> Check:
    holder = facts.trial_or_batch or "another batch"
    said = f"waits behind {holder}, since {moment(facts.created_at)}"
    return _not(Rule.QUEUE, said, f"it begins when the device's task of {holder} ends")


def _delivery(task: Task, now: datetime) -> Check:
    """Whether its device can be, or was, notified; what keeps the batch back was said before."""
    facts = task.facts
    began = facts.started_at or facts.accepted_at
    alone = dataclasses.replace(
        facts, suspended_at=None, unsigned_since=None, file_lost=False, verified=True, started_at=began
    )
    waits = waiting.waits_for(alone, now)
    pushed = (
        f"; pushed {_times(task.pushes)}, last {moment(task.last_pushed_at)}" if task.last_pushed_at else ""
    )
    if waits is None:
        return Check(Rule.DELIVERY, ok=True, compared=f"{task.status}{pushed}")
    since = f", since {moment(waits.since)}" if waits.since is not None else ""
    return _not(Rule.DELIVERY, f"{waits}{since}{pushed}", _DELIVERY[waits.wait])


_DELIVERY = {
    waiting.Wait.DAEMON: "start `reconciler run`",
    waiting.Wait.FETCH: "the device must ask with firmware/get: the batch says `delivery: Pull`",
    waiting.Wait.RETRY: "wait for that time, or let the device ask with firmware/get",
    waiting.Wait.OFFLINE: "it is pushed when the device comes online",
    waiting.Wait.SETTLING: "it is pushed in a moment",
    waiting.Wait.RATE: "raise `pushRatePerMinute`, or wait",
    waiting.Wait.TURN: "it is pushed in a moment",
}


def _standing(task: Task, checks: tuple[Check, ...]) -> tuple[str, str]:
    """Where the task is, and what to do about it."""
    if task.status in ENDED:
        at = f" {moment(task.ended_at)}" if task.ended_at is not None else ""
        reason = f", {task.reason}" if task.reason is not None else ""
        return f"{task.status}{reason}{at}", task.why
    kept = next((check for check in checks if not check.ok), None)
    if kept is None:
        return f"{task.status}: {task.why}", ""
    return f"{task.status}: {kept.compared}", kept.remedy
