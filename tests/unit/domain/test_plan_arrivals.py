"""Plans over packages whose files are somewhere else: nothing begins before they are here."""

from __future__ import annotations

import pytest
from plans import BATCH, PACKAGE, TRIAL, actual, base, batch, desired, diff, inventory, package, product, said

from reconciler.domain import conditions
from reconciler.domain.actual import Content, Fetch
from reconciler.domain.desired import ForeignFile
from reconciler.domain.plan import Reason

DIGEST, URL = "d" * 64, "https://files.example/app.bin?key=secret"
ELSEWHERE = ForeignFile(URL, None, DIGEST)
HERE = {DIGEST: Content(2000, "5" * 32)}


def fleet(file=ELSEWHERE, **spec):
    return desired(product(), package(file=file, **spec), inventory(), batch())


def waiting(fetch=None, **changes):
    return actual(fetches={(DIGEST, URL): fetch} if fetch else {}, **changes)


def message(planned, key=PACKAGE):
    (found,) = [verdict.message for verdict in planned.verdicts if verdict.key == key]
    return found


def test_a_package_and_its_batches_wait_for_a_file_that_is_not_here():
    planned = diff(fleet(), waiting())
    assert said(planned) == (
        ["create lamp", "create berlin"],
        {"lamp-2": Reason.FETCHING, "all": Reason.REFERENCE},
    )
    assert message(planned) == "fetching https://files.example/app.bin"
    assert message(planned, BATCH).endswith("it is accepted by itself when that is here")


def test_when_it_is_here_everything_goes_on():
    planned = diff(fleet(), waiting(files=HERE))
    assert said(planned) == (["create lamp", "create lamp-2", "create berlin", "create all"], {})


@pytest.mark.parametrize(
    ("fetch", "words"),
    [
        (Fetch(500, 2000), "fetching https://files.example/app.bin, 25% of 2,000 bytes"),
        (Fetch(500), "fetching https://files.example/app.bin, 500 bytes so far"),
        (Fetch(message="404"), "fetching https://files.example/app.bin; the last attempt: 404"),
    ],
)
def test_how_far_it_is_is_said(fetch, words):
    assert message(diff(fleet(), waiting(fetch))) == words


def test_a_file_that_will_never_come_says_so():
    planned = diff(fleet(), waiting(Fetch(message="another digest: mend it", failed=True)))
    assert said(planned)[1] == {"lamp-2": Reason.FETCH_FAILED, "all": Reason.REFERENCE}
    assert message(planned) == "https://files.example/app.bin: another digest: mend it"
    assert message(planned, BATCH).endswith("mend that first")


def test_a_file_that_is_here_in_another_size_than_the_manifest_says_is_another_file():
    planned = diff(fleet(ForeignFile(URL, 1999, DIGEST)), waiting(files=HERE))
    assert said(planned)[1]["lamp-2"] is Reason.FETCH_FAILED
    assert "has 2,000 bytes, not 1,999" in message(planned)
    assert said(diff(fleet(ForeignFile(URL, 2000, DIGEST)), waiting(files=HERE)))[1] == {}


def test_a_file_that_is_here_with_another_md5_than_the_manifest_says_is_another_file():
    planned = diff(fleet(ForeignFile(URL, None, DIGEST, "6" * 32)), waiting(files=HERE))
    assert said(planned)[1]["lamp-2"] is Reason.FETCH_FAILED
    assert f"MD5 is {'5' * 32}, not {'6' * 32}" in message(planned)
    assert said(diff(fleet(ForeignFile(URL, None, DIGEST, "5" * 32)), waiting(files=HERE)))[1] == {}


def test_a_trial_waits_for_the_file_too():
    planned = diff(fleet(verification=TRIAL), waiting())
    assert said(planned)[1]["lamp-2"] is Reason.FETCHING


def test_what_is_refused_anyway_is_not_waited_for():
    have = actual(
        product(), package(file=ForeignFile(URL, None, "e" * 64)), files={"e" * 64: Content(1, "5" * 32)}
    )
    assert said(diff(desired(product(), package(file=ELSEWHERE)), have))[1] == {"lamp-2": Reason.IMMUTABLE}


def test_a_package_in_force_whose_file_went_missing_lets_nothing_begin():
    one = package(file=ELSEWHERE)
    planned = diff(desired(product(), one, batch()), actual(product(), one))
    assert said(planned) == ([], {"lamp-2": Reason.FETCHING, "all": Reason.REFERENCE})
    assert said(diff(desired(product(), one), actual(product(), one, files=HERE))) == ([], {})


def test_who_only_asks_what_a_commit_means_takes_the_file_for_granted():
    planned = diff(fleet(), waiting(), awaits_files=False)
    assert said(planned) == (["create lamp", "create lamp-2", "create berlin", "create all"], {})
    (warned,) = [action for action in planned.actions if action.key == PACKAGE]
    assert warned.warnings == (
        "https://files.example/app.bin is fetched first, and nothing begins before it is here",
    )
    failed = diff(fleet(), waiting(Fetch(failed=True)), awaits_files=False)
    assert said(failed)[1]["lamp-2"] is Reason.FETCH_FAILED


def test_files_of_the_repository_are_nobodys_to_wait_for():
    assert said(diff(desired(*base()), actual()))[1] == {}


def test_a_package_that_is_being_fetched_is_on_its_way_and_not_stalled():
    from datetime import UTC, datetime

    facts = conditions.Facts(
        in_force=False,
        synced=False,
        reason=Reason.FETCHING,
        message="25%",
        changed_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    found = {one.type: (one.status, one.reason) for one in conditions.conditions(facts)}
    assert found == {
        "Ready": (False, "Fetching"),
        "Reconciling": (True, "Fetching"),
        "Stalled": (False, "NotStalled"),
    }
    assert conditions.health(facts) is conditions.Health.PROGRESSING
