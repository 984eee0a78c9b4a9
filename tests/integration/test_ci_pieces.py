"""What CI runs for a fleet is run here: the steps of the GitHub Action, the script of the GitLab template, the hook.

The shell, its flags, and the variables are those of the real runners; the repository has the merge commit that they
check out; the comments go to a local stand-in of the two APIs. In place of a plan, which has its own tests, a file
answers, so that each of its ends can be met; other commands are the real ones where the test is about what they do.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from comment_server import TOKEN, CommentServer
from ruamel.yaml import YAML

from reconciler import cli
from reconciler.source import starter
from reconciler.source.scratch import ScratchRepository

ROOT = pathlib.Path(__file__).parent.parent.parent
ACTION = YAML(typ="safe").load((ROOT / "action.yml").read_text())
SPEC, TEMPLATE = YAML(typ="safe").load_all((ROOT / "deploy" / "ci" / "gitlab.yml").read_text())
WHO = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
MARK = "<!-- reconciler-plan -->"
CHANGES = f"{MARK}\n### Plan: 1 to create, 0 to change, 0 to cancel&#46; (from Git alone)\n"
NOTHING = f"{MARK}\n### No changes&#46; (from Git alone)\n"
HELD = f"{MARK}\n### No changes; 1 held&#46;\n"

PROGRAM = """#!/bin/sh
case " $REAL " in *" $1 "*) exec {python} -c 'from reconciler.cli import main; main()' "$@" ;; esac
echo "$@" >> "$WORK/asked"
if [ "$1" = plan ]; then
  cat "$WORK/answer"; exit "$(cat "$WORK/code")"
fi
"""
"""Notes what it is asked; what $REAL names is the real program."""


def git(folder, *arguments):
    return subprocess.check_output(["git", "-C", folder, *arguments], text=True).strip()


def change(origin, name, old, new):
    """The pull request changes something else too: another merge commit of the server's."""
    (origin / name).write_text((origin / name).read_text().replace(old, new))
    git(origin, *WHO, "commit", "--quiet", "--all", "--amend", "--no-edit")
    git(origin, "update-ref", "refs/pull/7/merge", "HEAD")


