"""What must be true of a fleet afterwards, whatever happened on the way. Exact, and by plain SQL."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable

from stage import TARGET, Device, Stage


def all_upgraded_once(stage: Stage, devices: Iterable[Device], batch: str = "upgrade") -> None:
    """Every device was flashed once and has exactly one task, which succeeded; nothing is missing in the log."""
    devices = list(devices)
    assert {d.address.device_name: (d.version, d.flashes) for d in devices} == {
        d.address.device_name: (TARGET, [TARGET]) for d in devices
    }
    tasks = stage.ask("SELECT name, status FROM task JOIN device ON device_id = device.id ORDER BY name")
    assert tasks == [(d.address.device_name, "SUCCEEDED") for d in devices]
    assert stage.phase(batch) == "COMPLETED"
    log_is_whole(stage)
    counters_are_right(stage)


def counters_are_right(stage: Stage) -> None:
    """The counters say what counting says."""
    counted = stage.ask(
        "SELECT run_id, status, coalesce(reason, ''), count(*) FROM task GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    kept = stage.ask("SELECT run_id, status, reason, count FROM task_count WHERE count > 0 ORDER BY 1, 2, 3")
    assert kept == counted


def log_is_whole(stage: Stage) -> None:
    """Each task's events lead from QUEUED to its status without a gap, and its creation and pushes are there."""
    tasks = stage.ask("SELECT id, run_id, status, reason, pushes, revision_id FROM task ORDER BY id")
    lines = stage.ask(
        "SELECT task_id, from_status, to_status, reason, message FROM event WHERE type = 'task' ORDER BY id"
    )
    chains: dict[object, list[tuple[object, ...]]] = collections.defaultdict(list)
    for task_id, *line in lines:
        chains[task_id].append(tuple(line))
    for task_id, _, status, reason, pushes, _ in tasks:
        if reason == "conflict":
            continue
        at: object = "QUEUED"
        for before, after, _, _ in chains[task_id]:
            assert before == at, (task_id, chains[task_id])
            at = after
        assert at == status, (task_id, chains[task_id])
        assert status in {"QUEUED", "SUCCEEDED"} or chains[task_id][-1][2] == reason
        pushed = [line[3] for line in chains[task_id] if str(line[3]).startswith("push ")]
        assert pushed == [f"push {number}" for number in range(1, int(str(pushes)) + 1)]
    assert set(chains) <= {task[0] for task in tasks}
    _creation_is_logged(stage)


def _creation_is_logged(stage: Stage) -> None:
    made = collections.Counter(row[0] for row in stage.ask("SELECT run_id FROM task"))
    logged: collections.Counter[object] = collections.Counter()
    for run_id, message in stage.ask("SELECT run_id, message FROM event WHERE type = 'materialized'"):
        created, conflicts = re.findall(r"(\d+) (?:tasks created|failed at once)", str(message))
        logged[run_id] += int(created) + int(conflicts)
    assert +logged == made
    ended = stage.ask("SELECT run_id, count(*) FROM event WHERE type = 'completed' GROUP BY 1 ORDER BY 1")
    completed = stage.ask("SELECT id, 1 FROM run WHERE phase = 'COMPLETED' ORDER BY 1")
    assert ended == completed


def rate_was_kept(stage: Stage, rate: int) -> None:
    """Never more than the rate in any 60 s, nor more than its share in any second."""
    slots = dict(stage.ask("SELECT second, sum(pushed) FROM rate_slot GROUP BY 1"))
    assert slots
    assert max(slots.values()) <= -(-rate // 60)
    for second in slots:
        assert sum(pushed for at, pushed in slots.items() if second <= at <= second + 60) <= rate
