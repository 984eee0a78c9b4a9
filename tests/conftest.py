"""What tests of every kind share: a real database in a file of their own."""

from __future__ import annotations

import hypothesis
import pytest

from reconciler.store.database import Database

# How long an example takes depends on who else uses the machine; a test that hangs is ended by its timeout.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture
def database_url(tmp_path):
    return f"sqlite:///{tmp_path / 'state.db'}"


@pytest.fixture
def database(database_url):
    opened = Database.open(database_url, upgrade=True)
    yield opened
    opened.close()
