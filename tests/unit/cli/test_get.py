"""`reconciler get`: what is listed, how, and what is said when there is nothing to list."""

from __future__ import annotations

import pytest
import seed
from rows import HOUR
from seed import BATCH, NOW, PRODUCT

from reconciler.domain import lifecycle
from reconciler.domain.plan import Reason
from reconciler.domain.resources import Kind
from reconciler.store import runs

FLEET = ["dev-1", "dev-2", "dev-3"]


@pytest.fixture
def fleet(database):
    """A batch under way and a batch that is held."""
    seed.world(database, FLEET)
    with database.writing() as connection:
        seed.report(connection, {"dev-1": "1.3.0"})
        seed.online(connection, ["dev-1"])
        seed.send(connection, "dev-1", lifecycle.progressed(40, "half \x1b[31m way"))
        seed.send(connection, "dev-2", lifecycle.progressed(-2, "no route"))
        seed.refuse(connection, Kind.BATCH, "held", Reason.FIRST_SIGHT, "confirm it")
    return database


@pytest.mark.parametrize("kind", ["batches", "batch", "Batch", "BATCHES"])
def test_kinds_are_named_as_people_name_them(fleet, reconciler, kind):
    assert reconciler("get", kind, "-o", "name").lines == ["batch/held", f"batch/{BATCH}"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("products", f"product/{PRODUCT}"),
        ("pkg", f"package/{BATCH}"),
        ("DeviceInventory", "inventory/all"),
        ("device", f"device/{PRODUCT}/dev-1"),
        ("tasks", f"task/{BATCH}/dev-3"),
    ],
)
def test_every_kind_can_be_listed(fleet, reconciler, kind, name):
    assert reconciler("get", kind, "-o", "name").lines[0] == name


def test_a_table_has_a_line_for_each_thing_with_its_sync_and_health(fleet, reconciler):
    ran = reconciler("get", "batches")
    assert ran.code == 0
    heading, held, running = ran.lines
    assert heading.split()[:5] == ["NAME", "TARGET", "PHASE", "DONE", "FAILED"]
    assert held.split()[-4:-2] == ["OutOfSync", "Suspended"]
    assert running.split()[:7] == [BATCH, "1.4.0", "IN_PROGRESS", "0/3", "1", "Synced", "Degraded"]
    assert all(line == line.rstrip() for line in ran.lines)


def test_a_package_that_is_held_for_its_trial_is_unverified_and_one_that_is_refused_is_nothing_yet(
    fleet, reconciler
):
    with fleet.writing() as connection:
        seed.refuse(connection, Kind.PACKAGE, "held", Reason.FIRST_SIGHT)
        seed.refuse(connection, Kind.PACKAGE, "wrong", Reason.INVALID)
    _, held, _, wrong = (line.split() for line in reconciler("get", "packages").lines)
    assert held[:6] == ["held", "-", "-", "unverified", "OutOfSync", "Suspended"]
    assert wrong[:6] == ["wrong", "-", "-", "-", "OutOfSync", "Degraded"]
    (said,) = reconciler("get", "package", "held", "-o", "json").json
    assert said["status"]["verification"] == {"state": "unverified", "done": 0, "total": 0, "run": None}
    assert said["status"]["conditions"][-1]["reason"] == "Unverified"


def test_a_batch_that_has_not_started_says_in_the_table_what_it_waits_for(fleet, reconciler):
    with fleet.writing() as connection:
        seed.batch(connection, "tonight", start_at=NOW + 2 * HOUR)
    out = reconciler("get", "batches").out
    assert "PLANNED, starts 2026-11-01 14:00:00Z" in out


def test_a_wide_table_says_more(fleet, reconciler):
    narrow, wide = reconciler("get", "batches"), reconciler("get", "batches", "-o", "wide")
    assert "LEFT-OUT" in wide.lines[0]
    assert wide.lines[0].startswith(narrow.lines[0].split("AGE")[0].rstrip()[:20])
    assert f"main@sha1:{seed.SHA[:12]}" in wide.lines[2]


