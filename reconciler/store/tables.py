"""The schema: every table, constraint and index, each with its reason.

Migrations make these tables in a real database; a test compares the two. The invariants that the code relies on
stand here a second time, so that a bug becomes an error instead of a doubled task.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from reconciler.domain import actual, lifecycle, limits, resources
from reconciler.store.columns import MILLISECOND, Moment, Number, Span, metadata, milliseconds, moment
from reconciler.store.columns import Id as _Id
from reconciler.store.columns import one_of as _one_of
from reconciler.store.file_tables import blob, fetch

__all__ = ["MILLISECOND", "Moment", "Number", "Span", "blob", "fetch", "metadata", "milliseconds", "moment"]

# One row: what the database knows about itself and the daemon that owns it.
daemon = Table(
    "daemon",
    metadata,
    Column("id", Integer, primary_key=True),
    # Raised at each start of a daemon. Claims and presence carry it, so what an earlier life knew can be told.
    Column("epoch", BigInteger, nullable=False),
    Column("heartbeat_at", Moment),
    # How often its operator lets a task be pushed, at most.
    Column("push_interval", Span),
    # The repository and ref that were taken over: one of their commits was applied and nothing of it was unknown.
    # Until then, what Git holds is seen for the first time.
    Column("origin", Text),
    CheckConstraint("id = 1", name="single"),
)

revision = Table(
    "revision",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("sha", String(64), nullable=False, unique=True),
    Column("ref", Text, nullable=False),
    Column("subject", Text, nullable=False, server_default=""),
    Column("author", Text, nullable=False, server_default=""),
    Column("observed_at", Moment, nullable=False),
)

# What Git declares, as it was last accepted. Identity is (source, kind, name).
object_ = Table(
    "object",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("source", Text, nullable=False, server_default="default"),
    Column("kind", String(32), nullable=False),
    Column("name", String(253), nullable=False),
    Column("path", Text, nullable=False),
    # What is in force. NULL: declared, but never accepted.
    Column("digest", String(64)),
    Column("spec", JSON(none_as_null=True)),
    # Labels and annotations, as declared.
    Column("metadata", JSON, nullable=False, server_default="{}"),
    Column("revision_id", _Id, ForeignKey("revision.id"), nullable=False),
    # What Git says now, which differs while a change is refused or held.
    Column("declared_digest", String(64), nullable=False, server_default=""),
    Column("removed", Boolean, nullable=False, server_default=text("0")),
    Column("held", String(32)),
    Column("confirmed_digest", String(64)),
    Column("sync", String(16), nullable=False),
    Column("reason", String(64), nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("source", "kind", "name"),
    _one_of("sync", ["Synced", "OutOfSync"], "sync"),
)

product = Table(
    "product",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("object_id", _Id, ForeignKey("object.id"), nullable=False, unique=True),
    Column("name", String(253), nullable=False, unique=True),
    Column("product_key", String(64), nullable=False, unique=True),
    Column("numeric_versions", Boolean, nullable=False),
    Column("auto_registration", Boolean, nullable=False),
    # How its devices are spoken to, and what they call MD5.
    Column("protocol", String(8), nullable=False, server_default="Aliyun"),
    Column("md5_name", String(8), nullable=False, server_default="Md5"),
    Column("modules", JSON, nullable=False),  # besides `default`
    # Where the private key is that signs what its devices are told: `env:NAME` or `file:PATH`. NULL: nothing is signed.
    Column("signing_key", Text),
    # Why it can't be used, and since when: nothing goes out then. The daemon looks, so it is held until that has.
    Column("signing_held", Text),
    Column("signing_held_at", Moment),
    Column("removed", Boolean, nullable=False, server_default=text("0")),
    _one_of("protocol", resources.Protocol, "protocol"),
    _one_of("md5_name", resources.Md5Name, "md5_name"),
)

package = Table(
    "package",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("object_id", _Id, ForeignKey("object.id"), nullable=False, unique=True),
    Column("name", String(253), nullable=False, unique=True),
    Column("product_id", _Id, ForeignKey("product.id"), nullable=False),
    Column("module", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    # Of a delta: the one version that it starts from.
    Column("source_version", String(64)),
    # How its trial stands; batches start only when none is required or it is verified.
    Column("verification", String(16), nullable=False, server_default="not-required"),
    Column("sign_method", String(8), nullable=False),
    Column("custom_info", Text),
    Column("removed", Boolean, nullable=False, server_default=text("0")),
    _one_of("verification", actual.Verification, "verification"),
)

# A package's files, numbered from 1 in the order of its manifest.
package_file = Table(
    "package_file",
    metadata,
    Column("package_id", _Id, ForeignKey("package.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("blob_id", _Id, ForeignKey("blob.id"), nullable=False),
    sqlite_with_rowid=False,
)

# A long list of names (and tags), kept by the digest of its content: staged before the transaction that uses it.
roster = Table(
    "roster",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("complete", Boolean, nullable=False),
)
roster_entry = Table(
    "roster_entry",
    metadata,
    Column("roster_id", _Id, ForeignKey("roster.id"), primary_key=True),
    Column("name", String(limits.LONGEST_NAME), primary_key=True),
    Column("tags", JSON(none_as_null=True)),
    sqlite_with_rowid=False,
)

inventory = Table(
    "inventory",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("object_id", _Id, ForeignKey("object.id"), nullable=False, unique=True),
    Column("product_id", _Id, ForeignKey("product.id"), nullable=False),
    Column("roster_id", _Id, ForeignKey("roster.id"), nullable=False),
    # How far its names are materialised into devices; NULL when done.
    Column("cursor", String(limits.LONGEST_NAME)),
    # After its names: up to which device (by id) those are removed that it names no more.
    Column("checked", _Id),
    Column("removed", Boolean, nullable=False, server_default=text("0")),
)

# A named set of devices. Static: its list, which a batch takes over when it is accepted. Dynamic: its selector.
device_group = Table(
    "device_group",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("object_id", _Id, ForeignKey("object.id"), nullable=False, unique=True),
    Column("name", String(253), nullable=False, unique=True),
    # NULL: over all products.
    Column("product_id", _Id, ForeignKey("product.id")),
    Column("roster_id", _Id, ForeignKey("roster.id")),
    Column("selector", JSON(none_as_null=True)),
    # The selector's module and version: who reports finds the groups that may care.
    Column("module", String(64)),
    Column("version", String(64)),
    Column("removed", Boolean, nullable=False, server_default=text("0")),
    # Up to which device (by id) its membership is worked out anew; NULL when it is complete.
    Column("cursor", _Id),
)

device = Table(
    "device",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("product_id", _Id, ForeignKey("product.id"), nullable=False),
    Column("name", String(limits.LONGEST_NAME), nullable=False),
    # Of product key and name: its place in every gray batch (domain.targeting).
    Column("hash31", Integer, nullable=False),
    # Declared: in an inventory. Registered: by an operator, or by itself. Removed: no longer targeted.
    Column("state", String(16), nullable=False),
    Column("inventory_id", _Id, ForeignKey("inventory.id")),
    Column("tags", JSON(none_as_null=True)),
    # Online when this is the running daemon's epoch: losing the stream changes no device row.
    Column("online_epoch", BigInteger),
    Column("session", BigInteger),
    Column("online_since", Moment),
    Column("last_seen_at", Moment),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("product_id", "name"),
    _one_of("state", ["declared", "registered", "removed"], "state"),
    Index("ix_device_inventory", "inventory_id", sqlite_where=text("inventory_id IS NOT NULL")),
)

# Who is in a dynamic group. A row stays when its device leaves: `joins` counts how often it came.
membership = Table(
    "membership",
    metadata,
    Column("group_id", _Id, ForeignKey("device_group.id"), primary_key=True),
    Column("device_id", _Id, ForeignKey("device.id"), primary_key=True),
    Column("present", Boolean, nullable=False),
    Column("joins", Integer, nullable=False),
    Index("ix_membership_device", "device_id"),
    sqlite_with_rowid=False,
)

identity = Table(
    "identity",
    metadata,
    Column("device_id", _Id, ForeignKey("device.id"), primary_key=True),
    Column("secret", LargeBinary, nullable=False),  # encrypted (identities.py)
    Column("created_at", Moment, nullable=False),
    Column("rotated_at", Moment),
)

# Who may ask the API. Only digests: a copy of the database opens nothing (tokens.py).
token = Table(
    "token",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
    _one_of("role", ["read"], "role"),
)

device_version = Table(
    "device_version",
    metadata,
    Column("device_id", _Id, ForeignKey("device.id"), primary_key=True),
    Column("module", String(64), primary_key=True),
    Column("product_id", _Id, nullable=False),
    Column("version", String(64), nullable=False),
    Column("reported_at", Moment, nullable=False),
    Index("ix_device_version_distribution", "product_id", "module", "version"),
    sqlite_with_rowid=False,
)

# One life of a batch, or of a package's verification.
run = Table(
    "run",
    metadata,
    Column("id", _Id, primary_key=True),  # in the order of acceptance
    Column("object_id", _Id, ForeignKey("object.id"), nullable=False),
    Column("batch", String(253), nullable=False),
    Column("number", Integer, nullable=False),
    Column("type", String(8), nullable=False),
    Column("product_id", _Id, ForeignKey("product.id"), nullable=False),
    Column("package_id", _Id, ForeignKey("package.id"), nullable=False),
    Column("revision_id", _Id, ForeignKey("revision.id"), nullable=False),
    Column("phase", String(16), nullable=False),
    # Whom it is for: a list, a dynamic group, a share in thousandths of a percent, or everybody.
    Column("roster_id", _Id, ForeignKey("roster.id")),
    Column("group_id", _Id, ForeignKey("device_group.id")),
    Column("gray", Integer),
    Column("new_reports_only", Boolean, nullable=False, server_default=text("0")),
    # Conditions on a device's version (domain.targeting.Conditions).
    Column("module", String(64), nullable=False),
    Column("target_version", String(64), nullable=False),
    Column("source_versions", JSON, nullable=False),
    Column("allow_downgrade", Boolean, nullable=False),
    Column("delta", Boolean, nullable=False, server_default=text("0")),
    # How its tasks go.
    Column("conflict", String(16), nullable=False, server_default="Keep"),
    Column("multi_module", Boolean, nullable=False, server_default=text("0")),
    Column("confirm", Boolean, nullable=False, server_default=text("0")),
    Column("push_rate", Integer, nullable=False),
    Column("push_delivery", Boolean, nullable=False),
    Column("timeout", Span),
    Column("no_response", Span),
    Column("retry_interval", Span),
    Column("retry_limit", Integer, nullable=False, server_default=text("0")),
    Column("download", String(8), nullable=False, server_default="Auto"),
    Column("tags", JSON, nullable=False),
    # When.
    Column("start_at", Moment),
    Column("end_at", Moment),
    Column("schedule_ended", Boolean, nullable=False, server_default=text("0")),
    # Suspended in Git, or by an operator: either is enough.
    Column("suspended", Boolean, nullable=False, server_default=text("0")),
    Column("suspended_by", Text),
    Column("suspended_at", Moment),
    Column("canceled_by", Text),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    # A static one: when it had chosen all its devices, and the newest (by id) that it looked at. NULL: it has not, or
    # was over before.
    Column("chosen_at", Moment),
    Column("horizon", _Id),
    Column("ended_at", Moment),
    UniqueConstraint("object_id", "number"),
    _one_of("type", actual.RunType, "type"),
    _one_of("phase", actual.Phase, "phase"),
    _one_of("conflict", resources.Conflict, "conflict"),
    Index("ix_run_open", "phase", sqlite_where=text("phase IN ('PLANNED', 'IN_PROGRESS')")),
    Index("ix_run_dynamic", "product_id", sqlite_where=text("type = 'Dynamic' AND phase = 'IN_PROGRESS'")),
)

# Work on a run's devices or tasks that is done in chunks, each one transaction that moves the cursor.
job = Table(
    "job",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_id", _Id, ForeignKey("run.id"), nullable=False),
    Column("type", String(8), nullable=False),
    # The last device that was done: its name while tasks are created, else its id.
    Column("cursor", String(limits.LONGEST_NAME), nullable=False, server_default=""),
    Column("arguments", JSON, nullable=False),
    _one_of("type", ["create", "start", "cancel", "end", "scan"], "type"),
    Index("ix_job_run", "run_id"),
)

# One batch's work on one device's module. Columns that move with every progress report are in no index.
task = Table(
    "task",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_id", _Id, ForeignKey("run.id"), nullable=False),
    Column("device_id", _Id, ForeignKey("device.id"), nullable=False),
    Column("module", String(64), nullable=False),
    Column("match_no", Integer, nullable=False, server_default=text("0")),
    Column("revision_id", _Id, ForeignKey("revision.id"), nullable=False),
    Column("status", String(16), nullable=False),
    # `retry`: a failed attempt is pushed again at retry_at. `behind`: waits for another task of its device.
    Column("hold", String(8), nullable=False, server_default="none"),
    Column("reason", String(32)),
    Column("holds", Boolean, nullable=False),  # occupies its device's slot
    Column("multi", Boolean, nullable=False, server_default=text("0")),  # … of its module only
    Column("source_version", String(64)),
    Column("push_due_at", Moment),
    Column("claim_epoch", BigInteger),
    Column("pushes", Integer, nullable=False, server_default=text("0")),
    Column("first_pushed_at", Moment),
    Column("last_pushed_at", Moment),
    Column("started_at", Moment),
    Column("deadline_at", Moment),
    Column("attempt", Integer, nullable=False, server_default=text("0")),  # retries so far
    Column("retry_at", Moment),
    # The message that was the last failure: its repeat is not another one.
    Column("failure_mark", LargeBinary),
    Column("step", Integer),
    Column("step_description", Text, nullable=False, server_default=""),
    Column("created_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("late_at", Moment),
    Column("late_success", Boolean, nullable=False, server_default=text("0")),
    UniqueConstraint("run_id", "device_id", "module", "match_no"),
    _one_of("status", lifecycle.Status, "status"),
    _one_of("hold", lifecycle.Hold, "hold"),
    CheckConstraint(
        "(status IN ('SUCCEEDED', 'FAILED', 'CANCELED')) = (ended_at IS NOT NULL)", name="ended_has_time"
    ),
    CheckConstraint("NOT (holds AND ended_at IS NOT NULL)", name="ended_holds_nothing"),
    # One unfinished task per device and module, and one per device that is not a multi-module one. (The two kinds
    # exclude each other, too; that is in the statements.) Written as statements have it: `holds` alone is not chosen.
    Index("ix_task_slot", "device_id", "module", unique=True, sqlite_where=text("holds = 1")),
    Index("ix_task_slot_x", "device_id", unique=True, sqlite_where=text("holds = 1 AND multi = 0")),
    Index("ix_task_behind", "device_id", "id", sqlite_where=text("hold = 'behind'")),
    Index("ix_task_confirm", "run_id", "device_id", sqlite_where=text("status = 'CONFIRM'")),
    Index("ix_task_push", "run_id", "push_due_at", sqlite_where=text("push_due_at IS NOT NULL")),
    Index("ix_task_due", "deadline_at", sqlite_where=text("deadline_at IS NOT NULL")),
    Index("ix_task_retry", "retry_at", sqlite_where=text("retry_at IS NOT NULL")),
    Index("ix_task_claim", "claim_epoch", sqlite_where=text("claim_epoch IS NOT NULL")),
    Index("ix_task_device", "device_id", "module", "ended_at"),
)

# Counts by status (and, for failures, by reason): moved in the transaction that moves the tasks.
task_count = Table(
    "task_count",
    metadata,
    Column("run_id", _Id, ForeignKey("run.id"), primary_key=True),
    Column("status", String(16), primary_key=True),
    Column("reason", String(32), primary_key=True),
    Column("count", BigInteger, nullable=False),
    CheckConstraint("count >= 0", name="not_negative"),
    sqlite_with_rowid=False,
)

# Devices that a run names but does not upgrade, and why.
left_out = Table(
    "left_out",
    metadata,
    Column("run_id", _Id, ForeignKey("run.id"), primary_key=True),
    Column("device_id", _Id, ForeignKey("device.id"), primary_key=True),
    Column("reason", String(32), nullable=False),
    Column("version", String(64)),
    sqlite_with_rowid=False,
)

rate_slot = Table(
    "rate_slot",
    metadata,
    Column("run_id", _Id, ForeignKey("run.id"), primary_key=True),
    Column("second", BigInteger, primary_key=True),
    Column("pushed", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Append-only: a trigger in the migration refuses updates.
event = Table(
    "event",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("type", String(32), nullable=False),
    Column("kind", String(32)),
    Column("name", String(253)),
    Column("run_id", _Id),
    Column("task_id", _Id),
    Column("device_id", _Id),
    Column("revision_id", _Id),
    Column("from_status", String(16)),
    Column("to_status", String(16)),
    Column("reason", String(64)),
    Column("message", Text, nullable=False, server_default=""),
    Index("ix_event_run", "run_id", "id", sqlite_where=text("run_id IS NOT NULL")),
    Index("ix_event_device", "device_id", "id", sqlite_where=text("device_id IS NOT NULL")),
)

# What operators asked for; the daemon carries it out.
command = Table(
    "command",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("type", String(32), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("done_at", Moment),
    Column("result", Text),
    Column("ok", Boolean),
    Index("ix_command_open", "done_at", sqlite_where=text("done_at IS NULL")),
)

# How many cancellations of one commit somebody confirmed (manifests "How a change is read").
confirmation = Table(
    "confirmation",
    metadata,
    Column("sha", String(64), primary_key=True),
    Column("cancels", Integer, nullable=False),
    Column("who", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)

# Hashes of the newest messages, as many as may be unacknowledged: a redelivery is recognised after a crash. A row
# holds those of one burst, end to end; its id counts messages: it is the number of the burst's last one.
seen_message = Table(
    "seen_message",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("hashes", LargeBinary, nullable=False),
)
