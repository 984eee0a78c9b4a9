from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from reconciler.cli.schema import command as schema
from reconciler.cli.validate import command as validate
from reconciler.domain.diagnostics import Code, Diagnostic, Place

PRODUCT = "apiVersion: ota/v1\nkind: Product\nmetadata:\n  name: thermostat\nspec: {}\n"
BAD = "apiVersion: ota/v1\nkind: Product\nmetadata:\n  name: x\nspec:\n  descriptoin: Ours\n"
EXPECTED = """\
error[OTA113]: unknown field `descriptoin` in Product spec
 --> fleet/bad.yaml:6:3  (Product/x, spec.descriptoin)
  |
6 |   descriptoin: Ours
  |   ^^^^^^^^^^^ not a known field
  = help: did you mean `description`?

1 finding; 1 of 2 manifests valid
"""


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "fleet"
    folder.mkdir()
    (folder / "product.yaml").write_text(PRODUCT)
    return folder


def run(*arguments, text=None):
    return CliRunner().invoke(validate, list(arguments), input=text)


def test_a_clean_folder_is_said_to_be_so(fleet):
    result = run("fleet")
    assert (result.exit_code, result.output) == (0, "1 manifest valid\n")


def test_without_a_path_it_is_this_folder(fleet, monkeypatch):
    monkeypatch.chdir(fleet)
    assert run().output == "1 manifest valid\n"


def test_an_empty_folder_is_not_said_to_be_valid(fleet):
    (fleet / "product.yaml").unlink()
    assert run().output == "no manifests found\n"
    result = run("fleet")
    assert (result.exit_code, result.output) == (1, "no manifests found in fleet\n")


def test_the_operators_limits_are_these_manifests_limits_too(fleet, monkeypatch):
    (fleet / "product.yaml").write_text(PRODUCT.replace("{}", "{modules: [{name: mcu}, {name: wifi}]}"))
    assert run("fleet").exit_code == 0
    result = run("fleet", "--limits", "modules-per-product=1")
    assert "a product has at most 1 modules besides `default`, these are 2" in result.output
    monkeypatch.setenv("RECONCILER_LIMITS", "modules-per-product=1")
    assert run("fleet").exit_code == 1


