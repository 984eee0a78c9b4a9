"""The rows that make objects usable by the engine: products, packages with their files, inventories."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, Select, and_, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from reconciler.domain import actual, lifecycle, resources
from reconciler.protocol.topics import Address
from reconciler.store import counts, packed, tables

_product, _package, _blob = tables.product, tables.package, tables.blob
_file, _run = tables.package_file, tables.run

UNREAD = "the daemon has not read its signing key yet"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewProduct:
    """What a product's row is made of."""

    object_id: int
    name: str
    product_key: str
    numeric_versions: bool
    auto_registration: bool
    modules: list[str]
    signing_key: str | None = None
    """Where its private key is (`resources.KeySource.reference`)."""
    protocol: str = resources.Protocol.ALIYUN
    """How its devices are spoken to."""
    md5_name: str = resources.Md5Name.CLASSIC


def put_product(connection: Connection, product: NewProduct) -> None:
    """Declares a product, anew or again. Who has the key of a product that left Git has its devices too.

    One that signs is held until the daemon has looked at its signing key (`note_signing`).
    """
    held = UNREAD if product.signing_key is not None else None
    values = dataclasses.asdict(product) | {"removed": False, "signing_held": held, "signing_held_at": None}
    key = _product.c.product_key == product.product_key
    if connection.execute(update(_product).where(key, _product.c.removed).values(**values)).rowcount:
        return
    statement = insert(_product).values(**values)
    connection.execute(statement.on_conflict_do_update(index_elements=["object_id"], set_=values))


@dataclasses.dataclass(frozen=True, slots=True)
class Signing:
    """A product that signs: where its private key is, and why that can't be used (None: it can)."""

    product_id: int
    name: str
    key: str
    held: str | None


def signing(connection: Connection) -> list[Signing]:
    """The products that sign what their devices are told; also such as left Git with tasks on their way."""
    asked = select(_product.c.id, _product.c.name, _product.c.signing_key, _product.c.signing_held)
    found = connection.execute(asked.where(_product.c.signing_key.is_not(None)).order_by(_product.c.name))
    return [Signing(*row) for row in found]


def note_signing(connection: Connection, of: Signing, held: str | None, now: datetime) -> bool:
    """A product's signing key can be used from now on (None), or can't be: then nothing goes out to its devices.

    False, and nothing changes, when it is not as it was read any more: a commit may have named another key meanwhile.
    """
    as_read = and_(
        _product.c.id == of.product_id,
        _product.c.signing_key == of.key,
        _product.c.signing_held.is_not_distinct_from(of.held),
    )
    values = {"signing_held": held, "signing_held_at": now if held is not None else None}
    return bool(connection.execute(update(_product).where(as_read).values(**values)).rowcount)


def product_id(connection: Connection, name: str) -> int | None:
    """The id of a product that is in Git."""
    return connection.execute(
        select(_product.c.id).where(_product.c.name == name, ~_product.c.removed)
    ).scalar_one_or_none()


def put_blob(connection: Connection, *, sha256: str, md5: str, size: int, now: datetime) -> int:
    """The id of a stored file's row, made when it is new."""
    connection.execute(
        insert(_blob)
        .values(sha256=sha256, md5=md5, size=size, created_at=now)
        .on_conflict_do_update(index_elements=["sha256"], set_={"stored": True, "unused_since": None})
    )
    return int(connection.execute(select(_blob.c.id).where(_blob.c.sha256 == sha256)).scalar_one())


def blob_id(connection: Connection, sha256: str) -> int | None:
    """The id of a file that is in the store."""
    query = select(_blob.c.id).where(_blob.c.sha256 == sha256, _blob.c.stored)
    return connection.execute(query).scalar_one_or_none()


@dataclasses.dataclass(frozen=True, slots=True)
class NewFile:
    """One of a package's files: what devices call it, and which stored file it is."""

    name: str
    blob_id: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewPackage:
    """What a package's rows are made of."""

    object_id: int
    name: str
    product_id: int
    files: tuple[NewFile, ...]
    """In the order of the manifest."""
    module: str
    version: str
    sign_method: str
    custom_info: str | None
    source_version: str | None = None
    """Of a delta."""
    verification: actual.Verification | None = None
    """How its trial stands from now on; None: as it did."""


def put_package(connection: Connection, package: NewPackage) -> int:
    """Declares a package, anew or again; its id. What may not change was refused by the plan."""
    values = dataclasses.asdict(package) | {"removed": False}
    del values["files"]
    if package.verification is None:
        del values["verification"]
    statement = insert(_package).values(**values)
    statement = statement.on_conflict_do_update(index_elements=["object_id"], set_=values)
    package_id = int(connection.execute(statement.returning(_package.c.id)).scalar_one())
    files = [
        {"package_id": package_id, "number": number, "name": file.name, "blob_id": file.blob_id}
        for number, file in enumerate(package.files, start=1)
    ]
    connection.execute(insert(_file).on_conflict_do_nothing(), files)
    return package_id


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """What a run needs of its package."""

    id: int
    product_id: int
    module: str
    version: str
    source_version: str | None = None