def test_nothing_is_coloured_in_a_pipe(fleet, reconciler):
    assert "\x1b" not in reconciler("get", "batches").out
    heading, held, _ = reconciler("--color", "always", "get", "batches").lines
    assert "\x1b[31m" not in heading
    assert held.startswith("held  ")
    assert "\x1b[33mSuspended\x1b[0m" in held
    assert "\x1b" not in reconciler("--color", "never", "get", "batches").out


def test_what_a_device_says_cannot_move_the_terminal(fleet, reconciler):
    out = reconciler("get", "tasks", "-o", "wide").out
    assert "half \N{REPLACEMENT CHARACTER}[31m way" in out


def test_json_is_a_list_of_objects_with_kind_metadata_spec_and_status(fleet, reconciler):
    found = reconciler("get", "batch", BATCH, "-o", "json").json
    assert [sorted(item) for item in found] == [["kind", "metadata", "spec", "status"]]
    assert found[0]["kind"] == "Batch"
    assert found[0]["metadata"]["name"] == BATCH
    said = found[0]["status"]
    assert (said["phase"], said["sync"], said["health"]) == ("IN_PROGRESS", "Synced", "Degraded")
    assert said["counts"] == {
        "CONFIRM": 0, "QUEUED": 1, "NOTIFIED": 0, "IN_PROGRESS": 1, "SUCCEEDED": 0, "FAILED": 1, "CANCELED": 0,
    }  # fmt: skip
    assert said["failures"] == {"download-failed": 1}
    assert (said["observedDigest"], said["revision"]) == (f"digest-{BATCH}", f"main@sha1:{seed.SHA}")
    assert {given["type"]: given["status"] for given in said["conditions"]} == {
        "Ready": "False", "Reconciling": "True", "Stalled": "False", "Suspended": "False",
    }  # fmt: skip
    assert said["conditions"][0]["since"] == "2026-11-01T12:00:00.000Z"


def test_a_batch_that_was_never_accepted_has_no_phase_and_a_reason(fleet, reconciler):
    said = reconciler("get", "batch/held", "-o", "json").json[0]["status"]
    assert (said["phase"], said["reason"], said["run"], said["total"]) == (None, "FirstSight", None, 0)
    stalled = said["conditions"][2]
    assert (stalled["status"], stalled["message"]) == ("True", "confirm it")


def test_yaml_says_the_same_as_json(fleet, reconciler):
    from ruamel.yaml import YAML

    for kind in ("batches", "tasks", "devices", "inventories"):
        given = reconciler("get", kind, "-o", "yaml").out
        assert YAML(typ="safe", pure=True).load(given) == reconciler("get", kind, "-o", "json").json


def test_a_canceled_batch_says_how_many_tasks_drain(fleet, reconciler):
    with fleet.writing() as connection:
        runs.cancel(connection, 1, runs.Cancellation("git", (lifecycle.Status.QUEUED,)), NOW)
    seed.settle(fleet)
    assert "CANCELED, 1 draining" in reconciler("get", "batches").out
    said = reconciler("get", "batch", BATCH, "-o", "json").json[0]["status"]
    assert (said["phase"], said["draining"]) == ("CANCELED", 1)


def test_a_table_says_why_an_object_is_not_what_git_says_when_one_is_not(fleet, reconciler):
    heading, held, running = reconciler("get", "batches").lines
    assert heading.split()[-1] == "REASON"
    assert held.split()[:3] == ["held", "-", "Held"]
    assert (held.split()[-1], running.split()[-1]) == ("FirstSight", "-")
    assert "REASON" not in reconciler("get", "products").out


def test_tasks_are_filtered(fleet, reconciler):
    def names(*arguments):
        return [
            line.rpartition("/")[2] for line in reconciler("get", "tasks", "-o", "name", *arguments).lines
        ]

    assert names("--batch", BATCH) == FLEET
    assert names("--device", "dev-2") == ["dev-2"]
    assert names("--status", "failed") == ["dev-2"]
    assert names("--batch", BATCH, "--limit", "1") == ["dev-1"]
    assert names(f"{BATCH}/dev-3") == ["dev-3"]


