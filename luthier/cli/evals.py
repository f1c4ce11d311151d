"""`luthier evals`: one file says rows, models and criteria; the server asks and grades, this prints what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Grade models by an eval of your own.")


@app.callback()
def evals() -> None:
    """Grade models by an eval of your own."""


@app.command()
def run(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A YAML file; docs/evals.md has one.", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(help="Write PATH.json and PATH.png too.")] = None,
) -> None:
    """Ask each model of FILE its rows, grade the answers, and print how many passed."""
    from luthier.cli.display import say
    from luthier.cli.eval_file import read
    from luthier.cli.eval_report import draw, measure, print_table, to_json
    from luthier.cli.eval_session import run_all
    from luthier.cli.report import write_json
    from luthier.cli.session import connect_aloud

    plan = read(file)
    client = connect_aloud()
    measured = [measure(run, plan.names) for run in run_all(client, plan)]
    print_table(measured)
    if out is not None:
        write_json(out.with_suffix(".json"), to_json(plan.name, measured))
        draw(plan.name, measured, out.with_suffix(".png"))
        say(f"written: {out.with_suffix('.json')} and {out.with_suffix('.png')}")
