"""Decides what the API answers, and to whom: `GET /api/v1/plan` to who has a token that may read.

Part of `app`. Who asks shows a token (`Authorization: Bearer …`), which is compared by its digest and stands in no
log and in no answer. Every error is JSON: what is wrong, and what happens next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler import errors
from reconciler.services.planning import BusyError

_LONGEST_REF = 255

Opens = Callable[[str], Awaitable[bool]]
"""Whether a token may read."""
Plan = Callable[[str], Awaitable[bytes]]
"""The plan of a ref (empty: of the one that is followed), as JSON."""


class Api:
    """The API's paths.

    Args:
        opens: who may ask.
        plan: makes plans, one at a time.
    """

    def __init__(self, opens: Opens, plan: Plan) -> None:
        self._opens = opens
        self._plan = plan

    @property
    def routes(self) -> Iterator[Route]:
        """Where it answers."""
        yield Route("/api/v1/plan", self._get_plan, methods=["GET"])

    async def _get_plan(self, request: Request) -> Response:
        try:
            token = _bearer(request)
            if not token or not await self._opens(token):
                return _error(401, "no token, or none that may read", _TOKEN)
            return Response(await self._plan(_ref(request)), media_type="application/json", headers=_HEADERS)
        except errors.ReconcilerError as error:
            status = next(status for family, status in _STATUS if isinstance(error, family))
            return _error(status, error.message, error.remedy, getattr(error, "retry_after", None))


_STATUS: Sequence[tuple[type[errors.ReconcilerError], int]] = (
    (errors.UsageError, 400),
    (errors.UserError, 422),
    (BusyError, 429),
    (errors.TransientError, 503),
    (errors.ReconcilerError, 500),
)
"""Whose turn it is next: the caller's, the repository's owner's, later, the operator's. The first that fits."""
_HEADERS = {"cache-control": "no-store"}
_TOKEN = "Send `Authorization: Bearer TOKEN`; the daemon's operator makes one: `reconciler token create --role read`."  # noqa: S105 - no secret


def _bearer(request: Request) -> str:
    """The token that is shown; empty when there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _ref(request: Request) -> str:
    """The ref that is asked for; empty for the one that is followed. What a ref may look like, Git's reader knows.

    Raises:
        UsageError: something else is asked for.
    """
    asked = request.query_params
    if set(asked) - {"ref"} or len(asked.multi_items()) > 1:
        raise errors.UsageError("a plan is of one `ref` and takes nothing else", remedy="Ask ?ref=BRANCH.")
    ref = asked.get("ref", "")
    if "ref" in asked and not 0 < len(ref) <= _LONGEST_REF:
        raise errors.UsageError(
            f"a ref has 1 to {_LONGEST_REF} characters", remedy="Give a branch, a tag or a commit's id."
        )
    return ref


def _error(status: int, message: str, following: str, retry_after: float | None = None) -> JSONResponse:
    headers = dict(_HEADERS)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if retry_after is not None:
        headers["retry-after"] = str(max(1, round(retry_after)))
    said = {"error": {"message": message, "next": following or "Ask the daemon's operator."}}
    return JSONResponse(said, status_code=status, headers=headers)
