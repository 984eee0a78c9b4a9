"""Whatever the bytes, `validate` ends with 0 or 1 and says something sensible, soon, and in little memory."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cli.validate import command as validate

PRODUCT = b"""apiVersion: ota/v1
kind: Product
metadata:
  name: thermostat
spec:
  description: Wall thermostat
  modules: [{name: mcu}]
"""
BATCH = b"""apiVersion: ota/v1
kind: Batch
metadata: {name: eu}
spec:
  package: fw # the newest
  target: {all: {}, sourceVersions: ["1.3.0"]}
  schedule: {start: 2026-12-01T02:00:00+01:00}
  tags: {site: berlin}
"""
BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 9)) for level in range(1, 30)
)
FORMS = ["text", "concise", "json", "github", "gitlab", "sarif", "junit"]
OURS = b"apiVersion: ota/v1\nkind: Product\nmetadata: {name: x}\nspec: "


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(*arguments):
    """The exit code and what is printed; an exception that is nobody's answer is raised."""
    result = CliRunner().invoke(validate, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(BOMB, "more than 500,000 values", id="an alias bomb"),
        pytest.param(b"a: &a [*a]\n", "refers to an anchor that is not complete", id="an alias to itself"),
        pytest.param(OURS + b"[" * 100_000, "nested more than 50 levels", id="deep brackets"),
        pytest.param(OURS + b"\n" + b"- " * 100_000, "nested more than 50 levels", id="deep lists"),
        pytest.param(
            OURS + b"{description: " + b"x" * 10_000_000 + b"}\n",
            "larger than 4,000,000",
            id="a scalar of 10 MB",
        ),
        pytest.param(
            OURS + b"{description: " + b"x" * 3_900_000 + b"}\n",
            "has 3,900,000",
            id="a scalar that is just read",
        ),
        pytest.param(OURS + b"\n\tdescription: x\n", "a tab is used for indentation", id="a tab"),
        pytest.param(b"\xef\xbb\xbf" + PRODUCT, "1 manifest valid", id="a byte order mark"),
        pytest.param(PRODUCT.replace(b"\n", b"\r\n"), "1 manifest valid", id="CRLF"),
        pytest.param(PRODUCT.replace(b"\n", b"\r"), "1 manifest valid", id="CR alone"),
        pytest.param(PRODUCT + b"  description: x\n", "`description` is given twice", id="a duplicate key"),
        pytest.param(
            PRODUCT.replace(b"Wall", b"Wa\0ll"), "the character U+0000 cannot be in YAML", id="a NUL"
        ),
        pytest.param(b"\0" * 5000, "the character U+0000 cannot be in YAML", id="NULs alone"),
        pytest.param(OURS + b"{description: " + b"9" * 5000 + b"}\n", "has 5,000", id="a huge integer"),
        pytest.param(
            OURS + b"{description: " + b"9" * 100 + b"}\n", "was read as the number 999", id="a large integer"
        ),
        pytest.param(
            OURS + b"{modules: 0x" + b"f" * 99 + b"}\n", "a list is needed", id="a large hexadecimal"
        ),
        pytest.param(
            OURS + b"{description: 1e999}\n", "was read as the number inf", id="a number beyond floats"
        ),
        pytest.param(PRODUCT.replace(b"Wall", b"W\xe4nde"), "byte 0xe4 is not UTF-8", id="Latin-1"),
        pytest.param(PRODUCT.decode().encode("utf-16"), "the file is UTF-16, not UTF-8", id="UTF-16"),
        pytest.param(
            b"---\n" + OURS + b"{}\n---\n" * 1000, "1,000 documents", id="documents beyond the thousandth"
        ),
        pytest.param(
            PRODUCT.replace(b"thermostat", "恒温器".encode()),
            "`恒温器` is not a name",
            id="a name in Chinese",
        ),
        pytest.param("---\n# 恒温器\n".encode() + PRODUCT, "1 manifest valid", id="a remark in Chinese"),
        pytest.param(b"? [a, b]\n: x\nkind: Product\n", "cannot be a key", id="a list as a key"),
        pytest.param(
            PRODUCT + b"!!python/object:os.system x\n", "error[OTA003]", id="a tag that would run code"
        ),
        pytest.param(OURS + b'"\\ud800"\n', "error[OTA", id="half a character"),
        pytest.param(b"%YAML 9.9\n---\n" + PRODUCT, "error[OTA003]", id="another YAML"),
        pytest.param(
            BATCH + b"#" * 500_000, "a text with a `:` stands inside of brackets", id="much for a slow parser"
        ),
        pytest.param(b"", "no manifests found", id="nothing"),
        pytest.param(b"\xef\xbb\xbf", "no manifests found", id="a byte order mark alone"),
    ],
)
def test_a_file_is_judged_whatever_is_in_it(place, content, said):
    (place / "x.yaml").write_bytes(content)
    began = time.perf_counter()
    exit_code, output = outcome("x.yaml")
    assert said in output
    assert exit_code == int(output != "1 manifest valid\n")
    assert time.perf_counter() - began < 5


LONG = b"x" * 30_000


