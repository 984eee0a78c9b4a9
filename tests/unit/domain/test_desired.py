from __future__ import annotations

import pickle

from reconciler.domain import desired, resources
from reconciler.domain.desired import DesiredState, FileFact, Key, RosterRef
from reconciler.domain.resources import Kind


def package(source: str = "a.bin", **spec):
    whole = {"product": "p", "version": "1", "files": [{"name": "a.bin", "source": source}], **spec}
    return resources.parse(
        Kind.PACKAGE, {"apiVersion": "ota/v1", "kind": "Package", "metadata": {"name": "x"}, "spec": whole}
    )


def batch(file: str, name: str = "b"):
    spec = {"package": "x", "target": {"devicesFrom": {"file": file}}}
    return resources.parse(
        Kind.BATCH, {"apiVersion": "ota/v1", "kind": "Batch", "metadata": {"name": name}, "spec": spec}
    )


def inventory(file: str):
    spec = {"product": "p", "devicesFrom": {"file": file}}
    return resources.parse(
        Kind.DEVICE_INVENTORY,
        {"apiVersion": "ota/v1", "kind": "DeviceInventory", "metadata": {"name": "i"}, "spec": spec},
    )


def test_a_digest_covers_the_file_but_not_where_it_lies():
    here = desired.declare(package("a.bin"), "p.yaml", 1, (FileFact("a.bin", 3, "aa", "bb"),))
    there = desired.declare(package("../b/a.bin"), "q/p.yaml", 9, (FileFact("b/a.bin", 3, "aa", "bb"),))
    changed = desired.declare(package("a.bin"), "p.yaml", 1, (FileFact("a.bin", 3, "ab", "bb"),))
    assert here.digest == there.digest != changed.digest


def test_saying_what_a_file_is_anyway_changes_no_digest():
    fact = FileFact("a.bin", 3, "aa", "bb")
    more = package(files=[{"name": "a.bin", "source": "a.bin", "size": 3}])
    assert (
        desired.declare(more, "p.yaml", 1, (fact,)).digest
        == desired.declare(package(), "p.yaml", 1, (fact,)).digest
    )


def test_a_digest_covers_every_file_and_their_order():
    def digest(*files):
        given = [{"name": f"{place}.bin", "source": f"{place}.bin"} for place in range(len(files))]
        return desired.declare(package(files=given), "p.yaml", 1, files).digest

    one, other = FileFact("0.bin", 3, "aa", "bb"), FileFact("1.bin", 3, "cc", "dd")
    assert len({digest(one), digest(one, other), digest(other, one), digest(one, one)}) == 4


def test_a_digest_does_not_say_where_a_file_came_from():
    there = desired.ForeignFile("https://builds.example/a.bin", None, "aa")
    assert (
        desired.declare(package(), "p.yaml", 1, (there,)).digest
        == desired.declare(package("a.bin"), "p.yaml", 1, (FileFact("a.bin", 3, "aa", "bb"),)).digest
    )


def test_a_digest_covers_a_list_of_devices_but_not_its_name():
    def digest(resource, sha):
        return desired.declare(resource, "b.yaml", 1, roster=RosterRef("x.csv", 5, sha, 1)).digest

    assert digest(batch("a.csv"), "aa") == digest(batch("b.csv"), "aa") != digest(batch("a.csv"), "ab")
    assert (
        digest(inventory("a.csv"), "aa")
        == digest(inventory("b.csv"), "aa")
        != digest(inventory("a.csv"), "ab")
    )


def test_an_object_is_gone_only_when_nothing_could_still_mean_it():
    key = Key(Kind.BATCH, "b")
    declared = desired.declare(batch("a.csv"), "b.yaml", 1)
    assert DesiredState().is_gone(key, "b.yaml")
    assert not DesiredState(declarations={key: declared}).is_gone(key, "b.yaml")
    assert not DesiredState(broken={key: ("why",)}).is_gone(key, "old.yaml")
    assert not DesiredState(broken_paths=frozenset({"b.yaml"})).is_gone(key, "b.yaml")
    assert DesiredState(broken_paths=frozenset({"c.yaml"})).is_gone(key, "b.yaml")


def test_objects_of_one_kind_come_by_name_with_their_type():
    declarations = [desired.declare(batch("a.csv", name), "b.yaml", 1) for name in ("b", "a")]
    declarations.append(desired.declare(package(), "p.yaml", 1))
    state = DesiredState(declarations={one.key: one for one in declarations})
    assert [found.name for found, _ in state.of(resources.Batch)] == ["a", "b"]
    assert str(declarations[0].key) == "Batch/b"


def test_a_state_can_be_sent_to_another_process():
    one = desired.declare(batch("a.csv"), "b.yaml", 1)
    state = DesiredState({one.key: one}, {Key(Kind.PACKAGE, "x"): ("why",)}, frozenset({"p.yaml"}))
    assert pickle.loads(pickle.dumps(state)) == state


def test_labels_and_annotations_are_kept_beside_the_digest():
    found = package()
    named = found.metadata.model_copy(update={"labels": {"team": "fw"}})
    plain = desired.declare(found, "a.yaml", 1)
    labelled = desired.declare(found.model_copy(update={"metadata": named}), "a.yaml", 1)
    assert (plain.metadata, labelled.metadata) == ({}, {"labels": {"team": "fw"}})
    assert labelled.digest == plain.digest
