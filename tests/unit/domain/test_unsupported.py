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
        (Kind.PACKAGE, {"verification": {}}),
        (Kind.BATCH, {"strategy": "Dynamic"}),
        (Kind.BATCH, {"target": {"gray": {}}}),
        (Kind.BATCH, {"target": {"group": "g"}}),
        (Kind.BATCH, {"schedule": {}}),
        (Kind.BATCH, {"retry": {}}),
        (Kind.BATCH, {"noResponseTimeout": "1h"}),
        (Kind.BATCH, {"conflict": "Wait"}),
        (Kind.BATCH, {"conflict": "Overwrite"}),
        (Kind.BATCH, {"confirm": True}),
        (Kind.BATCH, {"newReportsOnly": True}),
        (Kind.BATCH, {"multiModule": True}),
        (Kind.BATCH, {"suspend": True}),
        (Kind.DEVICE_GROUP, {}),
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
        (
            Kind.BATCH,
            {"conflict": "Keep", "confirm": False, "download": "HTTP", "suspend": False, "state": "Canceled"},
        ),
        (Kind.BATCH, {"target": {"devicesFrom": {"file": "x", "skipUnknown": True}}, "conflict": ["Wait"]}),
        (Kind.DEVICE_INVENTORY, {"devices": []}),
    ],
)
def test_what_the_engine_can_do_is_left_alone(kind, spec):
    assert asked(kind, **spec) == []


@pytest.mark.parametrize("data", [None, [], {}, {"spec": None}, {"spec": {"target": []}}])
def test_any_data_can_be_asked_about(data):
    assert list(unsupported.find(Kind.BATCH, data)) == []
