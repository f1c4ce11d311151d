"""`luthier data`: a look at a training file, without a server. Not a client: it opens the room that reads files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from luthier.data.survey import Shown, Survey

app = typer.Typer(no_args_is_help=True, help="Look at training data before it costs anything.")

BUCKETS: Final = 8
BAR: Final = 40


@app.callback()
def _group() -> None:
    """Keeps `check` a command of its own."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JSONL file of examples.", show_default=False)],
    validation: Annotated[Path | None, typer.Option(help="A JSONL file that is held out from it.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The base model whose tokens are counted.", show_default="the default base")
    ] = None,
    rows: Annotated[int, typer.Option(help="How many examples to show as the model sees them.")] = 2,
) -> None:
    """What a job would make of FILE: errors, tokens, repeats, leaks, what is learnt, and the price."""
    from luthier.cli.display import say
    from luthier.cli.serve import pull_base
    from luthier.core import hyper
    from luthier.core.errors import InvalidRequest
    from luthier.core.prices import price_of
    from luthier.core.run import MAX_CONTEXT_TOKENS
    from luthier.core.settings import load
    from luthier.data.base_folder import BaseFolder
    from luthier.data.chats import MIN_EXAMPLES, DataFile
    from luthier.data.repeats import Seen
    from luthier.data.survey import format_errors, method_of, rendered, survey

    settings = load()
    name = settings.aliases.get(model or "", model or settings.default_base)
    base = BaseFolder(pull_base(settings, name))
    facts = base.read_facts()
    context_tokens = min(facts.context_tokens, MAX_CONTEXT_TOKENS)
    seen: Seen | None = None
    files = [DataFile(file), *([DataFile(validation, "validation")] if validation else [])]
    for data in files:
        if not data.path.is_file():
            raise InvalidRequest(f"{data.path}: no such file")
        method = method_of(data)
        if errors := format_errors(data, method):
            for error in errors:
                say(f"  {error}")
            raise InvalidRequest(f"{data.path}: {len(errors)} line(s) will not do; a job would fail with the first")
        mine = Seen()
        found = survey(data, base, method, context_tokens, mine, seen)
        seen = mine
        say(f"{data.path}: {found.summary.examples} examples for {method}, in tokens of {name}\n")
        _print(found, context_tokens, which=data.which)
        if data.which == "validation":
            continue
        for shown in rendered(data, base, method, context_tokens, rows):
            _show(shown)
        if found.summary.examples + found.summary.dropped_lines < MIN_EXAMPLES:
            raise data.too_few(found.summary.examples)
        epochs = hyper.resolve(
            examples=max(1, found.summary.examples), parameters=facts.parameters, dpo=method == "dpo"
        ).n_epochs
        tokens = epochs * found.summary.tokens
        dollars = tokens * price_of(name, settings.prices).training / 1e6
        say(f"\nTraining: {epochs} epochs by default, {tokens:,} tokens, ${dollars:.4f} under the price table.\n")


def _print(found: Survey, context_tokens: int, *, which: str) -> None:
    from luthier.cli.display import say, table

    summary, examples = found.summary, max(1, found.summary.examples)
    share = summary.trained_tokens / max(1, summary.tokens)
    lengths = f"{summary.tokens / examples:,.0f} an example, {max(found.tokens, default=0):,} at most"
    lost = f"{summary.cut_tokens:,} tokens lost" * (summary.cut_lines > 0)
    lines: list[tuple[str, int, str]] = [
        ("tokens", summary.tokens, lengths),
        ("  learnt", summary.trained_tokens, f"{share:.0%}"),
        (f"cut at {context_tokens:,} tokens", summary.cut_lines, lost),
        ("with nothing to learn", summary.dropped_lines, "passed over" * (summary.dropped_lines > 0)),
        ("say what another said", summary.duplicate_lines, ""),
        ("say nearly the same", summary.near_duplicate_lines, ""),
        ("without a system message", found.without_system, ""),
        ("without a user message", found.without_user, ""),
    ]
    if which == "validation":
        lines.append(("in the training file too", summary.leaked_lines, "measure nothing" * (summary.leaked_lines > 0)))
    table(None, ("", "", ""), [(what, f"{count:,}", remark) for what, count, remark in lines])
    for reason in found.reasons:
        say(f"  {reason}")
    _histogram("Tokens an example", found.tokens)
    shares = [100 * t / n if n else 0.0 for t, n in zip(found.trained, found.tokens, strict=True)]
    _histogram("Percent of them learnt", shares)
    _bars("Messages by role", [(role, count) for role, count in found.roles.most_common()])


def _histogram(title: str, values: Sequence[float]) -> None:
    least, most = min(values, default=0), max(values, default=0)
    width = -(-(most - least + 1) // BUCKETS)
    counts = [0] * BUCKETS
    for value in values:
        counts[min(BUCKETS - 1, int((value - least) / width))] += 1
    named = [
        (f"{least + n * width:,.0f} to {least + (n + 1) * width - 1:,.0f}", count) for n, count in enumerate(counts)
    ]
    while named and not named[-1][1]:
        named.pop()
    _bars(title, named)


def _bars(title: str, values: Sequence[tuple[str, int]]) -> None:
    from luthier.cli.display import say

    most = max((count for _, count in values), default=0) or 1
    wide = max((len(name) for name, _ in values), default=0)
    say(f"\n{title}")
    for name, count in values:
        say(f"  {name:>{wide}}  {'█' * round(BAR * count / most)}{'▏' * (0 < count * BAR < most / 2)} {count:,}")


def _show(shown: Shown) -> None:
    from rich.text import Text

    from luthier.cli.display import CONSOLE

    CONSOLE.print(f"\nLine {shown.line}, what is learnt in green:", style="bold")
    CONSOLE.print(Text.assemble(*((piece, "bold green" if learnt else "dim") for piece, learnt in shown.pieces)))
