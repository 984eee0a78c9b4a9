"""`reconciler init`: what it makes passes everything, and it takes nothing away."""

from __future__ import annotations

import pathlib
import re
import subprocess

import pytest
from ruamel.yaml import YAML

from reconciler import __version__, settings
from reconciler.source import schemas, starter
from reconciler.source.tree import FolderTree

ROOT = pathlib.Path(__file__).parent.parent.parent.parent
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")
HOME = "https://github.com/acme/reconciler"


@pytest.fixture(autouse=True)
def somebody(monkeypatch, tmp_path):
    """Git knows who commits, and nothing else."""
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.com\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(folder, *arguments):
    return subprocess.check_output(["git", "-C", folder, *arguments], text=True).strip()


def test_a_new_fleet_is_valid_by_the_rules_and_by_the_schemas_without_a_warning(reconciler, tmp_path):
    fleet = tmp_path / "fleet"
    ran = reconciler("init", str(fleet), "--home", HOME)
    assert (ran.code, ran.err) == (0, "")
    checked = reconciler("validate", str(fleet), "--schemas", str(fleet / ".schemas"), "-o", "text")
    assert (checked.code, checked.out) == (0, "4 manifests valid\n")
    assert schemas.check(FolderTree(fleet), fleet / ".schemas") == []
    manifests = [path for path in fleet.rglob("*.yaml") if path.read_text().find("\napiVersion: ota/v1") > 0]
    assert len(manifests) == 4
    for path in manifests:
        modeline = MODELINE.match(path.read_text())
        kind = re.search(r"^kind: (\w+)$", path.read_text(), re.MULTILINE)[1]
        assert (path.parent / modeline[1]).resolve() == fleet / ".schemas" / f"{kind.lower()}.schema.json"
        assert (path.parent / modeline[1]).is_file()


def test_a_folder_outside_of_git_becomes_a_repository_with_all_of_it_in_one_commit(reconciler, tmp_path):
    fleet = tmp_path / "fleet"
    ran = reconciler("init", str(fleet))
    assert "a Git repository with a first commit" in ran.out
    assert git(fleet, "log", "--format=%an %s", "main") == "Ada A fleet to start from"
    assert git(fleet, "status", "--porcelain") == ""
    assert f"{len(git(fleet, 'ls-files').splitlines())} files written" in ran.out


def test_inside_of_a_repository_the_commit_is_left_to_the_user(reconciler, tmp_path):
    git(tmp_path, "init", "--quiet")
    ran = reconciler("init", str(tmp_path / "fleet"))
    assert (ran.code, "Git repository" in ran.out) == (0, False)
    assert not (tmp_path / "fleet" / ".git").exists()
    assert git(tmp_path, "status", "--porcelain", "fleet") == "?? fleet/"
    moved = ".github, .gitlab-ci.yml, .pre-commit-config.yaml, CODEOWNERS"
    assert f"are read at the repository's root only: move them to {tmp_path}: {moved}\n" in ran.out
    git(tmp_path, "init", "--quiet", "other")
    assert "move them" not in reconciler("init", str(tmp_path / "other")).out


def test_nothing_is_overwritten_and_what_is_there_is_named(reconciler, tmp_path):
    (tmp_path / "README.md").write_text("ours")
    (tmp_path / "product.yaml").symlink_to("nowhere")
    ran = reconciler("init", str(tmp_path))
    assert (ran.code, "README.md, product.yaml already" in ran.err) == (1, True)
    assert "--keep" in ran.err
    assert not (tmp_path / "compose.yaml").exists()
    reconciler("init", str(tmp_path), "--keep")
    said = reconciler("init", str(tmp_path)).err
    assert re.search(r" has \.gitattributes, \.github/\S+, \.gitignore and \d\d more already, and ", said)


@pytest.mark.parametrize("where", ["out", "gone"])
def test_nothing_is_written_through_a_link_that_leads_out_of_the_folder(reconciler, tmp_path, where):
    (tmp_path / "fleet").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "fleet" / "batches").symlink_to(f"../{where}")
    ran = reconciler("init", str(tmp_path / "fleet"))
    assert (ran.code, "batches leads out of " in ran.err) == (1, True)
    assert (list((tmp_path / "out").iterdir()), (tmp_path / "gone").exists()) == ([], False)
    assert not (tmp_path / "fleet" / "README.md").exists()


def test_what_is_there_can_be_kept(reconciler, tmp_path):
    (tmp_path / "README.md").write_text("ours")
    ran = reconciler("init", str(tmp_path), "--keep")
    assert (ran.code, "kept as it is: README.md" in ran.out) == (0, True)
    assert (tmp_path / "README.md").read_text() == "ours"
    assert "README.md" not in git(tmp_path, "ls-files").splitlines()
    assert reconciler("init", str(tmp_path), "--keep").out.startswith("0 files written")