class Job:
    """A working copy of a pull request, as a runner checks it out.

    Args:
        folder: an empty folder, for everything.
        pull: the server's repository, with the pull request in it.
    """

    def __init__(self, folder: pathlib.Path, pull: pathlib.Path, server: CommentServer) -> None:
        self.work = folder
        self.server = server
        self.origin = folder / "origin"
        shutil.copytree(pull, self.origin)
        refs = "main", "refs/pull/7/head", "refs/pull/7/merge"
        self.base, self.head, self.merge = git(self.origin, "rev-parse", *refs).split()
        self.copy = folder / "copy"
        git(folder, "init", "--quiet", "copy")
        git(self.copy, "remote", "add", "origin", f"file://{self.origin}")
        (folder / "bin").mkdir()
        (folder / "bin" / "reconciler").write_text(PROGRAM.replace("{python}", sys.executable))
        (folder / "bin" / "reconciler").chmod(0o755)
        self.variables = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("GIT", "CI", "RECONC"))
            },
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "WORK": str(folder),
            "REAL": "validate comment",
            "CI": "true",
        }
        self.answer(CHANGES, 2)

    def check_out(self, ref: str, depth: int | None) -> None:
        deep = [f"--depth={depth}"] if depth else []
        git(self.copy, "fetch", "--quiet", "--no-tags", *deep, "origin", ref)
        git(self.copy, "checkout", "--quiet", "--detach", "FETCH_HEAD")

    def answer(self, plan: str, code: int) -> None:
        (self.work / "answer").write_text(plan)
        (self.work / "code").write_text(str(code))

    @property
    def asked(self) -> list[str]:
        """What the program was asked, where it was not the real one."""
        return (self.work / "asked").read_text().splitlines() if (self.work / "asked").exists() else []

    def only_note(self, *, but: str = "") -> None:
        """From here on commands are noted, not run, all but one."""
        self.variables["REAL"] = but

    def shell(self, script: str, shell: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        (self.work / "script").write_text(script)
        return subprocess.run(
            [*shell, self.work / "script"],
            cwd=self.copy,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture(scope="module")
def pull(tmp_path_factory):
    """The server's repository: a fleet, a branch that changes it, and the merge that the server makes of both."""
    origin = ScratchRepository(tmp_path_factory.mktemp("pull") / "origin")
    starter.write(origin.folder, starter.files())
    origin.commit("The fleet")
    git(origin.folder, "switch", "--quiet", "--create", "upgrade")
    product = origin.folder / "product.yaml"
    product.write_text(product.read_text().replace("second generation", "third generation"))
    origin.commit("Better")
    git(origin.folder, "update-ref", "refs/pull/7/head", "HEAD")
    git(origin.folder, "switch", "--quiet", "--detach", "main")
    git(origin.folder, *WHO, "merge", "--quiet", "--no-ff", "--message=Merge", "upgrade")
    git(origin.folder, "update-ref", "refs/pull/7/merge", "HEAD")
    return origin.folder


@pytest.fixture
def job(tmp_path, pull):
    server = CommentServer()
    yield Job(tmp_path, pull, server)
    server.close()


def evaluated(text, values):
    """A value or a condition as the runner reads it: `${{ … }}` is replaced, of the words that our action uses."""

    def value(found):
        words = re.sub(r"[a-z_-]+(\.[a-z_-]+)+", lambda name: repr(values[name[0]]), found[1])
        words = words.replace("!cancelled()", "True").replace("&&", "and").replace("||", "or")
        return str(eval(words))  # our own file

    return re.sub(r"\$\{\{ (.*?) \}\}", value, str(text))


def run_action(job, *, event="pull_request", ref="refs/pull/7/merge", **inputs):
    """The steps after the first, as a runner takes them: by their conditions; a failed one fails the job."""
    job.check_out(ref, 1)
    pull = {
        "number": 7,
        "base": {"sha": job.base},
        "head": {"sha": job.head, "repo": {"full_name": "acme/fleet"}},
    }
    (job.work / "event.json").write_text(
        json.dumps({"pull_request": pull} if event == "pull_request" else {})
    )
    job.variables |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": job.server.url,
        "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(job.work / "event.json"),
        "GITHUB_OUTPUT": str(job.work / "output"),
        "GITHUB_REPOSITORY": "acme/fleet",
        "GITHUB_RUN_ID": "99",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_SHA": git(job.copy, "rev-parse", "HEAD") if ref.endswith("merge") else job.merge,
        "GITHUB_STEP_SUMMARY": str(job.work / "summary.md"),
        "RUNNER_TEMP": str(job.work),
    }
    (job.work / "output").write_text("")
    values = {"github.token": TOKEN, "github.event_name": event, "steps.install.outcome": "success"}
    values |= {"github.event.pull_request.base.sha": job.base, "github.event.pull_request.number": "7"}
    given = {name: evaluated(each["default"], values) for name, each in ACTION["inputs"].items()}
    values |= {f"inputs.{name}": inputs.get(name.replace("-", "_"), value) for name, value in given.items()}
    said = {}
    for step in ACTION["runs"]["steps"][1:]:
        failed = any(done.returncode for done in said.values())
        wanted = evaluated(step["if"], values) == "True" if "if" in step else not failed
        values |= {f"steps.{step['id']}.outcome": "skipped", f"steps.{step['id']}.outputs.only": ""}
        if not wanted:
            continue
        variables = {name: evaluated(value, values) for name, value in step.get("env", {}).items()}
        done = job.shell(step["run"], ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"], **variables)
        said[step["id"]] = done
        values[f"steps.{step['id']}.outcome"] = "failure" if done.returncode else "success"
        for line in (job.work / "output").read_text().splitlines():
            name, _, value = line.partition("=")
            values[f"steps.{step['id']}.outputs.{name}"] = value
    return said


def obeyed(said):
    """The commands that a runner takes from a step's output: `::NAME …::` starts a line, `##[NAME]` is anywhere."""
    token = None
    for line in said.splitlines():
        for new, value, old in re.findall(r"^\s*::([\w-]+)(?: .*?)?::(?=(.*))|##\[([\w-]+)", line):
            name = new or old
            if token:
                token = None if name == token else token
            elif name == "stop-commands":
                token = value
            else:
                yield name


def failures(said):
    return [name for name, done in said.items() if done.returncode]


def test_the_action_plans_what_the_merge_changes_and_keeps_one_comment(job):
    said = run_action(job)
    assert failures(said) == [], said
    assert job.asked == [f"plan --offline {job.base}..{job.merge} --detailed-exitcode --output markdown"]
    assert said["comment"].stdout == "comment written\n"
    job.only_note(but="comment")
    job.answer(NOTHING, 0)
    said = run_action(job)
    assert (failures(said), said["comment"].stdout) == ([], "comment updated\n")
    (body,) = job.server.bodies
    assert body.startswith(
        f"{NOTHING}\n<sub>`{job.head[:12]}` · [the job's log](https://github.com/acme/fleet/"
    )


def test_what_the_real_plan_says_is_the_comment_and_goes_with_the_change(job):
    change(job.origin, "batches/thermostat-1.4.0.yaml", "pushRatePerMinute: 600", "pushRatePerMinute: 60")
    job.variables["REAL"] = "plan comment"
    said = run_action(job)
    assert (failures(said), said["comment"].stdout) == ([], "comment written\n"), said
    (body,) = job.server.bodies
    assert body.startswith(f"{MARK}\n### Plan: 0 to create, 2 to change, 0 to cancel")
    assert body.count(MARK) == 1
    assert "<code>Batch/thermostat-1.4.0</code>" in body
    change(job.origin, "batches/thermostat-1.4.0.yaml", "pushRatePerMinute: 60", "pushRatePerMinute: 600")
    change(job.origin, "product.yaml", "third generation", "second generation")
    assert run_action(job)["comment"].stdout == "comment updated\n"
    (body,) = job.server.bodies
    assert body.startswith(f"{MARK}\n### No changes.")


def test_nothing_that_a_plan_prints_is_a_command_to_the_runner(job):
    job.only_note()
    said = run_action(job)["plan"].stdout.splitlines()
    stop = re.fullmatch("::stop-commands::([0-9a-f]{32})", said[0])
    assert said[-1] == f"::{stop[1]}::"
    assert CHANGES.splitlines()[1] in said


@pytest.mark.parametrize(
    ("plan", "code", "failed", "flag"),
    [
        (NOTHING, 0, [], " --only-update"),
        (HELD, 0, [], ""),
        (CHANGES, 1, ["plan"], ""),
        ("", 2, ["plan"], ""),
    ],
    ids=["nothing", "held", "refused", "broken"],
)
def test_the_action_ends_as_the_plan_does(job, plan, code, failed, flag):
    job.only_note()
    job.answer(plan, code)
    assert failures(run_action(job)) == failed
    assert job.asked[-1] == f"comment {job.work}/reconciler-plan.md --name plan{flag}"


def test_a_wrong_manifest_fails_the_action_at_its_line_and_the_comment_is_written(job):
    hostile = "kind: 'Produkt ::add-mask::a ##[add-mask]b'"
    change(job.origin, "product.yaml", "kind: Product", hostile)
    job.only_note(but="validate")
    job.answer(CHANGES, 1)
    said = run_action(job)
    assert failures(said) == ["validate", "plan"]
    done = said["validate"]
    assert "\n::error file=product.yaml,line=3," in done.stdout
    assert (hostile in done.stdout, done.stderr) == (True, "")
    assert {name for name in obeyed(done.stdout) if name not in {"error", "warning"}} == set()
    assert job.asked[-1].startswith("comment ")


def test_a_fork_gets_its_plan_in_the_summary(job):
    job.only_note(but="comment")
    job.server.may_write = False
    said = run_action(job, server="https://ota.example.com")
    assert (failures(said), job.server.bodies) == ([], [])
    assert job.asked[1].startswith("plan --offline ")  # a fork has no read token
    assert CHANGES.splitlines()[1] in (job.work / "summary.md").read_text()


def test_a_push_to_main_is_only_validated(job):
    job.only_note()
    assert list(run_action(job, event="push")) == ["validate"]


def test_with_a_read_token_the_action_asks_the_daemon(job):
    job.only_note()
    run_action(job, server="https://ota.example.com", token="read")
    wanted = "plan --server https://ota.example.com --ref refs/pull/7/merge"
    assert job.asked[1] == f"{wanted} --detailed-exitcode --output markdown"


def test_another_commit_than_the_merge_is_compared_with_the_base(job):
    job.only_note()
    run_action(job, ref="refs/pull/7/head")
    assert job.asked[1].startswith(f"plan --offline {job.base}...{job.head} ")
    assert git(job.copy, "merge-base", job.base, job.head) == job.base


def run_template(job, *, kind="detached", **variables):
    """The template's script as a runner's shell takes it."""
    job.check_out("refs/pull/7/merge" if kind == "merged_result" else job.head, None)
    ((name, task),) = TEMPLATE.items()
    inputs = {key: each.get("default") for key, each in SPEC["spec"]["inputs"].items()}
    assert name == "reconciler:$[[ inputs.name ]]"
    given = {key: re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda found: str(inputs[found[1]]), value)
             for key, value in task["variables"].items()}  # fmt: skip
    job.variables |= {
        **given,
        "CI_API_V4_URL": job.server.url,
        "CI_COMMIT_SHA": git(job.copy, "rev-parse", "HEAD"),
        "CI_JOB_URL": "https://gitlab.com/acme/fleet/-/jobs/99",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": job.base,
        "CI_MERGE_REQUEST_EVENT_TYPE": kind,
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_PROJECT_ID": "42",
        "CI_MERGE_REQUEST_REF_PATH": "refs/merge-requests/7/head",
        "CI_PROJECT_ID": "42",
        "GITLAB_CI": "true",
        "GITLAB_TOKEN": TOKEN,
    }
    return job.shell("\n".join(task["script"]), ["sh", "-e"], **variables)


def test_the_template_plans_what_the_branch_changes_and_keeps_one_comment(job):
    done = run_template(job)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "comment written"), done.stderr
    assert job.asked == [f"plan --offline {job.base}..{job.head} --detailed-exitcode --output markdown"]
    job.only_note(but="comment")
    job.answer(NOTHING, 0)
    assert run_template(job, kind="merged_result").stdout.splitlines()[-1] == "comment updated"
    assert job.asked[-1] == f"plan --offline {job.base}..{job.merge} --detailed-exitcode --output markdown"
    (body,) = job.server.bodies
    assert body.startswith(f"{NOTHING}\n<sub>`")
    task = next(iter(TEMPLATE.values()))
    assert task["artifacts"]["reports"]["codequality"] in task["artifacts"]["paths"]
    assert all((job.copy / name).exists() for name in task["artifacts"]["paths"])


