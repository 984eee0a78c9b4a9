"""What the endpoint allows is the operator's to say."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from reconciler.domain.limits import Limits
from reconciler.transport.endpoint import EndpointLimits


def test_every_limit_of_the_endpoint_is_the_operators():
    doubled = {}
    for field in dataclasses.fields(Limits):
        if field.name.startswith("endpoint_"):
            value = getattr(Limits(), field.name)
            doubled[field.name] = value * 2 if value else 7
    assert doubled["endpoint_idle_time"] == timedelta(hours=1)
    before, after = EndpointLimits.of(Limits()), EndpointLimits.of(Limits(**doubled))
    assert before == EndpointLimits()
    for field in dataclasses.fields(EndpointLimits):
        value = getattr(before, field.name)
        assert getattr(after, field.name) == (value * 2 if value else 7)


@pytest.mark.parametrize(
    ("said", "descriptors", "most"),
    [(0, 1_024, 768), (0, 80_000, 70_000), (0, 256, 128), (20_000, 1_024, 20_000)],
)
def test_as_many_may_connect_as_the_process_may_have_files_open_less_a_reserve(said, descriptors, most):
    assert EndpointLimits(connections=said).most_connections(descriptors) == most
