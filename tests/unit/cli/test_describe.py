"""`reconciler describe` and `reconciler events`: one thing in full, and what happened."""

from __future__ import annotations

import json

import pytest
import rows
import seed
from rows import HOUR, MINUTE, PACKAGE, Rows
from seed import BATCH, NOW, PRODUCT
from sqlalchemy import select, update

from reconciler.cli.looking import now
from reconciler.domain import lifecycle
from reconciler.domain.plan import Reason
from reconciler.domain.resources import Kind
from reconciler.store import devices, events, objects, products, pushes, tables

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
        us = pushes.Claimant(1, devices.Presence(1, seed.SETTLE))
        for claim in pushes.claim(connection, 1, us, NOW, 9).taken:
            pushes.settle_pushes(connection, 1, [(claim, pushes.Outcome.CONFIRMED)], NOW)
        seed.send(connection, "dev-1", lifecycle.progressed(-4, "worn \x07out"))
        seed.send(connection, "dev-2", lifecycle.progressed(20, ""))
    return database


def squeezed(ran):
    assert ran.code == 0, ran.err
    return " ".join(ran.out.split())


def test_labels_and_annotations_are_shown(fleet, reconciler):
    said = {"labels": {"team": "eu"}, "annotations": {"note": "a long text"}}
    with fleet.writing() as connection:
        connection.execute(tables.object_.update().values(metadata=said))
    out = squeezed(reconciler("describe", "batch", BATCH))
    assert "Labels: team: eu Annotations: note: a long text Conditions:" in out
    (found,) = reconciler("get", "batches", "-o", "json").json
    assert {name: found["metadata"][name] for name in said} == said


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
    assert f"Product key: {seed.KEY} Protocol: Aliyun" in out
    assert "Devices: 4 declared" in out
    assert "Versions of default: 1.3.0: 2 (66.7%) 1.4.0: 1 (33.3%)" in out


def test_a_batch_shows_the_number_that_sagoo_devices_are_told(fleet, database, reconciler):
    assert "Strategy:" not in squeezed(reconciler("describe", "batch", BATCH))
    with database.writing() as connection:
        connection.execute(update(tables.product).values(protocol="Sagoo"))
        number = connection.execute(select(tables.run.c.id)).scalars().first()
    assert f"Strategy: {number} Revision:" in squeezed(reconciler("describe", "batch", BATCH))


def test_a_package_shows_its_file_and_its_batches(fleet, reconciler):
    out = squeezed(reconciler("describe", "package", BATCH))
    assert "Size: 2,048 bytes" in out
    assert f"SHA-256: sha-{BATCH}" in out
    assert f"Batches: {BATCH}: IN_PROGRESS, FAILED 1, IN_PROGRESS 1, QUEUED 1" in out


def test_a_package_shows_each_of_its_files(database, reconciler):
    with database.writing() as connection:
        seed.product(connection)
        blobs = [
            products.put_blob(connection, sha256=f"sha-{size}", md5=f"md5-{size}", size=size, now=seed.NOW)
            for size in (1000, 7)
        ]
        files = tuple(map(products.NewFile, ("app.bin", "web.zip"), blobs))
        seed.package(connection, files=files)
    out = squeezed(reconciler("describe", "package", BATCH))
    assert "File app.bin: Size: 1,000 bytes SHA-256: sha-1000 MD5: md5-1000" in out
    assert "File web.zip: Size: 7 bytes SHA-256: sha-7 MD5: md5-7" in out
    (listed,) = json.loads(reconciler("get", "packages", "-o", "json").out)
    assert listed["status"]["files"][1] == {"name": "web.zip", "size": 7, "sha256": "sha-7", "md5": "md5-7"}
    wide = squeezed(reconciler("get", "packages", "-o", "wide"))
    assert "FILES BYTES" in wide
    assert " 2 1,007 " in wide


def test_an_inventory_shows_how_many_devices_it_declares(fleet, reconciler):
    assert "Devices: 4" in squeezed(reconciler("describe", "inventory", "all"))


def test_a_device_shows_why_it_was_not_upgraded(fleet, reconciler):
    out = squeezed(reconciler("describe", "device", "dev-1"))
    assert "Versions: default: 1.3.0" in out
    assert "Tags: site a" in out
    why = "the device could not write its flash: `reconciler retry` tries again"
    assert f"FAILED, burn-failed: {why}; step -4 worn \N{REPLACEMENT CHARACTER}out" in out
    assert "Left out" not in out


def test_a_device_that_was_left_out_shows_by_which_batch(fleet, reconciler):
    out = squeezed(reconciler("describe", "device", f"{PRODUCT}/dev-4"))
    assert f"Left out: {BATCH}: already-on-target (1.4.0)" in out


def test_a_device_that_waits_shows_for_what(fleet, reconciler):
    assert "QUEUED, the daemon is not running, for " in squeezed(reconciler("describe", "device", "dev-3"))
    with fleet.writing() as connection:
        objects.beat(connection, now())
    assert "QUEUED, device offline" in squeezed(reconciler("describe", "device", "dev-3"))
    batch = squeezed(reconciler("describe", "batch", BATCH))
    assert "QUEUED for example: dev-3: QUEUED, device offline" in batch


