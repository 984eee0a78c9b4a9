"""`reconciler plan` and `apply` on a repository of the test: what they say, and with which exit code."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from reconciler.source.scratch import ScratchRepository, example


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """The smallest example, in a repository that the commands follow."""
    repository = ScratchRepository(tmp_path / "fleet")
    source = example("01-minimal")
    repository.copy(source, *(path.name for path in source.iterdir()))
    repository.commit("Everything")
    monkeypatch.setenv("RECONCILER_REPO", str(repository.folder))
    return repository


def write(fleet, path, *lines):
    (fleet.folder / path).write_text("\n".join(lines) + "\n")
    fleet.commit(f"Write {path}")


BATCH = ("apiVersion: ota/v1", "kind: Batch", "metadata: {name: one}", "spec:", "  package: thermostat-1.4.0")


def test_what_is_held_is_counted_and_is_no_failure(reconciler, fleet):
    for command in ("plan", "apply"):
        ran = reconciler(command)
        assert ran.code == 0
        assert ran.lines[-1].endswith(" to create, 0 to change, 0 to cancel; 1 held.")


def test_what_is_refused_is_a_failure_also_when_its_manifest_is_valid(reconciler, fleet):
    write(fleet, "batches/one.yaml", *BATCH, "  target: {devices: [nobody-has-this]}")
    for command in ("plan", "apply"):
        ran = reconciler(command, "--bootstrap", "start")
        assert "UnknownDevices" in ran.out
        assert (ran.code, ran.lines[-1].endswith("; 1 refused.")) == (1, True)


def test_a_way_to_download_that_was_refused_can_be_given_here_too(reconciler, fleet):
    write(fleet, "batches/one.yaml", *BATCH, "  target: {all: {}}", "  download: HTTPS")
    ran = reconciler("plan", "--bootstrap", "start")
    assert (ran.code, "Download: asks for downloads over HTTPS" in ran.out) == (1, True)
    both = "https://ota.example.com,http://ota.example.com"
    for command in ("plan", "apply"):
        assert reconciler(command, "--bootstrap", "start", "--public-url", both).code == 0


def test_a_repository_without_a_commit_is_an_error_with_a_remedy(reconciler, tmp_path, monkeypatch):
    empty = ScratchRepository(tmp_path / "fleet")
    monkeypatch.setenv("RECONCILER_REPO", str(empty.folder))
    for command in ("plan", "apply"):
        ran = reconciler(command)
        assert (ran.code, ran.out) == (1, "")
        assert "error: " in ran.err
        assert "has no commit yet\n  help: Commit manifests" in ran.err


def test_a_branch_is_planned_as_if_it_were_merged(reconciler, fleet):
    reconciler("apply")
    fleet._git("switch", "--quiet", "--create", "upgrade")
    write(fleet, "batches/one.yaml", *BATCH, "  target: {all: {}}")
    ran = reconciler("plan", "--ref", "upgrade")
    assert "+ create Batch/one" in ran.out
    assert ran.lines[-1].startswith("Plan: 1 to create,")
    assert "note: " not in re.sub("^ .*", "", ran.err, flags=re.MULTILINE)  # the ref is what was asked for
    assert reconciler("plan").err == ""


def test_a_branch_that_lacks_what_is_in_force_is_planned_with_a_warning(reconciler, fleet, tmp_path):
    fleet._git("branch", "upgrade")
    write(fleet, "batches/one.yaml", *BATCH, "  target: {all: {}}")
    reconciler("apply", "--bootstrap", "start")
    ran = reconciler("plan", "--ref", "upgrade")
    assert "- remove Batch/one" in ran.out or "- cancel Batch/one" in ran.out
    assert "note: upgrade@sha1:" in ran.err
    assert "lacks 1 commit of what is in force, main@sha1:" in ran.err
    fleet._git("clone", "--quiet", str(fleet.folder), "../other")
    ran = reconciler("plan", "--repo", str(tmp_path / "other"))
    assert f"this state follows {fleet.folder}, and not {tmp_path / 'other'}: planned as if" in ran.err


RULES = (*BATCH, "  conflict: Wait", "  schedule: {start: 2020-01-01T00:00:00Z}")


def test_a_plan_says_whom_a_batch_reaches_and_what_it_warns_of(reconciler, fleet):
    write(fleet, "batches/one.yaml", *RULES, "  target: {gray: {percent: 10}}")
    ran = reconciler("plan", "--bootstrap", "start")
    assert ran.code == 0
    start = ran.lines.index("  + create Batch/one: new in Git")
    assert ran.lines[start + 1 : start + 5] == [
        "        5 devices to upgrade of 50 devices that fit, 5 of them not connected now",
        "        this same commit declares 50 devices, which reported no version yet",
        "        327.7 kB to ship, at least 1 minute at its push rate",
        "        warning: its start 2020-01-01T00:00:00Z is past: it starts at once",
    ]


def test_the_json_of_a_plan_holds_the_same(reconciler, fleet):
    write(fleet, "batches/one.yaml", *RULES, "  target: {gray: {percent: 10}}")
    ran = reconciler("plan", "--bootstrap", "start", "-o", "json")
    document = json.loads(ran.out)
    (one,) = [action for action in document["actions"] if action["name"] == "one"]
    assert document["formatVersion"] == "1.3"
    assert one["warnings"] == ["its start 2020-01-01T00:00:00Z is past: it starts at once"]
    reach = one["reach"]
    assert (reach["devices"], reach["shareOf"], reach["waiting"], reach["laterToo"]) == (5, 50, 0, False)
    assert (reach["startsAt"], reach["waitsForVerification"], reach["follows"]) == (None, None, [])


def test_what_is_refused_says_what_it_leaves(reconciler, fleet):
    write(fleet, "batches/one.yaml", *BATCH, "  target: {all: {}}")
    assert reconciler("apply", "--bootstrap", "start").code == 0
    write(fleet, "batches/one.yaml", *BATCH, "  target: {devices: [thermo-001]}")
    two = [line.replace("name: one", "name: two") for line in BATCH]
    write(fleet, "batches/two.yaml", *two, "  target: {devices: [nobody-1]}")
    ran = reconciler("plan")
    assert ran.code == 1
    below = {
        line: after.strip() for line, after in itertools.pairwise(ran.lines) if line.startswith("  ! refused")
    }
    left = {line.split()[2]: after for line, after in below.items()}
    assert left["Batch/one:"].startswith("it stays as it was, OutOfSync, and its run 1 goes on with ")
    document = json.loads(reconciler("plan", "-o", "json").out)
    leaves = {verdict["name"]: verdict["leaves"] for verdict in document["refused"]}
    assert leaves["two"] == {"sync": "OutOfSync", "inForce": False, "run": None, "unfinishedTasks": None}
    assert (leaves["one"]["inForce"], leaves["one"]["run"]) == (True, 1)


def test_a_misspelt_name_of_a_group_is_no_failure_and_is_said_by_both(reconciler, fleet):
    group = "apiVersion: ota/v1", "kind: DeviceGroup", "metadata: {name: canaries}", "spec:"
    write(
        fleet, "batches/canaries.yaml", *group, "  product: thermostat", "  devices: [thermo-001, termo-002]"
    )
    write(fleet, "batches/one.yaml", *BATCH, "  target: {group: canaries}")
    for command in ("plan", "apply"):
        ran = reconciler(command, "--bootstrap", "start")
        assert ran.code == 0
        assert "warning: " in ran.out
        assert "1 of its group's names is no device, and skipped: termo-002" in ran.out


def test_unknown_names_are_listed_line_by_line(reconciler, fleet):
    (fleet.folder / "batches/some.csv").write_text("thermo-001\nnobody-1\nnobody-2\n")
    write(fleet, "batches/one.yaml", *BATCH, "  target: {devicesFrom: {file: some.csv}}")
    ran = reconciler("plan", "--bootstrap", "start")
    assert ran.code == 1
    assert "        no device has the name nobody-1 (batches/some.csv:2)" in ran.lines
    assert "        no device has the name nobody-2 (batches/some.csv:3)" in ran.lines
    document = json.loads(reconciler("plan", "--bootstrap", "start", "-o", "json").out)
    assert len(document["refused"][0]["details"]) == 2


def test_a_plan_of_a_careful_roll_out_says_what_each_batch_waits_for(reconciler, tmp_path, monkeypatch):
    repository = ScratchRepository(tmp_path / "fleet")
    source = example("04-careful")
    repository.copy(source, *(path.name for path in source.iterdir()))
    repository.commit("Everything")
    monkeypatch.setenv("RECONCILER_REPO", str(repository.folder))
    ran = reconciler("plan", "--bootstrap", "start")
    assert "        2 devices to try it out on, 2 of them not connected now" in ran.lines
    assert ran.lines.count("        waits for the verification of Package/thermostat-1.4.0") == 2


def test_what_is_no_repository_leaves_nothing_behind(reconciler, tmp_path):
    data = tmp_path / "data"
    (tmp_path / "folder").mkdir()
    ran = reconciler("apply", "--repo", str(tmp_path / "folder"), "--data-dir", str(data))
    assert (ran.code, data.exists()) == (1, False)


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--repo", "fleet", "--bootstrap", "maybe"),
        ("--repo", "fleet", "--interval", "-1"),
        ("--repo", "fleet", "--http-bind", "127.0.0.1:0", "--mqtt", "http://x"),
        ("--repo", "fleet", "--http-bind", "foo:bar"),
        ("--repo", "gopher://fleet"),
    ],
)
def test_a_wrong_flag_of_the_daemon_is_a_wrong_command_line(reconciler, flags):
    ran = reconciler("run", *flags)
    assert ran.code == 2
    assert ran.err.splitlines()[-2].startswith("error: ")
    assert ran.err.splitlines()[-1].startswith("  help: ")
