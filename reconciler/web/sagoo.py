"""Decides how SagooIOT devices are answered over HTTP (device protocol §4): the two paths, their bodies and codes.

Part of `app`, where a setting turns it on. What devices say is `services.sagoo_channel`'s to carry; nothing here
knows devices or packages. Every answer is JSON with a `code`: 0, or that of HTTP.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler import errors
from reconciler.protocol import messages, sagoo
from reconciler.services.clock import Clock
from reconciler.services.quiet import QuietLog
from reconciler.services.sagoo_channel import SagooChannel, UnknownError

_log = logging.getLogger(__name__)
_BODY_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Keys:
    """What SagooIOT calls AK and SK: one pair for all devices."""

    access: str
    secret: str = dataclasses.field(repr=False)


class _TooLong(Exception):  # noqa: N818 - an answer, not an error of ours
    """A body that no report has."""


class SagooPaths:
    """The two paths.

    Args:
        channel: carries what devices say.
        clock: for the log.
        keys: what requests have to be signed with; None: everybody who knows a device's name may speak for it.
    """

    def __init__(self, channel: SagooChannel, clock: Clock, keys: Keys | None = None) -> None:
        self._channel = channel
        self._clock = clock
        self._keys = keys
        self._quiet = QuietLog(_log)

    @property
    def routes(self) -> list[Route]:
        """For `app`."""
        return [
            Route(sagoo.GET_INFO, self._get_info, methods=["GET"]),
            Route(sagoo.WRITE_INFO, self._write_info, methods=["POST"]),
        ]

    async def _get_info(self, request: Request) -> Response:
        async def ask() -> bytes:
            return await self._channel.ask(sagoo.parse_question(request.query_params))

        return await self._answer(request, ask)

    async def _write_info(self, request: Request) -> Response:
        async def report() -> bytes:
            await self._channel.report(sagoo.parse_report(await _body(request)))
            return sagoo.accepted()

        return await self._answer(request, report)

    async def _answer(self, request: Request, carry: Callable[[], Awaitable[bytes]]) -> Response:
        keys = self._keys
        if keys is not None and not sagoo.is_signed(request.query_params, keys.access, keys.secret):
            return self._refuse(403, "ak, time and sign are missing or wrong")
        try:
            return _json(200, await carry())
        except (messages.Malformed, _TooLong) as problem:
            return self._refuse(413 if isinstance(problem, _TooLong) else 400, str(problem))
        except (TimeoutError, ClientDisconnect):
            return self._refuse(408, "the body did not come")
        except UnknownError as problem:
            return self._refuse(404, problem.message)
        except errors.TransientError as problem:
            return self._refuse(503, problem.message, {"Retry-After": str(math.ceil(problem.retry_after))})

    def _refuse(self, status: int, why: str, headers: dict[str, str] | None = None) -> Response:
        """An answer that says why; the log says it once a minute for each kind."""
        self._quiet.warning(
            status, self._clock.monotonic(), f"a device over HTTP was answered {status}: {why}"
        )
        return _json(status, sagoo.refusal(status, why), headers)


async def _body(request: Request) -> bytes:
    """The body, if it is of a size that it can have and comes soon."""
    found = bytearray()
    async with asyncio.timeout(_BODY_SECONDS):
        async for piece in request.stream():
            found += piece
            if len(found) > messages.MAX_PAYLOAD:
                raise _TooLong(f"more than {messages.MAX_PAYLOAD} bytes")
    return bytes(found)


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
