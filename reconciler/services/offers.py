"""Turns what a run offers into what a device is told: the package, and how its files are fetched.

Over HTTP(S) by URLs that are signed for the task, one a file; over MQTT by a stream, the task's own (`blocks`).

Called by dispatch (a push) and by ingest (an answer to `firmware/get`).
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from reconciler import errors
from reconciler.domain import downloads, resources
from reconciler.protocol import messages, sagoo, urls
from reconciler.services import burst
from reconciler.services.signing import Keyring
from reconciler.store import products

URL_LIFETIME = timedelta(hours=24)
"""Then the device asks again with `firmware/get` (device protocol §2)."""


class Offers:
    """Makes offers.

    Args:
        key: signs the URLs.
        public_urls: where devices reach the download server.
        keyring: signs files of products that ask for it; without one, such products can be told nothing.
    """

    def __init__(self, key: bytes, public_urls: urls.PublicUrls, keyring: Keyring | None = None) -> None:
        self._key = key
        self._public_urls = public_urls
        self._keyring = keyring or Keyring({})

    def package(self, offer: products.Offer, task_id: int, now: datetime) -> messages.PackageInfo:
        """What one task's device is told.

        Raises:
            StalledError: its batch asks for a way to download that is not configured any more, or its product for a
                signature by a key that nobody has read.
        """
        way = downloads.resolve(resources.Download(offer.download), self._public_urls.ways)
        method = messages.SignMethod[offer.sign_method]
        files = (
            messages.File(
                name=file.name,
                size=file.size,
                source=self._source(file, way, task_id, now),
                sha256=file.sha256,
                md5=file.md5,
            )
            for file in offer.files
        )
        return messages.PackageInfo(
            version=offer.version,
            files=tuple(self._signed(file, method, offer.signing_key) for file in files),
            sign_method=method,
            module=offer.module,
            is_delta=offer.delta,
            tags=offer.tags,
            custom_info=offer.custom_info or None,
        )

    def _signed(self, file: messages.File, method: messages.SignMethod, key: str | None) -> messages.File:
        if key is None:
            return file
        return dataclasses.replace(file, signature=self._keyring.sign(key, file.digest(method)))

    def _source(
        self, file: products.File, way: resources.Download, task_id: int, now: datetime
    ) -> str | messages.Stream:
        if way is resources.Download.MQTT:
            return messages.Stream(task_id)
        base = self._public_urls.https if way is resources.Download.HTTPS else self._public_urls.http
        if base is None:  # it was there when the batch was accepted; a weaker one is not what was asked for
            raise errors.StalledError(f"a batch {downloads.unconfigured(way, self._public_urls.ways)}")
        expires = int((now + URL_LIFETIME).timestamp())
        token = urls.sign(self._key, file.blob_id, task_id, expires)
        return urls.download_url(base, token, file.name)

    def push(self, offer: products.Offer, task_id: int, now: datetime) -> bytes:
        """The payload of a push, as the product's devices have it."""
        package, now_ms = self.package(offer, task_id, now), int(now.timestamp() * 1000)
        if offer.protocol == resources.Protocol.SAGOO:
            return sagoo.push(sagoo.Offered(package, offer.run_id, offer.md5_name), now_ms)
        return messages.push(package, now_ms)

    def answer(self, reply: burst.Reply, now: datetime) -> bytes:
        """The payload of an answer to who asked, as the device has it."""
        asked, offer = reply.asked, reply.offer
        package = self.package(offer, reply.task_id, now) if offer is not None else None
        if not asked.sagoo:
            return messages.get_reply(asked.request_id, package)
        offered = sagoo.Offered(package, offer.run_id, offer.md5_name) if offer and package else None
        over_http = asked.answer is not None
        return sagoo.ota_info(offered) if over_http else sagoo.get_reply(asked.request_id, offered)
