"""`reconciler describe` and `reconciler events`: one thing in full, and what happened."""

from __future__ import annotations

import json

import pytest
import seed
from seed import BATCH, NOW, PRODUCT

from reconciler.cli.looking import now
from reconciler.domain import lifecycle
from reconciler.domain.plan import Reason
from reconciler.domain.resources import Kind
from reconciler.store import events, objects, tasks

FLEET = ["dev-1", "dev-2", "dev-3", "dev-4"]


@pytest.fixture
def fleet(database):
    """dev-1 failed, dev-2 is at work, dev-3 waits, dev-4 was left out."""
    with database.writing() as connection:
        objects.start_daemon(connection, NOW)
        seed.product(connection)
        seed.package(connection)
        seed.inventory(connection, FLEET, tags={"dev-1": {"site": "a"}})
    seed.materialize(database)
    with database.writing() as connection:
        seed.report(connection, {"dev-1": "1.3.0", "dev-2": "1.3.0", "dev-4": "1.4.0"})
        seed.batch(connection)
    seed.materialize(database)
    with database.writing() as connection:
        seed.online(connection, ["dev-2"])
        for claim in tasks.claim(connection, 1, tasks.Claimant(1, 1, seed.SETTLE), NOW, 9):
            tasks.settle_pushes(connection, 1, [(claim, tasks.Outcome.CONFIRMED)], NOW)
        seed.send(connection, "dev-1", lifecycle.progressed(-4, "worn \x07out"))
        seed.send(connection, "dev-2", lifecycle.progressed(20, ""))
    return database


def squeezed(ran):
    assert ran.code == 0, ran.err
    return " ".join(ran.out.split())


def test_a_batch_in_full(fleet, reconciler):
    out = squeezed(reconciler("describe", "batch", BATCH))
    for said in (
        "Phase: IN_PROGRESS",
        "Health: Degraded",
        f"Revision: main@sha1:{seed.SHA}",
        "Ready: False Progressing",
        f"package: {BATCH}",
        "Target version: 1.4.0",
        "Push rate: 600 a minute",
        "Tasks: FAILED: 1 IN_PROGRESS: 1 QUEUED: 1",
        "Failures: burn-failed: 1",
        "Left out: already-on-target: 1",
        "Events:",
        "3 tasks created",
    ):
        assert said in out


def test_what_an_object_holds_is_told(fleet, reconciler):
    package = squeezed(reconciler("describe", "package", BATCH))
    for said in (f"Product: {PRODUCT}", "Version: 1.4.0", "Module: default", "Size: 2,048 bytes"):
        assert said in package
    assert "Modules: default Devices: 4 declared" in squeezed(reconciler("describe", "product", PRODUCT))
    assert f"Product: {PRODUCT} Devices: 4" in squeezed(reconciler("describe", "inventory", "all"))


def test_a_held_batch_says_what_to_do(database, reconciler):
    with database.writing() as connection:
        seed.refuse(
            connection, Kind.BATCH, "held", Reason.FIRST_SIGHT, "confirm it with `reconciler confirm`"
        )
    out = squeezed(reconciler("describe", "batch/held"))
    assert "Phase: Held" in out
    assert "Stalled: True FirstSight" in out
    assert "confirm it with `reconciler confirm`" in out


def test_a_product_shows_how_its_versions_are_distributed(fleet, reconciler):
    out = squeezed(reconciler("describe", "product", PRODUCT))
    assert f"Product key: {seed.KEY}" in out
    assert "Devices: 4 declared" in out
    assert "Versions of default: 1.3.0: 2 (66.7%) 1.4.0: 1 (33.3%)" in out


def test_a_package_shows_its_file_and_its_batches(fleet, reconciler):
    out = squeezed(reconciler("describe", "package", BATCH))
    assert "Size: 2,048 bytes" in out
    assert f"SHA-256: sha-{BATCH}" in out
    assert f"Batches: {BATCH}: IN_PROGRESS, FAILED 1, IN_PROGRESS 1, QUEUED 1" in out


def test_an_inventory_shows_how_many_devices_it_declares(fleet, reconciler):
    assert "Devices: 4" in squeezed(reconciler("describe", "inventory", "all"))


def test_a_device_shows_why_it_was_not_upgraded(fleet, reconciler):
    out = squeezed(reconciler("describe", "device", "dev-1"))
    assert "Versions: default: 1.3.0" in out
    assert "Tags: site a" in out
    assert (
        "FAILED, burn-failed: the device could not write its flash; step -4 worn \N{REPLACEMENT CHARACTER}out"
        in out
    )
    assert "Left out" not in out


