"""A firmware file of a running daemon is altered on its disk: nobody gets it, and it comes again by itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import urllib.error
import urllib.request

import pytest

from reconciler import bootstrap
from reconciler.protocol import topics
from reconciler.protocol.topics import Address
from reconciler.settings import Settings
from reconciler.source.scratch import ScratchRepository
from reconciler.transport.memory import MemoryTransport

CONTENT = os.urandom(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LAMP = Address("lampkey", "dev-1")


def document(kind, name, **spec):
    text = {"apiVersion": "ota/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return json.dumps(text)


def declare(folder, source):
    """A fleet of one device, and a batch of a package whose file is in Git, or beside it."""
    repository = ScratchRepository(folder / "fleet")
    file = {"name": "app.bin", "source": source}
    if source != "app.bin":
        file["sha256"] = SHA256
    documents = [
        document("Product", "lamp", productKey="lampkey"),
        document("DeviceInventory", "here", product="lamp", devices=[{"name": "dev-1"}]),
        document("Package", "lamp-2", product="lamp", version="2.0.0", files=[file]),
        document("Batch", "all", package="lamp-2", target={"all": {}}),
    ]
    for number, text in enumerate(documents):
        (folder / "fleet" / f"{number}.yaml").write_text(text)
    (folder / "fleet" / "app.bin").write_bytes(CONTENT)
    (folder / "app.bin").write_bytes(CONTENT)
    repository.commit("Declare")


@contextlib.asynccontextmanager
async def running(settings):
    with bootstrap.opened(settings) as base:
        transport = MemoryTransport()
        daemon = bootstrap.Daemon(base, transport=transport)
        task = asyncio.create_task(daemon.run())
        await asyncio.wait_for(daemon.ready.wait(), 30)
        try:
            yield daemon, transport
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


async def until(holds):
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - the daemon tells nobody
            await asyncio.sleep(0.02)


def comes(transport):
    """Whether the device could connect: its product is served as soon as the commit was applied."""
    with contextlib.suppress(ValueError):
        transport.connect(LAMP)
        return True
    return False


@pytest.mark.parametrize("place", ["app.bin", "file://{}/app.bin"], ids=["from the commit", "from outside"])
async def test_a_file_that_is_altered_is_served_to_nobody_and_again_as_soon_as_it_is_back(
    tmp_path, caplog, place
):
    declare(tmp_path, place.format(tmp_path))
    settings = Settings(
        repo=str(tmp_path / "fleet"), data_dir=tmp_path / "data", http_bind="127.0.0.1:0",
        file_root=(tmp_path,), settle_time=0, bootstrap="start", interval=600,
    )  # fmt: skip
    async with running(settings) as (daemon, transport):
        await until(lambda: comes(transport))
        transport.send(LAMP, topics.inform(LAMP), b'{"id":1,"params":{"version":"1.0.0"}}')
        await until(lambda: transport.published)
        url = json.loads(transport.published[-1].payload)["data"]["url"]
        assert await asyncio.to_thread(get, url) == (200, CONTENT)
        stored = daemon.base.files.path(SHA256)
        stored.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
        answers = await asyncio.gather(*(asyncio.to_thread(get, url) for _ in range(2)))
        assert set(answers) <= {(403, b"Forbidden\n"), (200, CONTENT)}
        await until(lambda: b"reconciler_damaged_files_total 1.0" in daemon._metrics_text()[1])
        await until(stored.exists)
        answers = []
        while not answers or answers[-1][0] == 403:
            answers.append(await asyncio.to_thread(get, url))
        assert answers[-1] == (200, CONTENT)
    assert len([record for record in caplog.records if "is damaged" in record.message]) == 1
