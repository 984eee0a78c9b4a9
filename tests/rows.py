"""Puts a situation into a database row by row, for tests of what is done with it and what is shown of it.

How a database comes into such a situation is tested elsewhere, and needs the whole engine.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select, update

from reconciler.domain import lifecycle
from reconciler.store import tables

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SHA = "a" * 40
PRODUCT, KEY = "thermostat", "a1B2c3D4e5"
PACKAGE, BATCH = "firmware-1.4.0", "eu-to-1.4.0"
EPOCH = 3


@dataclasses.dataclass
class Rows:
    """One connection, and the defaults of what is put into it."""

    connection: object
    now: datetime = NOW

    def add(self, table, **values):
        return self.connection.execute(insert(table).values(**values)).inserted_primary_key[0]

    def object(self, kind, name, spec=None, **changes):
        values = {
            "kind": kind, "name": name, "path": f"{name}.yaml", "digest": f"digest-{name}", "spec": spec or {},
            "revision_id": 1, "declared_digest": f"digest-{name}", "sync": "Synced", "created_at": self.now,
            "updated_at": self.now,
        }  # fmt: skip
        return self.add(tables.object_, **values | changes)

    def world(self, *, epoch=EPOCH):
        """A daemon that lived a moment ago, a commit, a product and a package."""
        self.add(tables.daemon, id=1, epoch=epoch, heartbeat_at=self.now, origin="")
        self.add(tables.revision, sha=SHA, ref="refs/heads/main", observed_at=self.now)
        of_product = self.object("Product", PRODUCT, {"productKey": KEY})
        values = {"numeric_versions": False, "auto_registration": False, "modules": ["mcu"]}
        self.add(tables.product, object_id=of_product, name=PRODUCT, product_key=KEY, **values)
        self.add(tables.blob, sha256="s" * 64, md5="m" * 32, size=2048, created_at=self.now)
        return self.package()

    def package(self, name=PACKAGE, version="1.4.0", spec=None, **changes):
        said = {"product": PRODUCT, "version": version, **(spec or {})}
        values = {
            "object_id": self.object("Package", name, said), "name": name, "product_id": 1,
            "module": "default", "version": version, "sign_method": "SHA256",
        }  # fmt: skip
        package_id = self.add(tables.package, **values | changes)
        self.add(tables.package_file, package_id=package_id, number=1, name="app.bin", blob_id=1)
        return package_id

    def device(self, name, version=None, *, online=False, modules=None, **changes):
        """A device that reported a version (of other modules too), online since a minute ago or away for an hour."""
        digest = hashlib.sha256(f"{KEY}/{name}".encode()).digest()
        seen = self.now - MINUTE if online else self.now - HOUR
        values = {
            "product_id": 1, "name": name, "hash31": int.from_bytes(digest[:4], "big") & 0x7FFFFFFF,
            "state": "declared", "created_at": self.now - 24 * HOUR, "last_seen_at": seen,
            "online_epoch": EPOCH if online else None, "online_since": seen if online else None,
        }  # fmt: skip
        device_id = self.add(tables.device, **values | changes)
        for module, reported in {"default": version, **(modules or {})}.items():
            if reported is not None:
                row = {"device_id": device_id, "product_id": 1, "module": module, "version": reported}
                self.add(tables.device_version, **row, reported_at=self.now - 2 * HOUR)
        return device_id

    def run(self, batch=BATCH, *, spec=None, object_id=None, number=1, **changes):
        """A run of a batch for everybody, that began an hour ago."""
        at = self.now - HOUR
        said = {"package": PACKAGE, "target": {"all": {}}, **(spec or {})}
        kind = "Package" if changes.get("type") == "Verify" else "Batch"
        if object_id is None:
            found = select(tables.object_.c.id).where(
                tables.object_.c.kind == kind, tables.object_.c.name == batch
            )
            object_id = self.connection.execute(found).scalar() or self.object(
                kind, batch, said, updated_at=at
            )
        values = {
            "object_id": object_id, "batch": batch, "number": number, "type": "Static", "product_id": 1,
            "package_id": 1, "revision_id": 1, "phase": "IN_PROGRESS", "module": "default",
            "target_version": "1.4.0", "source_versions": [], "allow_downgrade": False, "push_rate": 600,
            "push_delivery": True, "tags": {}, "created_at": at, "started_at": at,
            "chosen_at": None if changes.get("type") == "Dynamic" else changes.get("created_at", at),
        }  # fmt: skip
        return self.add(tables.run, **values | changes)

    def task(self, run_id, device_id, status="QUEUED", *, hold="none", **changes):
        ended = status in lifecycle.ENDED
        values = {
            "run_id": run_id, "device_id": device_id, "module": "default", "revision_id": 1, "status": status,
            "hold": hold, "holds": not ended and hold != "behind", "source_version": "1.3.0",
            "created_at": self.now - HOUR, "ended_at": self.now - MINUTE if ended else None,
        }  # fmt: skip
        task_id = self.add(tables.task, **values | changes)
        count = tables.task_count
        place = {"run_id": run_id, "status": status, "reason": changes.get("reason") or ""}
        same = [count.c[name] == value for name, value in place.items()]
        if not self.connection.execute(update(count).where(*same).values(count=count.c.count + 1)).rowcount:
            self.add(count, **place, count=1)
        return task_id

    def list_of(self, digest, names):
        roster_id = self.add(tables.roster, digest=digest, complete=True)
        for name in names:
            self.add(tables.roster_entry, roster_id=roster_id, name=name)
        return roster_id

    def group(self, name, names=None, *, selector=None, members=()):
        """A static group of names, or a dynamic one with its members."""
        spec = {"product": PRODUCT, **({"selector": selector} if selector else {"devices": names})}
        group_id = self.add(
            tables.device_group, object_id=self.object("DeviceGroup", name, spec), name=name, product_id=1,
            roster_id=self.list_of(f"group {name}", names) if names is not None else None, selector=selector,
        )  # fmt: skip
        for device_id in members:
            self.add(tables.membership, group_id=group_id, device_id=device_id, present=True, joins=1)
        return group_id


def row(connection, table, row_id):
    """One row."""
    return connection.execute(select(table).where(table.c.id == row_id)).one()


def counted(connection, run_id):
    """A run's counters, and that they are what its tasks are."""
    count, task = tables.task_count, tables.task
    kept = {
        (r.status, r.reason): r.count
        for r in connection.execute(select(count).where(count.c.run_id == run_id, count.c.count > 0))
    }
    found: dict[tuple[str, str], int] = {}
    for r in connection.execute(select(task.c.status, task.c.reason).where(task.c.run_id == run_id)):
        place = (r.status, r.reason or "")
        found[place] = found.get(place, 0) + 1
    assert kept == found
    return {status: sum(n for (s, _), n in kept.items() if s == status) for status, _ in kept}