def test_a_device_that_was_left_out_shows_by_which_batch(fleet, reconciler):
    out = squeezed(reconciler("describe", "device", f"{PRODUCT}/dev-4"))
    assert f"Left out: {BATCH}: already-on-target (1.4.0)" in out


def test_a_device_that_waits_shows_for_what(fleet, reconciler):
    assert "QUEUED, the daemon is not running" in squeezed(reconciler("describe", "device", "dev-3"))
    with fleet.writing() as connection:
        objects.beat(connection, now())
    assert "QUEUED, device offline" in squeezed(reconciler("describe", "device", "dev-3"))


def test_presence_is_not_claimed_while_no_daemon_keeps_it(fleet, reconciler):
    assert "Presence: not known" in squeezed(reconciler("describe", "device", "dev-2"))
    with fleet.writing() as connection:
        objects.beat(connection, now())
    assert "Presence: online since 2026-11-01 12:00:00Z" in squeezed(
        reconciler("describe", "device", "dev-2")
    )


def test_a_task_shows_its_times_and_its_log(fleet, reconciler):
    out = squeezed(reconciler("describe", "task", f"{BATCH}/dev-2"))
    assert "Status: IN_PROGRESS" in out
    assert "Pushes: 1" in out
    assert "push 1" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["batch"], 2, "name the batch"),
        (["batch", "thermostat-1.4.1"], 1, f"Did you mean {BATCH}?"),
        (["device", "dev-5"], 1, "Did you mean dev-"),
        (["device", "lamp/dev-1"], 1, "there is no product 'lamp'"),
        (["task", BATCH], 1, "Write BATCH/DEVICE"),
        (["task", "x/y"], 1, "there is no task"),
        (["thing", "x"], 2, "there is no kind"),
    ],
)
def test_what_is_unknown_is_said_with_what_to_write(fleet, reconciler, arguments, code, said):
    ran = reconciler("describe", *arguments)
    assert ran.code == code
    assert said in ran.err


def test_the_log_is_printed_oldest_first_with_its_commits(fleet, reconciler):
    ran = reconciler("events")
    assert ran.lines[0].split() == ["TIME", "TYPE", "OBJECT", "DEVICE", "STATUS", "MESSAGE", "REVISION"]
    assert "materialized" in ran.lines[1]
    assert "QUEUED → NOTIFIED" in ran.lines[-1]
    assert f"main@sha1:{seed.SHA[:12]}" in ran.lines[-1]


def test_the_log_is_filtered(fleet, reconciler):
    def types(*arguments):
        return [line["type"] for line in reconciler("events", "-o", "json", *arguments).json]

    assert types() == ["materialized", "task"]
    assert types("--batch", BATCH) == ["materialized", "task"]
    assert types("--device", "dev-2") == ["task"]
    assert types("--kind", "batches") == ["materialized"]
    assert types("--kind", "inventory") == []
    assert types("--name", BATCH) == ["materialized"]
    assert types("--limit", "1") == ["task"]


def test_a_line_of_the_log_has_everything_for_machines(fleet, reconciler):
    found = reconciler("events", "--device", "dev-2", "-o", "json").json[0]
    assert found["time"] == "2026-11-01T12:00:00.000Z"
    assert (found["fromStatus"], found["toStatus"], found["batch"]) == ("QUEUED", "NOTIFIED", BATCH)
    assert found["revision"] == f"main@sha1:{seed.SHA}"


def test_an_empty_log_says_so(database, reconciler):
    ran = reconciler("events")
    assert (ran.code, ran.out, ran.err) == (0, "", "no events\n")


def test_watching_the_log_prints_each_line_once(fleet, reconciler, monkeypatch):
    rounds = iter(range(3))

    def pause(_seconds):
        if next(rounds) == 2:
            raise KeyboardInterrupt
        with fleet.writing() as connection:
            events.append(connection, NOW, [events.Event(type=events.Type.COMMAND, message="again")])

    monkeypatch.setattr("reconciler.cli.looking.forever.__defaults__", (pause,))
    ran = reconciler("events", "-w", "-o", "json", "--limit", "1")
    assert ran.code == 130
    assert [json.loads(line)["type"] for line in ran.lines] == ["task", "command", "command"]
