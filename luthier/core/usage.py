"""What a request used. Knows no prices and no database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Tokens and time of one request. `input_tokens` include the `cached_tokens`, which were not computed anew."""

    project_id: str
    key_id: str
    model: str
    endpoint: str
    created_at: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    latency_ms: int
