"""Asks a daemon's API, with a token: for the commands that can look at a daemon elsewhere.

The token goes to the server that was named and to no other: redirects are not followed, and no error or log holds it.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from reconciler import __version__, errors

_LARGEST = 64 << 20
_PATIENCE = 120.0
_PAUSE = 2.0
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token would go along, and where it leads is not where the token is for."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the redirect is an error then."""


def token(file: Path | None, variable: str | None) -> str:
    """The token from a file, or from the environment's value.

    Raises:
        UsageError: there is none.
        UserError: the file can't be read.
    """
    if file is not None:
        try:
            found = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise errors.UserError(f"the token's file {file} can't be read: {why}") from error
    else:
        found = (variable or "").strip()
    if not found or not found.isascii() or not found.isprintable():
        raise errors.UsageError(
            "no token is given",
            remedy="Set RECONCILER_TOKEN, or give --token-file; `reconciler token create --role read` makes one.",
        )
    return found


class _BusyError(errors.TransientError):
    """It answers somebody else just now."""


@dataclasses.dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon elsewhere.

    Args:
        server: its URL.
        token: what is shown to it.
        timeout: seconds that it may take to answer.
        pause: waits so many seconds.
    """

    server: str
    token: str = dataclasses.field(repr=False)
    timeout: float
    pause: Callable[[float], None] = time.sleep

    def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """What it answers, as JSON data. While it is busy it is asked again.

        Raises:
            UsageError: its URL can't be one.
            UserError: it says no.
            TransientError: it is away, or was busy for too long.
        """
        url, waited = _url(self.server, path, query), 0.0
        while True:
            try:
                return _get(self, url)
            except _BusyError as busy:
                if waited >= _PATIENCE:
                    raise
                self.pause(busy.retry_after)
                waited += busy.retry_after


def _get(daemon: Daemon, url: str) -> dict[str, Any]:
    server = daemon.server
    headers = {
        "Authorization": f"Bearer {daemon.token}",
        "Accept": "application/json",
        "User-Agent": f"reconciler/{__version__}",
    }
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme is checked
    opener = urllib.request.build_opener(NoRedirects)
    try:
        with opener.open(request, timeout=daemon.timeout) as answer:
            return _json(answer.read(_LARGEST), server)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error, server) from None
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        remedy = "Is the daemon there, and does --server name its HTTP address?"
        if isinstance(why, ssl.SSLCertVerificationError):
            remedy = "Its certificate is not trusted here: name your authority's file in SSL_CERT_FILE."
        raise errors.TransientError(f"{server} can't be asked: {why}", remedy=remedy) from error


def _url(server: str, path: str, query: Mapping[str, str]) -> str:
    try:
        parts = urllib.parse.urlsplit(server)
        host = parts.hostname
    except ValueError:
        parts, host = urllib.parse.urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.query or parts.fragment:
        raise errors.UsageError(
            "--server is no daemon's URL",
            remedy="Write https://HOST[:PORT], as its --http-bind is reached.",
        )
    if parts.scheme == "http" and host not in _HERE:
        click.echo(f"warning: the token goes to {host} unencrypted", err=True)
    asked = urllib.parse.urlencode(query)
    return f"{server.rstrip('/')}{path}" + (f"?{asked}" if asked else "")


def _json(body: bytes, server: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise errors.UserError(
            f"{server} doesn't answer as a daemon does", remedy="Does --server name its HTTP address?"
        )
    return found


def _refusal(error: urllib.error.HTTPError, server: str) -> errors.ReconcilerError:
    """What a refusal means, in the daemon's own words where they are its."""
    if 300 <= error.code < 400:
        text = f"{server} sends elsewhere, and the token is for it alone"
        return errors.UserError(text, remedy="Give --server the URL that it sends to, if that is right.")
    try:
        said = json.loads(error.read(_LARGEST))["error"]
        message, following = str(said["message"]), str(said["next"])
    except (ValueError, KeyError, TypeError, OSError):
        text = f"{server} answers {error.code}, and not as a daemon does"
        return errors.UserError(text, remedy="Does --server name its HTTP address, and is it new enough?")
    if error.code == http.HTTPStatus.TOO_MANY_REQUESTS:
        after = error.headers.get("retry-after", "")
        seconds = float(after) if after.isdecimal() and 0 < int(after) < _PATIENCE else _PAUSE
        return _BusyError(f"{server}: {message}", remedy=following, retry_after=seconds)
    if error.code == http.HTTPStatus.SERVICE_UNAVAILABLE:
        return errors.TransientError(f"{server}: {message}", remedy=following)
    return errors.UserError(f"{server}: {message}", remedy=following)
