"""Rows merged into a prefix trie and laid out depth first, so that equal beginnings are computed once. Knows no torch.

Derivation. In a causal decoder the state of a token is a function of the tokens up to it: its path from the root. Rows
that begin alike therefore have equal states there, and one copy serves them all. Let the nodes of the rows' trie be
numbered in depth-first order. Then

- a node's position (what rotary embeddings see) is its depth;
- its descendants are the nodes n, n+1, …, exit(n)-1, so query q sees key k exactly when k <= q < exit(k);
- a row's loss is a sum over its edges (node, next token); rows that share an edge have the same term there, so the sum
  over rows is the sum over distinct edges of (sum of the rows' weights) x (-log p). Its gradient is that of the padded
  batch: the same terms, added in another order.

A row's last trained token is predicted and never read, so it is an edge and no node; what follows it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from luthier.data.rows import Row

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Trie:
    """Axes: N nodes in depth-first order, E distinct edges, L links: a row's use of an edge, and its weight there."""

    ids_N: Ints
    depth_N: Ints
    exit_N: Ints  # one past the node's last descendant
    node_E: Ints  # sorted: edges of one node stand together
    token_E: Ints
    weight_E: Floats  # summed over rows
    row_L: Ints
    edge_L: Ints
    weight_L: Floats
    tokens_seen: int  # what the rows hold, before merging

    @property
    def tokens_computed(self) -> int:
        """How many tokens go through the model."""
        return len(self.ids_N)


def build_trie(rows: Sequence[Row]) -> Trie:
    """The trie of some rows. A row with nothing to learn takes part with no node."""
    ends = [_last_trained(row) for row in rows]
    order = sorted(range(len(rows)), key=lambda r: rows[r].ids[: ends[r]].astype(">i4").tobytes())
    size = sum(ends)
    ids, depth, exits = (np.empty(size, np.int64) for _ in range(3))
    path = np.empty(max(ends, default=0), np.int64)  # nodes of the row before, by depth
    previous: npt.NDArray[np.int32] = np.empty(0, np.int32)
    count = 0
    links: list[tuple[Ints, Ints, Floats, Ints]] = []
    for r in order:
        inputs = rows[r].ids[: ends[r]]
        shared = common_prefix(previous, inputs)
        exits[path[shared : len(previous)]] = count
        new = len(inputs) - shared
        ids[count : count + new] = inputs[shared:]
        depth[count : count + new] = path_depths = np.arange(shared, len(inputs))
        path[shared : len(inputs)] = count + (path_depths - shared)
        count += new
        previous = inputs
        learnt = 1 + np.flatnonzero(rows[r].weights[1 : ends[r] + 1])  # nothing comes before a first token
        links.append(
            (
                path[learnt - 1],
                rows[r].ids[learnt].astype(np.int64),
                rows[r].weights[learnt],
                np.full(len(learnt), r, np.int64),
            )
        )
    exits[path[: len(previous)]] = count
    node_L, token_L, weight_L, row_L = (np.concatenate(parts) for parts in zip(*links, strict=True))
    width = int(token_L.max(initial=0)) + 1
    keys, edge_L = np.unique(node_L * width + token_L, return_inverse=True)
    return Trie(
        ids_N=ids[:count],
        depth_N=depth[:count],
        exit_N=exits[:count],
        node_E=keys // width,
        token_E=keys % width,
        weight_E=np.bincount(edge_L, weights=weight_L, minlength=len(keys)).astype(np.float32),
        row_L=row_L,
        edge_L=edge_L.astype(np.int64),
        weight_L=weight_L,
        tokens_seen=sum(len(row.ids) for row in rows),
    )


@dataclass(frozen=True, eq=False)
class Tile:
    """Queries `start` to `end` and the keys that any of them sees; `visible_QK` says which sees which."""

    start: int
    end: int
    keys: Ints
    visible_QK: npt.NDArray[np.bool_]


def tiles(trie: Trie, size: int, window: int | None = None) -> list[Tile]:
    """Cut the depth-first order into runs of `size` queries, each with its keys; the last may be shorter.

    The keys of a run [a, b) that lie before it are ancestors of a: an ancestor of any q in the run that is < a has a in
    its descendants too. So a run's work is (b - a) x (depth of a + b - a), whatever the trie's shape. With `window`, a
    query sees the keys less than `window` above it on its path.
    """
    made: list[Tile] = []
    count = trie.tokens_computed
    for start in range(0, count, size):
        end = min(start + size, count)
        before = np.flatnonzero(trie.exit_N[:start] > start)
        keys = np.concatenate([before, np.arange(start, end)])
        queries = np.arange(start, end)[:, None]
        visible = (keys <= queries) & (queries < trie.exit_N[keys])
        if window is not None:
            visible &= trie.depth_N[start:end, None] - trie.depth_N[keys] < window
            seen = visible.any(axis=0)
            keys, visible = keys[seen], visible[:, seen]
        made.append(Tile(start, end, keys, visible))
    return made


def padded(trie: Trie, multiple: int) -> Trie:
    """The trie with as many roots behind it, without edges, as make its nodes a multiple: no one sees them."""
    count = trie.tokens_computed
    missing = -count % multiple
    zeros = np.zeros(missing, np.int64)
    return replace(
        trie,
        ids_N=np.append(trie.ids_N, zeros),
        depth_N=np.append(trie.depth_N, zeros),
        exit_N=np.append(trie.exit_N, np.arange(count, count + missing) + 1),
    )


def _last_trained(row: Row) -> int:
    learnt = np.flatnonzero(row.weights)
    return int(learnt[-1]) if len(learnt) else 0


def common_prefix(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32]) -> int:
    """How many tokens two rows begin with alike."""
    shorter = min(len(a), len(b))
    differs = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(differs[0]) if len(differs) else shorter
