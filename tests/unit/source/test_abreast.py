"""A tree that is read on several processors says what it says when one reads it."""

from __future__ import annotations

import pytest

from reconciler.domain.limits import DEFAULT
from reconciler.source import abreast, validate
from reconciler.source.tree import FolderTree

PRODUCT = (
    "apiVersion: ota/v1\nkind: Product\nmetadata: {{name: product-{0}}}\nspec: {{productKey: key-{0}}}\n"
)


@pytest.fixture
def folder(tmp_path):
    for number in range(120):
        (tmp_path / f"{number:03}.yaml").write_text(PRODUCT.format(number))
    (tmp_path / "050.yaml").write_text(PRODUCT.format(51))  # declared twice
    (tmp_path / "060.yaml").write_text("apiVersion: ota/v1\nkind: Product\nspec: {\n")
    (tmp_path / "070.yaml").write_text(PRODUCT.format(70).replace("productKey", "productKei"))
    (tmp_path / "080.yaml").unlink()
    (tmp_path / "080.yaml").symlink_to("elsewhere.yaml")
    return tmp_path


def test_what_several_processes_read_is_judged_like_what_one_reads(folder):
    read = abreast.Abreast(worth=100, processors=2)
    alone, together = (validate.check(FolderTree(folder), DEFAULT, cache) for cache in (None, read))
    assert together == alone
    assert len(read.beforehand) > 100
    assert {found.path for found in together.diagnostics} == {"051.yaml", "060.yaml", "070.yaml", "080.yaml"}


def test_a_few_files_are_read_by_one_process(folder):
    read = abreast.Abreast(processors=2)
    validate.check(FolderTree(folder), DEFAULT, read)
    assert not read.beforehand
