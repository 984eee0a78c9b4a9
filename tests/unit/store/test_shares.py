"""Where a gray batch's share ends is the same place, whether it was foreseen or everybody had to be sorted."""

from __future__ import annotations

import pytest
from fleet import Fleet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, bindparam, literal, select, update

from reconciler.domain import targeting
from reconciler.store import devices, shares, tables

NAMES = [f"dev-{number:03}" for number in range(200)]
HASHES = st.integers(0, targeting.MODULUS - 1)


_PLACED = (
    update(tables.device)
    .where(tables.device.c.name == bindparam("of"))
    .values(hash31=bindparam("at", type_=BigInteger()))
)


@pytest.fixture
def connection(database):
    Fleet(database, NAMES)
    with database.writing() as found:
        yield found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    taken=st.integers(1, len(NAMES)),
    batch=st.sampled_from("abcdef"),
    hashes=st.lists(HASHES, min_size=1, max_size=4) | st.lists(HASHES, min_size=50, max_size=200),
)
@example(taken=1, batch="a", hashes=[1_000_000_000])  # one place for all, which nobody foresees
@example(taken=200, batch="b", hashes=[1_000_000_000])
def test_the_last_device_of_a_share_is_the_one_of_the_sorted_fleet(connection, taken, batch, hashes):
    placed = [(hashes[number % len(hashes)], name) for number, name in enumerate(NAMES)]
    connection.execute(_PLACED, [{"at": hash31, "of": name} for hash31, name in placed])
    a, b = targeting.gray_parameters(batch)
    ordered = sorted((targeting.gray_key(hash31, a, b), name) for hash31, name in placed)
    key = devices.gray_key(literal(a, BigInteger()), literal(b, BigInteger()))
    found = shares.last(connection, select(key).select_from(tables.device), key, (taken, len(NAMES)))
    assert found == ordered[taken - 1]
