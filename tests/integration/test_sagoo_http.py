"""The daemon's paths for SagooIOT devices: only where a setting turns them on, and with the keys of the settings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import urllib.error
import urllib.request

import pytest
from rows import Rows
from sqlalchemy import update

from reconciler import bootstrap, errors
from reconciler.protocol import sagoo
from reconciler.settings import Settings
from reconciler.store import tables
from reconciler.transport.memory import MemoryTransport


@contextlib.asynccontextmanager
async def daemon(folder, **more: object):
    """A daemon that runs, over a fleet with the device dev-1; where its question goes."""
    settings = Settings(repo=str(folder / "fleet"), data_dir=folder, http_bind="127.0.0.1:0", **more)
    with bootstrap.opened(settings) as base:
        with base.database.writing() as connection:
            rows = Rows(connection)
            rows.world()
            rows.device("dev-1")
            connection.execute(update(tables.product).values(protocol="Sagoo"))
        made = bootstrap.Daemon(base, transport=MemoryTransport())
        running = asyncio.create_task(made.run())
        await asyncio.wait_for(made.ready.wait(), 30)
        try:
            yield f"http://127.0.0.1:{made.http_port}{sagoo.GET_INFO}?deviceKey=dev-1&version=1.0.0"
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


async def test_a_device_is_answered_where_the_setting_turns_it_on(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        async with daemon(tmp_path, sagoo_http=True) as url:
            assert await asyncio.to_thread(ask, url) == (200, b'{"code":0,"message":"","data":{}}')
    assert "SagooIOT devices ask over HTTP WITHOUT a login" in caplog.text


async def test_there_is_no_such_path_otherwise(tmp_path, caplog):
    async with daemon(tmp_path) as url:
        assert await asyncio.to_thread(ask, url) == (404, b"Not Found")
    assert "WITHOUT a login" not in caplog.text


async def test_with_keys_it_has_to_be_signed(tmp_path, caplog):
    async with daemon(tmp_path, sagoo_http=True, sagoo_access_key="ak", sagoo_secret_key="sk") as url:
        status, said = await asyncio.to_thread(ask, url)
    assert (status, json.loads(said)["code"]) == (403, 403)
    assert "WITHOUT a login" not in caplog.text


@pytest.mark.parametrize("half", [{"sagoo_access_key": "ak"}, {"sagoo_secret_key": "sk"}])
def test_half_a_pair_of_keys_is_refused(half):
    with pytest.raises(
        errors.UsageError, match="one of --sagoo-access-key and --sagoo-secret-key is missing"
    ):
        bootstrap.sagoo_keys(Settings(**half))
