"""What a device is told of its file: a URL or a stream, by the batch's `download`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from reconciler import errors
from reconciler.protocol import urls
from reconciler.services.offers import Offers
from reconciler.store.products import Offer

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BOTH = "https://ota.example, http://ota.example:8080/files"
TASK = 41


def told(public_url: str, download: str, *, delta: bool = False) -> dict:
    offer = Offer(
        run_id=1,
        version="2.0.0",
        module="default",
        sign_method="SHA256",
        sha256="ab" * 32,
        md5="cd" * 16,
        size=2048,
        blob_id=3,
        file_name="app.bin",
        custom_info=None,
        tags={},
        download=download,
        delta=delta,
    )
    return json.loads(Offers(b"k" * 32, urls.check_bases(public_url)).push(offer, TASK, NOW))["data"]


@pytest.mark.parametrize(
    ("public_url", "download", "begins"),
    [
        ("http://ota.example", "Auto", "http://ota.example/d/"),
        ("http://ota.example", "HTTP", "http://ota.example/d/"),
        ("https://ota.example", "Auto", "https://ota.example/d/"),
        ("https://ota.example", "HTTPS", "https://ota.example/d/"),
        (BOTH, "Auto", "https://ota.example/d/"),
        (BOTH, "HTTPS", "https://ota.example/d/"),
        (BOTH, "HTTP", "http://ota.example:8080/files/d/"),
    ],
)
def test_the_url_is_of_the_scheme_that_the_batch_asks_for(public_url, download, begins):
    data = told(public_url, download)
    assert data["url"].startswith(begins)
    assert "dProtocol" not in data


@pytest.mark.parametrize("public_url", ["http://ota.example", "https://ota.example", BOTH])
def test_over_mqtt_the_stream_is_the_task_and_there_is_no_url(public_url):
    data = told(public_url, "MQTT")
    assert "url" not in data
    assert (data["dProtocol"], data["streamId"], data["streamFileId"]) == ("mqtt", TASK, 1)


@pytest.mark.parametrize("download", ["Auto", "MQTT"])
def test_only_a_delta_says_that_it_is_one(download):
    assert told(BOTH, download, delta=True)["isDiff"] == 1
    assert "isDiff" not in told(BOTH, download)


@pytest.mark.parametrize(("public_url", "download"), [("http://a", "HTTPS"), ("https://a", "HTTP")])
def test_no_other_scheme_stands_in_for_one_that_is_gone(public_url, download):
    with pytest.raises(errors.StalledError, match=f"over {download}, and devices reach this server"):
        told(public_url, download)
