"""Decides how HTTP is served: uvicorn inside our own event loop, with our signals, sockets and limits.

Made and run by the composition root. It knows no path: that is `app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from reconciler import errors

_log = logging.getLogger(__name__)

_FIRST_REQUEST_SECONDS = 10.0
_STALL_SECONDS = 60
_GRACE_SECONDS = 3


class HttpServer:
    """An HTTP server, plain or with TLS.

    Args:
        app: what answers.
        host: the address to listen on.
        port: the port; 0 for any free one.
        certificate: a PEM file with the certificate chain, for TLS.
        key: a PEM file with its private key; None when it is in the same file.
        stall: seconds after which a client that takes nothing is cut off.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        certificate: pathlib.Path | None = None,
        key: pathlib.Path | None = None,
        stall: float = _STALL_SECONDS,
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._stall = stall
        self._tls = _tls(certificate, key) if certificate else None
        self._socket: socket.socket | None = None

    def bind(self) -> int:
        """Takes the port, so that a mistake shows before anything else starts; returns its number.

        Raises:
            UserError: it is taken, or not ours to take.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            bound = socket.create_server((self._host, self._port), family=family, backlog=2048)
        except OSError as problem:
            why = (problem.strerror or str(problem)).partition(" (while")[0]  # it goes on with the address
            text = f"HTTP cannot listen on {self._host}:{self._port}: {why}"
            raise errors.UserError(
                text, remedy="stop what uses it, or choose another --http-bind"
            ) from problem
        # the kernel cuts off whoever is gone or takes nothing: closing it ourselves would wait for it for ever
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._stall * 1000))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = bound
        return int(bound.getsockname()[1])

    async def serve(self) -> None:
        """Serves until cancelled; then lets running downloads go on for 3 s, and ends them.

        A device whose download was ended asks for the rest with a range.
        """
        if self._socket is None:
            self.bind()
        assert self._socket is not None
        config = uvicorn.Config(
            self._app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        config.load()
        config.ssl = self._tls
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[self._socket]), name="uvicorn")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise
        finally:
            self._socket.close()
            self._socket = None


class _Server(uvicorn.Server):
    """Without its signal handlers: the daemon has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Also drops connections whose peer takes nothing: there is nothing left to wait for."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class _Protocol(H11Protocol):
    """HTTP/1.1 by h11, which keeps the spelling of header names. Who connects must say something soon."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(_FIRST_REQUEST_SECONDS, self._drop_if_silent)

    def _drop_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.abort()


def _tls(certificate: pathlib.Path, key: pathlib.Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as problem:
        text = f"the certificate {certificate} (key {key or 'in the same file'}) cannot be used: {problem}"
        raise errors.UserError(text, remedy="give PEM files, the key without a password") from problem
    return context
