from __future__ import annotations

import pytest

from reconciler.domain import unsupported
from reconciler.domain.resources import Kind


def asked(kind: Kind, **spec):
    return [what for _, what in unsupported.find(kind, {"spec": spec})]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (Kind.PRODUCT, {"protocol": "Sagoo"}),
        (Kind.PRODUCT, {"signing": {}}),
        (Kind.PACKAGE, {"files": [{}, {}]}),
        (Kind.PACKAGE, {"files": [{"source": "https://x/y.bin"}]}),
    ],
)
def test_what_the_engine_cannot_do_is_found(kind, spec):
    assert len(asked(kind, **spec)) == 1


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (
            Kind.PRODUCT,
            {"protocol": "Aliyun", "modules": [], "versionFormat": "Numeric", "registration": "Auto"},
        ),
        (
            Kind.PACKAGE,
            {"type": "Full", "files": [{"source": "a.bin"}], "signMethod": "MD5", "customInfo": "x"},
        ),
        (Kind.PACKAGE, {"files": "nonsense"}),
        (Kind.PACKAGE, {"files": ["x"]}),
        (Kind.PACKAGE, {"files": [{"source": 1}]}),
        (Kind.PACKAGE, {"verification": {"devices": ["dev-1"]}, "type": "Delta"}),
        (Kind.BATCH, {"strategy": "Dynamic", "target": {"group": "g"}, "newReportsOnly": True}),
        (Kind.BATCH, {"target": {"gray": {"percent": 5}}, "schedule": {}, "retry": {}, "download": "MQTT"}),
        (Kind.BATCH, {"conflict": "Wait", "confirm": True, "suspend": True, "multiModule": True}),
        (Kind.DEVICE_GROUP, {"selector": {}}),
        (Kind.DEVICE_INVENTORY, {"devices": []}),
    ],
)
def test_what_the_engine_can_do_is_left_alone(kind, spec):
    assert asked(kind, **spec) == []


@pytest.mark.parametrize("data", [None, [], {}, {"spec": None}, {"spec": {"target": []}}])
def test_any_data_can_be_asked_about(data):
    assert list(unsupported.find(Kind.BATCH, data)) == []
