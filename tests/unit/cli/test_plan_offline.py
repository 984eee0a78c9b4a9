"""`reconciler plan --offline`: what two commits differ in, without database, daemon and credentials."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from reconciler.source.scratch import ScratchRepository, example

PRODUCT = "apiVersion: ota/v1\nkind: Product\nmetadata: {name: lamp}\nspec: {}\n"
PACKAGE = """\
apiVersion: ota/v1
kind: Package
metadata: {name: lamp-2}
spec: {product: lamp, version: 2.0.0, files: [{name: app.bin, source: app.bin}]}
"""
EU = "  selector: {matchTags: {region: eu}}"


def inventory(**regions):
    listed = "".join(
        f"    - {{name: dev-{name}, tags: {{region: {region}}}}}\n" for name, region in regions.items()
    )
    head = "apiVersion: ota/v1\nkind: DeviceInventory\nmetadata: {name: berlin}\n"
    return f"{head}spec:\n  product: lamp\n  devices:\n{listed}"


def batch(*spec, name="one"):
    return "\n".join(
        [
            "apiVersion: ota/v1",
            "kind: Batch",
            f"metadata: {{name: {name}}}",
            "spec:",
            "  package: lamp-2",
            *spec,
            "",
        ]
    )


def group(*spec):
    return "\n".join(
        [
            "apiVersion: ota/v1",
            "kind: DeviceGroup",
            "metadata: {name: testers}",
            "spec:",
            "  product: lamp",
            *spec,
            "",
        ]
    )


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """A product with three devices and a package, in a checkout that is the working folder."""
    repository = ScratchRepository(tmp_path / "fleet")
    write(
        repository,
        **{
            "product.yaml": PRODUCT,
            "package.yaml": PACKAGE,
            "app.bin": "x" * 90,
            "devices.yaml": inventory(a="eu", b="us", c="us"),
        },
    )
    monkeypatch.chdir(repository.folder)
    return repository


def write(repository, **files):
    for name, content in files.items():
        place = repository.folder / name
        place.unlink() if content is None else place.write_text(content)
    return repository.commit("Change " + ", ".join(files))


def below(ran, head):
    """The lines below an action."""
    at = ran.lines.index(head) + 1
    return [line.strip() for line in ran.lines[at:] if line.startswith(" ")][
        : next((n for n, line in enumerate(ran.lines[at:]) if not line.startswith("        ")), None)
    ]


def test_a_new_batch_says_whom_it_is_for_as_far_as_git_knows(fleet, reconciler):
    write(
        fleet,
        **{"one.yaml": batch("  target: {all: {}, sourceVersions: [1.0.0]}", "  pushRatePerMinute: 60")},
    )
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD")
    assert (ran.code, ran.lines[-1]) == (0, "Plan: 1 to create, 0 to change, 0 to cancel.")
    assert below(ran, "  + create Batch/one: new in Git") == [
        "at most 3 devices to upgrade, by the inventories in Git, and those that Git doesn't list",
        "only those that report 1.0.0",
        "at most 270 bytes to ship; 1 minute for all of them at its push rate",
    ]
    assert "note: from Git alone: HEAD~1@sha1:" in ran.err
    assert "only a plan against the daemon's state knows" in ran.err


def test_a_batch_that_is_over_or_cancelled_is_for_nobody_and_a_wider_one_for_the_versions_that_are_new_to_it(
    fleet, reconciler
):
    over = "  schedule: {start: 2026-10-01T00:00:00Z, end: 2026-10-02T00:00:00Z}"
    first = ("  strategy: Dynamic", "  target: {all: {}, sourceVersions: [1.0.0]}")
    off = "  state: Canceled"
    write(fleet, **{"one.yaml": batch(*first), "off.yaml": batch(*first, off, name="off")})
    wider = ("  strategy: Dynamic", "  target: {all: {}, sourceVersions: [1.0.0, 1.1.0]}")
    ended = batch("  target: {all: {}}", over, name="two")
    off_too = batch(*wider, off, name="off")
    write(fleet, **{"one.yaml": batch(*wider), "two.yaml": ended, "off.yaml": off_too})
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD")
    assert below(ran, "  + create Batch/two: new in Git")[0] == "no device"
    said = below(ran, "  ~ change Batch/one: changed in Git (target.sourceVersions)")
    assert said[0].startswith("at most 3 devices to upgrade, by the inventories in Git, and those that")
    assert said[1] == "only those that report 1.1.0"
    assert below(ran, "  ~ change Batch/off: changed in Git (target.sourceVersions)") == []
    ran = reconciler("plan", "--offline", "HEAD..HEAD~1")
    assert below(ran, "  ~ change Batch/one: changed in Git (target.sourceVersions)") == []


def test_a_list_and_a_share_are_counted_and_strangers_are_named(fleet, reconciler):
    write(
        fleet,
        **{
            "one.yaml": batch("  target: {devices: [dev-a, dev-zz]}"),
            "two.yaml": batch("  target: {gray: {percent: 34}}", name="two"),
        },
    )
    found = {
        action["name"]: action
        for action in reconciler("plan", "--offline", "HEAD~1..", "-o", "json").json["actions"]
    }
    assert found["one"]["warnings"] == ["1 of its names is in no inventory of this commit: dev-zz"]
    one, two = found["one"]["estimate"], found["two"]["estimate"]
    assert (one["devicesAtMost"], one["countedFrom"], one["complete"]) == (2, "its list", True)
    assert (two["devicesAtMost"], two["shareOf"], two["complete"]) == (1, 3, False)
    assert found["one"]["reach"] is None


def test_a_batch_that_is_deleted_or_cancelled_ends_and_an_immutable_field_is_refused(fleet, reconciler):
    names = ("gone", "stopped", "changed")
    write(
        fleet,
        **{
            f"{name}.yaml": batch(f"  target: {{devices: [dev-{device}]}}", name=name)
            for name, device in zip(names, "abc", strict=True)
        },
    )
    write(
        fleet,
        **{
            "gone.yaml": None,
            "stopped.yaml": batch("  target: {devices: [dev-b]}", "  state: Canceled", name="stopped"),
            "changed.yaml": batch("  target: {devices: [dev-a]}", name="changed"),
        },
    )
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD")
    assert (ran.code, ran.lines[-1]) == (1, "Plan: 0 to create, 0 to change, 2 to cancel; 1 refused.")
    assert "  - cancel Batch/gone: deleted from Git" in ran.lines
    assert ran.out.count("unfinished tasks end, as its onCancel says") == 2
    assert below(
        ran, next(line for line in ran.lines if line.startswith("  ! refused Batch/changed: Immutable"))
    ) == ["it stays as it was, OutOfSync"]


def test_tags_and_selectors_tell_which_dynamic_batch_upgrades_whom(fleet, reconciler):
    dynamic = batch("  strategy: Dynamic", "  target: {group: testers}")
    write(fleet, **{"one.yaml": dynamic, "testers.yaml": group(EU)})
    write(fleet, **{"devices.yaml": inventory(a="eu", b="eu", c="us", d="eu")})
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD")
    assert (
        "        2 devices of Git's inventories more in the group testers: Batch/one upgrades those that it fits"
        in ran.lines
    )
    write(
        fleet,
        **{
            "testers.yaml": group("  selector: {matchExpressions: [{key: region, operator: Exists}]}"),
            "devices.yaml": inventory(a="eu", b="eu", c="us", d="us"),
        },
    )
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD")
    assert ran.out.count("1 device of Git's inventories more in the group testers") == 1
    assert below(ran, next(line for line in ran.lines if "DeviceGroup/testers" in line))[0].startswith(
        "1 device of Git's"
    )


def test_a_batch_follows_no_device_of_another_product(fleet, reconciler):
    everywhere = group(EU).replace("  product: lamp\n", "")
    write(
        fleet,
        **{
            "bell.yaml": PRODUCT.replace("lamp", "bell"),
            "bells.yaml": inventory(x="us").replace("lamp", "bell").replace("berlin", "bells"),
            "one.yaml": batch("  strategy: Dynamic", "  target: {group: testers}"),
            "testers.yaml": everywhere,
        },
    )
    write(fleet, **{"bells.yaml": inventory(x="eu").replace("lamp", "bell").replace("berlin", "bells")})
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD")
    assert (ran.code, "Batch/one" in ran.out, ran.lines[-1][:6]) == (0, False, "Plan: ")


def test_a_group_is_who_its_selector_or_its_list_says(fleet, reconciler):
    write(
        fleet,
        **{"one.yaml": batch("  strategy: Dynamic", "  target: {group: testers}"), "testers.yaml": group(EU)},
    )

    def estimate():
        return reconciler("plan", "--offline", "HEAD~1..", "-o", "json").json["actions"][-1]["estimate"]

    assert (estimate()["devicesAtMost"], estimate()["laterToo"]) == (1, True)
    write(fleet, **{"one.yaml": None, "testers.yaml": None})
    write(
        fleet,
        **{
            "one.yaml": batch("  target: {group: testers}"),
            "testers.yaml": group("  devices: [dev-a, dev-b]"),
        },
    )
    assert (estimate()["devicesAtMost"], estimate()["countedFrom"]) == (2, "the list of its group testers")


def test_a_package_that_is_tried_out_and_its_batch_that_waits(fleet, reconciler):
    tried = (
        PACKAGE.replace("lamp-2", "lamp-3")
        .replace("2.0.0", "3.0.0")
        .replace("}]}", "}], verification: {devices: [dev-a]}}")
    )
    write(
        fleet,
        **{
            "three.yaml": tried,
            "one.yaml": batch("  target: {all: {}}", "  newReportsOnly: true", "  strategy: Dynamic")
            .replace("lamp-2", "lamp-3")
            .replace("all: {}", "all: {}, sourceVersions: [1.0.0]"),
        },
    )
    ran = reconciler("plan", "--offline", "HEAD~1..")
    assert "        at most 1 device to try it out on, by its list" in ran.lines
    assert "        waits for the verification of Package/lamp-3" in ran.lines
    assert "        no device now, only those that report later" in ran.lines


def test_what_is_wrong_is_shown_and_what_was_wrong_before_is_said(fleet, reconciler):
    broken = batch("  target: {all: {}}", "  rolout: 3")
    write(fleet, **{"one.yaml": broken})
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD")
    assert ran.code == 1
    assert "error[OTA113]" in ran.err
    write(fleet, **{"one.yaml": batch("  target: {all: {}}")})
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD")
    assert ran.code == 0
    assert "1 object of HEAD~1@sha1:" in ran.err
    assert "is not valid there" in ran.err
    assert "an earlier one may be in force" in ran.out


def test_changes_have_an_exit_code_of_their_own_and_nothing_is_none(fleet, reconciler):
    write(fleet, **{"one.yaml": batch("  target: {all: {}}")})
    assert reconciler("plan", "--offline", "HEAD~1..HEAD", "--detailed-exitcode").code == 2
    ran = reconciler("plan", "--offline", "HEAD..HEAD", "--detailed-exitcode")
    assert (ran.code, ran.lines[-1]) == (0, "No changes.")


def test_a_branch_behind_its_base_says_that_what_it_lacks_is_no_change(fleet, reconciler):
    fleet._git("branch", "upgrade")
    write(fleet, **{"one.yaml": batch("  target: {all: {}}")})
    ran = reconciler("plan", "--offline", "main..upgrade")
    assert "  - cancel Batch/one: deleted from Git" in ran.lines
    assert "lacks 1 commit of what is in force, main@sha1:" in ran.err
    assert "BASE...HEAD" in ran.err
    upgrade, main = fleet._git("rev-parse", "upgrade", "main").split()
    ran = reconciler("plan", "--offline", f"{main}..{upgrade}")
    assert ran.lines[0].startswith(f"HEAD@sha1:{upgrade}  ")
    assert f"lacks 1 commit of what is in force, BASE@sha1:{main}:" in ran.err
    ran = reconciler("plan", "--offline", "main...upgrade")
    assert (ran.lines[-1], "lacks" in ran.err) == ("No changes.", False)


def test_markdown_is_the_comment(fleet, reconciler):
    write(fleet, **{"one.yaml": batch("  target: {all: {}}")})
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD", "-o", "markdown")
    assert ran.lines[:2] == [
        "<!-- reconciler-plan -->",
        "### Plan: 1 to create, 0 to change, 0 to cancel. (from Git alone)",
    ]
    assert "| `+` | <code>Batch/one</code> | new in Git | ≤ 3+ | 1 min for all |" in ran.lines


@pytest.mark.parametrize(
    "flags",
    [
        ("--ref", "main"),
        ("--data-dir", "x"),
        ("--bootstrap", "start"),
        ("--token-file", "x"),
        ("--server", "http://127.0.0.1:1"),
        ("--public-url", "https://x"),
    ],
)
def test_a_flag_that_would_be_ignored_is_refused(fleet, reconciler, flags):
    ran = reconciler("plan", "--offline", "HEAD..HEAD", *flags)
    assert ran.code == 2
    assert flags[0] in ran.err


def test_a_token_is_for_a_daemon(fleet, reconciler):
    ran = reconciler("plan", "--repo", str(fleet.folder), "--token-file", "x")
    assert (ran.code, "--token-file means nothing without --server" in ran.err) == (2, True)


def test_neither_database_nor_server_is_imported_for_it(fleet):
    script = (
        "import sys; from reconciler.cli import execute; code = execute(['plan', '--offline', 'HEAD..HEAD'])\n"
        "heavy = {'sqlalchemy', 'paho', 'starlette', 'uvicorn', 'alembic'} & set(sys.modules)\n"
        "sys.exit(code or len(heavy))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=fleet.folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "No changes.")


def test_every_example_can_be_planned_from_nothing(tmp_path, reconciler):
    repository = ScratchRepository(tmp_path / "examples")
    repository.commit("Nothing")
    source = example("04-careful")
    repository.copy(source, *(path.name for path in source.iterdir()))
    repository.commit("Everything")
    ran = reconciler("plan", "--offline", "HEAD~1..HEAD", "--repo", str(repository.folder))
    assert ran.code == 0
    assert "to create" in ran.lines[-1]
