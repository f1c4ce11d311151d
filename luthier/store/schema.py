"""All tables. Knows no verbs: each noun's module beside this one has those.

Every table counts its rows by `pk`, an integer that grows; lists page by it, so a page costs the same at any depth.
What users delete keeps a row with `deleted_at`; its bytes go. After a change here run `python tools/migration.py`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows by itself only in a column that is exactly INTEGER; its integers have 64 bits anyway.
BIG: Final = BigInteger().with_variant(Integer(), "sqlite")
# A Python None becomes NULL, never the JSON text `null`.
DOCUMENT: Final = JSON(none_as_null=True)


def _pk() -> Column[int]:
    return Column("pk", BIG, primary_key=True, autoincrement=True)


def _id() -> Column[str]:
    return Column("id", String(64), nullable=False, unique=True)


def _project() -> Column[str]:
    return Column("project_id", String(64), ForeignKey("projects.id"), nullable=False)


def _created() -> Column[int]:
    return Column("created_at", BIG, nullable=False)


def _partial(name: str, *columns: str, where: str) -> Index:
    """An index of some rows alone: it costs as many as they are."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


organizations = Table("organizations", metadata, _pk(), _id(), Column("name", Text, nullable=False), _created())

projects = Table(
    "projects",
    metadata,
    _pk(),
    _id(),
    Column("organization_id", String(64), ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    _created(),
    Column("archived_at", BIG),
    # When a job of its last began to train: whose turn came longest ago is served first.
    Column("served_at", Float, nullable=False, server_default="0"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("name", Text, nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("hint", String(8), nullable=False),
    Column("scopes", DOCUMENT, nullable=False),
    _created(),
    Column("last_used_at", BIG),
    Column("expires_at", BIG),
    Column("revoked_at", BIG),
    Index(None, "project_id", "pk"),
)

# What was done to keys, projects and permissions.
audit_logs = Table(
    "audit_logs",
    metadata,
    _pk(),
    _id(),
    Column("organization_id", String(64), ForeignKey("organizations.id"), nullable=False),
    _project(),
    Column("key_id", String(64), nullable=False),
    Column("type", String(64), nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("data", DOCUMENT, nullable=False),
    _created(),
    Index(None, "organization_id", "pk"),
)

files = Table(
    "files",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("size_bytes", BIG, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("blob", Text, nullable=False),
    _created(),
    Column("expires_at", BIG),
    Column("status", String(16), nullable=False),
    Column("status_details", Text),
    Column("deleted_at", BIG),
    # A deleted file's bytes go after its row is marked; this says that they are gone.
    Column("purged_at", BIG),
    _partial("ix_files_live", "project_id", "pk", where="deleted_at IS NULL"),
    _partial("ix_files_live_purpose", "project_id", "purpose", "pk", where="deleted_at IS NULL"),
    _partial("ix_files_expiring", "expires_at", where="deleted_at IS NULL"),
    _partial("ix_files_to_purge", "deleted_at", where="purged_at IS NULL"),
)

uploads = Table(
    "uploads",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("size_bytes", BIG, nullable=False),
    Column("mime_type", Text, nullable=False),
    _created(),
    Column("expires_at", BIG, nullable=False),
    Column("status", String(16), nullable=False),
    Column("file_expires_after_s", BIG),
    Column("file_id", String(64)),
    _partial("ix_uploads_pending", "expires_at", where="status = 'pending'"),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("upload_id", String(64), ForeignKey("uploads.id"), nullable=False, index=True),
    Column("size_bytes", BIG, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("blob", Text, nullable=False),
    _created(),
)

jobs = Table(
    "jobs",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("organization_id", String(64), nullable=False),
    Column("organization", Text, nullable=False),
    _created(),
    Column("status", String(32), nullable=False),
    Column("model", Text, nullable=False),
    Column("method", String(32), nullable=False),
    Column("hyperparameters", DOCUMENT, nullable=False),
    Column("resolved", DOCUMENT),
    Column("seed", BIG, nullable=False),
    Column("training_file", String(64), nullable=False),
    Column("validation_file", String(64)),
    Column("suffix", Text),
    Column("metadata", DOCUMENT),
    Column("integrations", DOCUMENT, nullable=False),
    Column("estimated_finish", BIG),
    Column("finished_at", BIG),
    Column("trained_tokens", BIG),
    Column("quote", DOCUMENT),
    Column("result_files", DOCUMENT, nullable=False),
    Column("error", DOCUMENT),
    Column("fine_tuned_model", Text),
    Column("paused", Boolean, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    # The place in the queue that its events told last.
    Column("told_place", Integer),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_owner", Text),
    Column("lease_until", Float, nullable=False, server_default="0"),
    Index(None, "project_id", "pk"),
    # The list filter `metadata=null`.
    _partial("ix_jobs_plain", "project_id", "pk", where="metadata IS NULL"),
    # A claim looks at the head of each project's line, and at what is held, however many wait.
    _partial("ix_jobs_line", "status", "paused", "project_id", "priority", "pk", where="finished_at IS NULL"),
    _partial("ix_jobs_held", "project_id", "lease_until", where="finished_at IS NULL"),
)

# Metadata once more, as an index: the filter `metadata[k]=v` walks this key in the list's own order.
job_metadata = Table(
    "job_metadata",
    metadata,
    Column("project_id", String(64), ForeignKey("projects.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(512), primary_key=True),
    Column("job_pk", BIG, ForeignKey("jobs.pk"), primary_key=True),
)

job_events = Table(
    "job_events",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    Column("key", String(128)),
    _created(),
    Column("level", String(8), nullable=False),
    Column("message", Text, nullable=False),
    Column("type", String(16), nullable=False),
    Column("data", DOCUMENT, nullable=False),
    Index(None, "job_id", "pk"),
    # A resumed trainer says its last words again; a job keeps them once. Events without a key may repeat.
    UniqueConstraint("job_id", "key"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    _created(),
    Column("model", Text, nullable=False),
    Column("step", BIG, nullable=False),
    Column("metrics", DOCUMENT, nullable=False),
    # A resumed trainer reports a checkpoint again.
    UniqueConstraint("job_id", "step"),
)

models = Table(
    "models",
    metadata,
    _pk(),
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _project(),
    Column("job_id", String(64), ForeignKey("jobs.id"), index=True),
    Column("base", Text, nullable=False),
    Column("base_sha256", String(64), nullable=False),
    Column("adapter", Text, nullable=False),
    _created(),
    Column("step", BIG),
    Column("deleted_at", BIG),
    Index(None, "project_id", "pk"),
)

# Only ever added to: the newest row of a name holds, the others are its history.
aliases = Table(
    "aliases",
    metadata,
    _pk(),
    _project(),
    Column("name", Text, nullable=False),
    Column("model", Text),
    Column("key_id", String(64), nullable=False),
    _created(),
    Index(None, "project_id", "name", "pk"),
)

checkpoint_permissions = Table(
    "checkpoint_permissions",
    metadata,
    _pk(),
    _id(),
    Column("checkpoint", Text, nullable=False),
    Column("owner_project_id", String(64), ForeignKey("projects.id"), nullable=False),
    _project(),
    _created(),
    # Granting twice grants once.
    UniqueConstraint("checkpoint", "project_id"),
)

batches = Table(
    "batches",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("organization_id", String(64), nullable=False),
    Column("organization", Text, nullable=False),
    Column("key_id", String(64), nullable=False),
    _created(),
    Column("expires_at", BIG, nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("input_file_id", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("metadata", DOCUMENT),
    Column("output_expires_after_s", BIG),
    Column("model", Text),
    Column("input_sha256", String(64)),
    Column("errors", DOCUMENT, nullable=False),
    Column("total", BIG, nullable=False),
    Column("completed", BIG, nullable=False),
    Column("failed", BIG, nullable=False),
    Column("input_tokens", BIG, nullable=False),
    Column("cached_tokens", BIG, nullable=False),
    Column("output_tokens", BIG, nullable=False),
    Column("reasoning_tokens", BIG, nullable=False),
    Column("output_file_id", String(64)),
    Column("error_file_id", String(64)),
    Column("in_progress_at", BIG),
    Column("finalizing_at", BIG),
    Column("cancelling_at", BIG),
    Column("finished_at", BIG),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_owner", Text),
    Column("lease_until", Float, nullable=False, server_default="0"),
    # When its lines and its copy of the input were removed: what they held is in its files.
    Column("purged_at", BIG),
    Index(None, "project_id", "pk"),
    _partial("ix_batches_unfinished", "pk", where="finished_at IS NULL"),
    _partial("ix_batches_to_purge", "pk", where="finished_at IS NOT NULL AND purged_at IS NULL"),
)

# Results of a batch that is under way. The key is what keeps a line from being answered twice.
batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", String(64), ForeignKey("batches.id"), primary_key=True),
    Column("line", BIG, primary_key=True, autoincrement=False),
    Column("succeeded", Boolean, nullable=False),
    Column("text", Text, nullable=False),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", DOCUMENT, nullable=False),
    Column("secret", Text, nullable=False),
    # After a rotation the old secret signs too, until then.
    Column("old_secret", Text),
    Column("old_secret_until", BIG),
    _created(),
    Column("updated_at", BIG),
    Index(None, "project_id", "pk"),
)

outbox = Table(
    "outbox",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("kind", String(16), nullable=False),
    Column("event_type", String(64), nullable=False),
    Column("payload", DOCUMENT, nullable=False),
    _created(),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", Float, nullable=False),
    Column("delivered_at", BIG),
    Column("given_up_at", BIG),
    Column("last_error", Text),
    _partial("ix_outbox_webhooks", "project_id", "pk", where="kind = 'webhook'"),
    _partial("ix_outbox_due", "next_attempt_at", where="delivered_at IS NULL AND given_up_at IS NULL"),
)

# One row a request that was answered, whole or in part.
usage = Table(
    "usage",
    metadata,
    _pk(),
    _project(),
    Column("key_id", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("endpoint", String(32), nullable=False),
    _created(),
    Column("input_tokens", BIG, nullable=False),
    Column("cached_tokens", BIG, nullable=False),
    Column("output_tokens", BIG, nullable=False),
    Column("latency_ms", BIG, nullable=False),
    Column("batch", Boolean, nullable=False),
    Index(None, "project_id", "created_at"),
)

chat_completions = Table(
    "chat_completions",
    metadata,
    _pk(),
    _id(),
    _project(),
    _created(),
    Column("model", Text, nullable=False),
    Column("metadata", DOCUMENT, nullable=False),
    Column("messages", DOCUMENT, nullable=False),
    Column("answer", DOCUMENT, nullable=False),
    Index(None, "project_id", "pk"),
    Index("ix_chat_completions_model", "project_id", "model", "pk"),
)

# As `job_metadata`: the filter `metadata[k]=v` walks a key in the list's own order.
chat_completion_metadata = Table(
    "chat_completion_metadata",
    metadata,
    Column("project_id", String(64), ForeignKey("projects.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(512), primary_key=True),
    Column(
        "chat_completion_pk", BIG, ForeignKey("chat_completions.pk", ondelete="CASCADE"), primary_key=True, index=True
    ),
)

RUNNING: Final = "status IN ('queued', 'in_progress')"
responses = Table(
    "responses",
    metadata,
    _pk(),
    _id(),
    _project(),
    _created(),
    Column("status", String(16), nullable=False),
    Column("previous_response_id", String(64)),
    # What was put in with this response alone; earlier turns are those of `previous_response_id`.
    Column("input", DOCUMENT, nullable=False),
    Column("answer", DOCUMENT, nullable=False),
    Column("lease_until", Float, nullable=False),
    Index(None, "project_id", "pk"),
    _partial("ix_responses_running", "lease_until", where=RUNNING),
)

evals = Table(
    "evals",
    metadata,
    _pk(),
    _id(),
    _project(),
    _created(),
    Column("updated_at", BIG, nullable=False),
    Column("name", Text, nullable=False),
    Column("data_source_config", DOCUMENT, nullable=False),
    Column("testing_criteria", DOCUMENT, nullable=False),
    Column("metadata", DOCUMENT),
    Index(None, "project_id", "pk"),
)

eval_runs = Table(
    "eval_runs",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("organization_id", String(64), nullable=False),
    Column("organization", Text, nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("eval_id", String(64), ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
    _created(),
    Column("name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("data_source", DOCUMENT, nullable=False),
    Column("metadata", DOCUMENT),
    Column("status", String(16), nullable=False),
    Column("error", DOCUMENT),
    Column("passed", BIG, nullable=False),
    Column("failed", BIG, nullable=False),
    Column("errored", BIG, nullable=False),
    Column("usage", DOCUMENT, nullable=False),
    Column("criteria", DOCUMENT, nullable=False),
    Column("finished_at", BIG),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_owner", Text),
    Column("lease_until", Float, nullable=False, server_default="0"),
    Index(None, "eval_id", "pk"),
    _partial("ix_eval_runs_unfinished", "pk", where="finished_at IS NULL"),
)

eval_items = Table(
    "eval_items",
    metadata,
    _pk(),
    _id(),
    _project(),
    Column("run_id", String(64), ForeignKey("eval_runs.id", ondelete="CASCADE"), nullable=False),
    Column("eval_id", String(64), nullable=False),
    _created(),
    Column("row", BIG, nullable=False),
    Column("item", DOCUMENT, nullable=False),
    Column("status", String(8), nullable=False),
    Column("results", DOCUMENT, nullable=False),
    Column("sample", DOCUMENT, nullable=False),
    Index(None, "run_id", "pk"),
    # A run that goes on after a crash grades no row twice.
    UniqueConstraint("run_id", "row"),
)

# What models said in evals, by a hash of weights and question: the same is not asked twice.
answers = Table(
    "answers",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("created_at", BIG, nullable=False, index=True),
    Column("answer", DOCUMENT, nullable=False),
)
