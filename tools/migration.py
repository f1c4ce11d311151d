"""Write a migration from `luthier/store/schema.py`.

python tools/migration.py              write 0001 anew from nothing: only as long as no version is released
python tools/migration.py "add tags"   write the next one: what the schema has and the migrations before it lack
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations.ops import DowngradeOps, DropTableOp, UpgradeOps
from alembic.script import ScriptDirectory

from luthier.store.database import MIGRATIONS, Database, migrations
from luthier.store.schema import metadata

TEMPLATE = '''"""{title}"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {down}
branch_labels = None
depends_on = None


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
'''


def main() -> None:
    title = sys.argv[1] if len(sys.argv) > 1 else "The first tables."
    with tempfile.TemporaryDirectory() as folder, Database(f"sqlite:///{folder}/new.db").transaction() as connection:
        number = 0
        if len(sys.argv) > 1:
            command.upgrade(migrations(connection), "head")
            number = int(ScriptDirectory.from_config(migrations(connection)).get_current_head() or 0)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        script = produce_migrations(context, metadata)
    assert script.upgrade_ops is not None
    assert script.downgrade_ops is not None
    if not number:  # a table takes its indices along
        script.downgrade_ops.ops = [step for step in script.downgrade_ops.ops if isinstance(step, DropTableOp)]
    revision = f"{number + 1:04}"
    name = re.sub(r"\W+", "_", title.lower()).strip("_") if number else "first"
    path = MIGRATIONS / "versions" / f"{revision}_{name}.py"
    path.write_text(
        TEMPLATE.format(
            title=title,
            revision=revision,
            down=f'"{number:04}"' if number else None,
            upgrade=_code(script.upgrade_ops, batch=bool(number)),
            downgrade=_code(script.downgrade_ops, batch=bool(number)),
        )
    )
    subprocess.run([Path(sys.executable).with_name("ruff"), "format", path], check=True)


def _code(operations: UpgradeOps | DowngradeOps, *, batch: bool) -> str:
    """`batch`: tables that are there already are copied where they change, for SQLite can alter little of them."""
    code = render_python_code(operations, render_as_batch=batch)
    return "\n".join(line for line in code.splitlines() if not line.strip().startswith("# ###")).strip()


if __name__ == "__main__":
    main()
