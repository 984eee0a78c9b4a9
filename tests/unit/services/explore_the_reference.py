"""Looks for differences between engine and model for as long as one likes, and reduces what it finds.

    python tests/unit/services/explore_the_reference.py --seconds 600 --only retries --only groups

Each difference is printed with the shortest run that still shows it, as JSON for `tests/reference/recorded.json`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from side_by_side import SideBySide  # noqa: E402 - found by the path above
from vocabulary import VOCABULARIES, Author  # noqa: E402 - as above

from reconciler.store.database import Database  # noqa: E402 - as above


def replay(empty, actions):
    """What goes wrong in a run, or None; and how many actions of it were done."""
    both, count = SideBySide(empty), 0
    try:
        for count, action in enumerate(actions, 1):  # noqa: B007 - counted also when it fails
            both.do(action)
    except Exception as error:  # noqa: BLE001 - a crash of either side is a finding too
        return error, count
    finally:
        both.close()
    return None, count


def write(empty, name, seed, steps):
    """A random run; its actions, and what went wrong."""
    random_ = random.Random(f"{name}-{seed}")
    both = SideBySide(empty)
    author = Author(VOCABULARIES[name], both.play, lambda options: random_.choice(list(options)))
    try:
        for action in author.opening():
            both.do(action)
        for _ in range(steps):
            both.do(author.next())
    except Exception as error:  # noqa: BLE001 - as above
        return both.done, error
    finally:
        both.close()
    return both.done, None


def kind_of(error):
    """What makes two findings the same one, roughly."""
    return type(error).__name__, re.sub(r"\b[bp]?[/-]?\d+\b", "N", str(error))[:300]


def reduced(empty, actions, error):
    """The run without whatever can be left out."""
    wanted, size = kind_of(error), max(1, len(actions) // 2)
    while size:
        place = 1  # what there is at all stays
        while place < len(actions):
            shorter = actions[:place] + actions[place + size :]
            found, count = replay(empty, shorter)
            if found is not None and kind_of(found) == wanted:
                actions, error = shorter[:count], found
            else:
                place += size
        size //= 2
    return actions, error


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", action="append", choices=sorted(VOCABULARIES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--stop", type=int, default=1, help="after so many differences")
    asked = parser.parse_args()
    empty = Path(tempfile.mkdtemp()) / "state.db"
    Database.open(f"sqlite:///{empty}", upgrade=True).close()
    until, seed, found, done = time.monotonic() + asked.seconds, asked.seed, 0, 0
    while time.monotonic() < until and found < asked.stop:
        for name in asked.only or VOCABULARIES:
            actions, error = write(empty, name, seed, asked.steps)
            done += len(actions)
            if error is not None:
                found += 1
                actions, error = reduced(empty, actions, error)
                say(f"\n{name} {seed}: {type(error).__name__}: {error}")
                say("[\n" + ",\n".join(json.dumps(action) for action in actions) + "\n]")
        seed += 1
    say(f"{done} actions, seeds {asked.seed} to {seed - 1}, {found} differences")


if __name__ == "__main__":
    main()
