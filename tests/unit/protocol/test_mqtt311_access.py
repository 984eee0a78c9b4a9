"""Which topics a device may use (device protocol §3, trap 13)."""

from __future__ import annotations

import pytest

from reconciler.protocol import topics
from reconciler.protocol.mqtt311 import access
from reconciler.protocol.mqtt311.packets import Will
from reconciler.protocol.topics import Address

ME = Address("thermostat", "dev-0001")

OWN = [
    topics.inform(ME),
    topics.progress(ME),
    topics.upgrade(ME),
    topics.firmware_get(ME),
    "/ota/device/request/thermostat/dev-0001",
    "/sys/thermostat/dev-0001/thing/event/property/post",
    "/sys/thermostat/dev-0001",
    "/shadow/update/thermostat/dev-0001",
    "/ext/session/thermostat/dev-0001/combine/login",
    "/thermostat/dev-0001/user/update",
    "/ext/rrpc/1234/thermostat/dev-0001/get",
    "/ext/rrpc/1234/sys/thermostat/dev-0001/thing/service/set",
]
FOREIGN = [
    "/ota/device/inform/thermostat/dev-0002",
    "/ota/device/inform/boiler/dev-0001",
    "/ota/device/inform/dev-0001/thermostat",
    "/sys/boiler/dev-0009/thermostat/dev-0001",
    "/boiler/dev-0009/thermostat/dev-0001",
    "sys/thermostat/dev-0001/x",
    "thermostat/dev-0001",
    "x/thermostat/dev-0001",
    "/sys/thermostat",
    "/",
    "",
    "$SYS/broker",
    "/ext/rrpc/1234/thermostat/dev-0002/get",
    "/ext/rrpc/thermostat/dev-0001",
    "/ext/rrpc",
]


@pytest.mark.parametrize("topic", OWN)
def test_a_device_uses_topics_with_its_own_names(topic: str) -> None:
    assert access.may_publish(ME, topic)
    assert access.may_subscribe(ME, topic)


@pytest.mark.parametrize("topic", FOREIGN)
def test_a_device_uses_no_others(topic: str) -> None:
    assert not access.may_publish(ME, topic)
    assert not access.may_subscribe(ME, topic)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "/sys/thermostat/dev-0001/thing/event/+/post_reply",
        "/sys/thermostat/dev-0001/rrpc/request/+",
        "/sys/thermostat/dev-0001/thing/service/+",
        "/sys/thermostat/dev-0001/#",
        "/ota/device/+/thermostat/dev-0001",
        "/thermostat/dev-0001/#",
        "/ext/rrpc/+/sys/thermostat/dev-0001/thing/service/+",
    ],
)
def test_wildcards_beside_the_own_names_are_granted(topic_filter: str) -> None:
    assert access.may_subscribe(ME, topic_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "#",
        "/#",
        "+",
        "/+/+/#",
        "/sys/+/dev-0001/x",
        "/sys/thermostat/+/x",
        "/sys/thermostat/#",
        "/ota/device/upgrade/+/+",
        "/ota/device/upgrade/thermostat/+",
        "/ota/#/upgrade/thermostat/dev-0001",
        "/+/thermostat/dev-0001",
        "/sys/thermostat/dev-0001/a+",
        "/sys/thermostat/dev-0001/#/a",
        "/sys/thermostat/dev-0001/a#",
        "/sys/thermostat/dev-0001#",
        "/ext/rrpc/+/+/dev-0001/get",
        "/ext/rrpc/#",
    ],
)
def test_wildcards_that_reach_others_or_stand_wrongly_are_refused(topic_filter: str) -> None:
    assert not access.may_subscribe(ME, topic_filter)


def test_all_that_the_node_sdk_subscribes_to_at_connect_is_granted() -> None:
    """Its whole list, in its order."""
    system = (
        "event/property/post_reply", "event/+/post_reply", "deviceinfo/update_reply", "deviceinfo/delete_reply",
        "config/get_reply", "config/push", "config/push_reply", "topo/add_reply", "topo/delete_reply",
        "topo/get_reply", "sub/register_reply",
    )  # fmt: skip
    for suffix in system:
        assert access.may_subscribe(ME, f"/sys/thermostat/dev-0001/thing/{suffix}")
    assert access.may_subscribe(ME, "/shadow/get/thermostat/dev-0001")
    assert access.may_subscribe(ME, "/ext/session/thermostat/dev-0001/combine/login_reply")
    assert access.may_subscribe(ME, "/ext/session/thermostat/dev-0001/combine/logout_reply")
    assert access.may_subscribe(ME, "/sys/thermostat/dev-0001/rrpc/request/+")


def test_a_will_is_a_message_that_the_device_could_have_sent() -> None:
    own = Will(topics.progress(ME), b"")
    assert access.may_leave(ME, None)
    assert access.may_leave(ME, own)
    assert not access.may_leave(ME, own._replace(qos=2))
    assert not access.may_leave(ME, own._replace(retain=True))
    assert not access.may_leave(ME, own._replace(topic="/ota/device/progress/thermostat/dev-0002"))
