"""What an operator's order says: read whole, or refused."""

from __future__ import annotations

import pytest

from reconciler import errors
from reconciler.domain import requests
from reconciler.domain.resources import Kind


@pytest.mark.parametrize(
    ("order", "arguments", "means"),
    [
        ("cancel", {"batch": "b"}, requests.Cancel(batch="b")),
        ("cancel", {"package": "p"}, requests.Cancel(package="p")),
        ("cancel", {"batch": "b", "device": "d"}, requests.Cancel(batch="b", device="d")),
        ("retry", {"batch": "b", "device": "d"}, requests.Retry(batch="b", device="d")),
        ("suspend", {"batch": "b"}, requests.Suspend(batch="b")),
        ("resume", {"package": "p"}, requests.Resume(package="p")),
        ("confirm", {"batch": "b", "tasks": True}, requests.ConfirmTasks(batch="b", tasks=True)),
        (
            "confirm",
            {"batch": "b", "tasks": True, "confirmed": 4, "after": 9},
            requests.ConfirmTasks(batch="b", tasks=True, confirmed=4, after=9),
        ),
        ("confirm", {"batch": "b", "devices": ["d"]}, requests.ConfirmDevices(batch="b", devices=("d",))),
        ("confirm", {"cancels": 0, "revision": "a"}, requests.ConfirmCancels(cancels=0, revision="a")),
        ("confirm", {"batches": None}, requests.ConfirmHeld(batches=None)),
        ("confirm", {"batches": ["b", "c"]}, requests.ConfirmHeld(batches=("b", "c"))),
    ],
)
def test_an_order_says_what_the_program_wrote_that_sent_it(order, arguments, means):
    assert requests.read(order, arguments) == means


@pytest.mark.parametrize(
    ("order", "arguments"),
    [
        ("cancel", {}),
        ("cancel", {"batch": "b", "package": "p"}),
        ("cancel", {"batch": ""}),
        ("cancel", {"batch": 7}),
        ("cancel", {"batch": ["b"]}),
        ("cancel", {"batch": "b", "device": 7}),
        ("cancel", {"batch": "b", "gently": True}),
        ("retry", {"batch": "b"}),
        ("suspend", {"device": "d"}),
        ("confirm", {}),
        ("confirm", {"batch": "b"}),
        ("confirm", {"tasks": True}),
        ("confirm", {"batch": "b", "tasks": False}),
        ("confirm", {"batch": "b", "tasks": True, "after": "the first"}),
        ("confirm", {"batch": "b", "devices": []}),
        ("confirm", {"batch": "b", "devices": "dev-1"}),
        ("confirm", {"cancels": 3}),
        ("confirm", {"batches": "b"}),
    ],
)
def test_what_nobody_here_understands_is_refused_as_of_another_version(order, arguments):
    with pytest.raises(errors.UserError, match=f"does not understand the arguments of {order}"):
        requests.read(order, arguments)


def test_an_order_that_this_program_does_not_know_is_refused():
    with pytest.raises(errors.UserError, match="knows no command dance"):
        requests.read("dance", {"batch": "b"})


@pytest.mark.parametrize(
    ("request_", "kind", "name"),
    [
        (requests.Suspend(batch="b"), Kind.BATCH, "b"),
        (requests.Suspend(package="p"), Kind.PACKAGE, "p"),
        (requests.ConfirmHeld(batches=("b",)), Kind.BATCH, None),
    ],
)
def test_an_order_is_about_a_batch_or_a_verification_or_several(request_, kind, name):
    assert (request_.kind, request_.name) == (kind, name)
