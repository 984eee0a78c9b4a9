"""The comments of a pull or merge request, as GitHub's and GitLab's APIs keep them.

Called by `comment`, which decides what they say. Which server, request and token is read from the variables that
their CI gives every job. A token goes to that server alone: redirects are not followed. Nothing here prints.

    GitHub   GITHUB_API_URL, GITHUB_GRAPHQL_URL, GITHUB_REPOSITORY, GITHUB_EVENT_PATH, GITHUB_TOKEN
    GitLab   CI_API_V4_URL, CI_MERGE_REQUEST_PROJECT_ID, CI_MERGE_REQUEST_IID, GITLAB_TOKEN
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import pathlib
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import reconciler
from reconciler import errors
from reconciler.cli.ask import NoRedirects

_TIMEOUT = 20.0
"""Seconds for one answer."""
_PAUSES = (1.0, 3.0)
"""Seconds before another try, where a server has trouble."""
_PAGE = 100
"""Comments in one answer: the most that both APIs give."""
_MOST_PAGES = 50
_DEPENDABOT = "dependabot[bot]"
_JOB = "github-actions[bot]"
"""Whose name a job's own token writes with."""
_READS = (
    "a pull request from a fork, or of Dependabot, has a token that only reads: who may not write can't with it",
    "nothing to do",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """One comment."""

    id: int
    body: str


class Forge(Protocol):
    """Where one pull request is discussed. Every method raises what `_Api.ask` does."""

    commit: str
    """The commit that the job looks at."""
    log: str
    """The URL of the job's log."""

    def mine(self) -> Iterator[Note]:
        """The comments that were written with our name, oldest first: another's are never touched."""
        ...

    def create(self, body: str) -> None:
        """Writes a new one."""
        ...

    def update(self, number: int, body: str) -> None:
        """Replaces the text of one."""
        ...

    def delete(self, number: int) -> None:
        """Takes one away."""
        ...


class RefusedError(errors.StalledError):
    """The server says no.

    Args:
        status: HTTP's number for it.
        message: what is wrong.
        remedy: what to do about it.
    """

    def __init__(self, status: int, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class _Api:
    """One server's JSON over HTTP.

    Args:
        url: what every path follows.
        headers: the token among them.
        refusals: what an answer's status means, and what to do about it.
        pause: waits for some seconds.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        refusals: Mapping[int, tuple[str, str]],
        pause: Callable[[float], None],
    ) -> None:
        if not url.startswith(("https://", "http://")):
            raise errors.UserError(f"{url} is not the URL of an API")
        self._url = url.rstrip("/")
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"reconciler/{reconciler.__version__}",
            **headers,
        }
        self._refusals = refusals
        self._pause = pause
        self._opener = urllib.request.build_opener(NoRedirects)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to a request, which is repeated where the server is in trouble.

        Raises:
            RefusedError: it says no.
            TransientError: it is away, or in trouble for longer than we wait.
        """
        for seconds in _PAUSES:
            try:
                return self._once(method, path, body)
            except errors.TransientError:
                self._pause(seconds)
        return self._once(method, path, body)

    def listed(self, path: str) -> Iterator[dict[str, Any]]:
        """All pages of a list."""
        for page in range(1, _MOST_PAGES + 1):
            found = self.ask("GET", f"{path}?per_page={_PAGE}&page={page}")
            yield from found
            if len(found) < _PAGE:
                return

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - http or https: looked at above
            self._url + path, data, self._headers, method=method
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as problem:
            said = f"{problem.code} {_said(problem)}"
            if problem.code >= 500:
                raise errors.TransientError(f"the server is in trouble ({said})") from problem
            message, remedy = self._refusals.get(problem.code, ("the server refuses", ""))
            raise RefusedError(problem.code, f"{message} ({said})", remedy) from problem
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise errors.TransientError(f"the server can't be asked: {problem}") from problem


class GitHub:
    """A pull request at GitHub.

    Args:
        environ: the job's variables.
        pause: waits for some seconds.

    Raises:
        UserError: the job is none of a pull request, or has no token.
    """

    def __init__(self, environ: Mapping[str, str], pause: Callable[[float], None] = time.sleep) -> None:
        repository = _needed(environ, "GITHUB_REPOSITORY")
        pull = _event(_needed(environ, "GITHUB_EVENT_PATH"))
        head = pull["head"]
        fork = (head.get("repo") or {}).get("full_name") != repository
        reads = fork or environ.get("GITHUB_ACTOR") == _DEPENDABOT
        self.commit = str(head["sha"])
        server, run = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_RUN_ID", "")
        self.log = f"{server}/{repository}/actions/runs/{run}"
        may_not = (
            "the job's token may not write comments",
            "Give the job `permissions: {contents: read, pull-requests: write}`.",
        )
        url = _needed(environ, "GITHUB_API_URL")
        headers = {
            "Authorization": f"Bearer {_token(environ, 'GITHUB_TOKEN')}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        refusals = {
            401: ("the server does not accept the token", "Look at what GITHUB_TOKEN is set to."),
            403: _READS if reads else may_not,
            404: _READS if reads else may_not,
        }
        self._api = _Api(url, headers, refusals, pause)
        self._graphql = _Api(environ.get("GITHUB_GRAPHQL_URL") or f"{url}/graphql", headers, refusals, pause)
        self._repository = f"/repos/{repository}/issues"
        self._request = f"{self._repository}/{int(pull['number'])}/comments"

    def mine(self) -> Iterator[Note]:
        """Those of the token's own user or app."""
        mine = self._login()
        for found in self._api.listed(self._request):
            if (found.get("user") or {}).get("login") == mine:
                yield Note(int(found["id"]), found.get("body") or "")

    def _login(self) -> str:
        """Whose token it is. An app's is told so over GraphQL only; where not even there, it is taken for the job's.

        GraphQL may be away where all else answers: a proxy lets the REST API through alone.
        """
        try:
            return str(self._api.ask("GET", "/user")["login"])
        except RefusedError as problem:
            if problem.status not in {403, 404}:
                raise
        try:
            return str(self._graphql.ask("POST", "", {"query": "{viewer{login}}"})["data"]["viewer"]["login"])
        except (RefusedError, errors.TransientError, LookupError, TypeError):
            return _JOB

    def create(self, body: str) -> None:
        """See `Forge`."""
        self._api.ask("POST", self._request, {"body": body})

    def update(self, number: int, body: str) -> None:
        """See `Forge`."""
        self._api.ask("PATCH", f"{self._repository}/comments/{number}", {"body": body})

    def delete(self, number: int) -> None:
        """See `Forge`."""
        self._api.ask("DELETE", f"{self._repository}/comments/{number}")


class GitLab:
    """A merge request at GitLab.

    Args:
        environ: the job's variables.
        pause: waits for some seconds.

    Raises:
        UserError: the job is none of a merge request, or has no token.
    """

    def __init__(self, environ: Mapping[str, str], pause: Callable[[float], None] = time.sleep) -> None:
        number = _needed(environ, "CI_MERGE_REQUEST_IID")
        project = environ.get("CI_MERGE_REQUEST_PROJECT_ID") or _needed(environ, "CI_PROJECT_ID")
        self.commit = environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or environ.get("CI_COMMIT_SHA", "")
        self.log = environ.get("CI_JOB_URL", "")
        remedy = (
            "GITLAB_TOKEN must be a project access token with the scope api and the role Reporter or more."
        )
        self._api = _Api(
            _needed(environ, "CI_API_V4_URL"),
            {"PRIVATE-TOKEN": _token(environ, "GITLAB_TOKEN")},
            {
                401: ("the server does not accept the token", remedy),
                403: ("the token may not write comments", remedy),
                404: ("the token can't see the merge request", remedy),
            },
            pause,
        )
        self._request = f"/projects/{int(project)}/merge_requests/{int(number)}/notes"

    def mine(self) -> Iterator[Note]:
        """Those of the token's own user."""
        mine = self._api.ask("GET", "/user")["id"]
        for found in sorted(self._api.listed(self._request), key=lambda each: int(each["id"])):
            if found["author"]["id"] == mine:
                yield Note(int(found["id"]), found["body"])

    def create(self, body: str) -> None:
        """See `Forge`."""
        self._api.ask("POST", self._request, {"body": body})

    def update(self, number: int, body: str) -> None:
        """See `Forge`."""
        self._api.ask("PUT", f"{self._request}/{number}", {"body": body})

    def delete(self, number: int) -> None:
        """See `Forge`."""
        self._api.ask("DELETE", f"{self._request}/{number}")


def _said(problem: urllib.error.HTTPError) -> str:
    """What a server says about its refusal, in one short line."""
    try:
        with problem:
            found = json.loads(problem.read(4096))
        text = str(found["message"])
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        text = problem.reason
    return " ".join(str(text).split())[:200]


def _needed(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise errors.UserError(f"{name} is not set")
    return value


def _token(environ: Mapping[str, str], name: str) -> str:
    """A token that can stand in a header: an error about the header would show it."""
    token = _needed(environ, name).strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise errors.UserError(f"{name} holds no token", remedy="It is one word of ASCII characters.")
    return token


def _event(path: str) -> dict[str, Any]:
    """The pull request that a job of GitHub is for."""
    try:
        event = json.loads(pathlib.Path(path).read_bytes())
    except (OSError, ValueError) as problem:
        raise errors.UserError(f"GITHUB_EVENT_PATH cannot be read: {problem}") from problem
    if "pull_request" not in event:
        raise errors.UserError("this job is for no pull request", remedy="Run it `on: pull_request`.")
    found: dict[str, Any] = event["pull_request"]
    return found
