"""Orders among each other: one that is not understood, or that is large, keeps no other waiting."""

from __future__ import annotations

from datetime import timedelta

from rows import EPOCH, NOW, Rows

from reconciler.domain.downloads import Ways
from reconciler.services import operate
from reconciler.store import commands, devices

PRESENCE = devices.Presence(EPOCH, timedelta(0))


def submit(database, order, **arguments):
    with database.writing() as connection:
        return commands.submit(connection, order, arguments, who="alice", why="", now=NOW)


def carry_out(database, chunk=2):
    with database.writing() as connection:
        return operate.carry_out_all(connection, PRESENCE, NOW, Ways(), chunk=chunk)


def kept(database, number):
    with database.reading() as connection:
        return commands.get(connection, number)


def test_an_order_whose_arguments_nobody_understands_is_refused_and_keeps_no_other_waiting(database):
    odd, other = submit(database, "cancel", batch=["a", "b"]), submit(database, "suspend", batch="none")
    carry_out(database)
    assert kept(database, odd).ok is False
    assert "does not understand the arguments of cancel (batch: " in kept(database, odd).result
    assert "there is no batch none" in kept(database, other).result


def test_an_order_does_not_wait_for_a_large_one_before_it(database):
    with database.writing() as connection:
        made = Rows(connection)
        made.world()
        for name in ("a", "b"):
            run_id = made.run(name, confirm=True)
            for number in range(3):
                made.task(run_id, made.device(f"dev-{name}-{number}", "1.3.0"), "CONFIRM")
    large, second = (submit(database, "confirm", batch=name, tasks=True) for name in ("a", "b"))
    urgent = submit(database, "cancel", batch="none")
    assert carry_out(database) == 3
    assert kept(database, urgent).ok is False
    assert (kept(database, large).done_at, kept(database, large).arguments["confirmed"]) == (None, 2)
    assert "confirmed" not in kept(database, second).arguments
    while carry_out(database):
        pass
    assert [kept(database, number).result for number in (large, second)] == ["confirmed 3 tasks"] * 2
