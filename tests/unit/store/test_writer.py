"""The thread that writes: who goes first, who waits, and what becomes of what was cancelled."""

from __future__ import annotations

import threading

import pytest

from reconciler.store.writer import Writer

SECONDS = 10


class Busy:
    """A writer in the middle of something, which takes until it is let go."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.done: list[str] = []
        self._begun, self._free = threading.Event(), threading.Event()
        self.first = self.writer.submit(self._work)
        assert self._begun.wait(SECONDS)

    def _work(self) -> None:
        self._begun.set()
        assert self._free.wait(SECONDS)

    def give(self, name, *, first=False):
        return self.writer.submit(lambda: self.done.append(name), first=first)

    def let_go(self):
        self._free.set()


@pytest.fixture
def busy():
    made = Busy()
    yield made
    made.let_go()
    made.writer.close()


def test_what_waits_is_done_in_its_order(busy):
    given = [busy.give(name) for name in "abc"]
    busy.let_go()
    given[-1].result(SECONDS)
    assert busy.done == ["a", "b", "c"]


def test_what_is_urgent_goes_before_what_waits_and_in_its_own_order(busy):
    last = busy.give("a")
    busy.give("urgent 1", first=True)
    last = busy.give("b")
    busy.give("urgent 2", first=True)
    assert busy.done == []  # what is being done is not interrupted
    busy.let_go()
    last.result(SECONDS)
    assert busy.done == ["urgent 1", "urgent 2", "a", "b"]


def test_who_closes_waits_for_everything_that_waits(busy):
    given = [busy.give("a"), busy.give("urgent", first=True)]
    closing = threading.Thread(target=busy.writer.close)
    closing.start()
    given.append(busy.give("urgent, but too late to be before the end", first=True))
    assert closing.is_alive()
    busy.let_go()
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert all(future.done() for future in given)
    assert busy.done[-1] == "a"


def test_what_is_cancelled_before_it_begins_is_not_done(busy):
    spared, other = busy.give("spared"), busy.give("other")
    assert spared.cancel()
    busy.let_go()
    other.result(SECONDS)
    assert busy.done == ["other"]


def test_what_has_begun_cannot_be_cancelled(busy):
    assert not busy.first.cancel()
    busy.let_go()
    assert busy.first.result(SECONDS) is None


def test_who_asked_gets_what_comes_of_it_and_a_failure_stops_nobody(busy):
    failing, answering = busy.writer.submit(lambda: 1 // 0), busy.writer.submit(lambda: 7)
    busy.let_go()
    with pytest.raises(ZeroDivisionError):
        failing.result(SECONDS)
    assert answering.result(SECONDS) == 7
