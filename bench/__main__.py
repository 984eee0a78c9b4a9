"""Every measurement, one table each: `python -m bench`, or `make bench`. Takes a few minutes."""

from __future__ import annotations

import pathlib
import subprocess
import sys

SCRIPTS = ("validate", "fleet", "endpoint")

for script in SCRIPTS:
    print(f"== bench/{script}.py\n", flush=True)
    ended = subprocess.run([sys.executable, pathlib.Path(__file__).with_name(f"{script}.py")], check=False)
    if ended.returncode:
        sys.exit(f"bench/{script}.py failed")
    print(flush=True)
