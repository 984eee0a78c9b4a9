"""What lies beside the database is made whole again by the next pass."""

from __future__ import annotations

import pathlib

import pytest

from reconciler import bootstrap, choices, errors
from reconciler.services.clock import SystemClock
from reconciler.settings import Settings
from reconciler.source.scratch import ScratchRepository, example


async def test_a_package_file_that_went_missing_is_stored_again_by_the_next_pass(
    tmp_path: pathlib.Path,
) -> None:
    repository = ScratchRepository(tmp_path / "fleet")
    repository.copy(example("01-minimal"), "artifacts", "devices", "packages", "product.yaml")
    repository.commit("Declare")
    settings = Settings(repo=str(tmp_path / "fleet"), data_dir=tmp_path / "data")
    with bootstrap.opened(settings) as base:
        followed = choices.repository_of(settings)
        try:
            service = bootstrap.reconcile_of(base, followed, SystemClock())
            await service.run_pass()
            (stored,) = [path for path in (tmp_path / "data" / "files").rglob("*") if path.is_file()]
            content = stored.read_bytes()
            stored.unlink()
            await service.run_pass()
        finally:
            followed.close()
    assert stored.read_bytes() == content


async def test_a_package_file_that_does_not_fit_on_the_disk_is_named(tmp_path: pathlib.Path) -> None:
    repository = ScratchRepository(tmp_path / "fleet")
    repository.copy(example("01-minimal"), "artifacts", "devices", "packages", "product.yaml")
    repository.commit("Declare")
    settings = Settings(repo=str(tmp_path / "fleet"), data_dir=tmp_path / "data", disk_reserve=10**18)
    with bootstrap.opened(settings) as base:
        followed = choices.repository_of(settings)
        try:
            with pytest.raises(errors.TransientError) as caught:
                await bootstrap.reconcile_of(base, followed, SystemClock()).run_pass()
        finally:
            followed.close()
    assert caught.value.message.startswith("artifacts/thermostat-1.4.0.bin can't be stored: the disk of ")
    assert "--disk-reserve" in caught.value.remedy
