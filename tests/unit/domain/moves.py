"""What tests of how a task moves share: a task, and short ways to let things happen to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.domain.lifecycle import Event, Retry, Status, Task, Trigger, reported, step

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SOURCE, TARGET, OTHER, HIGHER = "1.3.0", "1.4.0", "1.3.5", "9.9.9"
FETCHED, CLAIMED, TIMEOUT = Event(Trigger.FETCHED), Event(Trigger.CLAIMED), Event(Trigger.TIMEOUT)
TEN_MINUTES = Retry(10 * MINUTE, 2)


def task(status: str = "QUEUED", **changes: object) -> Task:
    found = Task(
        id=1,
        run_id=2,
        device_id=3,
        module="default",
        status=Status(status),
        target_version=TARGET,
        source_version=SOURCE,
        timeout=HOUR,
    )
    return found._replace(**changes)


def after(before: Task, *events: Event, at: datetime = NOW) -> Task:
    """The task after some events of one moment."""
    for event in events:
        before = step(before, event, at).task
    return before


def says(before: Task, version: str, mark: bytes | None = None, at: datetime = NOW) -> Task:
    """The task after its device reported a version."""
    return after(before, reported(before, version, mark), at=at)
