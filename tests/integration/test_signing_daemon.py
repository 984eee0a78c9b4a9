"""The daemon reads the signing keys that products name: at its start, and when somebody mends them."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from rows import KEY, Rows
from sqlalchemy import update

from reconciler import bootstrap
from reconciler.protocol import topics
from reconciler.protocol.topics import Address
from reconciler.services import signing
from reconciler.settings import Settings
from reconciler.store import signing_keys, tables
from reconciler.transport.memory import MemoryTransport

DEVICE = Address(KEY, "dev-1")
DIGEST = "ab" * 32


@contextlib.asynccontextmanager
async def running(folder, file):
    """A daemon over a device that has something to fetch, of a product that signs; the way to its devices."""
    settings = Settings(repo=str(folder / "fleet"), data_dir=folder, http_bind="127.0.0.1:0")
    with bootstrap.opened(settings) as base:
        with base.database.writing() as connection:
            rows = Rows(connection)
            rows.world()
            rows.task(rows.run(push_delivery=False), rows.device("dev-1", "1.3.0"))
            connection.execute(update(tables.product).values(signing_key=f"file:{file}"))
            connection.execute(update(tables.blob).values(sha256=DIGEST))
        transport = MemoryTransport()
        daemon = bootstrap.Daemon(base, transport=transport)
        task = asyncio.create_task(daemon.run())
        await asyncio.wait_for(daemon.ready.wait(), 30)
        transport.connect(DEVICE)
        try:
            yield transport
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def answer(transport):
    """What the device is told when it asks."""
    heard = asyncio.Event()
    transport.on_push = lambda _push: heard.set()
    transport.send(DEVICE, topics.firmware_get(DEVICE), b'{"id":1}')
    await asyncio.wait_for(heard.wait(), 20)
    return json.loads(transport.published[-1].payload)["data"]


@pytest.fixture(scope="module")
def key():
    return signing_keys.make(signing_keys.Type.ED25519)


async def test_keys_are_read_before_anybody_is_told_anything(tmp_path, monkeypatch, key):
    monkeypatch.setattr(signing, "LOOK_SECONDS", 3600.0)
    file = tmp_path / "product.pem"
    file.write_text(key)
    async with running(tmp_path, file) as transport:
        told = await answer(transport)
    assert told["digestsign"] == signing_keys.read(key.encode(), "").sign(bytes.fromhex(DIGEST))


async def test_a_device_gets_its_package_signed_as_soon_as_the_key_is_there(tmp_path, monkeypatch, key):
    monkeypatch.setattr(signing, "LOOK_SECONDS", 0.05)
    file = tmp_path / "product.pem"
    async with running(tmp_path, file) as transport:
        assert await answer(transport) == {}
        file.write_text(key)
        for _ in range(200):
            await asyncio.sleep(0.05)
            if told := await answer(transport):
                break
    assert told["digestsign"] == signing_keys.read(key.encode(), "").sign(bytes.fromhex(DIGEST))
