from __future__ import annotations

from reconciler.domain import catalogue, limits
from reconciler.domain.diagnostics import Code, Diagnostic, Place, Related, in_order, plain


def test_findings_are_sorted_by_file_and_line_and_said_once():
    one = Diagnostic(Code.REQUIRED, "x", Place("b.yaml", 2, 1, 5))
    two = Diagnostic(Code.REQUIRED, "x", Place("a.yaml", 9, 1))
    three = Diagnostic(Code.REQUIRED, "x", Place("b.yaml", 10, 1))
    assert in_order([three, one, two, one]) == (two, one, three)
    assert (one.path, one.line, one.column, one.end_column) == ("b.yaml", 2, 1, 5)


def test_a_finding_in_one_line_has_its_place_and_its_remedy():
    assert (
        str(Diagnostic(Code.REQUIRED, "x", Place("b.yaml", 2, 1, 5), help="do y")) == "b.yaml:2:1: x (do y)"
    )
    assert str(Diagnostic(Code.UNREADABLE, "x", Place("b.yaml"))) == "b.yaml: x"


def test_a_finding_as_data_has_everything_and_the_paths_that_people_know():
    elsewhere = Related(Place("a.yaml", 3, 1), "first declared here")
    found = Diagnostic(Code.REQUIRED, "x", Place("b.yaml", 2, 1, 5), help="do y", related=(elsewhere,))
    data = plain(found, "fleet/{}".format)
    assert (data["code"], data["severity"], data["help"]) == ("OTA110", "error", "do y")
    assert (data["path"], data["line"], data["column"], data["endColumn"]) == ("fleet/b.yaml", 2, 1, 5)
    assert data["related"][0]["path"] == "fleet/a.yaml"
    assert plain(found)["path"] == "b.yaml"
    assert plain(Diagnostic(Code.UNREADABLE, "no \udcff", Place("\udcff.yaml")))["path"] == "?.yaml"


def test_a_code_is_its_number_and_says_what_it_means():
    assert Code.UNKNOWN_FIELD == "OTA113"
    assert str(Code.UNKNOWN_FIELD) == "OTA113"
    assert all(code.meaning for code in Code)
    assert len(set(Code)) == len(Code.__members__)


def test_a_context_without_limits_means_the_defaults():
    own = limits.Limits(packages=1)
    assert limits.of_context({"limits": own}) is own
    assert limits.of_context({"limits": 3}) is limits.of_context(None) is limits.DEFAULT


def test_every_code_has_its_page_in_the_catalogue_in_whole_sentences():
    assert list(catalogue.PAGES) == list(Code)
    assert all(page[0].isupper() and page.endswith(".") for page in catalogue.PAGES.values())
