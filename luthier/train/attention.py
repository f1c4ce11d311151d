"""Attention over a trie, behind transformers' attention seam: the only place that says how visibility is computed.

`register()` makes the implementation `NAME` known. A model loaded with it takes the keyword `trie=Visibility(…)` in its
forward and hands it to every layer; positions are the nodes' depths, masks there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from luthier.core.errors import Unavailable
from luthier.train.head import capped
from luthier.train.trie import Tile, Trie, tiles

NAME: Final = "luthier_trie"
ONE_TILE: Final = 192  # tokens up to which a trie is one tile: products this small take as long as gathering for them
SMALL_TILE: Final = 32  # queries a tile in a shallow trie: of 276 tokens of short chats, few see more than 60 others
LARGE_TILE: Final = 128  # in a deep one, where gathering keys costs more than masking products
KEYS: Final = 16  # gathered keys are a multiple of it: each shape costs a product 0.7 ms once
PADDING: Final = 0.25  # of what its tiles need, what a band may compute besides ...
SPARE: Final = 1 << 15  # ... or these scores, which take as long as another band's operations
BAND_SCORES: Final = 1 << 23  # scores that exist at once
KEPT_SCORES: Final = 1 << 20  # probabilities of a layer that are kept for its backward; more are computed again


def register() -> None:
    """Make the implementation known to transformers."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)


@dataclass(frozen=True)
class Scoring:
    """How a query scores a key: their product times `scale`, softly capped at `cap` where there is one (Gemma 2)."""

    scale: float
    cap: float | None


@dataclass(frozen=True, eq=False)
class _Band:
    """Tiles of one shape, computed as one batch. Axes: B tiles of Q queries and K keys each; K heads of keys are `Hk`.

    The tokens `start` to `end` are its queries in their order; where they do not fill the last tile, zeros do. `whole`:
    it is one tile, of all tokens.
    """

    start: int
    end: int
    keys_BK: Tensor
    bias_BQK: Tensor
    whole: bool

    def queries(self, heads_HND: Tensor, key_heads: int) -> Tensor:
        """`[H, N, D]` to `[Hk·B, G·Q, D]`: query heads that share a key head stand below each other."""
        tiles, length, _ = self.bias_BQK.shape
        mine = heads_HND[:, self.start : self.end]
        if missing := tiles * length - (self.end - self.start):
            mine = torch.nn.functional.pad(mine, (0, 0, 0, missing))
        grouped = mine.reshape(key_heads, -1, tiles, length, mine.shape[-1])
        return grouped.transpose(1, 2).reshape(key_heads * tiles, -1, mine.shape[-1])

    def put(self, out_NHD: Tensor, answers: Tensor, key_heads: int) -> None:
        """Write `[Hk·B, G·Q, D]` to this band's tokens of `[N, H, D]`."""
        tiles, length, _ = self.bias_BQK.shape
        parts = answers.view(key_heads, tiles, -1, length, answers.shape[-1]).permute(1, 3, 0, 2, 4)
        out = out_NHD[self.start : self.end]
        if len(out) == tiles * length:
            out.view(parts.shape).copy_(parts)
        else:
            out.copy_(parts.flatten(2, 3).flatten(0, 1)[: len(out)])

    def pick(self, heads_KND: Tensor) -> Tensor:
        """`[Hk, N, D]` to the keys (or values) of each tile, `[Hk·B, K, D]`."""
        if self.whole:
            return heads_KND
        picked = heads_KND.index_select(1, self.keys_BK.flatten())
        return picked.view(-1, self.keys_BK.shape[1], heads_KND.shape[-1])

    def add(self, heads_KND: Tensor, parts: Tensor) -> None:
        """Add `[Hk·B, K, D]` to where `pick` took it from, in float32: the keys of a shared beginning get many."""
        if self.whole:
            heads_KND.copy_(parts)
            return
        parts = parts.view(len(heads_KND), -1, parts.shape[-1]).to(heads_KND.dtype)
        heads_KND.index_add_(1, self.keys_BK.flatten(), parts)

    def scores(self, q_HND: Tensor, k_KND: Tensor, scoring: Scoring) -> Tensor:
        """`[Hk·B, G·Q, K]`, whoever sees whom."""
        queries = self.queries(q_HND, len(k_KND)) * scoring.scale  # not in place: they may be q itself, for backward
        scores = torch.bmm(queries, self.pick(k_KND).transpose(1, 2))
        return capped(scores, scoring.cap)

    def probabilities(self, q_HND: Tensor, k_KND: Tensor, scoring: Scoring) -> Tensor:
        """`[Hk·B, G·Q, K]`; torch norms in float32 whatever the type."""
        tiles, length, keys = self.bias_BQK.shape
        scores = self.scores(q_HND, k_KND, scoring)
        scores.view(len(k_KND), tiles, -1, length, keys).add_(self.bias_BQK[:, None])
        return torch.softmax(scores, dim=-1)


