"""A daemon that is killed while it fetches a package's file continues, and devices are upgraded with the whole."""

from __future__ import annotations

import hashlib
import os

import pytest
from certificates import Certificates
from file_server import FileServer, Page
from stage import quick

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = 1_000_000


@pytest.fixture
def certificates(tmp_path):
    return Certificates.make(tmp_path)


@pytest.fixture
def server(certificates):
    made = FileServer(certificates)
    made.pages["/app.bin"] = Page(CONTENT, holds_after=HALF)
    yield made
    made.close()


@pytest.mark.timeout(120)
async def test_a_daemon_killed_while_it_fetches_continues_and_nothing_goes_out_before(
    make_stage, certificates, server
):
    stage = make_stage(None, "--source-ca", str(certificates.ca))
    stage.declare(3)
    file = {"name": "app.bin", "source": f"{server.url}/app.bin", "sha256": SHA256}
    stage.package("1.4.1", files=[file])
    stage.batch(package="thermostat-1.4.1")
    stage.commit("Upgrade every thermostat to a file that is elsewhere")
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices(quick())
    partial = stage.data / "files" / "partial" / SHA256
    await stage.until(lambda: stage.reported() == 3 and partial.exists() and partial.stat().st_size)
    await stage.until(lambda: stage.object("Batch", "upgrade").reason == "Reference")
    stage.daemon.kill()
    have = partial.stat().st_size
    server.pages["/app.bin"].holds_after = None
    stage.daemon.start()
    await stage.until_ended()
    assert server.ranges() == [None, f"bytes={have}-"]
    assert devices.on("1.4.1") == 3
