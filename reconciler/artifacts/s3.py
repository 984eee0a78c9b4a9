"""Files from any store that speaks S3: requests signed with the keys that the environment has.

Keys come the way all of Amazon's tools take them (environment, profile, the machine's role); none are in a manifest.
With none, requests are not signed, and public files come. Redirects are not followed: a store that sends us elsewhere
is one of another region.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

from reconciler import errors
from reconciler.artifacts import https
from reconciler.artifacts.network import Halt, RefusedError
from reconciler.artifacts.origin import Opened
from reconciler.domain import foreign

_DEFAULT_REGION = "us-east-1"
_PLAIN_BUCKET = re.compile(r"[a-z0-9-]+")


class S3:
    """The source of files from s3://.

    Args:
        client: sends the requests.
        endpoint: the store's URL; empty for Amazon's own.
        region: where it is; empty: as the environment says.

    Raises:
        UsageError: the endpoint is no URL of a store.
    """

    def __init__(self, client: https.Client, *, endpoint: str = "", region: str = "") -> None:
        self._client = client
        self._endpoint = _checked(endpoint).rstrip("/")
        self._region = region
        self._session: Any = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def open(self, source: str, halt: Halt, *, start: int, validator: str | None) -> Iterator[Opened]:
        """Opens a file; see `origin.Origin.open`."""
        with self._lock, _explained():
            request = self._signed(self._url(source), https.range_of(start, validator))
        with self._client.get(request, halt) as response:
            region = response.headers.get("x-amz-bucket-region", "")
            if response.status in {301, 307, 400} and region:
                text = f"the bucket of {foreign.shown(source)} is in the region {region}"
                raise RefusedError(text, remedy=f"Give --s3-region {region}.")
            yield https.opened(response, foreign.shown(source), halt, start, validator)

    def _url(self, source: str) -> str:
        """Where a bucket's file is. A store of one's own has no host for each bucket."""
        place = foreign.place(source)
        key = quote(place.path, safe="/-_.~")
        if self._endpoint:
            return f"{self._endpoint}/{place.host}{key}"
        host = f"s3.{self._where()}.amazonaws.com"
        if _PLAIN_BUCKET.fullmatch(place.host):
            return f"https://{place.host}.{host}{key}"
        return f"https://{host}/{place.host}{key}"

    def _signed(self, url: str, headers: dict[str, str]) -> https.Request:
        """The request, signed by Signature Version 4 when there are keys."""
        from botocore import auth, awsrequest  # noqa: PLC0415 - 180 ms that only users of S3 pay

        keys = self._opened().get_credentials()
        if keys is None:
            return https.Request(url, headers)
        request = awsrequest.AWSRequest("GET", url, headers={**headers, "Host": urlsplit(url).netloc})
        auth.S3SigV4Auth(keys.get_frozen_credentials(), "s3", self._where()).add_auth(request)
        return https.Request(url, dict(request.headers.items()))

    def _where(self) -> str:
        if self._region:
            return self._region
        return str(self._opened().get_config_variable("region") or _DEFAULT_REGION)

    def _opened(self) -> Any:
        if self._session is None:
            from botocore import session  # noqa: PLC0415 - see above

            self._session = session.Session()
        return self._session


def _checked(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        is_place = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_place = False
    if endpoint and (not is_place or re.search(r"[^!-~]|[?#@\\]", endpoint)):
        raise errors.UsageError(  # it is not repeated: somebody may have written a password into it
            "--s3-endpoint is wrong: that is no URL of a store",
            remedy="Write https://HOST, or http://HOST:PORT: without user, query and fragment.",
        )
    return endpoint


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    from botocore import exceptions  # noqa: PLC0415 - see above

    try:
        yield
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or mend the profile."
        raise errors.TransientError(f"there are no keys for S3: {error}", remedy=remedy) from error
