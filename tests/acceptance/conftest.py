"""What acceptance tests share: a stage, over the endpoint or over Mosquitto."""

from __future__ import annotations

import shutil

import pytest
from brokers import Mosquitto
from stage import Stage


@pytest.fixture
def mosquitto(tmp_path):
    """A running Mosquitto. It is not optional: where it is missing, tests fail and say how to install it."""
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = Mosquitto(folder)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
async def make_stage(tmp_path, empty_database):
    """Makes a stage, whose database is migrated already, and clears it away when the test is over."""
    made: list[Stage] = []

    def make(broker: Mosquitto | None = None, *flags: str) -> Stage:
        stage = Stage(tmp_path / f"stage-{len(made)}", broker, *flags)
        stage.data.mkdir(parents=True)
        shutil.copy(empty_database, stage.data / "state.db")
        made.append(stage)
        return stage

    yield make
    for stage in made:
        await stage.close()


@pytest.fixture
def stage(make_stage):
    """One over our own endpoint."""
    return make_stage()


@pytest.fixture(params=["endpoint", "mosquitto"])
def either_stage(request, make_stage):
    """One after the other, all ways to devices."""
    broker = request.getfixturevalue("mosquitto") if request.param == "mosquitto" else None
    return make_stage(broker)
