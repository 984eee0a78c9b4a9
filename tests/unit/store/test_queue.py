"""Who waits for a device: the oldest first, looked at again when the device is free."""

from __future__ import annotations

import pytest
from fleet import WAIT, Fleet

from reconciler.domain.lifecycle import Trigger


@pytest.fixture
def fleet(database):
    made = Fleet(database, ["dev-1", "dev-2"])
    yield made
    made.check()


def waiting(fleet, *versions, **changes):
    """Batches that wait behind a first one on dev-1, in this order, by their target versions."""
    fleet.batch("first", names=["dev-1"])
    made = []
    for number, version in enumerate(versions):
        with fleet.database.writing() as connection:
            import seed

            if version != "1.4.0":
                seed.package(connection, version)
        made.append(
            fleet.batch(f"waits-{number}", version=version, names=["dev-1"], conflict=WAIT, **changes)
        )
    return made


def test_the_oldest_one_goes_first(fleet):
    one, two = waiting(fleet, "1.5.0", "1.6.0")
    fleet.end("dev-1", batch="first")
    assert (fleet.tasks(one), fleet.tasks(two)) == ({"dev-1": "QUEUED"}, {"dev-1": ("QUEUED", "behind")})


def test_a_device_that_is_where_a_waiting_task_would_bring_it_lets_the_next_one_in(fleet):
    one, two, three = waiting(fleet, "1.5.0", "1.5.0", "1.6.0")
    fleet.says({"dev-1": "1.5.0"})
    fleet.end("dev-1", batch="first")
    assert fleet.tasks(one) == fleet.tasks(two) == {"dev-1": "SUCCEEDED"}
    assert fleet.tasks(three) == {"dev-1": "QUEUED"}
    assert [fleet.run(run_id).phase for run_id in (one, two, three)] == [
        "COMPLETED", "COMPLETED", "IN_PROGRESS",
    ]  # fmt: skip


def test_a_device_on_none_of_the_source_versions_fails_without_a_retry(fleet):
    fleet.says({"dev-1": "1.3.0"})
    (run_id,) = waiting(fleet, "1.5.0", source_versions=["1.3.0"])
    fleet.says({"dev-1": "1.3.1"})
    fleet.end("dev-1", batch="first")
    assert fleet.tasks(run_id) == {"dev-1": ("FAILED", "unexpected-version")}


@pytest.mark.parametrize(("allow", "then"), [(False, ("CANCELED", "downgrade")), (True, "QUEUED")])
def test_a_device_that_is_higher_by_now_is_not_led_down_unless_that_is_allowed(fleet, allow, then):
    (run_id,) = waiting(fleet, "1.5.0", allow_downgrade=allow)
    fleet.says({"dev-1": "2.0.0"})
    fleet.end("dev-1", batch="first")
    assert fleet.tasks(run_id) == {"dev-1": then}


def test_what_the_device_reports_when_its_turn_comes_is_the_tasks_source(fleet):
    import seed

    fleet.says({"dev-1": "1.2.0"})
    (run_id,) = waiting(fleet, "1.5.0")
    fleet.says({"dev-1": "1.3.0"})
    fleet.end("dev-1", batch="first")
    with fleet.database.reading() as connection:
        assert seed.task(connection, "dev-1", run_id).source_version == "1.3.0"


def test_nobody_enters_while_the_device_is_busy(fleet):
    (run_id,) = waiting(fleet, "1.5.0")
    assert fleet.promote(["dev-1", "dev-2"]) == 0
    assert fleet.tasks(run_id) == {"dev-1": ("QUEUED", "behind")}


def test_a_waiting_task_that_ends_lets_nobody_in(fleet):
    one, two = waiting(fleet, "1.5.0", "1.6.0")
    fleet.end("dev-1", batch="waits-0")
    assert fleet.tasks(one) == {"dev-1": ("CANCELED", "canceled")}
    assert fleet.tasks(two) == {"dev-1": ("QUEUED", "behind")}


def test_one_end_frees_any_number_of_devices(database):
    fleet = Fleet(database)
    older = fleet.batch("older")
    run_id = fleet.batch("waits", conflict=WAIT)
    from reconciler.domain.lifecycle import UNFINISHED

    fleet.cancel(older, *UNFINISHED)
    assert fleet.tasks(run_id) == dict.fromkeys(fleet.ids(), "QUEUED")
    fleet.check()


def test_a_trigger_that_retries_is_no_bulk_transition(fleet):
    fleet.batch("first", names=["dev-1"])
    with pytest.raises(AssertionError, match="one task at a time"):
        fleet.end("dev-1", Trigger.REPORTED_EXCLUDED)
    with pytest.raises(AssertionError, match="does not end"):
        fleet.end("dev-1", Trigger.PROGRESS)
