"""CSV files to start from are files that the loader takes."""

from __future__ import annotations

import pytest

from reconciler.domain import limits
from reconciler.source import rosters, tree


@pytest.mark.parametrize(
    ("kind", "shape", "tags"),
    [
        ("devices", rosters.Shape.NAMES, {}),
        ("group", rosters.Shape.NAMES, {}),
        ("inventory", rosters.Shape.TAGGED, {"region": "eu", "floor": "1"}),
    ],
)
def test_a_template_is_a_file_that_devicesfrom_reads(reconciler, tmp_path, kind, shape, tags):
    printed = reconciler("template", kind)
    assert printed.code == 0
    files = tree.FolderTree(tmp_path, texts={"list.csv": printed.out.encode()})
    entries = list(rosters.iter_entries(files, "list.csv", shape, limits.DEFAULT))
    assert [entry.name for entry in entries] == ["device-0001", "device-0002"]
    assert dict(entries[0].tags) == tags
