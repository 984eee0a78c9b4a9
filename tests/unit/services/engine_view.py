"""What can be seen of the engine, in the words of the reference model."""

from __future__ import annotations

from collections import Counter

_REASONS = {"canceled": "cancelled", "already-on-target": "already"}
_RUNS = "SELECT id, type, batch, number, phase FROM run"
_DEVICES = "SELECT d.id, p.product_key || '/' || d.name FROM device d JOIN product p ON p.id = d.product_id"
_TASKS = """
    SELECT run_id, device_id, module, match_no, status, hold, reason, source_version, attempt, late_success
    FROM task ORDER BY match_no, id
"""
_COUNTS = "SELECT run_id, status, count FROM task_count WHERE count > 0"
_PACKAGES = "SELECT name, verification FROM package WHERE NOT removed"
_LEFT_OUT = "SELECT run_id, device_id, reason FROM left_out"


class View:
    """The database of a rig at one moment: everything is read at once."""

    def __init__(self, rig):
        with rig.database.reading() as connection:
            self._read = lambda query: connection.exec_driver_sql(query).all()
            self._runs = {row.id: row for row in self._read(_RUNS)}
            self._devices = dict(map(tuple, self._read(_DEVICES)))
            rows = self._read(_TASKS)
            self.tasks = self._tasks(rows)
            self.batches = self._batches()
            self.verification = dict(map(tuple, self._read(_PACKAGES)))
            self.late_successes = Counter(self._devices[row.device_id] for row in rows if row.late_success)
            self.left_out = self._left_out()

    def _tasks(self, rows):
        """As `Fleet.snapshot()["tasks"]`."""
        found = {}
        for row in rows:
            run = self._runs[row.run_id]
            place = (self._devices[row.device_id], _kind(run), run.batch, run.number, row.module)
            match_no = row.match_no if run.type == "Dynamic" else 1
            hold = None if row.hold == "none" else row.hold
            reason = _REASONS.get(row.reason, row.reason)
            seen = (match_no, row.status, hold, reason, row.source_version, row.attempt)
            found.setdefault(place, []).append(seen)
        return found

    def _batches(self):
        """As `Fleet.snapshot()["batches"]`."""
        counts = {id_: Counter() for id_ in self._runs}
        for run_id, status, count in self._read(_COUNTS):
            counts[run_id][status] += count
        return {
            (_kind(run), run.batch, run.number): (run.phase, dict(counts[id_]))
            for id_, run in self._runs.items()
        }

    def _left_out(self):
        """Whom a run left out, and why."""
        found = {}
        for run_id, device_id, reason in self._read(_LEFT_OUT):
            run = self._runs[run_id]
            place = (_kind(run), run.batch, run.number, self._devices[device_id])
            found[place] = _REASONS.get(reason, reason)
        return found


def _kind(run):
    return "Verify" if run.type == "Verify" else "Batch"
