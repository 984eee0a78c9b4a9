"""What Prometheus sees: few metrics, low in cardinality, never a device.

Numbers that live in the process are read when they are asked for; those of the database are refreshed every few
seconds beside the loop, so that `/metrics` never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

import reconciler
from reconciler import errors
from reconciler.services.dispatch import Dispatch
from reconciler.services.ingest import Ingest
from reconciler.services.reconcile import Reconcile
from reconciler.services.sweep import Sweep
from reconciler.store import status
from reconciler.store.database import Database
from reconciler.transport.base import Intake, Transport

_REFRESH_SECONDS = 5.0


@dataclasses.dataclass(slots=True)
class Sources:
    """Where the numbers come from."""

    reconcile: Reconcile
    ingest: Ingest
    dispatch: Dispatch
    sweep: Sweep
    intake: Intake
    transport: Transport
    downloads: Mapping[str, int]
    """Requests for downloads by how they ended."""
    downloads_running: Callable[[], int]
    damaged_files: Callable[[], int]
    """How many files of the store were found to be other ones."""
    objects: list[status.Object] = dataclasses.field(default_factory=list)
    """What the database said last."""


class Metrics:
    """The collector behind `/metrics`."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(self)

    async def run(self, database: Database) -> None:
        """Refreshes what comes from the database, until cancelled."""
        while True:
            # the old numbers are better than none; readiness tells of an outage
            with contextlib.suppress(errors.ReconcilerError):
                self._sources.objects = await database.read(status.states)
            await asyncio.sleep(_REFRESH_SECONDS)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        yield InfoMetricFamily("reconciler_build", "This program.", {"version": reconciler.__version__})
        yield from self._passes()
        yield from self._traffic()
        yield from self._downloads()
        yield from self._objects()

    def _passes(self) -> Iterable[Metric]:
        state = self._sources.reconcile.state
        passes = CounterMetricFamily("reconciler_reconcile", "Passes by result.", labels=["result"])
        passes.add_metric(["success"], state.passes - state.failures)
        passes.add_metric(["failure"], state.failures)
        yield passes
        yield GaugeMetricFamily(
            "reconciler_reconcile_duration_seconds", "Duration of the last pass.", value=state.last_duration
        )
        last = state.last_success.timestamp() if state.last_success else 0.0
        yield GaugeMetricFamily(
            "reconciler_last_successful_reconcile_timestamp_seconds",
            "When a pass last succeeded.",
            value=last,
        )
        yield GaugeMetricFamily(
            "reconciler_loop_heartbeat_timestamp_seconds",
            "When the event loop was last seen at work.",
            value=self._sources.sweep.seen_at.timestamp(),
        )

    def _traffic(self) -> Iterable[Metric]:
        messages = CounterMetricFamily(
            "reconciler_messages", "Messages of devices by topic and result.", labels=["topic", "result"]
        )
        for (route, result), count in sorted(self._sources.ingest.counted.items()):
            messages.add_metric([route, result], count)
        yield messages
        pushes = CounterMetricFamily("reconciler_pushes", "Pushes by how they ended.", labels=["result"])
        for result, count in sorted(self._sources.dispatch.counted.items()):
            pushes.add_metric([result], count)
        yield pushes
        events = CounterMetricFamily(
            "reconciler_transport", "What the way to the devices counted, by event.", labels=["event"]
        )
        for event, count in sorted(self._sources.transport.counts().items()):
            events.add_metric([event], count)
        yield events
        yield GaugeMetricFamily(
            "reconciler_ingest_lag_seconds",
            "Age of the oldest message that waits.",
            value=self._sources.intake.age(),
        )
        yield GaugeMetricFamily(
            "reconciler_intake_messages", "Messages that wait.", value=len(self._sources.intake)
        )

    def _downloads(self) -> Iterable[Metric]:
        ended = CounterMetricFamily(
            "reconciler_downloads", "Requests for downloads by how they ended.", labels=["result"]
        )
        for result, count in sorted(self._sources.downloads.items()):
            ended.add_metric([result], count)
        yield ended
        running = self._sources.downloads_running()
        yield GaugeMetricFamily("reconciler_downloads_running", "Downloads under way.", value=running)
        yield CounterMetricFamily(
            "reconciler_damaged_files",
            "Files of the store that were found altered, and are got again.",
            value=self._sources.damaged_files(),
        )

    def _objects(self) -> Iterable[Metric]:
        info = GaugeMetricFamily(
            "reconciler_resource_info",
            "1 for each object in Git.",
            labels=["kind", "name", "ready", "reason"],
        )
        tasks = GaugeMetricFamily("reconciler_batch_tasks", "Tasks by status.", labels=["batch", "status"])
        for found in self._sources.objects:
            info.add_metric([found.kind, found.name, str(found.synced).lower(), found.reason], 1)
            for name, count in (found.run.counts if found.run and found.kind == "Batch" else {}).items():
                tasks.add_metric([found.name, name], count)
        yield info
        yield tasks
