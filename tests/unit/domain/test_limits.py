"""Limits that make no sense are told so, in the words of the settings."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.domain import limits


def test_the_defaults_make_sense():
    assert limits.DEFAULT.problem() == ""


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"push_rate_lowest": 20, "push_rate_highest": 10},
            "push-rate-lowest has to be at most push-rate-highest",
        ),
        ({"packages": 0}, "packages has to be more than 0"),
        ({"device_name_longest": 65}, "device-name-longest has to be at most 64"),
        ({"mqtt_blocks_bytes": 131_071}, "mqtt-blocks-bytes has to be at least 131072, the largest block"),
        (
            {"endpoint_buffer_bytes": 262_143},
            "endpoint-buffer-bytes has to be at least 262144, two of the largest blocks",
        ),
        (
            {"endpoint_keepalive_percent": 99},
            "endpoint-keepalive-percent has to be at least 100, what devices promise",
        ),
    ],
)
def test_what_makes_no_sense_is_named(changes, problem):
    assert dataclasses.replace(limits.DEFAULT, **changes).problem() == problem


def test_the_limits_of_a_context_or_else_the_defaults_are_in_force():
    mine = dataclasses.replace(limits.DEFAULT, packages=3)
    assert limits.of_context({"limits": mine}) is mine
    assert limits.of_context({"limits": 3}) is limits.of_context(None) is limits.DEFAULT
