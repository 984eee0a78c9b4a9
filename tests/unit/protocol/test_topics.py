"""Which topic means what, and for whom."""

from __future__ import annotations

import pytest

from reconciler.protocol import topics
from reconciler.protocol.topics import Address, Route

DEVICE = Address("a1ThermoKey", "dev-1")


@pytest.mark.parametrize(
    ("topic", "route"),
    [
        ("/ota/device/inform/a1ThermoKey/dev-1", Route.INFORM),
        ("/ota/device/progress/a1ThermoKey/dev-1", Route.PROGRESS),
        ("/ota/device/request/a1ThermoKey/dev-1", Route.REQUEST),
        ("/sys/a1ThermoKey/dev-1/thing/ota/firmware/get", Route.FIRMWARE_GET),
        ("/sys/a1ThermoKey/dev-1/thing/file/download", Route.FILE_DOWNLOAD),
    ],
)
def test_a_topic_says_what_it_is_for_and_whose_it_is(topic, route):
    assert topics.parse(topic) == (route, DEVICE)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "/",
        "ota/device/inform/a1ThermoKey/dev-1",
        "/ota/device/inform/a1ThermoKey",
        "/ota/device/inform/a1ThermoKey/dev-1/more",
        "/ota/device/upgrade/a1ThermoKey/dev-1",
        "/ota/device/inform_reply/a1ThermoKey/dev-1",
        "/sys/a1ThermoKey/dev-1",
        "/sys/a1ThermoKey/dev-1/thing/ota/firmware/get_reply",
        "/sys/a1ThermoKey/dev-1/thing/event/property/post",
        "$SYS/broker/uptime",
    ],
)
def test_other_topics_are_none_of_ours(topic):
    assert topics.parse(topic) is None


def test_what_devices_publish_to_is_what_we_understand():
    uplinks = {
        topics.inform(DEVICE): Route.INFORM,
        topics.progress(DEVICE): Route.PROGRESS,
        topics.firmware_get(DEVICE): Route.FIRMWARE_GET,
    }
    assert {topic: topics.parse(topic) for topic in uplinks} == {
        topic: (route, DEVICE) for topic, route in uplinks.items()
    }


def test_what_we_send_goes_to_topics_of_the_device_alone():
    assert topics.upgrade(DEVICE) == "/ota/device/upgrade/a1ThermoKey/dev-1"
    assert topics.firmware_get_reply(DEVICE) == "/sys/a1ThermoKey/dev-1/thing/ota/firmware/get_reply"
    assert topics.file_download(DEVICE) == "/sys/a1ThermoKey/dev-1/thing/file/download"
    assert topics.file_download_reply(DEVICE) == "/sys/a1ThermoKey/dev-1/thing/file/download_reply"


def test_a_broker_client_hears_every_route_of_a_product():
    heard = {topics.parse(each.replace("+", "dev-1")) for each in topics.uplinks("a1ThermoKey")}
    assert heard == {(route, DEVICE) for route in Route}


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        (DEVICE, True),
        (Address("k", "A_.:@-09"), True),
        (Address("k" * 64, "d" * 64), True),
        (Address("", "dev-1"), False),
        (Address("k" * 65, "dev-1"), False),
        (Address("k", ""), False),
        (Address("k", "d" * 65), False),
        (Address("k", "dev 1"), False),
        (Address("k+", "dev-1"), False),
    ],
)
def test_names_on_the_wire_are_up_to_sixty_four_plain_characters(address, fits):
    assert topics.is_well_formed(address) is fits


def test_logs_name_a_device_by_product_key_and_name():
    assert str(DEVICE) == "a1ThermoKey/dev-1"
