"""The first schema

Revision: 0001, after None
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('blob',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('md5', sa.String(length=32), nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('stored', sa.Boolean(), server_default=sa.text('1'), nullable=False),
    sa.Column('unused_since', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_blob')),
    sa.UniqueConstraint('sha256', name=op.f('uq_blob_sha256'))
    )
    op.create_table('command',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('type', sa.String(length=32), nullable=False),
    sa.Column('arguments', sa.JSON(), nullable=False),
    sa.Column('who', sa.Text(), nullable=False),
    sa.Column('why', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('done_at', sa.BigInteger(), nullable=True),
    sa.Column('result', sa.Text(), nullable=True),
    sa.Column('ok', sa.Boolean(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_command'))
    )
    op.create_index('ix_command_open', 'command', ['done_at'], unique=False, sqlite_where=sa.text('done_at IS NULL'))
    op.create_table('confirmation',
    sa.Column('sha', sa.String(length=64), nullable=False),
    sa.Column('cancels', sa.Integer(), nullable=False),
    sa.Column('who', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('sha', name=op.f('pk_confirmation'))
    )
    op.create_table('daemon',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('heartbeat_at', sa.BigInteger(), nullable=True),
    sa.Column('push_interval', sa.BigInteger(), nullable=True),
    sa.Column('origin', sa.Text(), nullable=True),
    sa.CheckConstraint('id = 1', name=op.f('ck_daemon_single')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_daemon'))
    )
    op.create_table('event',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('type', sa.String(length=32), nullable=False),
    sa.Column('kind', sa.String(length=32), nullable=True),
    sa.Column('name', sa.String(length=253), nullable=True),
    sa.Column('run_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('task_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('device_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('revision_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('from_status', sa.String(length=16), nullable=True),
    sa.Column('to_status', sa.String(length=16), nullable=True),
    sa.Column('reason', sa.String(length=64), nullable=True),
    sa.Column('message', sa.Text(), server_default='', nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_event'))
    )
    op.create_index('ix_event_device', 'event', ['device_id', 'id'], unique=False, sqlite_where=sa.text('device_id IS NOT NULL'))
    op.create_index('ix_event_run', 'event', ['run_id', 'id'], unique=False, sqlite_where=sa.text('run_id IS NOT NULL'))
    op.create_table('fetch',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('source', sa.Text(), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=True),
    sa.Column('received', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('total', sa.BigInteger(), nullable=True),
    sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('retry_at', sa.BigInteger(), nullable=True),
    sa.Column('failure', sa.String(length=8), nullable=True),
    sa.Column('message', sa.Text(), server_default='', nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("failure IN ('mismatch', 'refused')", name=op.f('ck_fetch_failure')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_fetch')),
    sa.UniqueConstraint('sha256', 'source', name=op.f('uq_fetch_sha256_source'))
    )
    op.create_table('revision',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('sha', sa.String(length=64), nullable=False),
    sa.Column('ref', sa.Text(), nullable=False),
    sa.Column('subject', sa.Text(), server_default='', nullable=False),
    sa.Column('author', sa.Text(), server_default='', nullable=False),
    sa.Column('observed_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_revision')),
    sa.UniqueConstraint('sha', name=op.f('uq_revision_sha'))
    )
    op.create_table('roster',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('complete', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_roster')),
    sa.UniqueConstraint('digest', name=op.f('uq_roster_digest'))
    )
    op.create_table('seen_message',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('hashes', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_seen_message'))
    )
    op.create_table('token',
    sa.Column('name', sa.String(length=64), nullable=False),
    sa.Column('role', sa.String(length=16), nullable=False),
    sa.Column('digest', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("role IN ('read')", name=op.f('ck_token_role')),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_token')),
    sa.UniqueConstraint('digest', name=op.f('uq_token_digest'))
    )
    op.create_table('object',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('source', sa.Text(), server_default='default', nullable=False),
    sa.Column('kind', sa.String(length=32), nullable=False),
    sa.Column('name', sa.String(length=253), nullable=False),
    sa.Column('path', sa.Text(), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=True),
    sa.Column('spec', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('metadata', sa.JSON(), server_default='{}', nullable=False),
    sa.Column('revision_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('declared_digest', sa.String(length=64), server_default='', nullable=False),
    sa.Column('removed', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.Column('held', sa.String(length=32), nullable=True),
    sa.Column('confirmed_digest', sa.String(length=64), nullable=True),
    sa.Column('sync', sa.String(length=16), nullable=False),
    sa.Column('reason', sa.String(length=64), server_default='', nullable=False),
    sa.Column('message', sa.Text(), server_default='', nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("sync IN ('Synced', 'OutOfSync')", name=op.f('ck_object_sync')),
    sa.ForeignKeyConstraint(['revision_id'], ['revision.id'], name=op.f('fk_object_revision_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_object')),
    sa.UniqueConstraint('source', 'kind', 'name', name=op.f('uq_object_source_kind_name'))
    )
    op.create_table('roster_entry',
    sa.Column('roster_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('name', sa.String(length=64), nullable=False),
    sa.Column('tags', sa.JSON(none_as_null=True), nullable=True),
    sa.ForeignKeyConstraint(['roster_id'], ['roster.id'], name=op.f('fk_roster_entry_roster_id')),
    sa.PrimaryKeyConstraint('roster_id', 'name', name=op.f('pk_roster_entry')),
    sqlite_with_rowid=False
    )
    op.create_table('product',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('object_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('name', sa.String(length=253), nullable=False),
    sa.Column('product_key', sa.String(length=64), nullable=False),
    sa.Column('numeric_versions', sa.Boolean(), nullable=False),
    sa.Column('auto_registration', sa.Boolean(), nullable=False),
    sa.Column('protocol', sa.String(length=8), server_default='Aliyun', nullable=False),
    sa.Column('md5_name', sa.String(length=8), server_default='Md5', nullable=False),
    sa.Column('modules', sa.JSON(), nullable=False),
    sa.Column('signing_key', sa.Text(), nullable=True),
    sa.Column('signing_held', sa.Text(), nullable=True),
    sa.Column('signing_held_at', sa.BigInteger(), nullable=True),
    sa.Column('removed', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.CheckConstraint("md5_name IN ('Md5', 'MD5')", name=op.f('ck_product_md5_name')),
    sa.CheckConstraint("protocol IN ('Aliyun', 'Sagoo')", name=op.f('ck_product_protocol')),
    sa.ForeignKeyConstraint(['object_id'], ['object.id'], name=op.f('fk_product_object_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_product')),
    sa.UniqueConstraint('name', name=op.f('uq_product_name')),
    sa.UniqueConstraint('object_id', name=op.f('uq_product_object_id')),
    sa.UniqueConstraint('product_key', name=op.f('uq_product_product_key'))
    )
    op.create_table('device_group',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('object_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('name', sa.String(length=253), nullable=False),
    sa.Column('product_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('roster_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('selector', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('module', sa.String(length=64), nullable=True),
    sa.Column('version', sa.String(length=64), nullable=True),
    sa.Column('removed', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.Column('cursor', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.ForeignKeyConstraint(['object_id'], ['object.id'], name=op.f('fk_device_group_object_id')),
    sa.ForeignKeyConstraint(['product_id'], ['product.id'], name=op.f('fk_device_group_product_id')),
    sa.ForeignKeyConstraint(['roster_id'], ['roster.id'], name=op.f('fk_device_group_roster_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_device_group')),
    sa.UniqueConstraint('name', name=op.f('uq_device_group_name')),
    sa.UniqueConstraint('object_id', name=op.f('uq_device_group_object_id'))
    )
    op.create_table('inventory',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('object_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('product_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('roster_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('cursor', sa.String(length=64), nullable=True),
    sa.Column('checked', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('removed', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.ForeignKeyConstraint(['object_id'], ['object.id'], name=op.f('fk_inventory_object_id')),
    sa.ForeignKeyConstraint(['product_id'], ['product.id'], name=op.f('fk_inventory_product_id')),
    sa.ForeignKeyConstraint(['roster_id'], ['roster.id'], name=op.f('fk_inventory_roster_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_inventory')),
    sa.UniqueConstraint('object_id', name=op.f('uq_inventory_object_id'))
    )
    op.create_table('package',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('object_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('name', sa.String(length=253), nullable=False),
    sa.Column('product_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('module', sa.String(length=64), nullable=False),
    sa.Column('version', sa.String(length=64), nullable=False),
    sa.Column('source_version', sa.String(length=64), nullable=True),
    sa.Column('verification', sa.String(length=16), server_default='not-required', nullable=False),
    sa.Column('sign_method', sa.String(length=8), nullable=False),
    sa.Column('custom_info', sa.Text(), nullable=True),
    sa.Column('removed', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.CheckConstraint("verification IN ('not-required', 'unverified', 'verifying', 'verified', 'failed')", name=op.f('ck_package_verification')),
    sa.ForeignKeyConstraint(['object_id'], ['object.id'], name=op.f('fk_package_object_id')),
    sa.ForeignKeyConstraint(['product_id'], ['product.id'], name=op.f('fk_package_product_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_package')),
    sa.UniqueConstraint('name', name=op.f('uq_package_name')),
    sa.UniqueConstraint('object_id', name=op.f('uq_package_object_id'))
    )
    op.create_table('package_file',
    sa.Column('package_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(length=64), nullable=False),
    sa.Column('blob_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.ForeignKeyConstraint(['blob_id'], ['blob.id'], name=op.f('fk_package_file_blob_id')),
    sa.ForeignKeyConstraint(['package_id'], ['package.id'], name=op.f('fk_package_file_package_id')),
    sa.PrimaryKeyConstraint('package_id', 'number', name=op.f('pk_package_file')),
    sqlite_with_rowid=False
    )
    op.create_table('device',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('product_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('name', sa.String(length=64), nullable=False),
    sa.Column('hash31', sa.Integer(), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('inventory_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('tags', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('online_epoch', sa.BigInteger(), nullable=True),
    sa.Column('session', sa.BigInteger(), nullable=True),
    sa.Column('online_since', sa.BigInteger(), nullable=True),
    sa.Column('last_seen_at', sa.BigInteger(), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("state IN ('declared', 'registered', 'removed')", name=op.f('ck_device_state')),
    sa.ForeignKeyConstraint(['inventory_id'], ['inventory.id'], name=op.f('fk_device_inventory_id')),
    sa.ForeignKeyConstraint(['product_id'], ['product.id'], name=op.f('fk_device_product_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_device')),
    sa.UniqueConstraint('product_id', 'name', name=op.f('uq_device_product_id_name'))
    )
    op.create_index('ix_device_inventory', 'device', ['inventory_id'], unique=False, sqlite_where=sa.text('inventory_id IS NOT NULL'))
    op.create_table('run',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('object_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('batch', sa.String(length=253), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('type', sa.String(length=8), nullable=False),
    sa.Column('product_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('package_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('revision_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('phase', sa.String(length=16), nullable=False),
    sa.Column('roster_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('group_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('gray', sa.Integer(), nullable=True),
    sa.Column('new_reports_only', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.Column('module', sa.String(length=64), nullable=False),
    sa.Column('target_version', sa.String(length=64), nullable=False),
    sa.Column('source_versions', sa.JSON(), nullable=False),
    sa.Column('allow_downgrade', sa.Boolean(), nullable=False),
    sa.Column('delta', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.Column('conflict', sa.String(length=16), server_default='Keep', nullable=False),
    sa.Column('multi_module', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.Column('confirm', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.Column('push_rate', sa.Integer(), nullable=False),
    sa.Column('push_delivery', sa.Boolean(), nullable=False),
    sa.Column('timeout', sa.BigInteger(), nullable=True),
    sa.Column('no_response', sa.BigInteger(), nullable=True),
    sa.Column('retry_interval', sa.BigInteger(), nullable=True),
    sa.Column('retry_limit', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('download', sa.String(length=8), server_default='Auto', nullable=False),
    sa.Column('tags', sa.JSON(), nullable=False),
    sa.Column('start_at', sa.BigInteger(), nullable=True),
    sa.Column('end_at', sa.BigInteger(), nullable=True),
    sa.Column('schedule_ended', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.Column('suspended', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.Column('suspended_by', sa.Text(), nullable=True),
    sa.Column('suspended_at', sa.BigInteger(), nullable=True),
    sa.Column('canceled_by', sa.Text(), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('chosen_at', sa.BigInteger(), nullable=True),
    sa.Column('horizon', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("conflict IN ('Keep', 'Overwrite', 'Wait')", name=op.f('ck_run_conflict')),
    sa.CheckConstraint("phase IN ('PLANNED', 'IN_PROGRESS', 'COMPLETED', 'CANCELED')", name=op.f('ck_run_phase')),
    sa.CheckConstraint("type IN ('Static', 'Dynamic', 'Verify')", name=op.f('ck_run_type')),
    sa.ForeignKeyConstraint(['group_id'], ['device_group.id'], name=op.f('fk_run_group_id')),
    sa.ForeignKeyConstraint(['object_id'], ['object.id'], name=op.f('fk_run_object_id')),
    sa.ForeignKeyConstraint(['package_id'], ['package.id'], name=op.f('fk_run_package_id')),
    sa.ForeignKeyConstraint(['product_id'], ['product.id'], name=op.f('fk_run_product_id')),
    sa.ForeignKeyConstraint(['revision_id'], ['revision.id'], name=op.f('fk_run_revision_id')),
    sa.ForeignKeyConstraint(['roster_id'], ['roster.id'], name=op.f('fk_run_roster_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_run')),
    sa.UniqueConstraint('object_id', 'number', name=op.f('uq_run_object_id_number'))
    )
    op.create_index('ix_run_dynamic', 'run', ['product_id'], unique=False, sqlite_where=sa.text("type = 'Dynamic' AND phase = 'IN_PROGRESS'"))
    op.create_index('ix_run_open', 'run', ['phase'], unique=False, sqlite_where=sa.text("phase IN ('PLANNED', 'IN_PROGRESS')"))
    op.create_table('device_version',
    sa.Column('device_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('module', sa.String(length=64), nullable=False),
    sa.Column('product_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('version', sa.String(length=64), nullable=False),
    sa.Column('reported_at', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['device_id'], ['device.id'], name=op.f('fk_device_version_device_id')),
    sa.PrimaryKeyConstraint('device_id', 'module', name=op.f('pk_device_version')),
    sqlite_with_rowid=False
    )
    op.create_index('ix_device_version_distribution', 'device_version', ['product_id', 'module', 'version'], unique=False)
    op.create_table('identity',
    sa.Column('device_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('secret', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('rotated_at', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['device_id'], ['device.id'], name=op.f('fk_identity_device_id')),
    sa.PrimaryKeyConstraint('device_id', name=op.f('pk_identity'))
    )
    op.create_table('job',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('run_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('type', sa.String(length=8), nullable=False),
    sa.Column('cursor', sa.String(length=64), server_default='', nullable=False),
    sa.Column('arguments', sa.JSON(), nullable=False),
    sa.CheckConstraint("type IN ('create', 'start', 'cancel', 'end', 'scan')", name=op.f('ck_job_type')),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_job_run_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_job'))
    )
    op.create_index('ix_job_run', 'job', ['run_id'], unique=False)
    op.create_table('left_out',
    sa.Column('run_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('device_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('reason', sa.String(length=32), nullable=False),
    sa.Column('version', sa.String(length=64), nullable=True),
    sa.ForeignKeyConstraint(['device_id'], ['device.id'], name=op.f('fk_left_out_device_id')),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_left_out_run_id')),
    sa.PrimaryKeyConstraint('run_id', 'device_id', name=op.f('pk_left_out')),
    sqlite_with_rowid=False
    )
    op.create_table('membership',
    sa.Column('group_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('device_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('present', sa.Boolean(), nullable=False),
    sa.Column('joins', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['device_id'], ['device.id'], name=op.f('fk_membership_device_id')),
    sa.ForeignKeyConstraint(['group_id'], ['device_group.id'], name=op.f('fk_membership_group_id')),
    sa.PrimaryKeyConstraint('group_id', 'device_id', name=op.f('pk_membership')),
    sqlite_with_rowid=False
    )
    op.create_index('ix_membership_device', 'membership', ['device_id'], unique=False)
    op.create_table('rate_slot',
    sa.Column('run_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('second', sa.BigInteger(), nullable=False),
    sa.Column('pushed', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_rate_slot_run_id')),
    sa.PrimaryKeyConstraint('run_id', 'second', name=op.f('pk_rate_slot')),
    sqlite_with_rowid=False
    )
    op.create_table('task',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('run_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('device_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('module', sa.String(length=64), nullable=False),
    sa.Column('match_no', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('revision_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('hold', sa.String(length=8), server_default='none', nullable=False),
    sa.Column('reason', sa.String(length=32), nullable=True),
    sa.Column('holds', sa.Boolean(), nullable=False),
    sa.Column('multi', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.Column('source_version', sa.String(length=64), nullable=True),
    sa.Column('push_due_at', sa.BigInteger(), nullable=True),
    sa.Column('claim_epoch', sa.BigInteger(), nullable=True),
    sa.Column('pushes', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('first_pushed_at', sa.BigInteger(), nullable=True),
    sa.Column('last_pushed_at', sa.BigInteger(), nullable=True),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('deadline_at', sa.BigInteger(), nullable=True),
    sa.Column('attempt', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('retry_at', sa.BigInteger(), nullable=True),
    sa.Column('failure_mark', sa.LargeBinary(), nullable=True),
    sa.Column('step', sa.Integer(), nullable=True),
    sa.Column('step_description', sa.Text(), server_default='', nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.Column('late_at', sa.BigInteger(), nullable=True),
    sa.Column('late_success', sa.Boolean(), server_default=sa.text('0'), nullable=False),
    sa.CheckConstraint("(status IN ('SUCCEEDED', 'FAILED', 'CANCELED')) = (ended_at IS NOT NULL)", name=op.f('ck_task_ended_has_time')),
    sa.CheckConstraint("hold IN ('none', 'retry', 'behind')", name=op.f('ck_task_hold')),
    sa.CheckConstraint("status IN ('CONFIRM', 'QUEUED', 'NOTIFIED', 'IN_PROGRESS', 'SUCCEEDED', 'FAILED', 'CANCELED')", name=op.f('ck_task_status')),
    sa.CheckConstraint('NOT (holds AND ended_at IS NOT NULL)', name=op.f('ck_task_ended_holds_nothing')),
    sa.ForeignKeyConstraint(['device_id'], ['device.id'], name=op.f('fk_task_device_id')),
    sa.ForeignKeyConstraint(['revision_id'], ['revision.id'], name=op.f('fk_task_revision_id')),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_task_run_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_task')),
    sa.UniqueConstraint('run_id', 'device_id', 'module', 'match_no', name=op.f('uq_task_run_id_device_id_module_match_no'))
    )
    op.create_index('ix_task_behind', 'task', ['device_id', 'id'], unique=False, sqlite_where=sa.text("hold = 'behind'"))
    op.create_index('ix_task_claim', 'task', ['claim_epoch'], unique=False, sqlite_where=sa.text('claim_epoch IS NOT NULL'))
    op.create_index('ix_task_confirm', 'task', ['run_id', 'device_id'], unique=False, sqlite_where=sa.text("status = 'CONFIRM'"))
    op.create_index('ix_task_device', 'task', ['device_id', 'module', 'ended_at'], unique=False)
    op.create_index('ix_task_due', 'task', ['deadline_at'], unique=False, sqlite_where=sa.text('deadline_at IS NOT NULL'))
    op.create_index('ix_task_push', 'task', ['run_id', 'push_due_at'], unique=False, sqlite_where=sa.text('push_due_at IS NOT NULL'))
    op.create_index('ix_task_retry', 'task', ['retry_at'], unique=False, sqlite_where=sa.text('retry_at IS NOT NULL'))
    op.create_index('ix_task_slot', 'task', ['device_id', 'module'], unique=True, sqlite_where=sa.text('holds = 1'))
    op.create_index('ix_task_slot_x', 'task', ['device_id'], unique=True, sqlite_where=sa.text('holds = 1 AND multi = 0'))
    op.create_table('task_count',
    sa.Column('run_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('reason', sa.String(length=32), nullable=False),
    sa.Column('count', sa.BigInteger(), nullable=False),
    sa.CheckConstraint('count >= 0', name=op.f('ck_task_count_not_negative')),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_task_count_run_id')),
    sa.PrimaryKeyConstraint('run_id', 'status', 'reason', name=op.f('pk_task_count')),
    sqlite_with_rowid=False
    )
    # The log is append-only: what was written stays as it was written, until retention deletes it.
    op.execute(
        "CREATE TRIGGER event_append_only BEFORE UPDATE ON event "
        "BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END"
    )
