"""What must be true at every moment, looked at each simulated hour, and once more when all is over.

Set-based and incremental: an hour costs what happened in it. What can be a rule of the database (a task that has ended
stays as it is) is a trigger, and is looked at by every single statement. Pushes are judged by what the wire really got.
"""

from __future__ import annotations

import collections
import json
import math
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from reconciler.store.database import Connection

from .engine import Engine
from .fleet import HOUR, Fleet
from .wire import Pushed, Wire

MINUTE = timedelta(minutes=1)
_FIXED = (
    "status", "reason", "ended_at", "source_version", "step", "pushes", "attempt", "holds", "hold", "push_due_at",
    "deadline_at", "claim_epoch",
)  # fmt: skip
_WAS, _IS = (", ".join(f"{row}.{name}" for name in _FIXED) for row in ("OLD", "NEW"))
_TRIGGERS = (
    "CREATE TABLE reopened (id INTEGER PRIMARY KEY, task_id INTEGER NOT NULL)",
    f"""CREATE TRIGGER ended_stays BEFORE UPDATE ON task
    WHEN OLD.ended_at IS NOT NULL AND NEW.ended_at IS NOT NULL AND ({_WAS}) IS NOT ({_IS})
    BEGIN SELECT RAISE(ABORT, 'a task that has ended was changed'); END""",
    """CREATE TRIGGER begins_again AFTER UPDATE ON task WHEN OLD.ended_at IS NOT NULL AND NEW.ended_at IS NULL
    BEGIN INSERT INTO reopened (task_id) VALUES (OLD.id); END""",
)
_OPEN = "(SELECT * FROM task WHERE holds = 1 UNION ALL SELECT * FROM task WHERE hold = 'behind')"
_UNFINISHED = "('CONFIRM', 'QUEUED', 'NOTIFIED', 'IN_PROGRESS')"
HOURLY = {
    "the counters of unfinished tasks are what there is": f"""
        SELECT run_id, status, sum(n) FROM (
          SELECT run_id, status, count(*) AS n FROM {_OPEN} GROUP BY run_id, status
          UNION ALL SELECT run_id, status, -count FROM task_count WHERE status IN {_UNFINISHED})
        GROUP BY run_id, status HAVING sum(n) <> 0""",
    "a device is in one task, or in one for each module": """
        SELECT device_id FROM task WHERE holds = 1 GROUP BY device_id
        HAVING count(*) > 1 AND (min(multi) = 0 OR count(DISTINCT module) < count(*))""",
    "a device that reports the target has no unfinished task for it": f"""
        SELECT task.id, task.status FROM {_OPEN} AS task JOIN run ON run.id = task.run_id JOIN device_version AS told
        ON told.device_id = task.device_id AND told.module = task.module AND told.version = run.target_version""",
    "an unfinished task's columns fit together": f"""
        SELECT id, status, hold FROM {_OPEN} WHERE status NOT IN {_UNFINISHED} OR ended_at IS NOT NULL
        OR holds = (hold = 'behind') OR (hold = 'retry') <> (retry_at IS NOT NULL)
        OR (push_due_at IS NOT NULL AND (status = 'CONFIRM' OR hold = 'behind'))
        OR (status = 'CONFIRM' AND pushes > 0 AND attempt > 0) OR (hold = 'behind' AND status <> 'QUEUED')""",
    "who waits, waits for somebody": """
        SELECT id FROM task WHERE hold = 'behind' AND NOT EXISTS (
          SELECT 1 FROM task AS other WHERE other.device_id = task.device_id AND other.holds = 1)""",
    "a completed run has nothing unfinished, one with nothing unfinished is completed": f"""
        SELECT id, phase, n FROM (SELECT run.id, run.phase, run.type, coalesce(sum(count), 0) AS n FROM run
          LEFT JOIN task_count ON task_count.run_id = run.id AND task_count.status IN {_UNFINISHED}
          WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.run_id = run.id) GROUP BY run.id)
        WHERE (phase = 'COMPLETED' AND n > 0) OR (phase = 'IN_PROGRESS' AND type <> 'Dynamic' AND n = 0)""",
    "of a cancelled run only goes on what its `onCancel` leaves": f"""
        SELECT task.id, task.status FROM {_OPEN} AS task JOIN run ON run.id = task.run_id AND run.phase = 'CANCELED'
        JOIN object ON object.id = run.object_id WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.run_id = run.id)
        AND (run.type = 'Verify' OR EXISTS (
          SELECT 1 FROM json_each(coalesce(object.spec -> '$.onCancel', '["Scheduled", "Unconfirmed", "Queued"]'))
          WHERE value = CASE task.status WHEN 'CONFIRM' THEN 'Unconfirmed' WHEN 'QUEUED' THEN 'Queued'
            WHEN 'NOTIFIED' THEN 'Notified' ELSE 'InProgress' END))""",
    "nothing is due for who can't be pushed": """
        SELECT task.id FROM task JOIN run ON run.id = task.run_id
        WHERE task.push_due_at IS NOT NULL AND NOT run.push_delivery""",
}
"""Queries that find nothing, when all is well."""
FINAL = {
    "the counters are what there is": """
        SELECT run_id, status, reason, sum(n) FROM (
          SELECT run_id, status, coalesce(reason, '') AS reason, count(*) AS n FROM task GROUP BY 1, 2, 3
          UNION ALL SELECT run_id, status, reason, -count FROM task_count)
        GROUP BY run_id, status, reason HAVING sum(n) <> 0""",
    "nothing is left unfinished": f"SELECT run_id, status, hold, count(*) FROM {_OPEN} GROUP BY 1, 2, 3",
    "every run is over, but for dynamic ones": """
        SELECT id, batch, phase FROM run WHERE phase NOT IN ('COMPLETED', 'CANCELED') AND type <> 'Dynamic'""",
    "no work is left": "SELECT run_id, type FROM job",
    "no order is left": "SELECT id, type FROM command WHERE done_at IS NULL",
    "no claim is left": "SELECT id FROM task WHERE claim_epoch IS NOT NULL",
}
"""The same, for the end of all days."""
_EVENTS = text(
    """SELECT id, task_id, from_status, to_status FROM event
    WHERE id > :last AND task_id IS NOT NULL AND from_status <> to_status ORDER BY id"""
)


