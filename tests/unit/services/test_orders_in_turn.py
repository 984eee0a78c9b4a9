"""Orders among each other: one that is not understood, or that is large, keeps no other waiting."""

from __future__ import annotations

from datetime import timedelta

from rows import EPOCH, NOW

from reconciler.services import operate, orders
from reconciler.store import commands, devices

PRESENCE = devices.Presence(EPOCH, timedelta(0))


def submit(database, order, **arguments):
    with database.writing() as connection:
        return commands.submit(connection, order, arguments, who="alice", why="", now=NOW)


def carry_out(database):
    with database.writing() as connection:
        return operate.carry_out_all(connection, PRESENCE, NOW)


def kept(database, number):
    with database.reading() as connection:
        return commands.get(connection, number)


def test_an_order_whose_arguments_nobody_understands_is_refused_and_keeps_no_other_waiting(database):
    odd, other = submit(database, "cancel"), submit(database, "suspend", batch="none")
    carry_out(database)
    assert kept(database, odd).ok is False
    assert "does not understand the arguments of cancel" in kept(database, odd).result
    assert "there is no batch none" in kept(database, other).result


def test_an_order_does_not_wait_for_a_large_one_before_it(database, monkeypatch):
    parts = {"confirm": lambda order: orders.Unfinished({**order.command.arguments, "after": 1})}
    monkeypatch.setattr(operate, "_CARRY_OUT", {**operate._CARRY_OUT, **parts})
    large, second = (submit(database, "confirm", batch=name, tasks=True) for name in ("a", "b"))
    urgent = submit(database, "cancel", batch="none")
    assert carry_out(database) == 3
    assert kept(database, urgent).ok is False
    assert kept(database, large).arguments["after"] == 1
    assert "after" not in kept(database, second).arguments
