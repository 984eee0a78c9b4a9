"""Manifests of packages whose files are somewhere else; nothing is fetched to check them."""

from __future__ import annotations

import pathlib

import pytest

from reconciler.domain.desired import ForeignFile, Key
from reconciler.domain.diagnostics import Code
from reconciler.domain.limits import DEFAULT, Limits
from reconciler.domain.resources import Kind
from reconciler.source import validate
from reconciler.source.tree import FolderTree

EMPTY = pathlib.Path(__file__).parent / "none"
DIGEST = "AB" * 32
FLEET = """apiVersion: ota/v1
kind: Product
metadata: {name: lamp}
spec: {}
---
apiVersion: ota/v1
kind: Package
metadata: {name: fw}
spec:
  product: lamp
  version: "1.4.0"
  files:
    - name: fw.bin
      source: SOURCE
---
apiVersion: ota/v1
kind: Batch
metadata: {name: eu}
spec:
  package: fw
  target: {all: {}}
"""


def check(source="https://files.example/fw.bin", more=f"sha256: {DIGEST}", batch="", limits=DEFAULT):
    file = f"{source}\n      {more}" if more else source
    text = FLEET.replace("SOURCE", file).rstrip() + f"\n  {batch}\n"
    return validate.check(FolderTree(EMPTY, texts={"all.yaml": text.encode()}), limits)


@pytest.mark.parametrize(
    "source", ["https://files.example/fw.bin", "s3://firmware/fw.bin", "file:///srv/fw.bin"]
)
def test_a_file_from_outside_is_declared_with_its_digest(source):
    checked = check(source, f"sha256: {DIGEST}\n      size: 1000")
    assert checked.diagnostics == ()
    declared = checked.desired.declarations[Key(Kind.PACKAGE, "fw")]
    assert declared.files == (ForeignFile(source, 1000, DIGEST.lower()),)


def test_where_it_is_may_change_what_it_is_may_not():
    digests = {
        check(source).desired.declarations[Key(Kind.PACKAGE, "fw")].digest
        for source in ("s3://ab/fw.bin", "s3://ba/fw.bin")
    }
    assert len(digests) == 1


def test_its_digest_is_required():
    (found,) = check(more="").diagnostics
    assert (found.code, found.help) == (Code.REQUIRED, "add `sha256:` with what `sha256sum` prints")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https://ann:secret@files.example/fw.bin", "no place for secrets"),
        ("file:///srv/../etc/fw.bin", "without"),
        ("s3://firmware:80/fw.bin", "s3://BUCKET/KEY"),
        ("http://files.example/fw.bin", "files cannot come from `http://`"),
    ],
)
def test_a_source_that_makes_no_sense_is_told_before_anything_is_fetched(source, words):
    (found,) = check(source).diagnostics
    assert found.code is Code.MALFORMED
    assert words in found.message


def test_a_download_over_mqtt_needs_the_size_of_its_file():
    limits = Limits(mqtt_file_bytes=1000)
    (found,) = check(batch="download: MQTT", limits=limits).diagnostics
    assert (found.code, found.help) == (Code.COMBINATION, "add its `size` to the package")
    sized = f"sha256: {DIGEST}\n      size: "
    assert check(more=f"{sized}1000", batch="download: MQTT", limits=limits).diagnostics == ()
    (found,) = check(more=f"{sized}1001", batch="download: MQTT", limits=limits).diagnostics
    assert "at most 1,000 bytes" in found.message