def test_a_file_that_lies_here_whole_but_that_commits_have_a_pointer_of_is_refused_as_the_daemon_will(fleet):
    """After `git lfs pull`, and in CI with `lfs: true`: the daemon reads the commit."""
    files = "files: [{name: a.bin, source: art/a.bin}, {name: b.bin, source: art/b.bin}]"
    spec = f"{{product: thermostat, version: '1.0.0', {files}}}"
    package = f"apiVersion: ota/v1\nkind: Package\nmetadata: {{name: fw}}\nspec: {spec}\n"
    (fleet / "fw.yaml").write_text(package)
    (fleet / "art").mkdir()
    for name in ("a.bin", "b.bin"):
        (fleet / "art" / name).write_bytes(b"the file itself")
    (fleet / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\nart/b.bin !filter\n")
    assert run("fleet").output == "2 manifests valid\n"  # there is no repository, and no commit
    subprocess.run(["git", "init", "-q", str(fleet.parent)], check=True)
    result = run("fleet")
    assert result.exit_code == 1
    assert "commits hold a pointer of Git LFS for art/a.bin, not the file itself" in result.output
    assert "git lfs untrack" in result.output
    assert "art/b.bin" not in result.output.partition("  |")[0]


def test_a_finding_is_shown_with_its_line_a_caret_and_a_remedy(fleet):
    (fleet / "bad.yaml").write_text(BAD)
    result = run("fleet")
    assert (result.exit_code, result.output) == (1, EXPECTED)


def test_the_exit_code_is_the_same_whatever_the_format(fleet):
    (fleet / "bad.yaml").write_text(BAD)
    assert {run("fleet", "-o", form).exit_code for form in ("text", "concise", "json", "github")} == {1}


def test_one_line_each_for_editors(fleet):
    (fleet / "bad.yaml").write_text(BAD)
    result = run("fleet", "-o", "concise")
    assert result.stdout == "fleet/bad.yaml:6:3: OTA113 unknown field `descriptoin` in Product spec\n"
    assert result.stderr == "1 finding; 1 of 2 manifests valid\n"


def test_json_for_programs(fleet):
    (fleet / "bad.yaml").write_text(BAD)
    found = json.loads(run("fleet", "-o", "json").stdout)
    assert found["formatVersion"] == "1.0"
    assert found["summary"] == {"manifests": 2, "valid": 1, "findings": 1}
    (one,) = found["diagnostics"]
    assert (one["path"], one["line"], one["column"], one["endColumn"]) == ("fleet/bad.yaml", 6, 3, 14)
    assert (one["code"], one["severity"], one["object"]) == ("OTA113", "error", "Product/x")


def test_annotations_in_github_actions(fleet, monkeypatch):
    (fleet / "bad.yaml").write_text(BAD)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert run("fleet").stdout == (
        "::error file=fleet/bad.yaml,line=6,col=3,endColumn=14,title=OTA113 Product/x::"
        "unknown field `descriptoin` in Product spec%0Ahelp: did you mean `description`?\n"
    )


def test_standard_input_is_checked_too(fleet):
    result = run("-", text=BAD)
    assert result.exit_code == 1
    assert "--> <stdin>:6:3" in result.output
    assert run("-", "fleet", text=BAD.replace("descriptoin", "description")).output == "2 manifests valid\n"


def test_single_files_belong_to_their_repository(fleet):
    (fleet / ".git").mkdir()
    (fleet / "packages").mkdir()
    (fleet / "fw.bin").write_bytes(b"x")
    (fleet / "packages" / "fw.yaml").write_text(
        "apiVersion: ota/v1\nkind: Package\nmetadata: {name: fw}\nspec:\n  product: thermostat\n"
        "  version: '1'\n  files: [{name: a.bin, source: ../fw.bin}]\n"
    )
    assert run("fleet/packages/fw.yaml", "fleet/product.yaml").output == "2 manifests valid\n"
    assert run("fleet/packages/fw.yaml", "fleet/packages").exit_code == 1


PACKAGE = """apiVersion: ota/v1
kind: Package
metadata: {name: fw}
spec:
  product: thermostat
  version: "1.4.0"
  files: [{name: a.bin, source: "https://example.com/a.bin", sha256: %s}]
""" % ("ab" * 32)


def test_what_a_single_file_refers_to_is_looked_for_above_it_and_nothing_else_is_told_of(fleet):
    """Another fleet of the same repository, here `other`, is not mixed with this one."""
    (fleet.parent / ".git").mkdir()
    other, packages = fleet.parent / "other", fleet / "packages"
    other.mkdir()
    packages.mkdir()
    (other / "product.yaml").write_text(PRODUCT)
    (fleet / "bad.yaml").write_text(BAD)
    (packages / "fw.yaml").write_text(PACKAGE)
    result = run("fleet/packages/fw.yaml")
    assert (result.exit_code, result.output) == (0, "1 manifest valid\n")
    (packages / "fw.yaml").write_text(PACKAGE.replace("t: thermostat", "t: thermostta"))
    result = run("-o", "concise", "fleet/packages/fw.yaml", "fleet/product.yaml")
    assert result.exit_code == 1
    assert "did you mean `thermostat`?" in run("fleet/packages/fw.yaml").output
    assert result.output.endswith("there is no Product `thermostta`\n1 finding; 1 of 2 manifests valid\n")


def test_a_single_file_is_not_valid_when_what_it_refers_to_is_not(fleet):
    batch = PACKAGE.replace("Package", "Batch").split("spec:")[0] + "spec: {package: fw, target: {all: {}}}"
    (fleet / "a.yaml").write_text(batch)
    for wrong in (PACKAGE + "  bogus: 1\n", PACKAGE + "  bogus: [\n"):
        (fleet / "fw.yaml").write_text(wrong)
        result = run("-o", "concise", "fleet/a.yaml")
        refers = "Package/fw, which it refers to, is not valid"
        assert (result.exit_code, refers in result.output) == (1, True), result.output
        assert result.output.startswith("fleet/a.yaml:3:18: OTA201 Batch/fw is not valid: a.yaml:4:17: ")
        assert result.output.endswith("1 finding; 0 of 1 manifest valid\n")


@pytest.mark.parametrize("listed", ["devices: [{name: lamp-0001}]", "devicesFrom: {file: devices.csv}"])
def test_a_single_file_is_not_valid_when_another_contests_what_it_declares(fleet, listed):
    (fleet / "devices.csv").write_text("name\nlamp-0001\n")
    inventory = (
        "apiVersion: ota/v1\nkind: DeviceInventory\nmetadata: {name: %s}\nspec: {product: thermostat, %s}\n"
    )
    (fleet / "a.yaml").write_text(inventory % ("a", listed))
    (fleet / "b.yaml").write_text(inventory % ("b", listed))
    for name in ("a", "b"):
        result = run(f"fleet/{name}.yaml")
        said = "device `lamp-0001` is declared by DeviceInventory/a and by DeviceInventory/b"
        assert (result.exit_code, said in result.output) == (1, True), result.output


def test_a_warning_that_only_the_others_explain_is_ignored_in_a_single_file_too(fleet):
    batch = PACKAGE.replace("Package", "Batch").split("spec:")[0] + "spec: {package: fw, target: {all: {}}}"
    (fleet / "fw.yaml").write_text(PACKAGE)
    (fleet / "a.yaml").write_text(batch)
    (fleet / "b.yaml").write_text(
        batch.replace("name: fw", "name: us") + " # reconciler: ignore[OTA207] so be it\n"
    )
    assert run("fleet/a.yaml", "fleet/fw.yaml").output.endswith("2 manifests valid\n")
    assert run("fleet/b.yaml").output == "1 manifest valid\n"


def test_standard_input_says_that_it_was_all_that_was_read(fleet):
    result = run("-", text=PACKAGE)
    assert result.exit_code == 1
    assert (
        "declare it, or correct the name; only what was given was read, not the files around" in result.output
    )


@pytest.mark.parametrize("arguments", [["none"], ["fleet/notes.txt"], ["-o", "xml"], ["--schemas", "none"]])
def test_a_wrong_command_line_is_exit_code_two(fleet, arguments):
    (fleet / "notes.txt").write_text("x")
    assert run(*arguments).exit_code == 2


def test_schemas_find_what_they_do_not_allow_and_repeat_nothing(fleet):
    CliRunner().invoke(schema, ["export", "--dir", "schemas"])
    assert run("fleet", "--schemas", "schemas").output == "1 manifest valid\n"
    (fleet / "bad.yaml").write_text(BAD)
    assert run("fleet", "--schemas", "schemas").output == EXPECTED
    strict = json.loads((fleet.parent / "schemas" / "product.schema.json").read_text())
    strict["properties"]["metadata"]["required"] = ["name", "labels"]
    (fleet.parent / "schemas" / "product.schema.json").write_text(json.dumps(strict))
    (fleet / "bad.yaml").unlink()
    result = run("fleet", "--schemas", "schemas", "-o", "concise")
    assert (
        "fleet/product.yaml:3:1: OTA120 the schema does not allow this: 'labels' is a required"
        in result.stdout
    )


@pytest.mark.parametrize("content", [None, "{", '{"type": 3}'])
def test_a_schema_that_is_none_is_named(fleet, content):
    (fleet / "schemas").mkdir()
    if content is not None:
        (fleet / "schemas" / "product.schema.json").write_text(content)
    result = run("fleet/product.yaml", "--schemas", "fleet/schemas")
    assert "product.schema.json" in result.exception.message


def test_text_of_manifests_cannot_steer_the_terminal(fleet):
    (fleet / "bad.yaml").write_text(BAD.replace("descriptoin", '"a\\e[31mb\\nc"'))
    output = run("fleet").output
    assert "\x1b" not in output
    assert "unknown field `a\ufffd[31mb\ufffdc`" in output


def test_a_caret_stands_under_wide_characters_and_in_long_lines(fleet):
    (fleet / "bad.yaml").write_text(
        BAD.replace("spec:\n", "spec: {description: 恒温器, x: 1}\n").split("  descr")[0]
    )
    line, caret = run("fleet").output.splitlines()[3:5]
    assert line == "5 | spec: {description: 恒温器, x: 1}"
    assert caret == "  |                             ^ not a known field"
    (fleet / "bad.yaml").write_text(BAD.replace("Ours", "Ours #" + "x" * 500))
    assert max(map(len, run("fleet").output.splitlines())) < 200
    (fleet / "bad.yaml").write_text(BAD.replace("  descriptoin", "  description: 'x'\n" + " " * 300 + "y"))
    assert "^" in run("fleet").output


def test_a_file_without_lines_is_named_without_an_excerpt(fleet):
    (fleet / "big.yaml").write_bytes(b"#" * 4_000_001)
    result = run("fleet")
    assert "--> fleet/big.yaml\n" in result.output
    assert result.exit_code == 1


def test_both_places_of_a_duplicate_are_shown(fleet):
    (fleet / "same.yaml").write_text(PRODUCT)
    assert "= note: first declared here: fleet/product.yaml:4:9" in run("fleet").output


def test_schemas_are_written_or_printed(fleet):
    runner = CliRunner()
    assert json.loads(runner.invoke(schema, ["export"]).output)["$id"] == "urn:reconciler:schemas:v1:all"
    assert runner.invoke(schema, ["export", "--dir", "s/v1"]).output == "6 schemas written to s/v1\n"
    shutil.rmtree("s")
    (fleet.parent / "s").write_text("a file")
    assert "cannot be written" in runner.invoke(schema, ["export", "--dir", "s/v1"]).exception.message


def test_validation_imports_neither_database_nor_broker_nor_web():
    heavy = [
        "sqlalchemy",
        "paho",
        "starlette",
        "uvicorn",
        "jsonschema",
        "rich",
        "cryptography",
        "asyncio",
        "orjson",
    ]
    program = (
        "import sys\nfrom reconciler.cli.validate import command\n"
        "command(['.'], standalone_mode=False)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_codes_have_one_shape():
    assert all(code.startswith("OTA") and code[3:].isdigit() and len(code) == 6 for code in Code)
    assert Diagnostic(Code.TYPE, "x", Place("a")).line == 0


def test_a_warning_alone_is_printed_and_fails_nobody(fleet):
    (fleet / "app.bin").write_bytes(b"firmware")
    (fleet / "package.yaml").write_text(
        "apiVersion: ota/v1\nkind: Package\nmetadata: {name: two}\n"
        "spec: {product: thermostat, version: '2', files: [{name: app.bin, source: app.bin}]}\n"
    )
    (fleet / "batch.yaml").write_text(
        "apiVersion: ota/v1\nkind: Batch\nmetadata: {name: eu}\nspec: {package: two, target: {group: beta}}\n"
    )
    result = run("fleet")
    assert result.output.startswith("warning[")
    assert result.exit_code == 0