def test_a_task_says_why_it_is_so(fleet, reconciler):
    found = {item["metadata"]["device"]: item for item in reconciler("get", "tasks", "-o", "json").json}
    assert found["dev-2"]["status"]["reason"] == "download-failed"
    assert "download address" in found["dev-2"]["status"]["why"]
    assert found["dev-3"]["status"]["waitsFor"] == "the daemon is not running"
    assert found["dev-1"]["status"]["waitsFor"] is None


def test_devices_are_those_of_a_product_by_its_name_or_its_key(fleet, reconciler):
    with fleet.writing() as connection:
        seed.product(connection, "lamp", "lampkey")
    assert len(reconciler("get", "devices", "--product", PRODUCT, "-o", "name").lines) == 3
    assert len(reconciler("get", "devices", "--product", seed.KEY, "-o", "name").lines) == 3
    assert reconciler("get", "devices", "--product", "lamp").out == ""
    assert reconciler("get", "device", f"{seed.KEY}/dev-1", "-o", "name").lines == [f"device/{PRODUCT}/dev-1"]


def test_presence_that_nobody_keeps_is_said_to_be_old(fleet, reconciler):
    assert "no daemon is running" in reconciler("get", "devices").err
    assert "no daemon" not in reconciler("get", "batches").err


def test_an_inventory_says_how_many_devices_it_declares(fleet, reconciler):
    assert reconciler("get", "inventories", "-o", "json").json[0]["status"]["devices"] == 3


def test_an_empty_list_is_said_to_be_empty_on_standard_error(database, reconciler):
    ran = reconciler("get", "batches")
    assert (ran.code, ran.out, ran.err) == (0, "", "no batches\n")
    assert reconciler("get", "batches", "-o", "json").json == []


def test_a_list_that_was_cut_says_so(fleet, reconciler):
    assert "the first 2 only" in reconciler("get", "tasks", "--limit", "2").err
    assert "only" not in reconciler("get", "tasks").err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["bach"], 2, "Did you mean batch?"),
        (["xyzzy"], 2, "products, packages"),
        (["batch", "themostat-1.4.0"], 1, f"Did you mean {BATCH}?"),
        (["device", "dev-11"], 1, "Did you mean dev-1?"),
        (["task", "nothing/like-it"], 1, "there is no task"),
        (["tasks", "--batch", "hold"], 1, "Did you mean held?"),
        (["tasks", "--device", "dev-33"], 1, "Did you mean dev-3?"),
        (["devices", "--product", "thermostad"], 1, f"Did you mean {PRODUCT}?"),
        (["batches", "--product", PRODUCT], 2, "--product is for devices only"),
        (["devices", "--batch", BATCH], 2, "--batch is for tasks only"),
    ],
)
def test_what_is_unknown_is_said_with_the_nearest_name(fleet, reconciler, arguments, code, said):
    ran = reconciler("get", *arguments)
    assert ran.code == code
    assert said in ran.err
    assert ran.out == ""


def test_a_data_directory_without_a_database_is_said_to_have_none(reconciler):
    ran = reconciler("get", "batches")
    assert ran.code == 1
    assert "there is no database" in ran.err
    assert "reconciler run" in ran.err


def test_watching_prints_everything_once_and_then_what_changed(fleet, reconciler, monkeypatch):
    rounds = iter([lambda: None, lambda: _fail(fleet), lambda: None])

    def pause(_seconds):
        try:
            next(rounds)()
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("reconciler.cli.looking.forever.__defaults__", (pause,))
    ran = reconciler("get", "tasks", "-w")
    assert ran.code == 130
    assert [line.split()[1:3] for line in ran.lines] == [
        ["DEVICE", "STATUS"], ["dev-3", "QUEUED"], ["dev-2", "FAILED"], ["dev-1", "IN_PROGRESS"], ["dev-1", "FAILED"],
    ]  # fmt: skip


def test_watching_for_machines_prints_a_line_for_each_change(fleet, reconciler, monkeypatch):
    def pause(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("reconciler.cli.looking.forever.__defaults__", (pause,))
    ran = reconciler("get", "batches", "-w", "-o", "json")
    assert [line.startswith('{"kind": "Batch"') for line in ran.lines] == [True, True]


def _fail(database):
    with database.writing() as connection:
        seed.send(connection, "dev-1", lifecycle.progressed(-1, "no"))
