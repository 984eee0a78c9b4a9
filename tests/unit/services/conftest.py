"""An engine with a hand-moved clock, for the tests of its services."""

from __future__ import annotations

import shutil

import pytest
from rig import Rig

from reconciler.store.database import Database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database file that is migrated and closed, to be copied."""
    place = tmp_path_factory.mktemp("empty") / "state.db"
    Database.open(f"sqlite:///{place}", upgrade=True).close()
    return place


@pytest.fixture
def database(empty_database, tmp_path):
    shutil.copy(empty_database, tmp_path / "state.db")
    opened = Database(f"sqlite:///{tmp_path / 'state.db'}")
    yield opened
    opened.close()


@pytest.fixture
async def rig(tmp_path, database):
    made = Rig(tmp_path, database)
    await made.boot()
    yield made
    await made.kill()
