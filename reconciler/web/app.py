"""Decides which paths there are: downloads for devices, health, metrics and the API for operators; 404 for the rest.

Made by the composition root, run by `server`. What is healthy, and what is counted, is told by injected functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.web.api import Api
from reconciler.web.sagoo import SagooPaths

HttpApp = ASGIApp
"""What `create` makes and `server` runs."""

LATEST_HEARTBEAT = 60.0
"""Seconds after which a silent event loop counts as dead (conventions, Service)."""

Check = tuple[str, bool, str]
"""A named check of `/readyz`: name, whether it is fine, a line about it."""


def create(
    downloads: ASGIApp,
    *,
    heartbeat_age: Callable[[], float],
    checks: Callable[[], Iterable[Check]],
    metrics: Callable[[], tuple[str, bytes]],
    sagoo: SagooPaths | None = None,
    api: Api | None = None,
) -> ASGIApp:
    """The application.

    Args:
        downloads: what answers `/d/{token}/{name}`.
        heartbeat_age: seconds since the event loop was last seen at work.
        checks: what must be fine for us to be ready. Must not block.
        metrics: the content type and the text of `/metrics`. Must not block.
        sagoo: where SagooIOT devices ask and report; None: nowhere.
        api: what answers below `/api/`; None: nothing does.
    """

    async def livez(_: Request) -> Response:
        age = heartbeat_age()
        if age <= LATEST_HEARTBEAT:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"the event loop was last seen {age:.0f} s ago\n", status_code=503)

    async def readyz(request: Request) -> Response:
        results = list(checks())
        is_ready = all(ok for _, ok, _ in results)
        verdict = "ok" if is_ready else "not ready"
        if is_ready and "verbose" not in request.query_params:
            results = []
        lines = [f"[{'+' if ok else '-'}] {name}: {text}" for name, ok, text in results]
        return PlainTextResponse("\n".join([*lines, verdict, ""]), status_code=200 if is_ready else 503)

    async def show_metrics(_: Request) -> Response:
        content_type, text = metrics()
        return Response(text, headers={"content-type": content_type})

    return _exact_headers(
        Starlette(
            routes=[
                Route("/d/{token}/{name}", downloads, methods=["GET", "HEAD"]),
                Route("/livez", livez),
                Route("/readyz", readyz),
                Route("/metrics", show_metrics),
                *(sagoo.routes if sagoo is not None else ()),
                *(api.routes if api is not None else ()),
            ]
        )
    )


def _exact_headers(app: ASGIApp) -> ASGIApp:
    """Spells header names `Content-Length`, in errors too: devices in C loop for ever on a lower-case one (trap 7)."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def spelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name.title() if name.islower() else name, value) for name, value in message["headers"]
                ]
            await send(message)

        await app(scope, receive, spelled)

    return wrapped
