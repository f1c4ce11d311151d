"""Attention over a trie, behind transformers' attention seam: the only place that says how visibility is computed.

`register()` makes the implementation `NAME` known. A model loaded with it takes the keyword `trie=Visibility(…)` in its
forward and hands it to every layer; positions are the nodes' depths, masks there are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from luthier.core.errors import Unavailable
from luthier.train.trie import Ints, Trie, tiles

NAME: Final = "luthier_trie"
TILE: Final = 128  # queries a tile: more of them waste masked products, fewer cost calls


def register() -> None:
    """Make the implementation known to transformers."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)


@dataclass(frozen=True, eq=False)
class _Tile:
    """Queries `start` to `end`, the keys that they see, and 0 or -inf for each pair."""

    start: int
    end: int
    keys: slice | Tensor
    bias_QK: Tensor

    def pick(self, heads: Tensor) -> Tensor:
        """This tile's keys of `[Hk, N, D]`."""
        return heads[:, self.keys]

    def add_to(self, heads: Tensor, part: Tensor) -> None:
        """Add what belongs to this tile's keys to `[Hk, N, D]`."""
        if isinstance(self.keys, slice):
            heads[:, self.keys] += part
        else:
            heads.index_add_(1, self.keys, part)


class Visibility:
    """Who sees whom in one trie: tiles on a device, one set of them for each window that the layers ask for."""

    def __init__(self, trie: Trie, dtype: torch.dtype, device: torch.device) -> None:
        self._trie = trie
        self._dtype = dtype
        self._device = device
        self._tiles: dict[int | None, list[_Tile]] = {}

    def tiles(self, window: int | None) -> list[_Tile]:
        """The tiles of a sliding window of depths, or of none."""
        if window is not None and window > int(self._trie.depth_N.max(initial=0)):
            window = None
        if window not in self._tiles:
            self._tiles[window] = [
                _Tile(t.start, t.end, self._place(t.keys), self._bias(torch.from_numpy(t.visible_QK)))
                for t in tiles(self._trie, TILE, window)
            ]
        return self._tiles[window]

    def _place(self, keys: Ints) -> slice | Tensor:
        if keys[-1] - keys[0] + 1 == len(keys):
            return slice(int(keys[0]), int(keys[-1]) + 1)
        return torch.from_numpy(keys).to(self._device)

    def _bias(self, visible_QK: Tensor) -> Tensor:
        bias = torch.zeros(visible_QK.shape, dtype=self._dtype, device=self._device)
        return bias.masked_fill_(~visible_QK.to(self._device), float("-inf"))


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
    if dropout or softcap is not None or s_aux is not None or attention_mask is not None:
        raise Unavailable(
            f"{type(module).__name__} wants dropout, capped scores, sinks or a mask, which a trie has not"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    tiled = trie.tiles(sliding_window)
    out_NHD: Tensor = _TrieAttention.apply(query[0], key[0], value[0], tiled, scale)  # type: ignore[no-untyped-call]  # torch's
    return out_NHD[None], None


class _Context(Protocol):
    saved_tensors: tuple[Tensor, ...]
    tiled: list[_Tile]
    scale: float

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _TrieAttention(torch.autograd.Function):
    """softmax(scale q·k + bias)·v, tile by tile.

    Query heads that share a key head are one matrix, so keys are not repeated. Probabilities are kept for a lone tile
    and computed again for many, whose memory would grow with N x depth.
    """

    @staticmethod
    def forward(ctx: _Context, q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, tiled: list[_Tile], scale: float) -> Tensor:
        heads, count, _ = q_HND.shape
        out_NHD = q_HND.new_empty(count, heads, v_KND.shape[-1])
        p = torch.empty(0)
        for tile in tiled:
            p = _probabilities(q_HND, k_KND, tile, scale)
            o = torch.bmm(p, tile.pick(v_KND))  # [K, G·Q, D]
            out_NHD[tile.start : tile.end] = o.view(heads, tile.end - tile.start, -1).transpose(0, 1)
        ctx.save_for_backward(q_HND, k_KND, v_KND, out_NHD, p if len(tiled) == 1 else torch.empty(0))
        ctx.tiled, ctx.scale = tiled, scale
        return out_NHD

    @staticmethod
    def backward(ctx: _Context, grad_NHD: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q_HND, k_KND, v_KND, out_NHD, kept = ctx.saved_tensors
        dq_NHD = torch.empty_like(out_NHD)
        dk_KND, dv_KND = torch.zeros_like(k_KND), torch.zeros_like(v_KND)
        dot_NH = (grad_NHD * out_NHD).sum(-1)
        for tile in ctx.tiled:
            p = kept if len(ctx.tiled) == 1 else _probabilities(q_HND, k_KND, tile, ctx.scale)
            rows = slice(tile.start, tile.end)
            g = _grouped(grad_NHD[rows].transpose(0, 1), len(k_KND))
            dot = _grouped(dot_NH[rows].transpose(0, 1)[..., None], len(k_KND))
            tile.add_to(dv_KND, torch.bmm(p.transpose(1, 2), g))
            ds = torch.bmm(g, tile.pick(v_KND).transpose(1, 2)).sub_(dot).mul_(p).mul_(ctx.scale)
            dq = torch.bmm(ds, tile.pick(k_KND))
            dq_NHD[rows] = dq.view(len(q_HND), tile.end - tile.start, -1).transpose(0, 1)
            tile.add_to(dk_KND, torch.bmm(ds.transpose(1, 2), _grouped(q_HND[:, rows], len(k_KND))))
        return dq_NHD.transpose(0, 1), dk_KND, dv_KND, None, None


def _grouped(heads_HQD: Tensor, key_heads: int) -> Tensor:
    """`[H, Q, D]` to `[K, G·Q, D]`: the heads that share a key head, one below the other."""
    return heads_HQD.reshape(key_heads, -1, heads_HQD.shape[-1])


def _probabilities(q_HND: Tensor, k_KND: Tensor, tile: _Tile, scale: float) -> Tensor:
    """`[K, G·Q, keys]`, summed in float32 whatever the model's type."""
    q = _grouped(q_HND[:, tile.start : tile.end], len(k_KND))
    bias = tile.bias_QK.repeat(len(q_HND) // len(k_KND), 1)
    scores = torch.baddbmm(bias[None], q, tile.pick(k_KND).transpose(1, 2), alpha=scale)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
