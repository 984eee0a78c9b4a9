"""Tokens of the API: random, kept as digests, worthless once deleted."""

from __future__ import annotations

import pytest
from seed import NOW
from sqlalchemy import exc, select

from reconciler.store import tables, tokens
from reconciler.store.tokens import Role


@pytest.fixture
def connection(database):
    with database.writing() as open_:
        yield open_


def test_a_token_opens_until_it_is_deleted(connection):
    one = tokens.create(connection, "ci", Role.READ, NOW)
    other = tokens.create(connection, "ann", Role.READ, NOW)
    assert tokens.opens(connection, one, Role.READ)
    assert tokens.opens(connection, other, Role.READ)
    assert [(token.name, token.role) for token in tokens.listed(connection)] == [
        ("ann", "read"),
        ("ci", "read"),
    ]
    assert tokens.remove(connection, "ci")
    assert not tokens.remove(connection, "ci")
    assert not tokens.opens(connection, one, Role.READ)
    assert tokens.opens(connection, other, Role.READ)


def test_what_is_no_token_opens_nothing(connection):
    token = tokens.create(connection, "ci", Role.READ, NOW)
    for wrong in ("", "x", token[:-1], token + "x", token.swapcase(), "rct_" + "x" * 43, token + "\n"):
        assert not tokens.opens(connection, wrong, Role.READ)


def test_a_token_has_256_bits_and_the_database_holds_none_of_them(connection):
    made = [tokens.create(connection, f"ci-{number}", Role.READ, NOW) for number in range(20)]
    assert len({*made}) == 20
    assert {len(token) for token in made} == {len("rct_") + 43}
    rows = connection.execute(select(tables.token)).all()
    assert {len(row.digest) for row in rows} == {32}
    assert not any(token[4:] in str(row) for token in made for row in rows)


def test_a_name_is_taken_once(connection):
    tokens.create(connection, "ci", Role.READ, NOW)
    with pytest.raises(exc.IntegrityError):
        tokens.create(connection, "ci", Role.READ, NOW)
