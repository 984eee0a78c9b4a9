"""The push rate: never more in any 60 s, spread over the minute, and nobody starves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.throttle import WINDOW_SECONDS, allowance

RATES = st.integers(10, 10_000)
START = 1_793_534_400


def windows(pushed: dict[int, int]) -> list[int]:
    """Sums over 61 consecutive seconds: more than any 60 s can hold, wherever in its second a push happens."""
    return [sum(pushed.get(first + i, 0) for i in range(61)) for first in sorted(pushed)]


def push(rates: list[int], demands: list[int], start: int = START) -> dict[int, int]:
    """Pushes what is wanted as far as it is allowed, one look a second."""
    pushed: dict[int, int] = {}
    for second, (rate, demand) in enumerate(zip(rates, demands, strict=True), start):
        recent = {at: pushed[at] for at in range(second - 70, second) if at in pushed}
        count = min(demand, allowance(rate, recent, second))
        if count:
            pushed[second] = count
    return pushed


@given(RATES, st.lists(st.integers(0, 2000), min_size=61, max_size=200))
def test_no_demand_gets_more_than_the_rate_into_any_minute(rate, demands):
    pushed = push([rate] * len(demands), demands)
    assert max(windows(pushed), default=0) <= rate


@given(st.lists(st.tuples(RATES, st.integers(1, 90)), min_size=1, max_size=6), st.data())
def test_after_a_change_of_the_rate_the_new_one_holds(changes, data):
    rates = [rate for rate, seconds in changes for _ in range(seconds)]
    demand = data.draw(st.lists(st.integers(0, 2000), min_size=len(rates), max_size=len(rates)))
    pushed = push(rates, demand)
    for index, rate in enumerate(rates):
        second = START + index
        if pushed.get(second):
            assert sum(pushed.get(second - i, 0) for i in range(61)) <= rate


@given(
    st.lists(st.tuples(RATES, st.integers(0, 400), st.integers(0, 2000)), min_size=61, max_size=200),
    st.integers(1, 3),
)
def test_answers_may_exceed_the_rate_and_no_push_goes_out_on_top_of_them(seconds, looks):
    started: dict[int, int] = {}
    for second, (rate, answers, demand) in enumerate(seconds, START):
        started[second] = answers
        for _ in range(looks):
            pushed = min(demand, allowance(rate, started, second))
            started[second] += pushed
            if pushed:
                assert sum(started.get(second - i, 0) for i in range(61)) <= rate
                assert started[second] <= math.ceil(rate / 60)


@given(RATES)
def test_pushes_are_spread_over_the_minute(rate):
    pushed = push([rate] * 120, [10**6] * 120)
    assert max(pushed.values()) <= math.ceil(rate / 60)


@given(RATES, st.integers(0, 300))
def test_whoever_has_enough_to_push_gets_the_whole_rate(rate, offset):
    pushed = push([rate] * 362, [10**6] * 362)
    first = START + offset
    assert sum(pushed.get(first + i, 0) for i in range(61)) == rate


@given(RATES, RATES)
def test_after_a_rate_is_lowered_pushes_go_on_within_a_minute(before, after):
    pushed = push([before] * 61 + [after] * 130, [10**6] * 191)
    assert sum(pushed.get(START + 61 + i, 0) for i in range(62)) > 0
    assert sum(pushed.get(START + 130 + i, 0) for i in range(61)) == after


def test_several_looks_in_one_second_share_it():
    assert allowance(600, {}, START) == 10
    assert allowance(600, {START: 4}, START) == 6
    assert allowance(600, {START: 10}, START) == 0


def test_answers_beyond_the_rate_are_made_up_for():
    assert allowance(60, {START - 5: 75}, START) == 0


def test_what_is_older_than_the_window_counts_no_more():
    assert allowance(10, {START - WINDOW_SECONDS + 1: 10}, START) == 0
    assert allowance(10, {START - WINDOW_SECONDS: 10}, START) == 1


@pytest.mark.parametrize("ahead", [1, 2, WINDOW_SECONDS - 1])
def test_what_was_recorded_a_moment_ahead_of_this_look_counts_too(ahead):
    assert allowance(10, {START + ahead: 10}, START) == 0


def test_a_clock_that_was_far_ahead_does_not_stop_the_pushes():
    assert allowance(10, {START + WINDOW_SECONDS: 10}, START) == 1
