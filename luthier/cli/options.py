"""The options that say how to tune, shared by `tune` and `jobs create`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from luthier.core.settings import Settings

if TYPE_CHECKING:
    from luthier.cli.client import TuneOptions

Model = Annotated[
    str | None,
    typer.Option(help="Base model, or an alias of one.", show_default=Settings.default_base),
]
Suffix = Annotated[str | None, typer.Option(help="Up to 64 characters that go into the model's name.")]
Method = Annotated[str, typer.Option(help="supervised or dpo.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data.", show_default="auto")]
BatchSize = Annotated[int | None, typer.Option(help="Examples a step.", show_default="auto")]
LearningRateMultiplier = Annotated[float | None, typer.Option(help="Scales the learning rate.", show_default="auto")]
Beta = Annotated[float | None, typer.Option(help="DPO's beta.", show_default="auto")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same model.", show_default="a new one")]


def tune_options(
    model: str | None,
    suffix: str | None,
    method: str,
    epochs: int | None,
    batch_size: int | None,
    learning_rate_multiplier: float | None,
    beta: float | None,
    seed: int | None,
) -> TuneOptions:
    """The options as the client's functions take them; what was not given is left to the server."""
    from luthier.cli.client import DEFAULT_MODEL
    from luthier.core.errors import InvalidRequest

    if method not in ("supervised", "dpo"):
        raise InvalidRequest(f'--method is "supervised" or "dpo", not "{method}"')
    return {
        "model": model or DEFAULT_MODEL,
        "suffix": suffix,
        "method": "dpo" if method == "dpo" else "supervised",
        "n_epochs": epochs,
        "batch_size": batch_size,
        "learning_rate_multiplier": learning_rate_multiplier,
        "beta": beta,
        "seed": seed,
    }
