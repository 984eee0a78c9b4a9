"""An engine with a hand-moved clock, for the tests of its services."""

from __future__ import annotations

import pytest
from rig import Rig


@pytest.fixture
async def rig(tmp_path, database):
    made = Rig(tmp_path, database)
    await made.boot()
    yield made
    await made.kill()
