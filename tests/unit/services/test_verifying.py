"""Files are sent only when they are what Git named; what was altered is lost, and got again, while pushes wait."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import threading

import pytest
from rig import base, batch, document
from sqlalchemy import select

from reconciler.artifacts.fetch import Fetcher
from reconciler.artifacts.local import LocalFiles
from reconciler.artifacts.network import HaltedError
from reconciler.artifacts.store import FileStore
from reconciler.services.fetching import Fetching
from reconciler.services.verifying import Verifying
from reconciler.store import granted, tables

CONTENT = b"firmware " * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class CountingStore(FileStore):
    """Counts what is verified, and holds it until it may go on."""

    def __init__(self, root) -> None:
        super().__init__(root)
        self.read: list[str] = []
        self.may_go_on = threading.Event()

    def verify(self, sha256, halt):
        self.read.append(sha256)
        self.may_go_on.wait(10)
        return super().verify(sha256, halt)


@pytest.fixture
def files(tmp_path):
    """A store after a restart."""
    before = FileStore(tmp_path / "store")
    before.prepare()
    before.put([CONTENT])
    return CountingStore(tmp_path / "store")


def damage(files, sha256=SHA256):
    content = files.path(sha256).read_bytes()
    files.path(sha256).write_bytes(content[:-1] + b"X")


async def content_of(verifying, sha256=SHA256):
    with os.fdopen(await verifying.open(sha256), "rb") as file:
        return file.read()


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - threads do the work, and have no event
            await asyncio.sleep(0.001)


async def test_who_comes_together_waits_for_one_reading_and_who_leaves_ends_it_for_nobody(files):
    verifying = Verifying(files)
    other = files.put([b"another"]).sha256
    waiting = [asyncio.create_task(content_of(verifying)) for _ in range(20)]
    await until(lambda: files.read)
    waiting.pop(0).cancel()
    assert await content_of(verifying, other) == b"another"  # who needs no reading does not wait
    files.may_go_on.set()
    assert await asyncio.gather(*waiting) == [CONTENT] * 19
    assert await content_of(verifying) == CONTENT
    assert files.read == [SHA256]


async def test_a_damaged_file_is_missing_for_all_who_wait_and_is_told_of_once(files, caplog):
    lost = []

    async def losing(sha256):
        lost.append(sha256)

    damage(files)
    files.may_go_on.set()
    verifying = Verifying(files, losing)
    found = await asyncio.gather(*(content_of(verifying) for _ in range(5)), return_exceptions=True)
    assert {type(each) for each in found} == {FileNotFoundError}
    assert (lost, verifying.damaged) == ([SHA256], 1)
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    for words in (SHA256, "its SHA-256 is", "damaged/", "got again"):
        assert words in line.message


async def test_a_file_that_is_put_again_before_those_who_wait_look_is_theirs(files):
    async def put_again(_):
        files.put([CONTENT])

    damage(files)
    files.may_go_on.set()
    assert await content_of(Verifying(files, put_again)) == CONTENT


async def test_a_daemon_that_stops_waits_for_no_large_file(files):
    verifying = Verifying(files)
    waiting = asyncio.create_task(content_of(verifying))
    await until(lambda: files.read)
    verifying.close()
    files.may_go_on.set()
    with pytest.raises(HaltedError):
        await waiting


# --- with the whole engine ---


def outside(folder):
    """A package whose file comes from outside."""
    files = [{"name": "app.bin", "source": f"file://{folder}/app.bin", "sha256": SHA256}]
    package = document("Package", "lamp-2", product="lamp", version="2.0.0", files=files)
    return {**base("dev-1"), "package.yaml": package}


async def test_nothing_is_pushed_of_a_damaged_file_of_the_commit_before_a_pass_has_put_it_again(rig):
    await rig.commit(base("dev-1", "dev-2"), batch())
    await rig.arrive("dev-1")
    assert await rig.push() == 1
    (blob,) = rig.rows(select(tables.blob))
    damage(rig.files)
    with pytest.raises(FileNotFoundError):
        await content_of(rig.verifying)
    assert await rig.database.read(granted.find, blob.id, rig.task("dev-1").id) is None
    await rig.arrive("dev-2")
    assert await rig.push() == 0
    rig.ask("dev-1")
    await rig.hear()
    assert rig.pushed("dev-1")[-1]["data"] == {}
    await rig.commit(base("dev-1", "dev-2"), batch())
    assert await rig.push() == 1
    assert rig.status("dev-2") == "NOTIFIED"
    assert await rig.database.read(granted.find, blob.id, rig.task("dev-1").id)
    assert await content_of(rig.verifying) == CONTENT


async def test_a_damaged_file_from_outside_is_fetched_again_and_its_batch_goes_on(rig, tmp_path):
    (tmp_path / "app.bin").write_bytes(CONTENT)
    manifests = outside(tmp_path)
    fetching = Fetching(
        rig.database, Fetcher(rig.files, {"file": LocalFiles([tmp_path])}, 10**9), rig.clock, list
    )
    await rig.commit(manifests)
    await fetching.once()
    await rig.commit(manifests, batch())
    damage(rig.files)
    with pytest.raises(FileNotFoundError):
        await content_of(rig.verifying)
    await rig.commit(manifests, batch())
    assert rig.object("lamp-2").reason == "Fetching"
    await rig.arrive("dev-1")
    assert await rig.push() == 0
    assert await fetching.once() == 1
    assert await rig.push() == 1
    await rig.commit(manifests, batch())
    assert (rig.object("lamp-2").reason, rig.object("all").reason) == ("", "")
    assert await content_of(rig.verifying) == CONTENT
    assert json.loads(rig.wire.published[-1].payload)["data"]["size"] == len(CONTENT)
