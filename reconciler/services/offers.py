"""Turns what a run offers into what a device is told: the package, with a download URL signed for its task.

Called by dispatch (a push) and by ingest (an answer to `firmware/get`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.protocol import messages, urls
from reconciler.store import products

URL_LIFETIME = timedelta(hours=24)
"""Then the device asks again with `firmware/get` (device protocol §2)."""


class Offers:
    """Makes offers.

    Args:
        key: signs the URLs.
        public_url: where devices reach the download server.
    """

    def __init__(self, key: bytes, public_url: str) -> None:
        self._key = key
        self._public_url = urls.check_base(public_url)

    def package(self, offer: products.Offer, task_id: int, now: datetime) -> messages.PackageInfo:
        """What one task's device is told."""
        expires = int((now + URL_LIFETIME).timestamp())
        token = urls.sign(self._key, offer.blob_id, task_id, expires)
        return messages.PackageInfo(
            version=offer.version,
            size=offer.size,
            url=urls.download_url(self._public_url, token, offer.file_name),
            sha256=offer.sha256,
            md5=offer.md5,
            sign_method=messages.SignMethod[offer.sign_method],
            module=offer.module,
            tags=offer.tags,
            custom_info=offer.custom_info or None,
        )

    def push(self, offer: products.Offer, task_id: int, now: datetime) -> bytes:
        """The payload of a push."""
        return messages.push(self.package(offer, task_id, now), int(now.timestamp() * 1000))
