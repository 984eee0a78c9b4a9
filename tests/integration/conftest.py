"""What integration tests share: a real broker, and every transport behind the same few verbs."""

from __future__ import annotations

import pytest
from brokers import Mosquitto
from wires import WIRES


@pytest.fixture
def mosquitto(tmp_path):
    """A running Mosquitto. It is not optional: where it is missing, tests fail and say how to install it."""
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = Mosquitto(folder)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(params=sorted(WIRES))
async def wire(request, tmp_path):
    """A transport with its way to devices, not serving yet; one after the other, all that there are."""
    made = WIRES[request.param](tmp_path)
    await made.set_up()
    yield made
    await made.tear_down()
