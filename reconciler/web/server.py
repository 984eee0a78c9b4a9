"""Decides how HTTP is served: uvicorn inside our own event loop, with our signals, sockets and limits.

Made and run by the composition root. It knows no path: that is `app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from reconciler import errors
from reconciler.web import downloads
from reconciler.web.openfile import OpenFile

_REQUEST_SECONDS = 10.0
_STALL_SECONDS = 60
_GRACE_SECONDS = 3
_UNSENT_BYTES = 512 << 10
_COPIED = 64 << 10


class HttpServer:
    """An HTTP server, plain or with TLS.

    Args:
        app: what answers.
        host: the address to listen on.
        port: the port; 0 for any free one.
        tls: for HTTPS (`certificates.FreshContext`).
        stall: seconds after which a client that takes nothing is cut off.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        stall: float = _STALL_SECONDS,
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._stall = stall
        self._tls = tls
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
        # nor does it keep megabytes for each of those who take little, on top of what is on its way to them
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
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
    """HTTP/1.1 by h11, which keeps the spelling of header names, and files without a copy in our memory.

    Who connects must say something soon, and whoever begins a request must end it soon.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._application, self.app = self.app, self._offer
        self._silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._silence = self.loop.call_later(_REQUEST_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._hear()
        elif self._silence is None:
            self._silence = self.loop.call_later(_REQUEST_SECONDS, self.transport.abort)

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn closes always
        """Keeps the connection of who has closed its own side after its last request, and waits for the answer.

        That it was the last one it has said (HTTP/1.0, or `Connection: close`). Anybody else is gone; and so is a
        client of TLS, which knows no half of a connection.
        """
        return self.scheme == "http" and self.conn.their_state is h11.MUST_CLOSE

    def connection_lost(self, exc: Exception | None) -> None:
        self._hear()
        super().connection_lost(exc)

    def _hear(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    async def _offer(self, scope: Any, receive: Receive, send: Send) -> None:
        """The application, with the extension of ASGI for files, where there is no encryption in the way."""
        cycle = self.cycle

        async def sending(message: Message) -> None:
            if message["type"] == downloads.ZERO_COPY:
                await self._send_file(cycle, message)
            else:
                await send(message)

        extensions: dict[str, object] = {downloads.ZERO_COPY: {}} if self.scheme == "http" else {}
        await self._application(scope | {"extensions": extensions}, receive, sending)

    async def _send_file(self, cycle: RequestResponseCycle, message: Message) -> None:
        """Sends a part of a file, and waits until the kernel took it.

        Raises:
            ConnectionError: the client is gone.
            EOFError: the file has become shorter.
        """
        if cycle.disconnected:
            raise ConnectionResetError("the client is gone")
        file, at, count = message["file"], message["offset"], message["count"]
        cycle.conn.send_with_data_passthrough(h11.Data(data=range(count)))  # type: ignore[arg-type] # it counts them
        try:
            sent = await self._copied_by_the_kernel(file, at, count)
        except (OSError, RuntimeError) as problem:
            self.transport.abort()
            cycle.disconnected = True
            raise ConnectionResetError("the client is gone") from problem
        if sent < count:
            raise EOFError("a file became shorter while it was downloaded")

    async def _copied_by_the_kernel(self, file: OpenFile, at: int, count: int) -> int:
        try:
            return await self.loop.sendfile(self.transport, file, at, count, fallback=False)  # type: ignore[arg-type]
        except (
            asyncio.SendfileNotAvailableError
        ):  # by this file system; or nobody is there, which writing will tell
            for place in range(at, at + count, _COPIED):
                self.transport.write(file.read(place, min(_COPIED, at + count - place)))
                await self.flow.drain()
                if self.transport.is_closing():
                    raise
            return count
