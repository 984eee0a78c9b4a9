"""Which of the versions that devices report fit a batch: looked up and judged once, however often a plan asks.

Called by `census` and those who count with it. Of the dynamic runs that go by version only the newest one that fits
matches, so that no two of them are for the same versions.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from reconciler.domain import targeting
from reconciler.store import devices

_Versions = frozenset[str | None]
"""None: of devices that never reported."""


class Fitting:
    """What is known of versions.

    Args:
        connection: a reading transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._reported: dict[tuple[int, str], list[str]] = {}
        self._fitting: dict[tuple[int, targeting.Conditions], _Versions] = {}

    def reported(self, product_id: int, module: str) -> list[str]:
        """The distinct versions that a product's devices report."""
        asked = (product_id, module)
        if asked not in self._reported:
            self._reported[asked] = devices.reported_versions(self.connection, product_id, module)
        return self._reported[asked]

    def versions(
        self, product_id: int, conditions: targeting.Conditions, newer: Iterable[targeting.Conditions] = ()
    ) -> _Versions:
        """Those of them that fit, and that no newer run has."""
        fitting = self._of(product_id, conditions)
        taken = (self._of(product_id, other) for other in newer)
        return fitting.difference(*(versions - {None} for versions in taken)) if fitting else fitting

    def _of(self, product_id: int, conditions: targeting.Conditions) -> _Versions:
        asked = (product_id, conditions)
        if asked not in self._fitting:
            known = [None, *self.reported(product_id, conditions.module)]
            fitting = (version for version in known if targeting.judge(conditions, version) is None)
            self._fitting[asked] = frozenset(fitting)
        return self._fitting[asked]
