"""Fills a database through the store's own functions: what a commit declares, and what devices then do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from reconciler.domain import actual, lifecycle, targeting
from reconciler.domain.desired import Key
from reconciler.domain.resources import Kind
from reconciler.protocol.topics import Address
from reconciler.store import (
    devices,
    events,
    jobs,
    materialization,
    objects,
    products,
    rosters,
    runs,
    tables,
    tasks,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SHA = "a" * 40
PRODUCT, KEY = "thermostat", "a1B2c3D4e5"
BATCH = "thermostat-1.4.0"
SETTLE = timedelta(0)


def revision(connection, sha=SHA, now=NOW):
    return objects.record_revision(connection, objects.Revision(sha, "refs/heads/main", "A commit"), now)


def declare(connection, kind, name, spec=None, now=NOW):
    """An object that was accepted; its id."""
    accepted = objects.Acceptance(
        Key(kind, name), f"{name}.yaml", f"digest-{name}", spec or {}, revision(connection, now=now)
    )
    return objects.accept(connection, accepted, now)


def refuse(connection, kind, name, reason, message="because"):
    """An object that is not what Git says."""
    from reconciler.domain.plan import Reason, Verdict

    key = Key(kind, name)
    verdict = Verdict(key, reason, message, holds=reason is Reason.FIRST_SIGHT)
    note = objects.Note(key, f"{name}.yaml", "other-digest", verdict)
    events.append(connection, NOW, objects.note(connection, [note], revision(connection), NOW))


def product(connection, name=PRODUCT, key=KEY):
    object_id = declare(connection, Kind.PRODUCT, name, {"productKey": key})
    row = products.NewProduct(
        object_id=object_id,
        name=name,
        product_key=key,
        numeric_versions=False,
        auto_registration=False,
        modules=[],
    )
    products.put_product(connection, row)
    found = products.product_id(connection, name)
    assert found is not None
    return found


def package(connection, version="1.4.0", product_name=PRODUCT, *, name=None, **changes):
    name = name or f"{product_name}-{version}"
    object_id = declare(connection, Kind.PACKAGE, name, {"product": product_name, "version": version})
    product_id = products.product_id(connection, product_name)
    assert product_id is not None
    blob = products.put_blob(connection, sha256=f"sha-{name}", md5="m", size=2048, now=NOW)
    values = {
        "object_id": object_id, "name": name, "product_id": product_id, "module": "default",
        "version": version, "sign_method": "SHA256", "files": (products.NewFile("firmware.bin", blob),),
        "custom_info": None,
    }  # fmt: skip
    products.put_package(connection, products.NewPackage(**values | changes))
    return name


def roster(connection, digest, names, tags=None):
    roster_id, complete = rosters.begin(connection, digest)
    if not complete:
        rosters.add(connection, roster_id, ((name, (tags or {}).get(name)) for name in names))
        rosters.complete(connection, roster_id)
    return roster_id


def inventory(connection, names, *, name="all", product_name=PRODUCT, tags=None):
    """An inventory whose names are not devices yet: `materialize` makes them so."""
    object_id = declare(connection, Kind.DEVICE_INVENTORY, name, {"product": product_name})
    listed = roster(connection, f"{name}:{sorted(names)}:{tags}", names, tags)
    product_id = products.product_id(connection, product_name)
    assert product_id is not None
    products.put_inventory(connection, object_id, product_id, listed)


def batch(connection, name=BATCH, *, version="1.4.0", names=None, now=NOW, **changes):
    """A batch and its first run, whose tasks are not made yet; the run's id."""
    named = changes.pop("package", f"{PRODUCT}-{version}")
    made = products.package(connection, named)
    assert made is not None
    spec = {"package": named} | changes.pop("spec", {})
    module = changes.pop("module", made.module)
    conditions = targeting.Conditions(
        module,
        version,
        tuple(changes.pop("source_versions", ())),
        allow_downgrade=changes.pop("allow_downgrade", False),
    )
    values = {"type": actual.RunType.STATIC, "push_rate": 600} | changes
    run = runs.NewRun(
        object_id=declare(connection, Kind.BATCH, name, spec, now),
        batch=name,
        product_id=made.product_id,
        package_id=made.id,
        revision_id=revision(connection),
        roster_id=roster(connection, f"{name}:{sorted(names)}", names) if names is not None else None,
        conditions=conditions,
        **values,
    )
    return runs.create(connection, run, now)


def world(database, fleet, **changes):
    """A product, its package 1.4.0, its devices, and a batch for all of them with its tasks; the run's id."""
    with database.writing() as connection:
        objects.start_daemon(connection, NOW)
        product(connection)
        package(connection)
        inventory(connection, fleet)
    materialize(database)
    with database.writing() as connection:
        run_id = batch(connection, **changes)
    materialize(database)
    return run_id


def materialize(database, *, now=NOW, epoch=1, chunk=jobs.CHUNK):
    """Everything that is incomplete or due; the number of chunks."""
    chunks = 0
    presence = devices.Presence(epoch, SETTLE)
    while True:
        with database.writing() as connection:
            runs.end_due(connection, now)
            runs.start_due(connection, now)
            more = materialization.work(connection, presence, now, chunk=chunk)
        if not more:
            return chunks
        chunks += 1


def settle(database, *, now=NOW, chunk=jobs.CHUNK):
    """Every job comes to its end; the number of transactions."""
    chunks = 0
    while True:
        with database.writing() as connection:
            if not jobs.work(connection, devices.Presence(1, SETTLE), now, chunk):
                return chunks
        chunks += 1


def find(connection, names, epoch=1):
    """Devices by name."""
    found = devices.find(connection, [Address(KEY, name) for name in names], epoch)
    return {address.device_name: device for address, device in found.items()}


def report(connection, versions, now=NOW):
    """Devices reported versions of their default module."""
    found = find(connection, versions)
    changed = [
        devices.Report(found[name].id, found[name].product_id, "default", version)
        for name, version in versions.items()
    ]
    devices.report(connection, changed, now)


def online(connection, names, *, epoch=1, session=1, now=NOW):
    """Devices are there, and what waits for them is due."""
    ids = [device.id for device in find(connection, names).values()]
    devices.came(connection, dict.fromkeys(ids, session), epoch, now)
    tasks.due_again(connection, ids, now)


def send(connection, name, *happened, now=NOW):
    """What a device said, applied to its unfinished task."""
    device = find(connection, [name])[name]
    before = after = next(task for task in tasks.active(connection, [device.id])[device.id] if task.holds)
    for event in happened:
        after = lifecycle.step(after, event, now).task
    tasks.save(connection, [tasks.Change(before, after, ())], now)


def task(connection, name, run_id=None):
    """The row of a device's newest task (or the one of a run)."""
    query = (
        select(tables.task)
        .join(tables.device, tables.device.c.id == tables.task.c.device_id)
        .where(tables.device.c.name == name)
        .order_by(tables.task.c.id.desc())
    )
    if run_id is not None:
        query = query.where(tables.task.c.run_id == run_id)
    return connection.execute(query).first()
