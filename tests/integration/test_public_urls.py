"""Which URLs the daemon is given, what `download: Auto` means by them, and batches whose URL is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from rows import Rows

from reconciler import bootstrap, choices, errors
from reconciler.domain.downloads import Ways
from reconciler.settings import Settings
from reconciler.transport.memory import MemoryTransport

HTTP, HTTPS = "http://ota.example", "https://ota.example"


def settings(folder, public_url: str, **more) -> Settings:
    return Settings(
        repo=str(folder / "fleet"), data_dir=folder, http_bind="127.0.0.1:0", public_url=public_url, **more
    )


def batch(folder, download: str, status: str = "QUEUED", phase: str = "IN_PROGRESS") -> None:
    """A batch with one task, as an earlier daemon left it."""
    with bootstrap.opened(settings(folder, HTTP)) as base, base.database.writing() as connection:
        rows = Rows(connection)
        rows.world()
        rows.task(rows.run(download=download, phase=phase), rows.device("dev-1"), status)


async def run(folder, public_url: str) -> bootstrap.Daemon:
    """A daemon that came up and was stopped.

    Raises:
        UserError: what keeps it from coming up.
    """
    with bootstrap.opened(settings(folder, public_url)) as base:
        daemon = bootstrap.Daemon(base, transport=MemoryTransport())
        running, ready = asyncio.create_task(daemon.run()), asyncio.create_task(daemon.ready.wait())
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED, timeout=30)
        ready.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return daemon


@pytest.mark.parametrize(
    ("public_url", "tells", "says"),
    [
        (HTTP, HTTP, "`download: Auto` means HTTP: no https public URL is set"),
        (HTTPS, HTTPS, "`download: Auto` means HTTPS"),
        (f"{HTTP}:8080, {HTTPS}", HTTPS, "`download: Auto` means HTTPS"),
    ],
)
async def test_what_auto_means_is_said_once_at_start(tmp_path, caplog, public_url, tells, says):
    with caplog.at_level(logging.INFO):
        daemon = await run(tmp_path, public_url)
    assert daemon.public_url == tells
    assert [line for line in caplog.messages if "Auto" in line] == [says]


@pytest.mark.parametrize(
    ("public_url", "certificate", "ways"),
    [
        ("", None, Ways(https=False, http=True)),
        ("", "here.pem", Ways(https=True, http=False)),
        (HTTP, "here.pem", Ways(https=False, http=True)),
        (HTTPS, None, Ways(https=True, http=False)),
        (f"{HTTPS},{HTTP}", None, Ways(https=True, http=True)),
    ],
)
def test_the_ways_are_those_of_the_public_urls_or_else_of_our_own_server(
    tmp_path, public_url, certificate, ways
):
    assert choices.ways_of(settings(tmp_path, public_url, http_certificate=certificate)) == ways


@pytest.mark.parametrize(("download", "public_url"), [("HTTPS", HTTP), ("HTTP", HTTPS)])
async def test_a_batch_whose_kind_of_url_is_gone_keeps_the_daemon_from_starting(
    tmp_path, download, public_url
):
    batch(tmp_path, download)
    with pytest.raises(
        errors.UserError, match=f"which is not over, asks for downloads over {download}"
    ) as caught:
        await run(tmp_path, public_url)
    assert "onCancel" in caught.value.remedy
    await run(tmp_path, f"{HTTP},{HTTPS}")


@pytest.mark.parametrize(("status", "phase"), [("SUCCEEDED", "COMPLETED"), ("CANCELED", "CANCELED")])
async def test_a_batch_that_is_over_needs_no_url(tmp_path, status, phase):
    batch(tmp_path, "HTTPS", status, phase)
    await run(tmp_path, HTTP)


@pytest.mark.parametrize("download", ["Auto", "MQTT", "HTTP"])
async def test_batches_that_ask_for_what_there_is_are_served(tmp_path, download):
    batch(tmp_path, download)
    await run(tmp_path, HTTP)


async def test_tasks_on_their_way_still_need_their_url(tmp_path):
    batch(tmp_path, "HTTPS", "IN_PROGRESS", "CANCELED")
    with pytest.raises(errors.UserError, match="over HTTPS"):
        await run(tmp_path, HTTP)
