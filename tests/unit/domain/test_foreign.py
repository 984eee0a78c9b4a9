"""URLs in manifests: what makes sense before anything is fetched."""

from __future__ import annotations

import pytest

from reconciler.domain import foreign
from reconciler.domain.foreign import Place


@pytest.mark.parametrize(
    "source",
    [
        "https://files.example/app.bin",
        "HTTPS://files.example:8443/a/app.bin?key=1#2",
        "https://[2606::1]/app.bin",
        "s3://firmware/lamp/app-1.4.0.bin",
        "s3://my.bucket_1/app.bin",
        "file:///srv/firmware/app.bin",
        "file://localhost/srv/app%20two.bin",
    ],
)
def test_these_can_be_tried(source):
    assert foreign.problem(source) == ""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https:///app.bin", "no host"),
        ("https://[::1/app.bin", "no URL"),
        ("https://files.example:port/app.bin", "no URL"),
        ("https://ann:secret@files.example/app.bin", "no place for secrets"),
        ("https://ann@files.example/app.bin", "no place for secrets"),
        ("https://files.example/a b.bin", "write %20"),
        ("https://files.example/a\0.bin", "write %00"),
        ("s3:///app.bin", "s3://BUCKET/KEY"),
        ("s3://firmware", "names no key"),
        ("s3://firmware/", "names no key"),
        ("s3://firmware:9000/app.bin", "s3://BUCKET/KEY"),
        ("s3://../app.bin", "s3://BUCKET/KEY"),
        ("s3://firmware/app.bin?versionId=3", "no query"),
        ("file:///srv/app.bin#1.bin", "no query"),
        ("s3://firmware/../other/app.bin", "without"),
        ("s3://firmware/%2E%2e/other/app.bin", "without"),
        ("file://srv/app.bin", "three slashes"),
        ("file:///srv/../etc/app.bin", "without"),
        ("file:///srv/%2e%2e/etc/app.bin", "without"),
        ("file:///srv/./app.bin", "without"),
        ("file:///srv//app.bin", "without"),
        ("file:///srv/app%00.bin", "without"),
    ],
)
def test_these_can_not_and_say_why(source, words):
    assert words in foreign.problem(source)


@pytest.mark.parametrize(
    ("source", "place"),
    [
        (
            "https://files.example:8443/a%20b.bin?key=1#2",
            Place("https", "files.example:8443", "/a%20b.bin?key=1"),
        ),
        ("https://files.example", Place("https", "files.example", "/")),
        ("s3://firmware/a%20b.bin", Place("s3", "firmware", "/a b.bin")),
        ("file:///srv/a%20b.bin", Place("file", "", "/srv/a b.bin")),
    ],
)
def test_a_url_leads_somewhere(source, place):
    assert foreign.place(source) == place


def test_what_may_be_a_key_is_not_shown():
    assert foreign.shown("https://x/app.bin?X-Amz-Signature=1#2") == "https://x/app.bin"
