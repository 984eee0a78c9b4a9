"""The engine against the reference model (tests/reference), step by step, over arbitrary histories.

A history is thought of by `vocabulary`, from few words each: that finds more than one of everything. The variable
RECONCILER_REFERENCE multiplies how many are tried; `explore_the_reference.py` looks for as long as one likes, and
reduces what it finds. Every history that ever failed because of a bug is kept in tests/reference/recorded.json, under a
sentence.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from reference import model
from side_by_side import SideBySide
from vocabulary import VOCABULARIES, Author

TIMES = int(os.environ.get("RECONCILER_REFERENCE", "1"))
RECORDED = Path(model.__file__).parent / "recorded.json"


class Histories(RuleBasedStateMachine):
    """One history after the other, each from an empty database on."""

    empty: ClassVar[Path]
    words: ClassVar[str]

    @initialize(data=st.data())
    def begin(self, data):
        self.both = SideBySide(self.empty)
        self.author = Author(VOCABULARIES[self.words], self.both.play, self._chooser(data))
        for action in self.author.opening():
            self.both.do(action)

    @rule(data=st.data())
    def go_on(self, data):
        self.author.choose = self._chooser(data)
        self.both.do(self.author.next())

    def teardown(self):
        if hasattr(self, "both"):
            note(json.dumps(self.both.done))
            self.both.close()

    def _chooser(self, data):
        return lambda options: data.draw(st.sampled_from(list(options)))


@pytest.mark.timeout(600 * TIMES)
@pytest.mark.parametrize("words", VOCABULARIES)
def test_the_engine_does_what_the_reference_does(empty_database, words):
    Histories.empty, Histories.words = empty_database, words
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=3 * TIMES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def recorded():
    """The histories that once failed, by what was wrong."""
    return json.loads(RECORDED.read_text())


@pytest.mark.parametrize("sentence", recorded())
def test_what_once_went_wrong_does_not_any_more(empty_database, sentence):
    both = SideBySide(empty_database)
    try:
        for action in recorded()[sentence]:
            both.do(action)
    finally:
        both.close()