class Visibility:
    """Who sees whom in one trie: bands on a device, one set of them for each window that the layers ask for."""

    def __init__(self, trie: Trie, dtype: torch.dtype, device: torch.device) -> None:
        self._trie = trie
        self._dtype = dtype
        self._device = device
        self._bands: dict[int | None, list[_Band]] = {}

    def bands(self, window: int | None) -> list[_Band]:
        """The bands of a sliding window of depths, or of none."""
        deepest = int(self._trie.depth_N.max(initial=0))
        if window is not None and window > deepest:
            window = None
        if window not in self._bands:
            small = self._trie.tokens_computed <= ONE_TILE
            size = ONE_TILE if small else min(max(deepest // 4, SMALL_TILE), LARGE_TILE)
            self._bands[window] = [self._band(group) for group in _groups(tiles(self._trie, size, window))]
        return self._bands[window]

    def _band(self, group: list[Tile]) -> _Band:
        length = max(tile.end - tile.start for tile in group)
        start, end = group[0].start, group[-1].end
        whole = len(group) == 1 and end - start == self._trie.tokens_computed
        longest = max(len(tile.keys) for tile in group)
        longest += 0 if whole else -longest % KEYS
        keys = np.zeros((len(group), longest), np.int64)
        hidden = np.ones((len(group), length, longest), np.bool_)
        hidden[:, :, 0] = False  # so that a query that only fills a tile sees something
        for b, tile in enumerate(group):
            keys[b, : len(tile.keys)] = tile.keys
            hidden[b, : tile.end - tile.start, : len(tile.keys)] = ~tile.visible_QK
        bias = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device)
        bias.masked_fill_(torch.from_numpy(hidden).to(self._device), float("-inf"))
        return _Band(start, end, torch.from_numpy(keys).to(self._device), bias, whole)


def _groups(made: list[Tile]) -> Iterator[list[Tile]]:
    """Neighbouring tiles that waste little when all are as large as the largest."""
    group: list[Tile] = []
    longest = needed = 0
    for tile in made:
        keys = len(tile.keys)
        length = tile.end - tile.start
        padded = max(longest, keys) * (len(group) + 1)
        wasted = padded - needed - keys
        wasteful = wasted * length > SPARE and wasted > PADDING * (needed + keys)
        if group and (wasteful or padded * length > BAND_SCORES):
            yield group
            group, longest, needed = [], 0, 0
        group.append(tile)
        longest, needed = max(longest, keys), needed + keys
    if group:
        yield group


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    trie: Visibility,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """`query [1, H, N, D]`, `key` and `value [1, Hk, N, D]` to `[1, N, H, D]`, as transformers' layers call it."""
    if dropout or s_aux is not None or attention_mask is not None:
        raise Unavailable(f"{type(module).__name__} wants dropout, sinks or a mask, which a trie has not")
    scoring = Scoring(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap)
    bands = trie.bands(sliding_window)
    heads = (query.squeeze(0), key.squeeze(0), value.squeeze(0))  # an index's gradient would be a copy
    out_NHD: Tensor = _TrieAttention.apply(*heads, bands, scoring)  # type: ignore[no-untyped-call]  # torch's
    return out_NHD.unsqueeze(0), None


class _Context(Protocol):
    saved_tensors: tuple[Tensor, ...]
    bands: list[_Band]
    scoring: Scoring

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _TrieAttention(torch.autograd.Function):
    """softmax(cap(scale q·k) + bias)·v, band by band. Keys are never repeated for the query heads that share them."""

    @staticmethod
    def forward(
        ctx: _Context, q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, bands: list[_Band], scoring: Scoring
    ) -> Tensor:
        heads, count, _ = q_HND.shape
        out_NHD = q_HND.new_empty(count, heads, v_KND.shape[-1])
        kept: list[Tensor] = []
        keep = heads * sum(band.bias_BQK.numel() for band in bands) <= KEPT_SCORES
        for band in bands:
            p = band.probabilities(q_HND, k_KND, scoring)
            band.put(out_NHD, torch.bmm(p, band.pick(v_KND)), len(k_KND))
            if keep:
                kept.append(p)
        ctx.save_for_backward(q_HND, k_KND, v_KND, *kept)
        ctx.bands, ctx.scoring = bands, scoring
        return out_NHD

    @staticmethod
    def backward(ctx: _Context, grad_NHD: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q_HND, k_KND, v_KND, *kept = ctx.saved_tensors
        dq_NHD = q_HND.new_empty(q_HND.shape[1], q_HND.shape[0], q_HND.shape[2])
        dk_KND, dv_KND = (torch.zeros_like(sums, dtype=torch.float32) for sums in (k_KND, v_KND))
        grad_HND = grad_NHD.transpose(0, 1)
        for number, band in enumerate(ctx.bands):
            p = kept[number] if kept else band.probabilities(q_HND, k_KND, ctx.scoring)
            g = band.queries(grad_HND, len(k_KND))
            band.add(dv_KND, torch.bmm(p.transpose(1, 2), g))
            dp = torch.bmm(g, band.pick(v_KND).transpose(1, 2))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            if cap := ctx.scoring.cap:
                ds.mul_(band.scores(q_HND, k_KND, ctx.scoring).div_(cap).square_().neg_().add_(1))
            band.put(dq_NHD, torch.bmm(ds, band.pick(k_KND)), len(k_KND))
            band.add(dk_KND, torch.bmm(ds.transpose(1, 2), band.queries(q_HND, len(k_KND))))
        dq_NHD.mul_(ctx.scoring.scale)
        dk_KND.mul_(ctx.scoring.scale)
        return dq_NHD.transpose(0, 1), dk_KND.to(k_KND.dtype), dv_KND.to(v_KND.dtype), None, None
