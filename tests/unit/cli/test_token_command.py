"""`reconciler token`: made, shown once, listed without what opens anything, deleted."""

from __future__ import annotations

import re

import pytest

from reconciler.store.database import Database


@pytest.fixture
def state(tmp_path):
    """A database, as a daemon that ran left it."""
    Database.open(f"sqlite:///{tmp_path / 'state.db'}", upgrade=True).close()


@pytest.mark.usefixtures("state")
def test_a_token_is_printed_alone_and_never_again(reconciler, tmp_path):
    made = reconciler("token", "create", "--role", "read", "--name", "ci")
    assert made.code == 0
    assert re.fullmatch(r"rct_[A-Za-z0-9_-]{43}\n", made.out)
    assert made.err == "note: this is the token ci; it is not shown again\n"
    listed = reconciler("token", "list").out + reconciler("token", "list", "-o", "json").out
    assert made.out.strip() not in listed
    assert made.out.strip().encode() not in (tmp_path / "state.db").read_bytes()


@pytest.mark.usefixtures("state")
def test_tokens_without_a_name_are_numbered_and_deleted_by_it(reconciler):
    for _ in range(2):
        reconciler("token", "create", "--role", "read")
    assert reconciler("token", "delete", "read-1").out == "deleted: the token read-1 opens nothing any more\n"
    reconciler("token", "create", "--role", "read")
    assert [line.split()[:2] for line in reconciler("token", "list").lines] == [
        ["NAME", "ROLE"], ["read-1", "read"], ["read-2", "read"],
    ]  # fmt: skip
    assert [token["name"] for token in reconciler("token", "list", "-o", "json").json] == ["read-1", "read-2"]


@pytest.mark.usefixtures("state")
def test_what_can_not_be_says_why(reconciler):
    reconciler("token", "create", "--role", "read", "--name", "ci")
    again = reconciler("token", "create", "--role", "read", "--name", "ci")
    assert (again.code, "there is a token ci already" in again.err) == (1, True)
    assert reconciler("token", "create", "--role", "read", "--name", "c i").code == 2
    assert reconciler("token", "create").code == 2
    assert reconciler("token", "create", "--role", "king").code == 2
    unknown = reconciler("token", "delete", "cj")
    assert (unknown.code, "reconciler token list" in unknown.err) == (1, True)


def test_without_a_state_there_are_no_tokens(reconciler):
    assert "there is no database" in reconciler("token", "create", "--role", "read").err
