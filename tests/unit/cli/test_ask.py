"""Asking a daemon elsewhere: the token goes to it alone, and each answer means something."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading

import pytest

from reconciler import errors
from reconciler.cli import ask


@contextlib.contextmanager
def daemon(*answers):
    """A server that gives these answers in turn: status, headers, body. What it was asked, and its URL."""
    left, asked = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def refusal(message, following="Do that."):
    return json.dumps({"error": {"message": message, "next": following}}).encode()


def get(url, path="/api/v1/plan", **query):
    return ask.Daemon(url, "rct_s3cret", 5.0, pauses.append).get(path, query)


pauses: list[float] = []


@pytest.fixture(autouse=True)
def _forget():
    pauses.clear()


def test_a_question_is_asked_with_the_token(capsys):
    with daemon((200, {}, b'{"a": 1}')) as (url, asked):
        assert get(f"{url}/", ref="a/b&c") == {"a": 1}
    assert asked == [("/api/v1/plan?ref=a%2Fb%26c", "Bearer rct_s3cret")]
    assert capsys.readouterr().err == ""


def test_who_is_busy_is_asked_again_and_not_for_ever():
    busy = (429, {"Retry-After": "7"}, refusal("another plan is being made"))
    with daemon(busy, busy, (200, {}, b"{}")) as (url, _):
        assert get(url) == {}
    assert pauses == [7.0, 7.0]
    pauses.clear()
    with daemon(*[busy] * 30) as (url, asked), pytest.raises(errors.TransientError, match="another plan"):
        get(url)
    assert len(asked) < 30


def test_a_redirect_is_not_followed():
    with (
        daemon((200, {}, b"{}")) as (other, asked),
        daemon((302, {"Location": other}, b"")) as (url, _),
        pytest.raises(errors.UserError, match="sends elsewhere"),
    ):
        get(url)
    assert asked == []


@pytest.mark.parametrize(
    ("status", "kind"), [(401, errors.UserError), (422, errors.UserError), (503, errors.TransientError)]
)
def test_a_refusal_is_told_in_the_daemon_s_words(status, kind):
    with (
        daemon((status, {}, refusal("no such ref"))) as (url, _),
        pytest.raises(kind, match="no such ref") as raised,
    ):
        get(url)
    assert raised.value.remedy == "Do that."


@pytest.mark.parametrize(
    "answer", [(404, {}, b"Not Found"), (200, {}, b"<html>"), (200, {}, b"[]"), (500, {}, b"[1]")]
)
def test_what_is_no_daemon_is_told_apart(answer):
    with daemon(answer) as (url, _), pytest.raises(errors.UserError, match="as a daemon does") as raised:
        get(url)
    assert "--server" in raised.value.remedy


def test_nobody_there_is_not_the_caller_s_mistake():
    with daemon() as (url, _):
        pass
    with pytest.raises(errors.TransientError, match="can't be asked") as raised:
        get(url)
    assert "s3cret" not in str(raised.value) + repr(ask.Daemon(url, "rct_s3cret", 5.0))


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "http://ann:pw@x", "http://x?y", "http://[", ""])
def test_what_is_no_url_is_a_wrong_command_line(url):
    with pytest.raises(errors.UsageError):
        get(url)


def test_a_token_that_goes_unencrypted_to_another_machine_is_said(capsys):
    with pytest.raises(errors.TransientError):
        get("http://nowhere.invalid")
    assert capsys.readouterr().err == "warning: the token goes to nowhere.invalid unencrypted\n"


def test_the_token_is_from_a_file_or_the_environment(tmp_path):
    file = tmp_path / "token"
    file.write_text("rct_a\n")
    assert (ask.token(file, "rct_b"), ask.token(None, " rct_b ")) == ("rct_a", "rct_b")
    for wrong in ("", "a\nb", "é"):
        with pytest.raises(errors.UsageError, match="no token"):
            ask.token(None, wrong)
    with pytest.raises(errors.UserError, match="can't be read"):
        ask.token(tmp_path / "nothing", None)


def test_another_format_is_refused_instead_of_misread(reconciler, monkeypatch):
    monkeypatch.setenv("RECONCILER_TOKEN", "rct_x")
    with daemon((200, {}, b'{"formatVersion": "2.0"}')) as (url, _):
        ran = reconciler("plan", "--server", url)
    assert (ran.code, "speaks format 2.0" in ran.err) == (1, True)
