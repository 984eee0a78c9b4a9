"""What the endpoint logs of clients that do wrong: once a minute each, and of so many at most."""

from __future__ import annotations

from reconciler.transport.endpoint.hall import REPORTED_CLIENTS, Reports


def test_a_client_is_reported_once_a_minute():
    reports = Reports()
    assert [reports.may("dev-1", now) for now in (0.0, 1.0, 59.9, 60.0, 61.0)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert reports.may("dev-2", 61.0)


def test_names_that_somebody_makes_up_fill_neither_the_memory_nor_the_log():
    reports = Reports()
    reported = sum(reports.may(f"made-up-{number}", 0.0) for number in range(10 * REPORTED_CLIENTS))
    assert reported == REPORTED_CLIENTS
    assert len(reports._last) == REPORTED_CLIENTS
    assert reports.may("dev-1", 60.0)
    assert len(reports._last) == 1
