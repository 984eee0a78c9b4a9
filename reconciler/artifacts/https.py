"""Files over HTTP: ranges, redirects, and what a server's answers mean for a fetch.

`Https` is the source for https://; `s3` builds its requests and sends them through `Client`. Nothing is retried here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import re
import ssl
import string
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urljoin, urlsplit

import reconciler
from reconciler import errors
from reconciler.artifacts import network
from reconciler.artifacts.network import Halt, RefusedError
from reconciler.artifacts.origin import Opened, OtherPartError
from reconciler.domain import foreign

_CHUNK_BYTES = 1 << 18
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
_LONGEST = 3600.0
"""Seconds that a server may ask us to wait, at most."""
_SLOWLY = 60.0
"""Seconds until a server that says no is asked again, at least."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A GET of one URL. `public_only`: not from a private address."""

    url: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    public_only: bool = False


class Client:
    """Sends requests, each over a connection of its own.

    Args:
        tls: how servers are checked.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls

    @contextlib.contextmanager
    def get(self, request: Request, halt: Halt) -> Iterator[http.client.HTTPResponse]:
        """The head of the answer is here; its body streams.

        Raises:
            TransientError: the server can't be reached, or does not speak HTTP.
            RefusedError: it is where nothing may be fetched from.
        """
        parts = urlsplit(request.url)
        assert parts.hostname is not None, "checked before"
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        connection = http.client.HTTPConnection(parts.hostname, port)
        # letters outside of ASCII are written as every browser writes them; what is written so already stays
        path = quote(
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=string.punctuation
        )
        identity = {"Accept-Encoding": "identity", "User-Agent": f"reconciler/{reconciler.__version__}"}
        with contextlib.closing(connection):
            with _explained(parts.hostname):
                connected = network.connect(parts.hostname, port, halt, public_only=request.public_only)
                connection.sock = (
                    connected  # it belongs to the connection from here on, and is closed with it
                )
                halt.watch(connected)
                if secure:
                    connection.sock = self._tls.wrap_socket(connected, server_hostname=parts.hostname)
                    halt.watch(connection.sock)
                connection.request("GET", path, headers={**identity, **request.headers})
                response = connection.getresponse()
            halt.check()
            yield response


class Https:
    """The source of files from https://.

    Args:
        client: sends the requests.
        private_redirects: follow redirects to private addresses, too.
    """

    def __init__(self, client: Client, *, private_redirects: bool) -> None:
        self._client = client
        self._private_redirects = private_redirects

    @contextlib.contextmanager
    def open(self, source: str, halt: Halt, *, start: int, validator: str | None) -> Iterator[Opened]:
        """Opens a file; see `origin.Origin.open`."""
        named = server_of(source)
        url = source
        headers = range_of(start, validator)
        for _ in range(_MOST_REDIRECTS + 1):
            # The manifest's own host may be anywhere; a redirect leads where only the server wanted.
            strange = server_of(url) != named
            request = Request(url, headers, public_only=strange and not self._private_redirects)
            with self._client.get(request, halt) as response:
                if response.status not in _REDIRECTS:
                    yield opened(response, foreign.shown(url), halt, start, validator)
                    return
                url = _target(url, response)
        raise errors.TransientError(f"more than {_MOST_REDIRECTS} redirects", retry_after=_SLOWLY)


def server_of(url: str) -> tuple[str, int]:
    """The host and port that an https:// URL names, however it writes them."""
    parts = urlsplit(url)
    return (parts.hostname or "").rstrip("."), parts.port or 443


def _target(url: str, response: http.client.HTTPResponse) -> str:
    """Where a redirect leads.

    Raises:
        RefusedError: where nothing is fetched from.
    """
    written = quote(response.headers.get("Location", ""), safe=string.punctuation, encoding="latin-1")
    try:
        target = urljoin(url, written)
    except ValueError:
        target = written
    if not target.lower().startswith("https:") or foreign.problem(target):
        raise RefusedError(
            f"it redirects to {foreign.shown(target)}, and files are fetched from https:// only",
            remedy="Name in the manifest where the file really is.",
        )
    return target


def range_of(start: int, validator: str | None) -> dict[str, str]:
    """The headers that ask for the rest of a file, if it is still the same."""
    if not start or validator is None:
        return {}
    return {"Range": f"bytes={start}-", "If-Range": validator}


def opened(
    response: http.client.HTTPResponse, place: str, halt: Halt, start: int, validator: str | None
) -> Opened:
    """The file that an answer holds.

    Args:
        response: the answer to a request with the headers of `range_of`.
        place: where it came from, for messages.
        halt: ends the reading.
        start: where it was asked to begin.
        validator: the version that was asked for.

    Raises:
        OtherPartError: the answer holds another part.
        TransientError: the answer holds no file.
    """
    version = _version(response)
    chunks = _chunks(response, halt)
    if response.status == 200:
        has_end = response.length is not None or response.chunked
        return Opened(chunks, 0, response.length, version, has_end=has_end)
    if response.status == 206:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is not None and int(found[1]) == start and version in {None, validator}:
            size = int(found[2]) if found[2] != "*" else None
            return Opened(chunks, start, size, validator)
    if response.status in {206, 416}:
        raise OtherPartError(f"{place} has no such part of the file any more", retry_after=0.0)
    raise _no_file(response, place)


def _version(response: http.client.HTTPResponse) -> str | None:
    """What If-Range takes for this version of the file: a strong ETag, or else the time of its last change."""
    etag = response.headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    return response.headers.get("Last-Modified")


def _no_file(response: http.client.HTTPResponse, place: str) -> errors.TransientError:
    """What a refusal means. The file may still be put there, so nothing of it is final."""
    after = response.headers.get("Retry-After", "")
    remedies = {
        401: "Let the daemon read it: manifests hold no passwords; S3 takes keys from the environment.",
        403: "Let the daemon read it: manifests hold no passwords; S3 takes keys from the environment.",
        404: "Put the file there, or correct the source.",
        410: "Put the file there, or correct the source.",
    }
    said = http.client.responses.get(response.status, "")
    return errors.TransientError(
        f"{place} answers {response.status} {said}".rstrip(),
        remedy=remedies.get(response.status, ""),
        retry_after=min(float(after), _LONGEST)
        if after.isdecimal()
        else _SLOWLY
        if response.status < 500
        else 5.0,
    )


def _chunks(response: http.client.HTTPResponse, halt: Halt) -> Iterator[bytes]:
    with _explained(""):
        while chunk := response.read(_CHUNK_BYTES):
            halt.check()
            yield chunk
        halt.check()


@contextlib.contextmanager
def _explained(host: str) -> Iterator[None]:
    """What goes wrong on the way, in our words."""
    at = f"{host}: " if host else ""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise errors.TransientError(
            f"{at}its certificate is not trusted: {error.verify_message}",
            remedy="Give its authority with --source-ca, or mend the certificate.",
            retry_after=_SLOWLY,
        ) from error
    except TimeoutError as error:
        text = f"{at}nothing came for {network.SILENT_SECONDS:.0f} seconds"
        raise errors.TransientError(text) from error
    except (OSError, http.client.HTTPException) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise errors.TransientError(f"{at}the connection broke: {words}") from error
