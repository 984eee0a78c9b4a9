"""The ways to download a file: what Auto means, and what is refused."""

from __future__ import annotations

import itertools

import pytest

from reconciler.domain import downloads, limits
from reconciler.domain.downloads import Ways
from reconciler.domain.resources import Download, Protocol

MOST = limits.DEFAULT.mqtt_file_bytes


@pytest.mark.parametrize(("https", "http"), [(True, True), (True, False)])
def test_auto_is_https_where_there_is_https(https, http):
    assert downloads.resolve(Download.AUTO, Ways(https=https, http=http)) is Download.HTTPS


def test_auto_is_http_where_there_is_no_https():
    assert downloads.resolve(Download.AUTO, Ways()) is Download.HTTP


@pytest.mark.parametrize("wanted", [Download.HTTPS, Download.HTTP, Download.MQTT])
@pytest.mark.parametrize(("https", "http"), [*itertools.product([True, False], repeat=2)])
def test_what_is_said_is_meant(wanted, https, http):
    assert downloads.resolve(wanted, Ways(https=https, http=http)) is wanted


def test_a_way_that_is_not_configured_is_refused_with_the_remedy():
    assert downloads.unconfigured(Download.HTTPS, Ways(https=False, http=True)) == (
        "asks for downloads over HTTPS, and devices reach this server over HTTP only: give --public-url an https:// "
        "URL too, after a comma"
    )
    assert "over HTTPS only: give --public-url an http://" in downloads.unconfigured(
        Download.HTTP, Ways(https=True, http=False)
    )


@pytest.mark.parametrize("wanted", [Download.AUTO, Download.MQTT])
@pytest.mark.parametrize(("https", "http"), [(True, False), (False, True)])
def test_auto_and_mqtt_are_possible_everywhere(wanted, https, http):
    assert downloads.unconfigured(wanted, Ways(https=https, http=http)) == ""


def test_both_are_possible_where_both_are_configured():
    both = Ways(https=True, http=True)
    assert [downloads.unconfigured(wanted, both) for wanted in Download] == [""] * 4


@pytest.mark.parametrize(
    ("sizes", "fits"), [([MOST - 1], True), ([MOST], True), ([MOST + 1], False), ([1, 1], False), ([], True)]
)
def test_mqtt_is_for_one_file_of_at_most_16_mb(sizes, fits):
    assert (downloads.unfit(Download.MQTT, sizes, MOST) == "") is fits


@pytest.mark.parametrize("wanted", [Download.AUTO, Download.HTTPS, Download.HTTP])
def test_http_takes_files_of_any_number_and_size(wanted):
    assert downloads.unfit(wanted, [MOST + 1, MOST * 100], MOST) == ""


def test_what_does_not_fit_is_said_in_numbers():
    assert downloads.unfit(Download.MQTT, [16_000_001], 16_000_000) == (
        "a download over MQTT has at most 16,000,000 bytes, and the package's file has 16,000,001"
    )
    assert downloads.unfit(Download.MQTT, [1, 2, 3], MOST) == (
        "a download over MQTT is of one file, and the package has 3"
    )


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("wanted", Download)
def test_only_sagoo_devices_read_no_streams(wanted, protocol):
    refused = (wanted, protocol) == (Download.MQTT, Protocol.SAGOO)
    assert ("not over MQTT" in downloads.unspoken(wanted, protocol)) is refused
