"""Legacy completions and embeddings on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from luthier.api.wire.base import Body, Unsupported
from luthier.api.wire.chat import Label, Sampling
from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject

Token = Annotated[int, Field(ge=0, lt=2**31)]  # more would be another token to the engine
Tokens = Annotated[list[Token], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1, max_length=2048)]
Prompt = str | Tokens | Texts | Annotated[list[Tokens], Field(min_length=1, max_length=2048)]
SomeText = Annotated[str, Field(min_length=1)]
Input = (
    SomeText
    | Annotated[list[Token], Field(min_length=1)]
    | Annotated[list[SomeText], Field(min_length=1, max_length=2048)]
    | Annotated[list[Tokens], Field(min_length=1, max_length=2048)]
)


class CreateCompletion(Sampling):
    """A text to be continued."""

    prompt: Prompt | None
    suffix: Annotated[str | None, Unsupported(why="it needs a model that fills in the middle, not a chat model")] = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=0, le=20)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    def to_body(self) -> JsonObject:
        """The body for an engine. Errors: `InvalidRequest` for what cannot be honoured, by its name."""
        self.check_stream()
        best_of = self.best_of or 1
        if self.best_of is not None and best_of < (self.n or 1):
            raise InvalidRequest(
                f"Invalid value for 'best_of': {self.best_of} is less than 'n' ({self.n or 1}).",
                code="invalid_value",
                param="best_of",
            )
        if self.stream and best_of > (self.n or 1):
            raise InvalidRequest(
                "You cannot stream results when 'best_of' is greater than 'n': which are best is known at the end.",
                code="invalid_value",
                param="best_of",
            )
        if self.stream and self.max_tokens == 0:
            raise InvalidRequest(
                "With 'max_tokens' 0 there is nothing to stream.", code="invalid_value", param="max_tokens"
            )
        if self.prompt is None:
            raise InvalidRequest(
                "Unsupported value: 'prompt' cannot be null here; give the text to continue.",
                code="unsupported_value",
                param="prompt",
            )
        return self.to_engine("prompt", "max_tokens", "echo", "best_of", "logprobs")


class CreateEmbedding(Body):
    """Texts to be embedded."""

    model: str
    input: Input
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1), Unsupported(why="this model's vectors have their own length")] = None
    user: Label | None = None

    def to_body(self) -> JsonObject:
        """The body for an engine."""
        return self.model_dump(include={"input"})
