"""Every measurement, one table each: `python -m bench`, or `make bench`; some: `python -m bench moves latency`.

Takes several minutes; with `--quick` seconds, which shows that everything works, and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

from bench.processes import FOLDER

QUICK = {
    "validate": ("--quick",),
    "fleet": ("--devices", "20"),
    "endpoint": ("--connections", "10", "--messages", "500", "--rounds", "1"),
    "planning": ("--quick",),
    "creation": ("--quick",),
    "moves": ("--quick",),
    "latency": ("--quick",),
    "ingest": ("--quick",),
    "downloads": ("--quick",),
}
"""The scripts, in order, and how each is told to be quick."""


def main() -> None:
    """Runs the scripts, which share a folder: a fleet of a million is seeded once."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: no figures")
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"some of: {', '.join(QUICK)}")
    given = parser.parse_args()
    unknown = [script for script in given.scripts if script not in QUICK]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(QUICK)}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for script in given.scripts or QUICK:
            print(f"== bench/{script}.py\n", flush=True)
            command = [sys.executable, str(pathlib.Path(__file__).with_name(f"{script}.py"))]
            command += QUICK[script] if given.quick else ()
            ended = subprocess.run(command, check=False, env={**os.environ, FOLDER: folder})
            if ended.returncode:
                sys.exit(f"bench/{script}.py failed")
            print(flush=True)


if __name__ == "__main__":
    main()