def test_without_a_name_in_git_the_files_stay_and_the_remedy_is_said(reconciler, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "")
    ran = reconciler("init", str(tmp_path / "fleet"))
    assert (ran.code, "git does not know who you are" in ran.err) == (1, True)
    assert all(f"git config --global {name} " in ran.err for name in ("user.name", "user.email"))
    assert "the same command again with --keep" in ran.err
    (tmp_path / "fleet" / "README.md").write_text("ours")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "ada@example.com")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "ada@example.com")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Ada")
    ran = reconciler("init", str(tmp_path / "fleet"), "--keep")
    first = ", a Git repository with a first commit\nkept as it is: README.md\n"
    assert ran.out.startswith(f"0 files written to {tmp_path / 'fleet'}{first}")
    assert ran.out.count("kept") == 1
    assert "product.yaml" in git(tmp_path / "fleet", "ls-tree", "--name-only", "HEAD")
    assert "README.md" not in git(tmp_path / "fleet", "ls-tree", "--name-only", "HEAD")
    assert "commit" not in reconciler("init", str(tmp_path / "fleet"), "--keep").out


def test_a_hook_that_says_no_is_quoted_and_the_files_stay(reconciler, tmp_path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text("#!/bin/sh\necho not today; exit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    with (tmp_path / "gitconfig").open("a") as config:
        config.write(f"[core]\n\thooksPath = {hooks}\n")
    ran = reconciler("init", str(tmp_path / "fleet"))
    assert (ran.code, "git commit failed: not today" in ran.err, "Finish it yourself" in ran.err) == (
        1,
        True,
        True,
    )
    assert (tmp_path / "fleet" / "product.yaml").exists()


@pytest.mark.parametrize(
    ("home", "template"),
    [
        (
            f"{HOME}.git",
            f"https://raw.githubusercontent.com/acme/reconciler/v{__version__}/deploy/ci/gitlab.yml",
        ),
        (
            "https://git.example.com:8443/tools/ota/reconciler/",
            f"https://git.example.com:8443/tools/ota/reconciler/-/raw/v{__version__}/deploy/ci/gitlab.yml",
        ),
    ],
)
def test_ci_gets_the_program_from_where_the_user_says(reconciler, tmp_path, home, template):
    ran = reconciler("init", str(tmp_path / "fleet"), "--home", home)
    assert "OWNER" not in ran.out
    at_github = home.startswith(HOME)
    assert (tmp_path / "fleet" / ".github").exists() is at_github
    assert ("no workflow for GitHub is written: " in ran.out) is not at_github
    plain = home.removesuffix("/").removesuffix(".git")
    assert template in (tmp_path / "fleet" / ".gitlab-ci.yml").read_text()
    install = f'`pip install "git+{plain}@v{__version__}"`'
    assert install in (tmp_path / "fleet" / "README.md").read_text()
    for name in (".gitlab-ci.yml", ".pre-commit-config.yaml", "compose.yaml"):
        text = (tmp_path / "fleet" / name).read_text()
        assert plain in text
        YAML(typ="safe").load(text)
    written = [
        path for path in (tmp_path / "fleet").rglob("*") if path.is_file() and ".git/" not in str(path)
    ]
    assert [path for path in written if b"__" in path.read_bytes() and path.suffix != ".bin"] == []


def test_until_then_the_files_to_fill_in_are_named(reconciler, tmp_path):
    ran = reconciler("init", str(tmp_path / "fleet"))
    assert (
        "YOUR_OWNER, in .github/workflows/fleet.yml, .gitlab-ci.yml, .pre-commit-config.yaml, README.md, "
        "compose.yaml (" in ran.out
    )  # an underscore is in no login at GitHub: nobody can take the name


@pytest.mark.parametrize(
    "home",
    [
        "git@host:x",
        "https://github.com/../..",
        "https://git.example.com/team/./reconciler",
        "https://github.com/team/sub/reconciler",
        "https://github.com/reconciler",
        "https://GitHub.com/team/sub/reconciler",
    ],
)
def test_what_is_no_repository_s_address_is_refused(reconciler, tmp_path, home):
    ran = reconciler("init", str(tmp_path / "fleet"), "--home", home)
    assert (ran.code, "is not the URL of a Git repository" in ran.err) == (2, True)
    assert not (tmp_path / "fleet").exists()


def test_the_compose_file_runs_the_daemon_as_ours_does():
    load = YAML(typ="safe").load
    made = load(starter.files(HOME)["compose.yaml"])["services"]["reconciler"]
    ours = load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["reconciler"]
    assert set(made) == set(ours)
    others = {"build", "image", "environment", "ports", "volumes"}
    assert {name for name in ours if made[name] != ours[name]} == others
    assert made["ports"] == [f"${{BIND:-127.0.0.1}}:{port}" for port in ours["ports"]]
    assert set(made["environment"]) <= set(ours["environment"])
    assert settings.unknown_variables(made["environment"]) == {}
