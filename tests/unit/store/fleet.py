"""A fleet of eight declared devices and one package, and short ways to say what happens to it."""

from __future__ import annotations

import seed
from seed import NOW
from sqlalchemy import select

from reconciler.domain import actual, lifecycle
from reconciler.store import (
    devices,
    endings,
    groups,
    matching,
    objects,
    products,
    queue,
    runs,
    tables,
)

FLEET = [f"dev-{number}" for number in range(8)]
PRESENCE = devices.Presence(1, seed.SETTLE)
CHUNK = 3
KEEP, OVERWRITE, WAIT = "Keep", "Overwrite", "Wait"


class Fleet:
    """A database whose product has devices; every call is a transaction, and leaves no job open."""

    def __init__(self, database, names=FLEET, *, modules=("mcu",), presence=PRESENCE):
        self.database = database
        self.presence = presence
        with database.writing() as connection:
            objects.start_daemon(connection, NOW)
            seed.product(connection)
            connection.execute(tables.product.update().values(modules=list(modules)))
            seed.package(connection)
        self.declare(names)

    def declare(self, names, tags=None):
        with self.database.writing() as connection:
            seed.inventory(connection, names, tags=tags)
        self.work()

    def work(self, now=NOW):
        return seed.materialize(self.database, now=now, chunk=CHUNK)

    def ids(self):
        with self.database.reading() as connection:
            return {row.name: row.id for row in connection.execute(select(tables.device))}

    def batch(self, name="batch", *, work=True, now=NOW, **changes):
        """A batch whose jobs are done; the run's id."""
        with self.database.writing() as connection:
            run_id = seed.batch(connection, name, now=now, **changes)
        if work:
            self.work(now)
        return run_id

    def dynamic(self, name="dynamic", **changes):
        changes.setdefault("source_versions", ["1.3.0"] if "group_id" not in changes else [])
        return self.batch(name, type=actual.RunType.DYNAMIC, **changes)

    def says(self, versions, *, module="default", now=NOW, changed=True):
        """Devices report versions, and what follows from it happens; the number of matches."""
        ids = self.ids()
        with self.database.writing() as connection:
            product = products.product_id(connection, seed.PRODUCT)
            if changed:
                rows = [devices.Report(ids[name], product, module, v) for name, v in versions.items()]
                devices.report(connection, rows, now)
            reported = [
                matching.Reported(ids[name], product, module, v, changed) for name, v in versions.items()
            ]
            return matching.match(connection, reported, self.presence, now)

    def come(self, names, now=NOW):
        with self.database.writing() as connection:
            devices.came(connection, {self.ids()[name]: 1 for name in names}, 1, now)

    def move(self, name, status, *, batch=None, hold="none"):
        """Puts a device's unfinished task (of a batch) where a test needs it."""
        task, run = tables.task, tables.run
        mine = select(run.c.id).where(run.c.batch == batch) if batch else select(run.c.id)
        with self.database.writing() as connection:
            row = connection.execute(
                select(task).where(
                    task.c.device_id == self.ids()[name], task.c.ended_at.is_(None), task.c.run_id.in_(mine)
                )
            ).one()
            connection.execute(
                task.update().where(task.c.id == row.id).values(status=str(status), hold=str(hold))
            )
            from reconciler.store import counts

            moves = counts.Moves()
            moves.move((row.run_id, lifecycle.Status(row.status), None), (row.run_id, status, None))
            moves.write(connection)

    def end(self, name, trigger=lifecycle.Trigger.CANCELED, batch=None, now=NOW):
        """One device's unfinished tasks (of a batch) end."""
        task, run = tables.task, tables.run
        which = task.c.device_id == self.ids()[name]
        if batch:
            which &= task.c.run_id.in_(select(run.c.id).where(run.c.batch == batch))
        with self.database.writing() as connection:
            return endings.end(connection, which, trigger, PRESENCE, now)

    def promote(self, names):
        with self.database.writing() as connection:
            return queue.promote(connection, [self.ids()[name] for name in names], PRESENCE, NOW)

    def cancel(self, run_id, *statuses, by="git"):
        with self.database.writing() as connection:
            total = runs.cancel(connection, run_id, runs.Cancellation(by, statuses, "why"), NOW)
        self.work()
        return total

    def group(self, name="group", *, product=True, work=True, **selector):
        with self.database.writing() as connection:
            object_id = seed.declare(connection, "DeviceGroup", name)
            product_id = products.product_id(connection, seed.PRODUCT) if product else None
            new = groups.NewGroup(object_id, name, product_id, None, selector)
            found = groups.put(connection, new, PRESENCE, NOW)
        if work:
            self.work()
        return found

    def ungroup(self, name="group", *, work=True):
        with self.database.writing() as connection:
            groups.remove(connection, seed.declare(connection, "DeviceGroup", name))
        if work:
            self.work()

    def members(self, group):
        """Who is in a group, and how often they came."""
        member = tables.membership
        with self.database.reading() as connection:
            rows = connection.execute(select(member).where(member.c.group_id == group, member.c.present))
            names = {number: name for name, number in self.ids().items()}
            return {names[row.device_id]: row.joins for row in rows}

    def run(self, run_id):
        with self.database.reading() as connection:
            return connection.execute(select(tables.run).where(tables.run.c.id == run_id)).one()

    def tasks(self, run_id):
        """The newest task of each device in a run: status, and hold or reason."""
        return {name: told[-1] for name, told in self.history(run_id).items()}

    def history(self, run_id):
        task, device = tables.task, tables.device
        query = (
            select(task, device.c.name)
            .join(device, device.c.id == task.c.device_id)
            .where(task.c.run_id == run_id)
        )
        found = {}
        with self.database.reading() as connection:
            for row in connection.execute(query.order_by(task.c.id)):
                more = row.reason or (row.hold if row.hold != "none" else None)
                found.setdefault(row.name, []).append((row.status, more) if more else row.status)
        return found

    def check(self):
        """The counters are what counting gives, and each device's slots are kept."""
        task, count = tables.task, tables.task_count
        with self.database.reading() as connection:
            rows = connection.execute(select(task)).all()
            kept = {
                (c.run_id, c.status, c.reason): c.count for c in connection.execute(select(count)) if c.count
            }
        counted = {}
        for row in rows:
            place = (row.run_id, row.status, row.reason or "")
            counted[place] = counted.get(place, 0) + 1
        assert kept == counted
        for row in rows:
            if row.holds:
                others = [o for o in rows if o.device_id == row.device_id and o.holds and o.id != row.id]
                assert all(row.multi and o.multi and o.module != row.module for o in others)
