"""The live plan of a daemon elsewhere: who may ask, what is answered, and that it is what `plan` says beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request

import pytest

from reconciler import bootstrap, cli
from reconciler.settings import Settings
from reconciler.source.scratch import ScratchRepository, example
from reconciler.transport.memory import MemoryTransport

BATCH = "apiVersion: ota/v1\nkind: Batch\nmetadata: {name: one}\nspec: {package: thermostat-1.4.0, target: {all: {}}}\n"


@pytest.fixture
def fleet(tmp_path):
    """The smallest example, and a branch with one batch more."""
    repository = ScratchRepository(tmp_path / "fleet")
    source = example("01-minimal")
    repository.copy(source, *(path.name for path in source.iterdir()))
    repository.commit("Everything")
    repository._git("switch", "--quiet", "--create", "upgrade")
    (repository.folder / "batches" / "one.yaml").write_text(BATCH)
    repository.commit("One more")
    return repository


@contextlib.asynccontextmanager
async def running(folder):
    """A daemon that has applied the main branch; the URL of its HTTP server."""
    settings = Settings(repo=str(folder / "fleet"), data_dir=folder, http_bind="127.0.0.1:0")
    with bootstrap.opened(settings) as base:
        daemon = bootstrap.Daemon(base, transport=MemoryTransport())
        task = asyncio.create_task(daemon.run())
        try:
            await asyncio.wait_for(daemon.ready.wait(), 30)
            for _ in range(2000):
                if daemon.reconcile.state.commit is not None:
                    break
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{daemon.http_port}"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def typed(capsys, tmp_path, monkeypatch):
    """Types a command line: code, output, what went to standard error."""
    monkeypatch.setenv("RECONCILER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RECONCILER_REPO", str(tmp_path / "fleet"))

    async def run(*arguments):
        capsys.readouterr()
        code = await asyncio.to_thread(cli.execute, list(arguments))
        return code, *capsys.readouterr()

    return run


async def ask(url, token="", **more):
    """Status, headers and JSON of an answer."""

    def get():
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(url, headers={**headers, **more.pop("headers", {})}, **more)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, json.loads(error.read() or b"null")

    return await asyncio.to_thread(get)


async def test_a_daemon_tells_who_has_a_token_what_plan_tells_beside_it(
    fleet, tmp_path, typed, monkeypatch, caplog
):
    del fleet
    caplog.set_level("DEBUG")
    async with running(tmp_path) as url:
        _, made, _ = await typed("token", "create", "--role", "read", "--name", "ci")
        token = made.strip()
        (tmp_path / "token").write_text(made)
        elsewhere = "plan", "--ref", "upgrade", "--server", url, "--token-file", str(tmp_path / "token")
        code, said, _ = await typed(*elsewhere, "-o", "json")
        _, beside, _ = await typed("plan", "--ref", "upgrade", "-o", "json")
        assert (code, json.loads(said)) == (0, json.loads(beside))
        reaches = {action["name"]: action["reach"] for action in json.loads(said)["actions"]}
        assert reaches["one"]["devices"] + reaches["one"]["conflicts"] == 50

        code, said, complained = await typed(*elsewhere, "-o", "markdown", "--detailed-exitcode")
        assert (code, said.splitlines()[0]) == (2, "<!-- reconciler-plan -->")
        code, _, complained = await typed(*elsewhere, "--repo", "x")
        assert (code, "--repo means nothing with --server" in complained) == (2, True)

        monkeypatch.setenv("RECONCILER_TOKEN", token)
        monkeypatch.setenv("RECONCILER_SERVER", url)
        monkeypatch.delenv("RECONCILER_REPO")
        code, said, _ = await typed("plan")
        assert (code, said.splitlines()[-1].partition(";")[0]) == (0, "No changes")
        await typed("token", "delete", "ci")
        code, _, complained = await typed("plan")
        assert (code, "no token, or none that may read" in complained) == (1, True)
    assert token not in caplog.text
    assert token not in said + complained


async def test_every_error_is_json_and_says_what_happens_next(fleet, tmp_path, typed):
    del fleet
    async with running(tmp_path) as url:
        _, made, _ = await typed("token", "create", "--role", "read")
        plan, token = f"{url}/api/v1/plan", made.strip()
        for shown in ("", token[:-1], token + "x", "x" * 4000):
            status, headers, said = await ask(plan, shown)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "reconciler token create" in said["error"]["next"]
        assert (await ask(plan, headers={"Authorization": f"Basic {token}"}))[0] == 401
        assert (await ask(f"{plan}?token={token}"))[0] == 401
        for query in (
            "?token=x",
            "?ref=a&ref=b",
            "?ref=",
            "?ref=--upload-pack%3Dx",
            "?ref=a..b",
            f"?ref={'x' * 300}",
        ):
            status, headers, said = await ask(plan + query, token)
            assert (status, bool(said["error"]["message"]), bool(said["error"]["next"])) == (
                400,
                True,
                True,
            ), query
        status, headers, said = await ask(f"{plan}?ref=nowhere", token)
        assert (status, headers["Cache-Control"]) == (422, "no-store")
        assert "has no branch or tag 'nowhere'" in said["error"]["message"]
        several = await asyncio.gather(*(ask(plan, token) for _ in range(4)))
        assert 200 in {status for status, _, _ in several} <= {200, 429}
        assert all(headers["Retry-After"] for status, headers, _ in several if status == 429)
