"""The composition root: settings → adapters → services → tasks; and the way down again.

Everything that exists once in a process is made here and handed to who needs it. When one of the daemon's tasks
dies, all end and the process exits non-zero: its supervisor restarts it, and the state makes that safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import hmac
import logging
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from reconciler import certificates, choices, errors, process
from reconciler.artifacts import https, local, s3
from reconciler.artifacts.fetch import Fetcher
from reconciler.artifacts.origin import Origin
from reconciler.artifacts.room import Room
from reconciler.artifacts.store import FileStore
from reconciler.domain import downloads as way
from reconciler.domain import resources
from reconciler.protocol import broker_url, urls
from reconciler.services import apply, burst, materialize, operate, sweep
from reconciler.services.authenticate import DatabaseAuthenticator
from reconciler.services.bell import Bell
from reconciler.services.blocks import Blocks
from reconciler.services.clock import Clock, Jumps, SystemClock
from reconciler.services.collecting import Collecting
from reconciler.services.dispatch import Dispatch
from reconciler.services.fetching import Fetching
from reconciler.services.ingest import Ingest
from reconciler.services.metrics import Metrics, Sources
from reconciler.services.offers import Offers
from reconciler.services.planning import Planning
from reconciler.services.reconcile import Reconcile
from reconciler.services.sagoo_channel import SagooChannel
from reconciler.services.signing import Keyring, Signing
from reconciler.services.sweep import Sweep
from reconciler.services.verifying import Verifying
from reconciler.settings import Settings, address
from reconciler.source.repository import Repository
from reconciler.store import devices, fetches, granted, identities, products, pushes, tokens
from reconciler.store.database import Database
from reconciler.transport import endpoint, mqtt
from reconciler.transport.base import Intake, PresenceKind, Transport
from reconciler.web import app, downloads
from reconciler.web.api import Api
from reconciler.web.sagoo import Keys, SagooPaths
from reconciler.web.server import HttpServer

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """What every command that changes state stands on."""

    settings: Settings
    database: Database
    files: FileStore
    vault: identities.Vault
    url_key: bytes


def check_downloads(base: Base) -> None:
    """Says once what Auto means, and refuses to serve batches that ask for what is not configured any more.

    Raises:
        UserError: one asks for HTTPS, or HTTP, and devices can't be told a URL of that kind.
    """
    ways = choices.ways_of(base.settings)
    auto = way.resolve(resources.Download.AUTO, ways)
    _log.info("`download: Auto` means %s%s", auto, "" if ways.https else ": no https public URL is set")
    with base.database.reading() as connection:
        wanted = products.downloads(connection)
    for batch, download in wanted:
        why = way.unconfigured(resources.Download(download), ways)
        if why:
            remedy = "Or cancel the batch in Git with all of its tasks (onCancel), and run `reconciler apply` first."
            raise errors.UserError(f"batch {batch}, which is not over, {why}", remedy=remedy)


def sagoo_keys(settings: Settings) -> Keys | None:
    """What SagooIOT devices sign with when they ask over HTTP; None: they don't.

    Raises:
        UsageError: there is half of it.
    """
    access, secret = settings.sagoo_access_key, settings.sagoo_secret_key
    if bool(access) != bool(secret):
        raise errors.UsageError(
            "one of --sagoo-access-key and --sagoo-secret-key is missing", remedy="Give both, or none."
        )
    if settings.sagoo_http and not access:
        _log.warning(
            "SagooIOT devices ask over HTTP WITHOUT a login: anybody who reaches it can speak for any of them"
        )
    return Keys(access, secret) if access else None


def prepare_data_dir(settings: Settings) -> None:
    """Makes the data directory.

    Raises:
        UserError: it can't be made.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise errors.UserError(
            f"the data directory {settings.data_dir} can't be made: {error.strerror}",
            remedy="Choose another with --data-dir, or mend the permissions.",
        ) from error


def vault_of(settings: Settings) -> identities.Vault:
    """What opens device secrets: the key of the settings, or of the data directory."""
    key = settings.secret_key.encode() or identities.load_or_make_key(settings.data_dir / "secret.key")
    return identities.Vault(key)