def test_the_template_fails_with_the_plan_and_says_why_a_fork_gets_no_comment(job):
    job.only_note(but="comment")
    job.answer(CHANGES, 1)
    done = run_template(job, GITLAB_TOKEN="", SERVER="https://ota.example.com")
    assert (done.returncode, job.server.bodies) == (1, [])
    assert CHANGES.splitlines()[1] in done.stdout
    assert done.stdout.endswith("no comment was written: GITLAB_TOKEN is not set.\n")
    assert job.asked[1].startswith("plan --offline ")
    job.only_note()
    run_template(job, SERVER="https://ota.example.com", RECONCILER_TOKEN="read")
    assert job.asked[3].startswith("plan --server https://ota.example.com --ref refs/merge-requests/7/head ")
    for kind, ref in (("merged_result", "merge"), ("merge_train", "train")):
        run_template(job, kind=kind, SERVER="https://ota.example.com", RECONCILER_TOKEN="read")
        assert f" --ref refs/merge-requests/7/{ref} " in job.asked[-2]


def test_the_template_only_validates_a_branch(job):
    job.only_note()
    assert run_template(job, CI_MERGE_REQUEST_IID="").returncode == 0
    assert job.asked == ["validate"]


def test_the_hook_runs_what_it_names(job):
    (hook,) = YAML(typ="safe").load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("reconciler-validate", "python", False)
    assert hook["always_run"]  # a commit that only deletes has no files, and breaks what refers to them
    job.check_out(job.head, None)
    (job.copy / "product.yaml").write_text("apiVersion: ota/v1\nkind: Produkt\n")
    done = job.shell(hook["entry"], ["sh", "-e"])
    assert (done.returncode, "Produkt" in done.stdout) == (1, True)


