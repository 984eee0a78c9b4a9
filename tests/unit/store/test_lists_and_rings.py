"""Rosters, seen messages, push slots, orders of operators: small tables with one rule each."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rows import NOW, Rows
from sqlalchemy import func, select

from reconciler.domain import throttle
from reconciler.store import commands, rates, rosters, seen, tables


def entries(connection, roster_id):
    entry = tables.roster_entry
    rows = connection.execute(select(entry.c.name, entry.c.tags).where(entry.c.roster_id == roster_id))
    return {row.name: row.tags for row in rows}


def test_a_list_is_found_only_once_it_is_whole(database):
    with database.writing() as connection:
        roster_id, complete = rosters.begin(connection, "digest")
        assert not complete
        rosters.add(connection, roster_id, [("dev-1", None)])
        assert rosters.find(connection, "digest") is None
        rosters.complete(connection, roster_id)
        assert rosters.find(connection, "digest") == roster_id
        assert rosters.begin(connection, "digest") == (roster_id, True)


def test_staging_a_list_again_after_a_crash_doubles_nothing(database):
    listed = [("dev-1", {"site": "a"}), ("dev-2", None), ("dev-3", {})]
    with database.writing() as connection:
        first, _ = rosters.begin(connection, "digest")
        rosters.add(connection, first, listed[:2])
    with database.writing() as connection:
        again, _ = rosters.begin(connection, "digest")
        rosters.add(connection, again, listed)
        rosters.add(connection, again, [])
        assert again == first
        assert entries(connection, again) == {"dev-1": {"site": "a"}, "dev-2": None, "dev-3": None}


def test_a_message_is_recognised_by_topic_and_payload():
    one = seen.fingerprint("a/b", b"payload")
    assert one == seen.fingerprint("a/b", b"payload")
    assert len({one, seen.fingerprint("a/c", b"payload"), seen.fingerprint("a/b", b"other")}) == 3


def test_messages_that_were_committed_are_known(database):
    hashes = [seen.fingerprint("topic", bytes([n])) for n in range(4)]
    with database.writing() as connection:
        seen.remember(connection, hashes[:2])
        seen.remember(connection, [])
        assert seen.among(connection, hashes) == set(hashes[:2])
        assert seen.among(connection, []) == set()


@pytest.mark.parametrize("burst", [1, 3, 5, 12])
def test_the_ring_keeps_the_newest_messages_and_at_most_a_burst_more(database, burst):
    hashes = [seen.fingerprint("topic", bytes([n])) for n in range(60)]
    for start in range(0, 60, burst):
        with database.writing() as connection:
            seen.remember(connection, hashes[start : start + burst], ring=10)
    with database.reading() as connection:
        kept = seen.among(connection, hashes)
        assert kept >= set(hashes[-10:])
        assert len(kept) < 10 + burst
        rows = connection.execute(select(func.count()).select_from(tables.seen_message)).scalar_one()
        assert rows <= 10 // burst + 1


def test_pushes_are_remembered_by_run_and_second_for_the_length_of_the_window(database):
    with database.writing() as connection:
        rows = Rows(connection)
        rows.world()
        rows.run()
        other = rows.run("another")
        rates.take(connection, 1000, {1: 3, other: 1})
        rates.take(connection, 1000, {1: 2})
        rates.take(connection, 1001, {1: 4, other: 0})
        assert rates.recent(connection, 1, 1001) == {1000: 5, 1001: 4}
        assert rates.recent(connection, other, 1001) == {1000: 1}
        assert rates.recent(connection, 1, 1000 + throttle.WINDOW_SECONDS) == {1001: 4}


def test_seconds_that_no_rate_looks_at_any_more_are_forgotten(database):
    with database.writing() as connection:
        rows = Rows(connection)
        rows.world()
        rows.run()
        rates.take(connection, 1000, {1: 3})
        rates.take(connection, 1000 + throttle.WINDOW_SECONDS, {1: 1})
        rates.forget(connection, 1000 + 2 * throttle.WINDOW_SECONDS + 1)
        slots = connection.execute(select(tables.rate_slot.c.second)).scalars().all()
    assert slots == [1000 + throttle.WINDOW_SECONDS]


def test_orders_wait_until_they_are_carried_out_and_keep_their_result(database):
    with database.writing() as connection:
        first = commands.submit(connection, "cancel", {"batch": "b"}, who="alice", why="because", now=NOW)
        second = commands.submit(connection, "confirm", {}, who="bob", why="", now=NOW)
        assert [order.id for order in commands.waiting(connection)] == [first, second]
        commands.done(connection, first, ok=False, result="no", now=NOW + timedelta(seconds=1))
        assert [order.id for order in commands.waiting(connection)] == [second]
        found = commands.get(connection, first)
    assert (found.arguments, found.who, found.why) == ({"batch": "b"}, "alice", "because")
    assert (found.done_at, found.ok, found.result) == (NOW + timedelta(seconds=1), False, "no")
