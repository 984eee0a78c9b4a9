"""How many downloads run at a time, and how fast: all together, and each batch's."""

from __future__ import annotations

import contextlib

import pytest

from reconciler import errors
from reconciler.web.gate import Gate, Limits


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_without_limits_everybody_is_let_in_and_nobody_waits(clock):
    gate = Gate(Limits(), clock)
    with contextlib.ExitStack() as inside:
        passages = [inside.enter_context(gate.enter("a")) for _ in range(2000)]
        assert gate.running == 2000
        assert {passage.delay(1 << 20) for passage in passages} == {0.0}
    assert gate.running == 0


def test_a_batch_has_places_of_its_own_and_all_have_some_together(clock):
    gate = Gate(Limits(at_once=3, batch_at_once=2), clock)
    with gate.enter("a"), gate.enter("a"):
        with pytest.raises(errors.TransientError, match="of batch a"):
            gate.enter("a")
        with gate.enter("b"), pytest.raises(errors.TransientError, match=r"^too many at a time"):
            gate.enter("b")
        with gate.enter("b"):
            pass
    with gate.enter("a"):
        assert gate.running == 1


def test_a_rate_is_shared_by_turns(clock):
    gate = Gate(Limits(rate=1000), clock)
    with gate.enter("a") as first, gate.enter("b") as second:
        assert [first.delay(500), second.delay(500), first.delay(500), second.delay(500)] == [0, 0.5, 1, 1.5]
        clock.now += 10  # nobody wanted anything for long: that is not saved up
        assert [first.delay(500), second.delay(500), first.delay(500)] == [0, 0.5, 1]


def test_a_batch_at_its_rate_leaves_another_alone(clock):
    gate = Gate(Limits(batch_rate=1000), clock)
    with gate.enter("a") as slow, gate.enter("b") as other:
        assert [slow.delay(5000), slow.delay(5000), other.delay(500)] == [0, 5, 0]


def test_who_comes_again_and_again_gets_no_more_than_the_rate(clock):
    gate = Gate(Limits(batch_rate=1000), clock)
    with gate.enter("a") as passage:
        passage.delay(4000)
    with gate.enter("a") as passage:
        assert passage.delay(1) == 4
    clock.now += 60
    with gate.enter("b"), gate.enter("a") as passage:
        assert passage.delay(1) == 0


@pytest.mark.parametrize(
    ("running", "rate", "piece"),
    [
        (1, 0, 8 << 20),
        (64, 0, 1 << 20),
        (10_000, 0, 64 << 10),
        (1, 1_000_000, 1_000_000),
        (10, 1_000_000, 100_000),
        (1000, 1_000_000, 4096),
    ],
)
def test_pieces_are_large_for_few_and_small_for_many_and_under_a_rate_about_a_second_long(
    clock, running, rate, piece
):
    gate = Gate(Limits(rate=rate), clock)
    with contextlib.ExitStack() as inside:
        passages = [inside.enter_context(gate.enter("a")) for _ in range(running)]
        assert passages[0].piece == piece