def test_presence_is_not_claimed_while_no_daemon_keeps_it(fleet, reconciler):
    assert "Presence: not known" in squeezed(reconciler("describe", "device", "dev-2"))
    with fleet.writing() as connection:
        objects.beat(connection, now())
    assert "Presence: online since 2026-11-01 12:00:00Z" in squeezed(
        reconciler("describe", "device", "dev-2")
    )


@pytest.fixture
def situation(database, monkeypatch):
    """Puts rows into a database, and stops the clock."""
    monkeypatch.setattr("reconciler.cli.looking.now", lambda: rows.NOW)

    def put(make):
        with database.writing() as connection:
            made = Rows(connection)
            made.world()
            return make(made)

    return put


def test_a_suspended_batch_says_by_whom_and_since_when(situation, reconciler):
    situation(lambda made: made.run(suspended=True, suspended_by="bob", suspended_at=rows.NOW - MINUTE))
    out = squeezed(reconciler("describe", "batch", rows.BATCH))
    assert "Phase: IN_PROGRESS, suspended" in out
    assert "Health: Suspended" in out
    assert (
        "Suspended: True SuspendedByOperator, 2026-11-01 11:00:00Z (1h ago): "
        "by `suspend` in Git and by bob, until `reconciler resume`"
    ) in out


def test_a_planned_batch_says_when_it_starts_and_ends(situation, reconciler):
    at = {"start_at": rows.NOW + HOUR, "end_at": rows.NOW + 3 * HOUR}
    situation(lambda made: made.run(phase="PLANNED", started_at=None, **at))
    out = squeezed(reconciler("describe", "batch", rows.BATCH))
    for said in (
        "Phase: PLANNED, starts 2026-11-01 13:00:00Z",
        "Health: Progressing",
        "Ready: False Scheduled",
        "Starts: 2026-11-01 13:00:00Z",
        "Ends: 2026-11-01 15:00:00Z",
    ):
        assert said in out


def test_a_package_shows_how_its_verification_stands(situation, reconciler):
    def make(made):
        package = made.package("firmware-1.5.0", "1.5.0", verification="verifying")
        trial = made.run("firmware-1.5.0", type="Verify", package_id=package, spec={})
        made.task(trial, made.device("lab-1", "1.5.0"), "SUCCEEDED")
        made.task(trial, made.device("lab-2", "1.3.0"))
        made.add(
            tables.left_out, run_id=trial, device_id=made.device("lab-3", "1.5.0"), reason="already-on-target"
        )
        made.run(phase="PLANNED", started_at=None, package_id=package)

    situation(make)
    out = squeezed(reconciler("describe", "package", "firmware-1.5.0"))
    for said in (
        "Verified: False Verifying",
        "Verification: State: verifying Done: 2 of 3 (66 %)",
        "lab-2: QUEUED, device offline, for 1h",
        "Left out: already-on-target: 1",
    ):
        assert said in out
    assert "firmware-1.5.0 thermostat 1.5.0 verifying 2 of 3 (66 %)" in squeezed(
        reconciler("get", "packages")
    )
    assert "not-required" in squeezed(reconciler("get", "package", PACKAGE))
    said = reconciler("get", "package", "firmware-1.5.0", "-o", "json").json[0]["status"]
    assert said["verification"] == {"state": "verifying", "done": 2, "total": 3, "run": 1}
    waiting = squeezed(reconciler("describe", "batch", rows.BATCH))
    assert "Ready: False WaitsForVerification" in waiting
    assert "package firmware-1.5.0 is verifying" in waiting


def test_a_suspended_verification_is_seen_where_packages_are(situation, reconciler):
    def make(made):
        package = made.package("firmware-1.5.0", "1.5.0", verification="verifying")
        who = {"suspended_by": "alice", "suspended_at": rows.NOW}
        trial = made.run("firmware-1.5.0", type="Verify", package_id=package, spec={}, **who)
        made.task(trial, made.device("lab-1", "1.3.0"))

    situation(make)
    assert "verifying 0 of 1 (0 %), suspended Synced Suspended" in squeezed(reconciler("get", "packages"))
    out = squeezed(reconciler("describe", "package", "firmware-1.5.0"))
    assert "State: verifying, suspended" in out
    assert "Suspended: True SuspendedByOperator" in out


