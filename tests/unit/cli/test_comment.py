"""`reconciler comment`: one comment for each pull request, found again, and what is done where none can be written."""

from __future__ import annotations

import json

import pytest
from comment_server import ADA, BOT, TOKEN, CommentServer

from reconciler import errors
from reconciler.cli import comment, forges

MARK = "<!-- reconciler-plan -->"
SHA = "0123456789abcdef0123456789abcdef01234567"
PULL = {"number": 7, "head": {"sha": SHA, "repo": {"full_name": "acme/fleet"}}}


@pytest.fixture(scope="module")
def one_server():
    server = CommentServer()
    yield server
    server.close()


@pytest.fixture
def server(one_server):
    one_server.__dict__.update(comments={}, me=BOT, tells_bots=True, may_write=True, troubles=[], asked=[])
    return one_server


@pytest.fixture
def of_github(server, tmp_path):
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": PULL}))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": server.url,
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_GRAPHQL_URL": f"{server.url}/graphql",
        "GITHUB_REPOSITORY": "acme/fleet",
        "GITHUB_RUN_ID": "99",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_TOKEN": TOKEN,
    }


@pytest.fixture
def of_gitlab(server):
    return {
        "CI_API_V4_URL": server.url,
        "CI_COMMIT_SHA": SHA,
        "CI_JOB_URL": "https://gitlab.com/acme/fleet/-/jobs/99",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_PROJECT_ID": "42",
        "CI_PROJECT_ID": "42",
        "GITLAB_CI": "true",
        "GITLAB_TOKEN": TOKEN,
    }


@pytest.fixture(params=["github", "gitlab"])
def forge(request):
    """Either of them, as a job sees it."""
    variables = request.getfixturevalue(f"of_{request.param}")
    return {"github": forges.GitHub, "gitlab": forges.GitLab}[request.param](variables, lambda _: None)


def test_a_comment_is_written_once_and_updated_in_place(server, forge):
    assert comment.keep_one(forge, MARK, "Plan: 1 to create.") == "comment written"
    assert comment.keep_one(forge, MARK, "Plan: 2 to create.") == "comment updated"
    (body,) = server.bodies
    assert body.startswith(f"{MARK}\nPlan: 2 to create.\n\n<sub>`0123456789ab` · [the job's log](https://git")
    assert "99)" in body


def test_where_nothing_is_left_the_comment_says_so_and_none_is_written_anew(server, forge):
    assert "nothing to say" in comment.keep_one(forge, MARK, "No changes.", only_update=True)
    assert server.bodies == []
    comment.keep_one(forge, MARK, "Plan: 1 to create.")
    assert comment.keep_one(forge, MARK, "No changes.", only_update=True) == "comment updated"
    assert [body.split("\n")[1] for body in server.bodies] == ["No changes."]


def test_what_others_wrote_is_never_touched_not_even_with_our_mark(server, forge):
    for author in (ADA, {"id": 3, "login": "eve", "type": "User"}):
        server.add(f"{MARK}\nAll is well.", author)
    server.add(f"I quote: {MARK}", BOT)
    before = server.bodies
    comment.keep_one(forge, MARK, "Plan: 1 to create.")
    assert server.bodies[:3] == before
    assert len(server.bodies) == 4


def test_a_token_of_a_person_finds_the_comments_of_that_person(server, forge):
    server.me = ADA
    server.add(f"{MARK}\nold", BOT)
    server.add(f"{MARK}\nold", ADA)
    assert comment.keep_one(forge, MARK, "new") == "comment updated"
    assert [body.split("\n")[1] for body in server.bodies] == ["old", "new"]


RELEASES = {"id": 4, "login": "release-notes[bot]", "type": "Bot"}


@pytest.mark.parametrize(("me", "tells"), [(BOT, True), (BOT, False), (RELEASES, True)])
def test_a_bot_touches_no_other_bot_s_comments(server, of_github, me, tells):
    server.me, server.tells_bots = me, tells
    for author in (RELEASES, BOT):
        server.add(f"{MARK}\nof {author['login']}", author)
    assert comment.keep_one(forges.GitHub(of_github), MARK, "new") == "comment updated"
    other = RELEASES if me is BOT else BOT
    assert {body.split("\n")[1] for body in server.bodies} == {f"of {other['login']}", "new"}


def test_comments_that_are_one_too_many_go(server, forge):
    for _ in range(3):
        server.add(f"{MARK}\nold", BOT)
    comment.keep_one(forge, MARK, "new")
    assert [body.split("\n")[1] for body in server.bodies] == ["new"]


def test_the_comment_is_found_behind_hundreds_of_others(server, forge):
    for number in range(200):
        server.add(str(number), ADA)
    server.add(f"{MARK}\nold", BOT)
    assert comment.keep_one(forge, MARK, "new") == "comment updated"


def test_a_server_in_trouble_is_asked_again_and_not_for_ever(server, forge):
    server.troubles = [502, 503]
    assert comment.keep_one(forge, MARK, "Plan: 1 to create.") == "comment written"
    server.troubles = [500] * 3
    with pytest.raises(errors.TransientError, match="in trouble \\(500 trouble\\)"):
        comment.keep_one(forge, MARK, "Plan: 2 to create.")