@pytest.mark.parametrize(
    "text",
    [
        BATCH.replace(b"kind: Batch", b"kind: " + LONG),
        BATCH.replace(b"ota/v1", b"ota/" + LONG),
        BATCH.replace(b"{name: eu}", b"{name: " + LONG + b"}"),
        BATCH.replace(b"  package:", b"  " + LONG + b": 1\n  package:"),
        BATCH.replace(b"  package:", b"  ? " + LONG + b"\n  : 1\n  ? " + LONG + b"\n  : 1\n  package:"),
        BATCH.replace(b"  package:", b"  delivery: " + LONG + b"\n  package:"),
        BATCH.replace(b"  package:", b"  timeout: " + LONG + b"\n  package:"),
        BATCH.replace(b"  package:", b"  onCancel: " + LONG + b"\n  package:"),
        BATCH.replace(b"  package:", b"  confirm: *" + LONG + b"\n  package:"),
        BATCH.replace(b"  package:", b"  confirm: !" + LONG + b" x\n  package:"),
        BATCH.replace(b"site:", b"? " + LONG + b"\n  :"),
        BATCH.replace(b"2026-12-01T02", b"9" * 30_000),
        BATCH.replace(b"newest", b"reconciler: ignore[" + LONG + b"]"),
    ],
    ids=range(13),
)
@pytest.mark.parametrize("form", ["text", "gitlab"])
def test_a_long_text_is_not_repeated_whole(place, text, form):
    (place / "x.yaml").write_bytes(text)
    began = time.perf_counter()
    exit_code, output = outcome("x.yaml", "-o", form)
    size, took = len(output), time.perf_counter() - began
    assert exit_code == 1
    assert size < 12_000
    assert took < 2


def test_a_thousand_documents_in_a_file_are_as_good_as_a_thousand_files(place):
    one = b"---\napiVersion: ota/v1\nkind: Product\nmetadata: {name: p%d}\nspec: {}\n"
    (place / "x.yaml").write_bytes(b"".join(one % number for number in range(1000)))
    assert outcome("x.yaml") == (0, "1,000 manifests valid\n")


def test_a_thousand_broken_documents_are_told_of_a_few_times(place):
    (place / "x.yaml").write_bytes(b"---\nkind: [\n" * 1000)
    exit_code, output = outcome("x.yaml")
    assert (exit_code, output.count("error[")) == (1, 20)


@pytest.mark.parametrize(
    "spec",
    [
        b"{product: p, devices: [" + b"1, " * 3000 + b"]}",
        b"{" + b"a1: x, " * 3000 + b"}",
        b"{" + b"? [], " * 3000 + b"}",
    ],
    ids=["wrong entries", "equal keys", "lists as keys"],
)
def test_thousands_of_findings_in_a_document_are_counted_after_a_hundred(place, spec):
    (place / "x.yaml").write_bytes(OURS.replace(b"Product", b"DeviceInventory") + spec + b"\n")
    exit_code, output = outcome("x.yaml", "-o", "concise")
    assert exit_code == 1
    assert "more findings in this document are not listed" in output
    assert len(output.splitlines()) < 110


def test_links_in_a_circle_end(place):
    (place / "a.yaml").symlink_to("b.yaml")
    (place / "b.yaml").symlink_to("a.yaml")
    (place / "folder").symlink_to(".")
    (place / "up.yaml").symlink_to("..")
    (place / "x.yaml").write_bytes(PRODUCT)
    exit_code, output = outcome(".")
    assert exit_code == 1
    assert output.count("is a symbolic link: only regular files are read") == 3
    assert outcome("a.yaml")[0] in {1, 2}


def test_a_pipe_and_a_folder_with_a_manifests_name_are_not_waited_for(place):
    import os

    os.mkfifo(place / "pipe.yaml")
    (place / "folder.yaml").mkdir()
    (place / "folder.yaml" / "x.yaml").write_bytes(PRODUCT)
    assert outcome(".") == (0, "1 manifest valid\n")


def test_files_and_folders_may_have_names_in_any_script(place):
    (place / "批次").mkdir()
    (place / "批次" / "恒温器 ①.yaml").write_bytes(PRODUCT.replace(b"modules", b"module"))
    exit_code, output = outcome("批次")
    assert exit_code == 1
    assert "--> 批次/恒温器 ①.yaml:7:3" in output


def test_a_bomb_takes_little_memory(place):
    (place / "x.yaml").write_bytes(BOMB)
    tracemalloc.start()
    try:
        outcome("x.yaml")
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


PIECES = st.sampled_from(
    [b"\0", b"\t", b"\r", b"\xff", b"\xef\xbb\xbf", b"\n---\n", b"&a ", b"*a", b"{", b"]", b'"', b"'", b": ", b"- ",
     b"!!x ", b"|\n", b"<<: ", b"? ", b"# reconciler: ignore[OTA201]", b"9" * 400, b"1.10", b"\xed\xa0\x80",
     "恒".encode(), b"%YAML 1.1\n", b"null", b".inf", b"${{ x }}", b"\x1b[2J", b"::error::", b"\xe2\x80\xa8"]
)  # fmt: skip
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), PIECES | st.binary(max_size=4)), max_size=6)


@settings(max_examples=60)
@given(st.sampled_from([PRODUCT, BATCH, PRODUCT + b"---\n" + BATCH]), CHANGES, st.sampled_from(FORMS))
def test_any_change_of_a_manifest_is_judged_in_every_format(text, changes, form):
    for where, length, piece in changes:
        start = int(where * len(text))
        text = text[:start] + piece + text[start + length :]
    result = CliRunner().invoke(validate, ["-", "-o", form], input=text)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in {0, 1}
    assert result.stderr or result.stdout
    assert "\x1b" not in result.output