def test_groups_show_their_devices_and_whom_they_feed(situation, reconciler):
    def make(made):
        one, two = made.device("dev-1", "1.3.0"), made.device("dev-2", "1.3.0")
        made.group("listed-ones", ["dev-1", "dev-3", "dev-4"])
        fed = made.group("beta-testers", selector={"matchTags": {"region": "eu"}}, members=[one, two])
        made.run(type="Dynamic", group_id=fed)
        gone = made.device("dev-5", "1.3.0")
        made.add(tables.membership, group_id=fed, device_id=gone, present=False, joins=1)
        made.run("over", type="Dynamic", group_id=fed, phase="CANCELED", canceled_by="git", ended_at=rows.NOW)

    situation(make)
    table = [line.split()[:4] for line in reconciler("get", "groups").lines]
    assert table == [
        ["NAME", "PRODUCT", "TYPE", "DEVICES"],
        ["beta-testers", "thermostat", "Dynamic", "2"],
        ["listed-ones", "thermostat", "Static", "3"],
    ]
    said = {
        item["metadata"]["name"]: item["status"] for item in reconciler("get", "groups", "-o", "json").json
    }
    assert said["beta-testers"]["dynamicBatches"] == [rows.BATCH]
    out = squeezed(reconciler("describe", "devicegroup", "beta-testers"))
    assert f"Group: dynamic, 2 members now Dynamic batches: {rows.BATCH}" in out
    assert "region: eu" in out
    listed = squeezed(reconciler("describe", "group/listed-ones"))
    assert "Group: static, 3 names listed 2 of the names are no devices: dev-3 dev-4" in listed
    assert "names" not in out
    assert "Groups: beta-testers listed-ones" in squeezed(reconciler("describe", "device", "dev-1"))


def test_a_misspelt_name_of_a_group_is_seen_where_its_batch_is(situation, reconciler):
    def make(made):
        made.device("dev-1", "1.3.0")
        made.device("dev-2", "1.3.0", state="removed")
        names = ["dev-1", "dev-2", *(f"dew-{number}" for number in range(10, 21))]
        made.group("canaries", names)
        roster_id = made.connection.execute(select(tables.roster.c.id)).scalar_one()
        made.run(roster_id=roster_id, spec={"target": {"group": "canaries"}})
        made.run("listed", roster_id=made.list_of("l", ["dev-1", "dew-1"]))

    situation(make)
    out = squeezed(reconciler("describe", "batch", rows.BATCH))
    assert "12 of the names are no devices: dev-2 dew-10 dew-11" in out
    assert out.count("dew-") == 9
    assert "dew-18 …" in out
    assert "names" not in squeezed(reconciler("describe", "batch", "listed"))


def test_a_batch_and_a_verification_of_one_name_are_told_apart(situation, reconciler):
    def make(made):
        for name, type_ in (("dev-1", "Static"), ("lab-1", "Verify")):
            run = made.run(PACKAGE, type=type_)
            task = made.task(run, made.device(name, "1.3.0"))
            line = {
                "at": rows.NOW,
                "type": "task",
                "run_id": run,
                "task_id": task,
                "message": f"about {name}",
            }
            made.add(tables.event, **line)

    situation(make)
    assert reconciler("get", "tasks", "--batch", PACKAGE, "-o", "name").lines == [f"task/{PACKAGE}/dev-1"]
    assert "about lab-1" not in reconciler("describe", "batch", PACKAGE).out
    assert "about dev-1" in reconciler("events", "--batch", PACKAGE).out
    package = reconciler("describe", "package", PACKAGE).out
    assert f"Package/{PACKAGE}" in package
    assert "about lab-1" in package
    assert "about dev-1" not in package


def test_a_task_that_waits_for_its_next_try_says_when_and_which(situation, reconciler):
    def make(made):
        run = made.run(retry_interval=10 * MINUTE, retry_limit=2)
        times = {"attempt": 1, "retry_at": rows.NOW + MINUTE, "step": -2}
        made.task(run, made.device("dev-1", "1.3.0", online=True), "NOTIFIED", hold="retry", **times)

    situation(make)
    out = squeezed(reconciler("describe", "task", f"{rows.BATCH}/dev-1"))
    assert "Why: next try at 2026-11-01 12:01:00Z, for 9m; attempt 1 of 2" in out
    assert "next try at 2026-11-01 12:01:00Z" in reconciler("get", "tasks").out
    said = reconciler("get", "tasks", "-o", "json").json[0]["status"]
    assert (said["waitsFor"], said["waitsSince"], said["waitsUntil"], said["hold"]) == (
        "next try", "2026-11-01T11:51:00.000Z", "2026-11-01T12:01:00.000Z", "retry",
    )  # fmt: skip


def test_a_conflict_names_the_batch_that_has_the_device_and_who_waits_behind_it_too(situation, reconciler):
    def make(made):
        device = made.device("dev-1", "1.3.0")
        made.task(made.run("hotfix"), device, "NOTIFIED")
        made.task(made.run(), device, "FAILED", reason="conflict")
        made.task(made.run("patient"), device, hold="behind")

    situation(make)
    out = squeezed(reconciler("describe", "device", "dev-1"))
    assert f"{rows.BATCH}: FAILED, conflict: batch hotfix still has the device" in out
    assert "patient: QUEUED, waits behind hotfix, for 1h" in out
    found = {
        item["metadata"]["batch"]: item["status"] for item in reconciler("get", "tasks", "-o", "json").json
    }
    assert {name: said["occupiedBy"] for name, said in found.items()} == {
        "hotfix": None, rows.BATCH: "hotfix", "patient": "hotfix",
    }  # fmt: skip


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