class Checks:
    """Looks at the engine from outside.

    Args:
        engine: what is looked at.
        wire: what it really sent.
        fleet: what devices really run.
    """

    def __init__(self, engine: Engine, wire: Wire, fleet: Fleet) -> None:
        self._engine, self._wire, self._fleet = engine, wire, fleet
        with engine.database.from_outside() as connection:
            for trigger in _TRIGGERS:
                connection.exec_driver_sql(trigger)
        self._hour = 0
        self._event = 0
        self._at: dict[int, str] = {}
        """Where the log says that a task is."""
        self._began: dict[int, str] = {}
        self._last: dict[int, Pushed] = {}
        self._minute: dict[int, collections.deque[datetime]] = collections.defaultdict(collections.deque)
        self.looks = 0

    def look(self, seconds: float) -> None:
        """After each moment: pushes; after each hour: everything."""
        if self._wire.pushed:
            pushed, self._wire.pushed = self._wire.pushed, []
            self._engine.look(self._judge, pushed)
        if seconds // HOUR > self._hour:
            self._hour = int(seconds // HOUR)
            self._engine.look(self._ask, HOURLY)
            self._engine.look(self._follow)
            self.looks += 1

    def finish(self, calm_at: datetime) -> None:
        """At the end of all days, when everybody had a day to end well."""
        self._engine.look(self._ask, HOURLY | FINAL)
        self._engine.look(self._follow)
        self._engine.look(self._close, calm_at)

    def _ask(self, connection: Connection, queries: dict[str, str]) -> None:
        for sentence, query in queries.items():
            found = connection.exec_driver_sql(query).fetchmany(5)
            assert not found, f"not so: {sentence}: {[tuple(row) for row in found]}"

    # ----------------------------------------------------------------------------------------------- pushes

    def _judge(self, connection: Connection, pushed: list[Pushed]) -> None:
        """Never above the rate in any minute, spread over it, nor twice a minute for one task; only of who may push."""
        ids = json.dumps([push.task_id for push in pushed])
        query = """SELECT task.id, run.id, run.push_rate, run.push_delivery AND run.started_at IS NOT NULL
                   AND NOT run.suspended AND run.suspended_by IS NULL FROM task JOIN run ON run.id = task.run_id
                   WHERE task.id IN (SELECT value FROM json_each(?))"""
        of = {task: (run, rate, may) for task, run, rate, may in connection.exec_driver_sql(query, (ids,))}
        second = collections.Counter(of[push.task_id][:2] for push in pushed if not push.asked)
        for (run, rate), count in second.items():
            assert count <= math.ceil(rate / 60), f"run {run} pushes {count} in a second, its rate is {rate}"
        for push in pushed:
            run, rate, may = of[push.task_id]
            minute = self._minute[run]
            while minute and minute[0] <= push.at - MINUTE:
                minute.popleft()
            minute.append(push.at)
            if push.asked:  # it takes a slot, even when none is left
                self._last[push.task_id] = push
                continue
            assert may, f"run {run} is suspended, or not started, or for Pull: {push}"
            assert len(minute) <= rate, f"run {run} pushes {len(minute)} in a minute, its rate is {rate}"
            last = self._last.get(push.task_id)
            soon = last is not None and last.settled and push.at - last.at < MINUTE
            assert not soon, f"task {push.task_id} is pushed twice in a minute: {last}, {push}"
            self._last[push.task_id] = push

    # ------------------------------------------------------------------------------------------------- log

    def _follow(self, connection: Connection) -> None:
        """What the log says of a task makes a chain."""
        for event, task, origin, to in connection.execute(_EVENTS, {"last": self._event}):
            self._event = event
            was = self._at.get(task)
            if was is None:
                self._began[task] = origin
            assert was in (None, origin), f"task {task} was {was}, and is said to have been {origin}"
            self._at[task] = to

    def _close(self, connection: Connection, calm_at: datetime) -> None:
        """Every task is where its chain ends, and began as its batch says; devices run what is known of them."""
        reopened = {row[0] for row in connection.exec_driver_sql("SELECT task_id FROM reopened")}
        query = """SELECT task.id, task.status, task.reason, run.confirm FROM task JOIN run ON run.id = task.run_id"""
        for task, status, reason, confirm in connection.exec_driver_sql(query):
            assert self._at.get(task, status) == status, (
                f"task {task}: {self._at[task]} in the log, is {status}"
            )
            began = self._began.get(task, status)
            expected = {"CONFIRM", "QUEUED"} if confirm else {"QUEUED"}
            fits = began in expected or (began == "FAILED" and (task in reopened or reason == "conflict"))
            assert fits, f"task {task} began as {began}"
        self._orders(connection)
        self._versions(connection)
        steps = "('upgrade-failed', 'download-failed', 'verify-failed', 'burn-failed')"
        moment = int((calm_at + timedelta(hours=4)).timestamp() * 1000)
        late = f"SELECT id, reason FROM task WHERE reason IN {steps} AND ended_at > {moment}"
        self._ask(connection, {"devices that are well fail no step": late})

    def _orders(self, connection: Connection) -> None:
        """Only an operator's order makes an ended task begin again."""
        reopened, ordered = connection.exec_driver_sql(
            """SELECT (SELECT count(*) FROM reopened), (SELECT count(*) FROM command WHERE type = 'retry' AND ok)"""
        ).one()
        assert reopened == ordered, f"{reopened} tasks began again, by {ordered} orders"

    def _versions(self, connection: Connection) -> None:
        query = (
            """SELECT device.name, module, version FROM device_version JOIN device ON device.id = device_id"""
        )
        known: dict[str, dict[str, str]] = collections.defaultdict(dict)
        for name, module, version in connection.exec_driver_sql(query):
            known[name][module] = version
        for device in self._fleet.devices:
            name = device.address.device_name
            assert known[name] == device.versions, f"{name} runs {device.versions}, known is {known[name]}"


def summary(connection: Connection) -> list[tuple[Any, ...]]:
    """Tasks by status and reason."""
    query = (
        "SELECT status, reason, sum(count) FROM task_count GROUP BY 1, 2 HAVING sum(count) > 0 ORDER BY 1, 2"
    )
    return [tuple(row) for row in connection.exec_driver_sql(query)]
