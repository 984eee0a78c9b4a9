"""A manifest on its way to be judged together with the others.

Made by `validate`; `references` and `advice` judge it.
"""

from __future__ import annotations

import dataclasses

from reconciler.domain.desired import Key
from reconciler.domain.diagnostics import Place
from reconciler.domain.resources import Location, Resource
from reconciler.domain.resources.partial import Partial
from reconciler.source import explain
from reconciler.source.documents import Document


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A manifest that is valid by itself; or what is sound of one that isn't."""

    key: Key
    resource: Resource | Partial
    document: Document
    path: str

    @property
    def subject(self) -> explain.Subject:
        """What diagnostics about it are about."""
        return explain.Subject(self.document, self.path, str(self.key))

    def place(self, location: Location) -> Place:
        """Where a field of it stands."""
        return self.subject.place(location)
