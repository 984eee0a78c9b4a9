"""Decides what becomes of a package's trial when its manifest is new, changed, or back (platform rules §3).

Called by `plan` with the action that accepts the package. A trial is a run of type Verify over the test devices: it is
made again when anything in `verification` changes, and what is left of the old one ends with that.
"""

from __future__ import annotations

import dataclasses

from reconciler.domain import desired as desires
from reconciler.domain.actions import Action
from reconciler.domain.actual import Stored, Verification
from reconciler.domain.lifecycle import UNFINISHED

BYPASS = "its verification failed, and without `verification` its batches start all the same"


def tried(accept: Action, stored: Stored | None) -> Action:
    """The action, with what it starts and cancels."""
    assert accept.declaration is not None
    wanted = desires.content(accept.declaration.resource, accept.declaration.files).get("verification")
    old = (stored.spec or {}).get("verification") if stored is not None else None
    run = stored.run if stored is not None else None
    if wanted == old:
        return accept
    if wanted is None:
        failed = stored is not None and stored.verification is Verification.FAILED
        accept = dataclasses.replace(accept, warnings=(BYPASS,) if failed else ())
    else:
        why = f"{accept.why}; its verification starts{' again' if run is not None else ''}"
        accept = dataclasses.replace(accept, why=why, starts_run=True)
    if run is None or not run.goes_on:
        return accept
    return dataclasses.replace(accept, cancels_run=True, statuses=UNFINISHED)


def unfinished(stored: Stored) -> str:
    """Why a package can't be deleted on account of its trial; empty when it can."""
    run = stored.run
    if run is None or not (run.goes_on or run.draining):
        return ""
    return "its verification is under way: wait for its end, or remove `verification` first"