def test_what_a_new_fleet_s_ci_refers_to_exists():
    made = {
        name: data.decode()
        for name, data in starter.files("https://github.com/acme/ota").items()
        if name[0] == "."
    }
    load = YAML(typ="safe").load
    workflow = load(made[".github/workflows/fleet.yml"])
    assert list(workflow["on"]) == ["pull_request", "push"]
    assert workflow["permissions"] == {"contents": "read"}
    writing = {"contents": "read", "pull-requests": "write"}
    for name, event, may in (("check", "pull_request", writing), ("main", "push", None)):
        task = workflow["jobs"][name]
        assert (task["if"], task.get("permissions")) == (f"github.event_name == '{event}'", may)
        assert [step["uses"].split("@")[0] for step in task["steps"]] == ["actions/checkout", "acme/ota"]
    assert len(workflow["jobs"]) == 2
    (include,) = load(made[".gitlab-ci.yml"])["include"]
    assert (ROOT / include["remote"].partition("/v0.")[2].partition("/")[2]).is_file()
    required = [name for name, each in SPEC["spec"]["inputs"].items() if "default" not in (each or {})]
    assert list(include["inputs"]) == required == ["install"]
    (repository,) = load(made[".pre-commit-config.yaml"])["repos"]
    hooks = load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in repository["hooks"]] == [hook["id"] for hook in hooks]


def test_the_action_and_the_template_have_what_the_runners_ask_for():
    assert ACTION["runs"]["using"] == "composite"
    steps = ACTION["runs"]["steps"]
    assert all(step["shell"] == "bash" for step in steps)
    assert [step["id"] for step in steps] == ["install", "validate", "plan", "comment"]
    assert not [
        step for step in steps if "${{" in step["run"]
    ]  # what others wrote never becomes part of a script
    task = next(iter(TEMPLATE.values()))
    assert "$[[" not in "".join([*task["before_script"], *task["script"]])
    commands = re.findall(r"^\s*reconciler ([a-z]+)", "\n".join(step["run"] for step in steps), re.MULTILINE)
    assert set(commands) == {"validate", "plan", "comment"} <= set(cli.COMMANDS)
