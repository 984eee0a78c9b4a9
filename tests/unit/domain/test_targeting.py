"""Which devices a batch is for, by the version that they report."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.targeting import (
    MODULUS,
    Conditions,
    LeftOut,
    gray_count,
    gray_key,
    gray_parameters,
    hash31,
    is_downgrade,
    judge,
    selects,
    thousandths,
)

TARGET = "1.4.0"


def conditions(**changes):
    return Conditions(**{"module": "default", "target_version": TARGET, **changes})


@pytest.mark.parametrize("version", ["1.3.0", "1.3.1", "beta", "1.4.0-rc1"])
def test_without_source_versions_a_device_on_any_lower_or_other_version_fits(version):
    assert judge(conditions(), version) is None


def test_without_source_versions_a_device_that_never_reported_fits():
    assert judge(conditions(), None) is None


@pytest.mark.parametrize(
    ("version", "verdict"), [("1.3.0", None), ("1.2.0", LeftOut.SOURCE), (None, LeftOut.SOURCE)]
)
def test_with_source_versions_a_device_must_report_one_of_them(version, verdict):
    assert judge(conditions(source_versions=("1.3.0", "1.3.1")), version) is verdict


@pytest.mark.parametrize("sources", [(), ("1.3.0",)])
@pytest.mark.parametrize("allow", [False, True])
def test_a_device_on_the_target_version_is_left_out(sources, allow):
    asked = conditions(source_versions=sources, allow_downgrade=allow)
    assert judge(asked, TARGET) is LeftOut.ALREADY


@pytest.mark.parametrize("version", ["1.4.1", "1.10.0", "2", "1.4.0.1"])
def test_a_higher_dotted_version_is_left_out_unless_downgrades_are_allowed(version):
    assert judge(conditions(), version) is LeftOut.DOWNGRADE
    assert judge(conditions(allow_downgrade=True), version) is None


@pytest.mark.parametrize("version", ["beta", "v2.0", "2.0-rc", "2..0", "2.", ".2", "二"])
def test_a_version_that_is_no_dotted_number_is_never_a_downgrade(version):
    assert not is_downgrade(version, TARGET)
    assert not is_downgrade("9.9", version)


@pytest.mark.parametrize(
    ("version", "target", "lower"),
    [
        ("1.2", "1.2.0", False),
        ("1.2.0", "1.2", False),
        ("1.2.0.1", "1.2", True),
        ("010", "9", True),
        ("0.0", "0", False),
    ],
)
def test_numbers_are_compared_as_numbers_and_trailing_zeros_do_not_count(version, target, lower):
    assert is_downgrade(version, target) is lower


DOTTED = st.lists(st.integers(0, 99), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))


@given(DOTTED, DOTTED)
def test_of_two_dotted_versions_at_most_one_way_is_down(one, other):
    assert not (is_downgrade(one, other) and is_downgrade(other, one))
    assert not is_downgrade(one, one)


# --- shares ---


def test_a_devices_place_on_the_ring_is_known_and_never_moves():
    digest = hashlib.sha256(b"pk/dn").digest()
    assert hash31("pk", "dn") == int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
    assert hash31("pk", "dn") != hash31("pk", "dn2")


def test_each_batch_orders_devices_in_its_own_way_and_always_in_the_same():
    names = [f"dev-{number}" for number in range(200)]

    def order(batch):
        a, b = gray_parameters(batch)
        assert 0 < a < MODULUS > b >= 0
        return sorted(names, key=lambda name: gray_key(hash31("pk", name), a, b))

    assert order("eu") == order("eu")
    assert order("eu") != order("us")


@pytest.mark.parametrize(
    ("base", "thousandths", "count"),
    [
        (0, 50_000, 0),
        (1, 1, 1),
        (100, 29_000, 29),
        (3, 50_000, 1),
        (1999, 100, 1),
        (2000, 100, 2),
        (7, 100_000, 7),
    ],
)
def test_a_share_is_rounded_down_but_is_at_least_one(base, thousandths, count):
    assert gray_count(base, thousandths) == count


# --- groups ---


@pytest.mark.parametrize(
    ("selector", "member"),
    [
        ({"product": "lamp", "matchTags": {"region": "eu"}}, True),
        ({"product": "fan", "matchTags": {"region": "eu"}}, False),
        ({"matchTags": {"region": "us"}}, False),
        ({"module": {"name": "mcu", "version": "2"}}, True),
        ({"module": {"name": "mcu", "version": "3"}}, False),
        ({"matchExpressions": [{"key": "region", "operator": "In", "values": ["eu", "us"]}]}, True),
        ({"matchExpressions": [{"key": "floor", "operator": "In", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "region", "operator": "NotIn", "values": ["eu"]}]}, False),
        ({"matchExpressions": [{"key": "floor", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "region", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "floor", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "floor", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "region", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_a_device_is_a_member_when_every_condition_holds(selector, member):
    assert selects(selector, "lamp", {"region": "eu"}, {"mcu": "2"}) is member


@pytest.mark.parametrize(("percent", "exact"), [(0.001, 1), (0.29, 290), (28.999, 28_999), (100, 100_000)])
def test_a_share_is_counted_in_whole_thousandths(percent, exact):
    assert thousandths(percent) == exact
