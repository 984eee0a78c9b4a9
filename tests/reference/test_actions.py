"""A recorded run: plain data in, the same state out."""

from __future__ import annotations

import json

from reference import actions

RUN = [
    ["commit", [["device", "p/dev1", {}], ["package", "new", {"version": "2.0.0"}]]],
    ["online", "p/dev1"],
    ["inform", "p/dev1", "default", "1.0.0", "1"],
    ["commit", [["batch", "b", {"package": "new", "retry": [600, 1], "confirm": True}]]],
    ["confirm", "b", "p/dev1"],
    ["suspend", "b"],
    ["get", "p/dev1", "default"],
    ["resume", "b"],
    ["get", "p/dev1", "default"],
    ["progress", "p/dev1", "default", -1, "2"],
    ["commit", [["edit", "b", {"rate": 10}]]],
    ["offline", "p/dev1"],
    ["advance", 60],
    ["restart", 5],
    ["cancel", "b", "p/dev1"],
    ["again", "b", "p/dev1"],
    ["stop", "b"],
    ["commit", [["batch", "b", None], ["device", "p/dev1", None]]],
]


def test_a_run_that_went_through_json_ends_in_the_same_state():
    first, second = actions.Play(), actions.Play()
    answers = [first.step(action) for action in RUN]
    assert [second.step(action) for action in json.loads(json.dumps(RUN))] == answers
    assert first.fleet.snapshot() == second.fleet.snapshot()
    assert (answers[6], answers[8]) == (None, "2.0.0")
    assert first.fleet.snapshot() == {
        "tasks": {("p/dev1", "Batch", "b", 1, "default"): [(1, "CANCELED", None, "cancelled", "1.0.0", 0)]},
        "batches": {("Batch", "b", 1): ("CANCELED", {"CANCELED": 1})},
    }


def test_groups_and_verification_are_plain_data_too():
    play = actions.Play()
    trial = {"version": "2.0.0", "verification": {"devices": ["dev1"], "timeout": 3600}}
    edits = [
        ["device", "p/dev1", {"ring": "beta"}],
        ["package", "new", trial],
        ["group", "beta", {"match_tags": [["ring", "beta"]]}],
        ["batch", "g", {"package": "new", "strategy": "Dynamic", "target": ["group", "beta"]}],
    ]
    assert play.step(["commit", edits]) == {}
    assert play.fleet.verification("new") == "verifying"
    assert play.fleet.members["beta", "p/dev1"].present
