"""Cold start of `reconciler validate` on ten manifests, against `python -c pass`, in pairs.

python bench/validate.py
python bench/validate.py --pairs 50
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from deployment import environment

HERE = pathlib.Path(sys.executable).parent


def write(folder: pathlib.Path) -> None:
    """A product, an inventory of a thousand devices, four packages with their files, four batches."""

    def manifest(kind: str, name: str, spec: dict[str, object]) -> None:
        text = f"apiVersion: ota/v1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n"
        lines = "".join(f"  {field}: {json.dumps(value)}\n" for field, value in spec.items())
        (folder / f"{kind.lower()}-{name}.yaml").write_text(text + lines)

    manifest("Product", "thermostat", {"productKey": "a1ThermoKey"})
    names = [f"thermo-{number:04}" for number in range(1000)]
    (folder / "devices.csv").write_text("\n".join(["name", *names, ""]))
    inventory = {"product": "thermostat", "devicesFrom": {"file": "devices.csv"}}
    manifest("DeviceInventory", "thermostats", inventory)
    for minor in range(4, 8):
        version = f"1.{minor}.0"
        image = hashlib.shake_128(version.encode()).digest(65536)
        (folder / f"{version}.bin").write_bytes(image)
        file = {"name": "image.bin", "source": f"{version}.bin", "sha256": hashlib.sha256(image).hexdigest()}
        package = {"product": "thermostat", "version": version, "files": [file]}
        manifest("Package", f"thermostat-{version}", package)
        manifest("Batch", f"to-{version}", {"package": f"thermostat-{version}", "target": {"all": {}}})


def seconds(*command: str) -> float:
    """How long a process takes, from start to end."""
    began = time.perf_counter()
    subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Pairs, one after the other, so that both see the same machine; the median of each, and of the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=21)
    pairs = parser.parse_args().pairs
    program = shutil.which("reconciler", path=str(HERE)) or sys.exit("install the project first")
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder))
        validate, nothing = (program, "validate", folder), (sys.executable, "-c", "pass")
        seconds(*validate)  # compiles what is not compiled yet
        measured = [(seconds(*validate), seconds(*nothing)) for _ in range(pairs)]
    ours = statistics.median(pair[0] for pair in measured)
    bare = statistics.median(pair[1] for pair in measured)
    ratio = statistics.median(one / other for one, other in measured)
    print(f"cold start, median of {pairs} pairs; {os.cpu_count()} cores\n")
    print(f"reconciler validate, ten manifests   {1000 * ours:4.0f} ms")
    print(f"python -c pass                       {1000 * bare:4.0f} ms")
    print(f"ratio                                {ratio:6.1f}")


if __name__ == "__main__":
    main()