def test_where_graphql_can_not_be_asked_the_token_is_taken_for_the_jobs(server, of_github):
    """A proxy may let the REST API through alone."""
    forge = forges.GitHub({**of_github, "GITHUB_GRAPHQL_URL": "http://127.0.0.1:1"}, lambda _: None)
    server.add(f"{MARK}\nold", BOT)
    assert comment.keep_one(forge, MARK, "new") == "comment updated"


def test_the_token_follows_no_redirect(server, forge):
    server.troubles = [302] * 9
    with pytest.raises(forges.RefusedError, match="302"):
        comment.keep_one(forge, MARK, "Plan: 1 to create.")
    assert not [asked for asked in server.asked if "elsewhere" in asked]


def test_a_long_plan_is_cut_at_a_line_closes_what_is_open_and_points_at_the_log(server, forge):
    text = "<details>\n\n```\n" + "\n".join(f"+ create Batch/b{number} 日本" for number in range(4000))
    comment.keep_one(forge, MARK, text + "\n```\n</details>")
    (body,) = server.bodies
    assert 60_000 < len(body) <= comment.LARGEST
    end = body.split("日本\n")[-1].split("\n")
    assert end[:3] == ["```", "</details>", ""]
    assert end[3].startswith("… 1,")
    assert end[3].endswith("has all of them.")
    assert comment.cut("a" * 9000, 1000, "log") == "\n… 1 more lines: log has all of them."


@pytest.fixture
def job(reconciler, monkeypatch, tmp_path):
    """Runs the command in a job with these variables; what it did, and the job's summary."""
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "GITHUB_STEP_SUMMARY", "GITHUB_TOKEN", "GITLAB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(forges, "_PAUSES", ())
    (tmp_path / "plan.md").write_text(f"{MARK}\nPlan: 1 to create.\n")

    def run(variables, *flags):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        ran = reconciler("comment", str(tmp_path / "plan.md"), *flags)
        summary = tmp_path / "summary.md"
        return ran, summary.read_text() if summary.exists() else ""

    return run


def test_the_command_takes_the_ci_s_own_variables(job, server, of_gitlab):
    ran, _ = job(of_gitlab)
    assert (ran.code, ran.out) == (0, "comment written\n")
    assert server.bodies[0].startswith(
        f"{MARK}\nPlan: 1 to create.\n"
    )  # the plan's own mark is the comment's
    assert job(of_gitlab)[0].out == "comment updated\n"
    assert job(of_gitlab, "--name", "berlin")[0].out == "comment written\n"
    assert server.bodies[1].startswith("<!-- reconciler-berlin -->\n")


def test_what_dependabot_starts_may_not_write_either_and_its_permissions_are_not_blamed(server, of_github):
    server.may_write = False
    with pytest.raises(forges.RefusedError, match="or of Dependabot, has a token that only reads"):
        comment.keep_one(forges.GitHub({**of_github, "GITHUB_ACTOR": "dependabot[bot]"}), MARK, "Plan")


def test_a_fork_s_plan_goes_into_the_summary_with_the_reason(job, server, of_github, tmp_path):
    theirs = {"pull_request": {**PULL, "head": {"sha": SHA, "repo": {"full_name": "eve/fleet"}}}}
    (tmp_path / "event.json").write_text(json.dumps(theirs))
    server.may_write = False
    ran, summary = job(of_github)
    assert (ran.code, server.bodies) == (0, [])
    assert ran.out.startswith("::notice title=reconciler::no comment was written: a pull request from a fork")
    assert summary.startswith(
        "> no comment was written: a pull request from a fork, or of Dependabot, has a token that only reads"
    )
    assert summary.endswith("\n\nPlan: 1 to create.\n")


def test_a_token_that_may_not_write_is_told_what_it_lacks(job, server, of_github):
    server.may_write = False
    _, summary = job(of_github)
    assert "the job's token may not write comments (403 Resource not accessible by integration)" in summary
    assert "pull-requests: write" in summary


def test_without_a_token_or_a_server_the_reason_is_said(job, server, of_gitlab, of_github):
    ran, _ = job({**of_gitlab, "GITLAB_TOKEN": ""})
    assert (ran.code, ran.out) == (0, "no comment was written: GITLAB_TOKEN is not set.\n")
    ran, _ = job({**of_gitlab, "GITLAB_TOKEN": "other"})
    assert "does not accept the token (401 Bad credentials). GITLAB_TOKEN must be a project access" in ran.out
    ran, _ = job({**of_gitlab, "GITLAB_TOKEN": "sec\nret"})
    assert (ran.out, ran.err) == (
        "no comment was written: GITLAB_TOKEN holds no token. It is one word of ASCII characters.\n",
        "",
    )
    ran, _ = job({**of_gitlab, "CI_API_V4_URL": "http://127.0.0.1:1"})
    assert "the server can't be asked" in ran.out
    assert server.bodies == []


def test_an_empty_text_and_a_place_that_is_no_job(job, server, of_gitlab, tmp_path):
    ran, _ = job({})
    assert (ran.code, "no job of GitHub Actions or GitLab CI" in ran.err) == (2, True)
    assert job({}, "--name", "--> x")[0].code == 2
    (tmp_path / "plan.md").write_text("")
    assert job(of_gitlab)[0].out == "comment written\n"
    (tmp_path / "plan.md").unlink()
    assert "There is nothing to show" in server.bodies[0]