def store_of(settings: Settings) -> FileStore:
    """Where firmware files lie."""
    folder = settings.data_dir / "files"
    return FileStore(folder, room=Room(folder, settings.disk_reserve))


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Base]:
    """The state, owned by this process alone: a data directory has one daemon.

    Raises:
        UserError: another process owns it, or something in it can't be used.
    """
    prepare_data_dir(settings)
    with _locked(settings.data_dir):
        files = store_of(settings)
        files.prepare()
        database = Database.open(settings.database_url, upgrade=True)
        key = settings.secret_key.encode() or identities.load_or_make_key(settings.data_dir / "secret.key")
        url_key = hmac.digest(key, b"download urls", hashlib.sha256)
        try:
            yield Base(settings, database, files, identities.Vault(key), url_key)
        finally:
            database.close()


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    with (data_dir / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise errors.UserError(
                f"the data directory {data_dir} belongs to a running daemon",
                remedy="It applies by itself; stop it, or choose another --data-dir.",
            ) from error
        yield


def fetching_of(base: Base, clock: Clock, arrived: Callable[[], None]) -> Fetching:
    """The service that fetches files from outside; `arrived` is called when a pass has something new to see.

    Raises:
        UserError: the certificates for it can't be read, or --s3-endpoint is wrong.
    """
    settings = base.settings
    tls = ssl.create_default_context()
    if settings.source_ca is not None:
        try:
            tls.load_verify_locations(settings.source_ca)
        except (OSError, ssl.SSLError) as error:
            raise errors.UserError(
                f"{settings.source_ca} can't be used: {error}", remedy="Give --source-ca a PEM file."
            ) from error
    client = https.Client(tls)
    origins: dict[str, Origin] = {
        "https": https.Https(client, private_redirects=settings.allow_private_redirects),
        "s3": s3.S3(client, endpoint=settings.s3_endpoint, region=settings.s3_region),
        "file": local.LocalFiles(settings.file_root),
    }
    fetcher = Fetcher(base.files, origins, settings.limits.file_bytes)
    return Fetching(base.database, fetcher, clock, arrived)


def reconcile_of(base: Base, repository: Repository, clock: Clock) -> Reconcile:
    """The reconcile service over a repository."""
    policy = choices.policy_of(base.settings)
    stage = apply.Stage(base.database, base.files, policy.limits)
    return Reconcile(base.database, repository, stage, clock, policy)


class Daemon:
    """Everything that `run` runs, and where it listens.

    Args:
        base: the state.
        transport: the way to the devices; None for the one that the settings name.
        clock: time.
    """

    def __init__(self, base: Base, clock: Clock | None = None, transport: Transport | None = None) -> None:
        self.base = base
        settings = base.settings
        choices.check_tls(settings)
        check_downloads(base)
        self._clock = clock or SystemClock()
        self._repository = choices.repository_of(settings)
        self.follows = f"{self._repository.url} {self._repository.ref}"
        """The repository and its ref, as logs may show them."""
        self.transport = transport or transport_of(base, self._clock)
        self._intake = Intake()
        self._verifying = Verifying(base.files, self._lost)
        self._server = HttpServer(
            self._app(),
            *address(settings.http_bind, "http_bind"),
            tls=_http_tls(settings, self._clock),
        )
        self.http_port = self._server.bind()
        self._public_urls = urls.check_bases(settings.public_url or self._own_url())
        self.public_url = self._public_urls.https or self._public_urls.http
        """Where devices reach the downloads of batches that don't say how."""
        self.reconcile = reconcile_of(base, self._repository, self._clock)
        self._fetching = fetching_of(base, self._clock, self.reconcile.wake)
        self._metrics: Metrics | None = None
        self._sweep: Sweep | None = None
        self.ready = asyncio.Event()
        """Set when devices can come."""

    async def devices_at(self) -> str:
        """Where devices connect, as logs may show it; known once they can."""
        if not isinstance(self.transport, endpoint.Endpoint):
            return str(broker_url.parse(self.base.settings.mqtt))
        await self.transport.listening()
        return ", ".join(self.transport.urls) or "nowhere: neither --mqtt-bind nor --mqtt-tls-bind is set"

    def _own_url(self) -> str:
        host, _ = address(self.base.settings.http_bind, "http_bind")
        scheme = "https" if self.base.settings.http_certificate else "http"
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
            host = "127.0.0.1"
            _log.warning(
                "no --public-url is set: devices are sent to 127.0.0.1, which only devices on this machine reach"
            )
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.http_port}"

    async def run(self) -> None:
        """Runs until cancelled."""
        process.prepare()
        base, clock = self.base, self._clock
        exact = self.transport.presence is PresenceKind.EXACT
        settle, now = choices.settle_of(base.settings), clock.now()
        push_at, interval = None if exact else now + settle, base.settings.limits.push_repeat_interval
        epoch = await base.database.write(sweep.take_over, now, push_at, interval)
        presence_epoch = epoch if exact else devices.ASSUMED_EPOCH
        signing = Signing(base.database, Keyring(), clock)
        offers = Offers(base.url_key, self._public_urls, signing.keyring)
        host = burst.Host(presence_epoch, settle, assumed_presence=not exact, limits=base.settings.limits)
        answers = self._blocks()
        ingest = Ingest(base.database, self.transport, clock, host, offers=offers, blocks=answers)
        presence = devices.Presence(presence_epoch, settle, base.settings.limits)
        claimant = pushes.Claimant(epoch, presence)
        intake, applied, jumps = self._intake, Bell(), Jumps(clock)
        dispatch = Dispatch(
            base.database, self.transport, clock, claimant, jumps=jumps, offers=offers, intake=intake
        )
        self._sweep = Sweep(
            base.database,
            self.transport,
            intake,
            clock,
            jumps=jumps,
            presence=presence,
            work=applied,
            pushes_due=ingest.pushes_due,
        )
        self._metrics = Metrics(Sources(
            self.reconcile, ingest, dispatch, self._sweep, intake, self.transport,
            downloads=self._downloads.counted, downloads_running=lambda: self._downloads.running,
            damaged_files=lambda: self._verifying.damaged,
        ))  # fmt: skip
        self._ingest = ingest
        self.reconcile.after_apply = lambda: self._after_apply(applied, signing)
        await self._after_apply(applied, signing)
        try:
            async with asyncio.TaskGroup() as group:
                start = group.create_task
                start(self._server.serve(), name="http")
                start(self.transport.serve(intake), name="transport")
                start(ingest.run(intake), name="ingest")
                start(dispatch.run(ingest.pushes_due), name="dispatch")
                start(self._sweep.live(), name="heartbeat")
                start(self._sweep.run(), name="sweep")
                start(
                    materialize.run(base.database, clock, presence, applied, self._materialised),
                    name="materialize",
                )
                start(self.reconcile.run(base.settings.interval), name="reconcile")
                start(self._carry_out_orders(presence, applied), name="operate")
                start(signing.run(), name="signing")
                start(self._metrics.run(base.database), name="metrics")
                start(self._fetching.run(), name="fetching")
                start(Collecting(base.database, base.files, clock, self._grace()).run(), name="collecting")
                self.ready.set()
        except BaseExceptionGroup as group:
            raise _cause(group) from group
        finally:
            self._close()

    def _close(self) -> None:
        self._verifying.close()
        self._repository.close()

    def _blocks(self) -> Blocks:
        base, limits = self.base, self.base.settings.limits
        return Blocks(
            base.database,
            self.transport,
            self._clock,
            self._verifying,
            most_bytes=limits.mqtt_blocks_bytes,
            most_waiting=limits.mqtt_blocks_waiting,
        )

    async def _after_apply(self, applied: Bell, signing: Signing) -> None:
        """What was applied reaches the signing keys, the transport and the materialisation."""
        await signing.look()
        self.transport.set_products(await self.base.database.read(devices.served_product_keys))
        applied.ring()
        self._fetching.due.ring()

    async def _materialised(self) -> None:
        """There are new devices, which may have come already, or new tasks for devices that are there."""
        await self._ingest.recognise()
        self._ingest.pushes_due.ring()

    async def _lost(self, sha256: str) -> None:
        """A file of the store is another one: no device is told of it, nor gets it, until it was got again."""
        try:
            await self.base.database.write(fetches.lose, [sha256])
        finally:
            self.reconcile.wake()

    def _grace(self) -> timedelta:
        return timedelta(seconds=self.base.settings.file_grace)

    async def _carry_out_orders(self, presence: devices.Presence, applied: Bell) -> None:
        def changed() -> None:
            self.reconcile.wake()
            applied.ring()

        ways = choices.ways_of(self.base.settings)
        await operate.run(self.base.database, self._clock, presence, ways, changed)

    # ---------------------------------------------------------------------------------------------- HTTP

    def _app(self) -> app.HttpApp:
        settings = self.base.settings
        limits = downloads.Limits(
            settings.downloads_at_once,
            settings.batch_downloads_at_once,
            settings.download_rate,
            settings.batch_download_rate,
        )
        self._downloads = downloads.Downloads(
            self.base.url_key, self._find_blob, lambda: int(self._clock.now().timestamp()), limits=limits
        )
        return app.create(
            self._downloads,
            heartbeat_age=self._heartbeat_age,
            checks=self._checks,
            metrics=self._metrics_text,
            sagoo=self._sagoo(),
            api=self._api(),
        )

    def _api(self) -> Api:
        settings, database = self.base.settings, self.base.database
        opened = functools.partial(choices.repository_of, settings, settings.data_dir / "mirror-of-plans")
        planning = Planning(database, self._clock, choices.policy_of(settings), opened)
        return Api(lambda token: database.read(tokens.opens, token, tokens.Role.READ), planning.plan)

    def _sagoo(self) -> SagooPaths | None:
        keys = sagoo_keys(self.base.settings)
        if not self.base.settings.sagoo_http:
            return None
        return SagooPaths(SagooChannel(self.base.database, self._intake), self._clock, keys)

    async def _find_blob(self, grant: urls.Grant) -> downloads.Blob | None:
        found = await self.base.database.read(granted.find, grant.blob_id, grant.task_id)
        if found is None:
            return None
        opening = functools.partial(self._verifying.open, found.sha256)
        return downloads.Blob(opening, found.size, found.sha256, found.batch)

    def _heartbeat_age(self) -> float:
        return self._clock.monotonic() - self._sweep.heartbeat if self._sweep else 0.0

    def _checks(self) -> Iterator[app.Check]:
        state = self.reconcile.state
        fetched = state.commit.revision if state.commit else "nothing was applied yet"
        yield "git", state.failing is None and state.commit is not None, state.failing or f"applied {fetched}"
        away = self._ingest.away or self._sweep.away if self._sweep else "not started"
        yield "database", away is None, away or "writable"
        health = self.transport.health()
        yield "devices", health.ok, health.message

    def _metrics_text(self) -> tuple[str, bytes]:
        if self._metrics is None:  # asked before everything was joined
            return "text/plain", b""
        return self._metrics.content_type, self._metrics.text()


