"""A server of files that can fail in every way that servers do; HTTP/1.1 of the standard library, with TLS or without.

What it serves can be changed while it runs. It notes each request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import ssl
import threading
from collections.abc import Callable


@dataclasses.dataclass
class Page:
    """One path, and how it is served."""

    content: bytes = b""
    etag: str | None = None
    """None: that of the content; empty: there is none."""
    breaks_after: int | None = None
    """Bytes of the body after which the connection ends, once."""
    holds_after: int | None = None
    """Bytes of the body after which nothing comes, until the server ends."""
    ranges: bool = True
    """Whether parts are served; `If-Range` is honoured."""
    wrong_ranges: bool = False
    """Parts are served, but never those that were asked for."""
    has_length: bool = True
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    check: Callable[[http.server.BaseHTTPRequestHandler], str] | None = None
    """What is wrong with a request, which is answered with 403 then."""

    def tag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"' if self.etag is None else self.etag


class FileServer:
    """Serves pages on 127.0.0.1 until it is closed."""

    def __init__(self, certificates=None) -> None:
        self.pages: dict[str, Page] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._server.daemon_threads = True
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.server, certificates.server_key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self.url = f"{'https' if certificates else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def ranges(self) -> list[str | None]:
        """What each request asked for."""
        return [headers.get("range") for _, headers in self.seen]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(OSError):
            super().handle()

    def do_GET(self):
        self.server.owner.seen.append(
            (self.path, {name.lower(): value for name, value in self.headers.items()})
        )
        page = self.server.owner.pages.get(self.path.partition("?")[0], Page(status=404))
        complaint = page.check(self) if page.check is not None else ""
        self.close_connection = True
        if complaint or page.status != 200:
            self.answer(403 if complaint else page.status, complaint.encode(), page.headers)
            return
        self.file(page)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        page = self.server.owner.pages.get(self.path, Page(status=404))
        self.close_connection = True
        self.answer(page.status, page.content, page.headers)

    def file(self, page):
        start, asked = 0, self.headers.get("Range", "")
        fresh = self.headers.get("If-Range") in {page.tag(), page.headers.get("Last-Modified")}
        if asked and page.ranges and fresh:
            start = int(asked.removeprefix("bytes=").removesuffix("-")) + page.wrong_ranges
        if start > len(page.content):
            self.answer(416, b"", {})
            return
        headers = dict(page.headers) | ({"ETag": page.tag()} if page.tag() else {})
        if start:
            size = len(page.content)
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self.answer(206 if start else 200, page.content[start:], headers, page)

    def answer(self, status, body, headers, page=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if page is None or page.has_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if page is not None and page.breaks_after is not None:
            body, page.breaks_after = body[: page.breaks_after], None
        held = page.holds_after if page is not None else None
        self.wfile.write(body[:held])
        if held is not None:
            self.wfile.flush()
            self.server.owner.ended.wait()
