"""What the CI systems read: each format as its consumer takes it, whatever is in the manifests."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner

from reconciler.cli import reports
from reconciler.cli.explain import command as explain
from reconciler.cli.validate import command as validate
from reconciler.domain.diagnostics import Code, Diagnostic, Place

HEAD = "apiVersion: ota/v1\nkind: Product\nmetadata: {name: x}\n"
BAD = HEAD + "spec:\n  descriptoin: Ours\n"
WARNED = HEAD + "spec: {} # reconciler: ignore[OTA2071] misspelt\n"
NASTY = HEAD + 'spec:\n  "a\\e]<&\\" b\\nc": 1\n'


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "fleet").mkdir()
    return tmp_path / "fleet"


def report(form, path="fleet"):
    result = CliRunner().invoke(validate, [path, "-o", form])
    assert result.exit_code in {0, 1}, result.output
    return result


def test_gitlab_reads_code_quality_with_fingerprints_that_survive_moved_lines(fleet):
    (fleet / "bad.yaml").write_text(BAD)
    (found,) = json.loads(report("gitlab").stdout)
    fingerprint = found.pop("fingerprint")
    assert found == {
        "description": "OTA113 unknown field `descriptoin` in Product spec - did you mean `description`?",
        "check_name": "OTA113",
        "severity": "major",
        "location": {"path": "fleet/bad.yaml", "lines": {"begin": 5}},
    }
    (fleet / "bad.yaml").write_text("# moved\n\n" + BAD)
    (moved,) = json.loads(report("gitlab").stdout)
    assert (moved["fingerprint"], moved["location"]["lines"]["begin"]) == (fingerprint, 7)


def test_findings_that_are_alike_have_fingerprints_of_their_own(fleet):
    (fleet / "bad.yaml").write_text("a: [\n---\nb: [\n")
    found = json.loads(report("gitlab").stdout)
    assert len(found) == len({one["fingerprint"] for one in found}) == 2


def test_without_findings_gitlab_reads_an_empty_list(fleet):
    (fleet / "good.yaml").write_text(HEAD + "spec: {}\n")
    assert json.loads(report("gitlab").stdout) == []


def test_code_scanning_reads_sarif_with_rules_that_help(fleet):
    (fleet / "bad.yaml").write_text(BAD)
    (fleet / "warned.yaml").write_text(WARNED.replace("name: x", "name: z"))
    (fleet / "恒温 器.yaml").write_text(
        BAD.replace("name: x", "name: y") + "---\n" + BAD.replace("name: x", "name: y")
    )
    log = json.loads(report("sarif").stdout)
    assert (log["version"], log["$schema"]) == ("2.1.0", "https://json.schemastore.org/sarif-2.1.0.json")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["OTA113", "OTA118", "OTA202"]
    assert all(rule["help"]["text"] and rule["shortDescription"]["text"] for rule in rules)
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    first, warned = run["results"][:2]
    (twice,) = (one for one in run["results"] if one["ruleId"] == "OTA202")
    assert (first["level"], warned["level"]) == ("error", "warning")
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "fleet/bad.yaml"
    assert place["region"] == {"startLine": 5, "startColumn": 3, "endColumn": 14}
    assert first["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "Product/x.spec.descriptoin"}]
    uris = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]}
    assert "fleet/%E6%81%92%E6%B8%A9%20%E5%99%A8.yaml" in uris
    assert twice["relatedLocations"][0]["message"]["text"] == "first declared here"


def test_no_text_of_a_manifest_is_a_link_in_sarif(fleet):
    (fleet / "bad.yaml").write_text(HEAD + 'spec: {"[all is well](https://evil.example)": 1}\n')
    (found,) = json.loads(report("sarif").stdout)["runs"][0]["results"]
    assert "`[all is well] (https://evil.example)`" in found["message"]["text"]


def test_a_rule_s_description_in_sarif_is_as_short_as_github_takes_it():
    every = [Diagnostic(code, "wrong", Place("a.yaml")) for code in Code]
    (run,) = reports.sarif(every, str)["runs"]
    for rule in run["tool"]["driver"]["rules"]:
        said, whole = rule["fullDescription"]["text"], rule["help"]["text"]
        assert 0 < len(said) <= 1024
        assert whole.startswith(said)
        assert said.endswith(".")


def test_a_finding_about_a_whole_file_stands_at_its_first_line(fleet):
    (fleet / "away.yaml").symlink_to("nowhere")
    (found,) = json.loads(report("sarif").stdout)["runs"][0]["results"]
    assert found["locations"][0]["physicalLocation"]["region"] == {"startLine": 1}
    assert json.loads(report("gitlab").stdout)[0]["location"]["lines"] == {"begin": 1}


def test_junit_has_a_failure_for_each_error_and_escapes_what_manifests_say(fleet):
    (fleet / "a&b.yaml").write_text(NASTY)
    (fleet / "warned.yaml").write_text(WARNED.replace("name: x", "name: z"))
    root = ET.fromstring(report("junit").stdout.encode())
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    suite, other = root.findall("testsuite")[1:]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("fleet/a&b.yaml", "1", "1")
    failure = suite.find("testcase/failure")
    assert failure.get("type") == "OTA113"
    assert failure.get("message") == 'unknown field `a\ufffd]<&" b\ufffdc` in Product spec'
    assert failure.text.startswith("fleet/a&b.yaml:5:3: unknown field `a\ufffd]<&")
    assert other.find("testcase/failure") is None
    assert other.find("testcase/system-out").text.startswith("warning: fleet/warned.yaml:4:")


def test_without_findings_junit_has_one_test_that_passed(fleet):
    (fleet / "good.yaml").write_text(HEAD + "spec: {}\n")
    root = ET.fromstring(report("junit").stdout.encode())
    assert [case.get("name") for case in root.iter("testcase")] == ["1 valid"]


def test_no_text_of_a_manifest_starts_a_command_of_github(fleet):
    (fleet / "bad.yaml").write_text(HEAD + 'spec:\n  "x\\n::error::y\\r::": 1\n')
    assert [line[:7] for line in report("github").stdout.splitlines()] == ["::error"]
    (fleet / "##[debug].yaml").write_text(HEAD + 'spec:\n  "##[add-mask]y": 1\n')
    assert "## [add-mask]y" in report("github").stdout
    assert (
        "##[" not in report("github").stdout
    )  # the runner's old form, which is a command wherever it stands


@pytest.mark.parametrize(
    ("variable", "start"), [("GITHUB_ACTIONS", "::error file=fleet/bad"), ("GITLAB_CI", "[\n")]
)
def test_a_ci_system_gets_its_own_format_and_people_get_the_text(fleet, monkeypatch, variable, start):
    (fleet / "bad.yaml").write_text(BAD)
    monkeypatch.setenv(variable, "true")
    result = CliRunner().invoke(validate, ["fleet"])
    assert result.stdout.startswith(start)
    assert "error[OTA113]: unknown field `descriptoin`" in result.stderr
    assert "1 finding; 0 of 1 manifest valid" in result.stderr


@pytest.mark.parametrize("form", ["github", "gitlab", "sarif", "junit"])
def test_paths_in_reports_begin_at_the_repositorys_root(fleet, monkeypatch, form):
    (fleet / "bad.yaml").write_text(BAD)
    monkeypatch.chdir(fleet)
    result = report(form, ".")
    assert "fleet/bad.yaml" in result.stdout
    assert "--> bad.yaml:5:3" in result.stderr


@pytest.mark.parametrize("form", ["text", "concise", "json", "github", "gitlab", "sarif", "junit"])
def test_a_files_name_may_be_any_bytes(fleet, form):
    (fleet / b"\xff.yaml".decode(errors="surrogateescape")).write_text(BAD)
    (fleet / b"l\xff.yaml".decode(errors="surrogateescape")).symlink_to("nowhere")
    result = report(form)
    assert result.exit_code == 1
    assert result.stdout.encode()


def test_every_code_is_explained():
    for code in Code:
        result = CliRunner().invoke(explain, [code[3:]])
        assert result.output.startswith(f"{code}: {code.meaning}\n")
        assert max(map(len, result.output.splitlines())) <= 100
    listed = CliRunner().invoke(explain, []).output.splitlines()
    assert len(listed) == len(Code)


def test_a_code_that_does_not_exist_is_guessed():
    result = CliRunner().invoke(explain, ["OTA999"])
    assert "there is no code 'OTA999'" in result.exception.message
    assert result.exception.remedy