def _cause(error: BaseException) -> BaseException:
    """The first error inside a group: the others were cancelled because of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def transport_of(base: Base, clock: Clock) -> Transport:
    """The way to the devices that the settings name.

    Raises:
        UserError: its URL, address or certificate can't be used.
    """
    settings = base.settings
    if settings.mqtt != "embedded":
        return _broker(settings)
    binds = []
    if settings.mqtt_bind:
        binds.append(endpoint.Bind(*address(settings.mqtt_bind, "mqtt_bind")))
    if settings.mqtt_tls_bind:
        binds.append(
            endpoint.Bind(*address(settings.mqtt_tls_bind, "mqtt_tls_bind"), tls=_mqtt_tls(settings, clock))
        )
    if settings.allow_anonymous_devices:
        _log.warning("devices log in WITHOUT a password: anybody who reaches the endpoint can be any device")
    authenticator = DatabaseAuthenticator(base.database, base.vault)
    limits = endpoint.EndpointLimits.of(settings.limits)
    return endpoint.Endpoint(
        binds, authenticator, limits=limits, allow_anonymous=settings.allow_anonymous_devices
    )


def _broker(settings: Settings) -> mqtt.MqttTransport:
    options = mqtt.MqttOptions(
        client_id=settings.mqtt_client_id,
        ca_file=settings.mqtt_ca,
        certificate=settings.mqtt_certificate,
        key=settings.mqtt_key,
        password=settings.mqtt_password or None,
    )
    return mqtt.MqttTransport(settings.mqtt, options)


def _http_tls(settings: Settings, clock: Clock) -> ssl.SSLContext | None:
    if settings.http_certificate is None:
        return None
    return certificates.FreshContext.of(settings.http_certificate, settings.http_key, now=clock.monotonic)


def _mqtt_tls(settings: Settings, clock: Clock) -> ssl.SSLContext:
    if settings.mqtt_certificate is None:
        raise errors.UserError(
            "the endpoint needs a certificate for TLS", remedy="Give --mqtt-certificate and --mqtt-key."
        )
    return certificates.FreshContext.of(settings.mqtt_certificate, settings.mqtt_key, now=clock.monotonic)