def package(connection: Connection, name: str) -> Package | None:
    """A package that is in Git, by name."""
    row = connection.execute(select(_package).where(_package.c.name == name, ~_package.c.removed)).first()
    return Package(row.id, row.product_id, row.module, row.version, row.source_version) if row else None


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """What a run needs of its group: a static one's list, a dynamic one's id."""

    id: int
    roster_id: int | None


def group(connection: Connection, name: str) -> Group | None:
    """A group that is in Git, by name."""
    group = tables.device_group
    row = connection.execute(select(group).where(group.c.name == name, ~group.c.removed)).first()
    return Group(row.id, row.roster_id) if row else None


def put_inventory(connection: Connection, object_id: int, product: int, roster_id: int) -> None:
    """Declares an inventory; its names become devices by materialisation."""
    inventory = tables.inventory
    values = {"product_id": product, "roster_id": roster_id, "cursor": "", "checked": None, "removed": False}
    statement = insert(inventory).values(object_id=object_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["object_id"], set_=values))


def remove(connection: Connection, object_id: int) -> None:
    """An object left Git: what it made is served no more. An inventory's devices leave with its last chunks."""
    for table in (_product, _package):
        connection.execute(update(table).where(table.c.object_id == object_id).values(removed=True))
    inventory = tables.inventory
    gone = update(inventory).where(inventory.c.object_id == object_id)
    connection.execute(gone.values(cursor="", checked=0, removed=True))


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One of a package's files, as it is stored."""

    name: str
    blob_id: int
    size: int
    sha256: str
    md5: str


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """What a run's devices are offered, but for the places of the files."""

    run_id: int
    version: str
    module: str
    sign_method: str
    files: tuple[File, ...]
    """In the order of the manifest."""
    custom_info: str | None
    tags: dict[str, str]
    download: str
    delta: bool
    protocol: str = resources.Protocol.ALIYUN
    """How the devices are spoken to."""
    md5_name: str = resources.Md5Name.CLASSIC
    signing_key: str | None = None
    """Where the key is that signs the files; None: they are not signed."""


_OFFERS = (
    select(
        _run.c.id.label("run_id"), _run.c.package_id, _package.c.version, _package.c.module, _package.c.sign_method,
        _package.c.custom_info, _run.c.tags, _run.c.download, _run.c.delta, _product.c.protocol, _product.c.md5_name,
        _product.c.signing_key,
    )
    .join(_package, _package.c.id == _run.c.package_id)
    .join(_product, _product.c.id == _run.c.product_id)
    .where(_run.c.id.in_(packed.members("runs")))
)  # fmt: skip


def offers(connection: Connection, run_ids: list[int]) -> dict[int, Offer]:
    """What the devices of some runs are offered."""
    rows = [dict(row) for row in connection.execute(_OFFERS, {"runs": packed.pack(run_ids)}).mappings()]
    files = files_of(connection, {row["package_id"] for row in rows})
    return {row["run_id"]: Offer(files=files[row.pop("package_id")], **row) for row in rows}


def files_of(
    connection: Connection, package_ids: Iterable[int] | Select[tuple[int]]
) -> dict[int, tuple[File, ...]]:
    """The files of packages, by the package's id."""
    query = (
        select(_file.c.package_id, _file.c.name, _blob.c.id, _blob.c.size, _blob.c.sha256, _blob.c.md5)
        .join(_blob, _blob.c.id == _file.c.blob_id)
        .where(_file.c.package_id.in_(package_ids))
        .order_by(_file.c.package_id, _file.c.number)
    )
    rows = itertools.groupby(connection.execute(query), lambda row: row.package_id)
    return {package_id: tuple(File(*row[1:]) for row in its) for package_id, its in rows}


_OFFERED = (str(lifecycle.Status.NOTIFIED), str(lifecycle.Status.IN_PROGRESS))


def streams(
    connection: Connection, task_ids: Collection[int], number: int
) -> dict[tuple[Address, int], tuple[str, int]]:
    """SHA-256 and size of a file, by its number, of those of these tasks that their device was offered.

    By the device, too: a task of another one is not to be found.
    """
    task, run, device = tables.task, tables.run, tables.device
    query = (
        select(_product.c.product_key, device.c.name, task.c.id, _blob.c.sha256, _blob.c.size)
        .select_from(task)
        .join(run, run.c.id == task.c.run_id)
        .join(_file, and_(_file.c.package_id == run.c.package_id, _file.c.number == number))
        .join(_blob, _blob.c.id == _file.c.blob_id)
        .join(device, device.c.id == task.c.device_id)
        .join(_product, _product.c.id == device.c.product_id)
        .where(task.c.id.in_(task_ids), task.c.status.in_(_OFFERED))
    )
    rows = connection.execute(query)
    return {(Address(key, name), task_id): (sha256, size) for key, name, task_id, sha256, size in rows}


def downloads(connection: Connection) -> list[tuple[str, str]]:
    """Each batch that has unfinished tasks, or may get some, and how its devices download."""
    run = tables.run
    query = select(run.c.batch, run.c.download).where(or_(run.c.phase.in_(actual.UNENDED), counts.goes_on()))
    return [(row.batch, row.download) for row in connection.execute(query.order_by(run.c.id))]
