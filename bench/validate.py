"""How long `reconciler validate` takes: from a cold start, on a whole fleet, and after one file has changed.

    python bench/validate.py
    python bench/validate.py --pairs 50

Cold start: ten manifests, against `python -c pass`, in pairs, one after the other, so that both see the same machine.
A fleet: 10,000 manifests of 40 lines each, in 10,000 files, against check-jsonschema with our schema on the same files
(which says nothing of what manifests mean together), and against the least that there is to do: ruamel's C composer
over each file, and the models over what it says, without a walk from one to the other, in a process that has everything
imported already.
With the cache: what a daemon does with a commit, and with the next one, which changes one file.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import processes
import seeding
from deployment import environment
from figures import Figure, median, show
from ruamel.yaml.cyaml import CSafeLoader

from reconciler.domain import limits, resources
from reconciler.services import reconcile
from reconciler.source import loader, validate
from reconciler.source.repository import Repository
from reconciler.source.scratch import ScratchRepository

HERE = pathlib.Path(sys.executable).parent
ALL = pathlib.Path(__file__).parent.parent / "schemas" / "v1" / "all.schema.json"
LINES = 40
FASTER, OVER_BARE, CACHED = 1 / 5, 1.5, 0.1


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


def write_fleet(folder: pathlib.Path, count: int) -> None:
    """As many manifests of 40 lines: products, packages, groups, and as many inventories as batches."""
    shares = {"Product": 0.002, "Package": 0.04, "DeviceGroup": 0.05, "DeviceInventory": 0.45}
    numbers = {kind: max(1, int(count * share)) for kind, share in shares.items()}
    numbers["Batch"] = count - sum(numbers.values())
    (folder / "app.bin").write_bytes(b"firmware")
    for kind, number in numbers.items():
        for index in range(number):
            _write_one(folder, kind, index, numbers)


def _write_one(folder: pathlib.Path, kind: str, index: int, numbers: dict[str, int]) -> None:
    product, package = index % numbers["Product"], index % numbers["Package"]
    bodies = {
        "Product": f"  productKey: key{index}\n  versionFormat: Numeric\n",
        "Package": f"  product: product-{product}\n  version: 2.{index}.0\n  description: Fixes the night\n"
        "  files:\n    - name: app.bin\n      source: app.bin\n      size: 8\n",
        "DeviceGroup": f"  title: Testers {index}\n  product: product-{product}\n  selector:\n    matchTags:\n",
        "DeviceInventory": f"  product: product-{product}\n  devices:\n",
        "Batch": f"  package: package-{package}\n  pushRatePerMinute: 500\n  retry: {{interval: 10m, limit: 2}}\n"
        "  timeout: 60m\n  noResponseTimeout: 24h\n  conflict: Wait\n  confirm: true\n"
        "  tags: {site: berlin}\n  state: Active\n  onCancel: [Scheduled, Queued]\n  target:\n    devices:\n",
    }
    fill = {
        "Product": "    part-{}: about it",
        "Package": "    part-{}: about it",
        "DeviceGroup": '      tag-{}: "yes"',
        "DeviceInventory": f'    - {{name: device-{index}-{{}}, tags: {{region: eu, floor: "1"}}}}',
        "Batch": f"      - device-{index}-{{}}",
    }
    named = f"apiVersion: ota/v1\nkind: {kind}\nmetadata:\n  name: {_name(kind)}-{index}\n"
    annotated, spec = kind in {"Product", "Package"}, f"spec:\n{bodies[kind]}"
    missing = LINES - len((named + spec).splitlines()) - annotated
    filling = "".join(fill[kind].replace("{}", str(line)) + "\n" for line in range(missing))
    text = f"{named}  annotations:\n{filling}{spec}" if annotated else f"{named}{spec}{filling}"
    (folder / f"{_name(kind)}-{index}.yaml").write_text(text)


def _name(kind: str) -> str:
    return {"DeviceGroup": "group", "DeviceInventory": "inventory"}.get(kind, kind.lower())


def output(*command: str, folder: pathlib.Path | None = None) -> str:
    """What a process prints; it has to end well."""
    ended = subprocess.run(
        command, env=environment(), cwd=folder, check=False, capture_output=True, text=True
    )
    if ended.returncode:
        sys.exit(f"{command[0]} failed: this measures nothing\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return ended.stdout


def seconds(*command: str, folder: pathlib.Path | None = None) -> float:
    """How long a process takes, from start to end."""
    began = time.perf_counter()
    output(*command, folder=folder)
    return time.perf_counter() - began


def program(name: str) -> str:
    """One of the programs that are installed beside this Python."""
    return shutil.which(name, path=str(HERE)) or sys.exit(f"{name} is not installed: pip install -e '.[dev]'")


def bare(folder: pathlib.Path) -> float:
    """The composer over each file, and the models over what it says; in between, the clock stands still."""
    spent = 0.0
    for path in sorted(folder.glob("*.yaml")):
        began = time.perf_counter()
        text = path.read_text()
        CSafeLoader(text).get_single_node()
        spent += time.perf_counter() - began
        (document,) = loader.load(text.encode()).documents
        began = time.perf_counter()
        resources.parse(resources.Kind(document.data["kind"]), document.data)
        spent += time.perf_counter() - began
    return spent


def cached(folder: pathlib.Path, origin: pathlib.Path) -> tuple[float, float]:
    """A daemon reads a commit, and then the next one, with one changed file."""
    scratch = ScratchRepository(folder / "fleet")
    scratch.copy(origin, *(path.name for path in origin.iterdir()))
    scratch.commit("Everything")
    followed, cache, spent = Repository(str(scratch.folder), folder / "mirror", "main"), validate.Cache(), []
    for _ in range(2):
        began = time.perf_counter()
        sha = followed.fetch()
        assert sha is not None, "it was committed"
        found = reconcile.read_commit(followed, sha, cache, limits.DEFAULT)
        spent.append(time.perf_counter() - began)
        if found.diagnostics:
            sys.exit(f"{found.diagnostics[0]}: this measures nothing")
        changed = scratch.folder / "batch-0.yaml"
        changed.write_text(changed.read_text().replace("500", "600"))
        scratch.commit("One file")
    followed.close()
    return spent[0], spent[1]


def cold(pairs: int) -> Figure:
    """Ten manifests; the median of each."""
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder))
        validating, nothing = (program("reconciler"), "validate", folder), (sys.executable, "-c", "pass")
        seconds(*validating)  # compiles what is not compiled yet
        measured = [(seconds(*validating), seconds(*nothing)) for _ in range(pairs)]
    ours, theirs = (1000 * median(times) for times in zip(*measured, strict=True))
    return Figure("ten manifests, cold start", ours, "ms", theirs, "python -c pass")


def fleet(count: int) -> list[Figure]:
    """Ours before and after the others."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place) / "manifests"
        folder.mkdir()
        write_fleet(folder, count)
        files = sorted(path.name for path in folder.glob("*.yaml"))
        assert len(files) == count
        validating = program("reconciler"), "validate", "."
        checking = program("check-jsonschema"), "--schemafile", str(ALL), *files
        first = seconds(*validating, folder=folder)
        theirs = seconds(*checking, folder=folder)
        least = processes.apart(bare, folder)
        ours = (first + seconds(*validating, folder=folder)) / 2
        whole, again = processes.apart(cached, pathlib.Path(place), folder)
    what = f"{count:,} manifests of {LINES} lines"
    return [
        Figure(what, ours, "s", theirs, "check-jsonschema", times=FASTER),
        Figure("the same", ours, "s", least, "composer and models", times=OVER_BARE),
        Figure("a commit that changes one of them", again, "s", whole, "the first one", times=CACHED),
    ]


def main() -> None:
    """The table."""
    parser = seeding.arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=21)
    given = parser.parse_args()
    with seeding.shared_folder() as folder:
        figures = [cold(1 if given.quick else given.pairs), *fleet(60 if given.quick else 10_000)]
        show(f"Validation; {seeding.machine(folder)}", figures)


if __name__ == "__main__":
    main()
