"""`python -m tests.simulation --seed 7 --devices 500 --days 4`: any seed, any size, and a table of what happened."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from .report import simulate
from .world import Size


def main() -> None:
    """Simulates, and prints."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=usual.devices)
    parser.add_argument(
        "--days", type=float, default=usual.days, help="at least 2: the last day and a half is calm"
    )
    parser.add_argument(
        "--busy", type=int, default=usual.busy, help="seconds between pulses after something was merged"
    )
    parser.add_argument(
        "--quiet", type=int, default=usual.quiet, help="seconds between pulses at other times"
    )
    parser.add_argument(
        "--crash", type=float, default=usual.odds.crash, help="odds of a death at each transaction"
    )
    asked = parser.parse_args()
    if asked.days < 2:
        parser.error("--days: at least 2, as the last day and a half is calm")
    odds = dataclasses.replace(usual.odds, crash=asked.crash)
    size = Size(devices=asked.devices, days=asked.days, busy=asked.busy, quiet=asked.quiet, odds=odds)
    sys.stdout.writelines(f"{line}\n" for line in simulate(asked.seed, size).lines())


if __name__ == "__main__":
    main()
