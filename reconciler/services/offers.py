"""Turns what a run offers into what a device is told: the package, and how its file is fetched.

Over HTTP(S) by a URL that is signed for the task; over MQTT by a stream, which is the task's own (`blocks`).

Called by dispatch (a push) and by ingest (an answer to `firmware/get`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler import errors
from reconciler.domain import downloads, resources
from reconciler.protocol import messages, urls
from reconciler.store import products

URL_LIFETIME = timedelta(hours=24)
"""Then the device asks again with `firmware/get` (device protocol §2)."""


class Offers:
    """Makes offers.

    Args:
        key: signs the URLs.
        public_urls: where devices reach the download server.
    """

    def __init__(self, key: bytes, public_urls: urls.PublicUrls) -> None:
        self._key = key
        self._public_urls = public_urls

    def package(self, offer: products.Offer, task_id: int, now: datetime) -> messages.PackageInfo:
        """What one task's device is told."""
        return messages.PackageInfo(
            version=offer.version,
            size=offer.size,
            source=self._source(offer, task_id, now),
            sha256=offer.sha256,
            md5=offer.md5,
            sign_method=messages.SignMethod[offer.sign_method],
            module=offer.module,
            is_delta=offer.delta,
            tags=offer.tags,
            custom_info=offer.custom_info or None,
        )

    def _source(self, offer: products.Offer, task_id: int, now: datetime) -> str | messages.Stream:
        way = downloads.resolve(resources.Download(offer.download), self._public_urls.ways)
        if way is resources.Download.MQTT:
            return messages.Stream(task_id)
        base = self._public_urls.https if way is resources.Download.HTTPS else self._public_urls.http
        if base is None:  # it was there when the batch was accepted; a weaker one is not what was asked for
            raise errors.StalledError(f"a batch {downloads.unconfigured(way, self._public_urls.ways)}")
        expires = int((now + URL_LIFETIME).timestamp())
        token = urls.sign(self._key, offer.blob_id, task_id, expires)
        return urls.download_url(base, token, offer.file_name)

    def push(self, offer: products.Offer, task_id: int, now: datetime) -> bytes:
        """The payload of a push."""
        return messages.push(self.package(offer, task_id, now), int(now.timestamp() * 1000))
