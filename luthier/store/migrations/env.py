"""Run by Alembic: migrates over the connection that `Database.migrate` hands in, inside its transaction."""

from __future__ import annotations

from alembic import context

from luthier.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
