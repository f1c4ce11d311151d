"""The trie against the rows that it was made of, for random rows that share beginnings."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.rows import Row
from luthier.train.dataset import Sample
from luthier.train.objective import parts
from luthier.train.trie import build_trie, padded, tiles

TOKENS = st.integers(0, 2)  # few, so that rows share beginnings


@st.composite
def row_lists(draw):
    ids = draw(st.lists(st.lists(TOKENS, min_size=1, max_size=12), min_size=1, max_size=8))
    weights = [draw(st.lists(st.sampled_from([0.0, 1.0, 0.5]), min_size=len(i), max_size=len(i))) for i in ids]
    rows = [Row(np.array(i, np.int32), np.array(w, np.float32)) for i, w in zip(ids, weights, strict=True)]
    return [*rows, Row(np.array([0, 1], np.int32), np.array([0, 1], np.float32))]


def read_part(row):
    """The tokens of a row that its last learnt token is predicted from."""
    learnt = np.flatnonzero(row.weights)
    return tuple(row.ids[: learnt[-1]].tolist()) if len(learnt) else ()


def ancestors(trie, node):
    return [k for k in range(node + 1) if node < trie.exit_N[k]]


def path(trie, node):
    return tuple(int(trie.ids_N[k]) for k in ancestors(trie, node))


@given(row_lists())
def test_each_distinct_beginning_is_one_node(rows):
    trie = build_trie(rows)
    beginnings = {read_part(row)[:n] for row in rows for n in range(1, len(read_part(row)) + 1)}
    assert sorted(path(trie, n) for n in range(trie.tokens_computed)) == sorted(beginnings)


@given(row_lists())
def test_depth_is_the_position_and_ancestors_are_the_path(rows):
    trie = build_trie(rows)
    for node in range(trie.tokens_computed):
        assert trie.depth_N[node] == len(ancestors(trie, node)) - 1


@given(row_lists())
def test_edges_sum_what_rows_learn_and_links_tell_the_rows_apart(rows):
    trie = build_trie(rows)
    wanted, by_row = {}, {}
    for r, row in enumerate(rows):
        for t in range(1, len(row.ids)):
            if row.weights[t]:
                edge = (tuple(row.ids[:t].tolist()), int(row.ids[t]))
                wanted[edge] = wanted.get(edge, 0.0) + float(row.weights[t])
                by_row[r, edge] = float(row.weights[t])
    edges = [(path(trie, n), int(t)) for n, t in zip(trie.node_E, trie.token_E, strict=True)]
    assert dict(zip(edges, trie.weight_E.tolist(), strict=True)) == wanted
    links = zip(trie.row_L.tolist(), trie.edge_L.tolist(), trie.weight_L.tolist(), strict=True)
    assert {(r, edges[e]): w for r, e, w in links} == by_row
    assert np.all(np.diff(trie.node_E) >= 0)


@given(row_lists(), st.integers(1, 9), st.none() | st.integers(1, 5))
@settings(max_examples=200)
def test_tiles_show_each_query_its_path_and_no_more(rows, size, window):
    trie = build_trie(rows)
    seen = {}
    for tile in tiles(trie, size, window):
        assert tile.visible_QK.any(axis=0).all() or window is None
        for i, query in enumerate(range(tile.start, tile.end)):
            seen[query] = tile.keys[tile.visible_QK[i]].tolist()
    expected = {q: ancestors(trie, q)[-(window or len(trie.ids_N)) :] for q in range(trie.tokens_computed)}
    assert seen == expected


@given(row_lists(), st.integers(1, 9))
def test_what_fills_a_trie_up_is_seen_by_no_one(rows, multiple):
    trie = build_trie(rows)
    count = trie.tokens_computed
    whole = padded(trie, multiple)
    assert whole.tokens_computed % multiple == 0
    assert whole.tokens_computed < count + multiple
    assert [ancestors(whole, q) for q in range(count)] == [ancestors(trie, q) for q in range(count)]
    assert all(ancestors(whole, q) == [q] for q in range(count, whole.tokens_computed))


def test_shared_beginnings_are_counted_once():
    rows = [Row(np.array([7, 8, 9, i], np.int32), np.array([0, 0, 0, 1], np.float32)) for i in range(5)]
    trie = build_trie(rows)
    assert (trie.tokens_seen, trie.tokens_computed) == (20, 3)
    assert trie.node_E.tolist() == [2] * 5


def computed(samples):
    return build_trie([row for sample in samples for row in sample.rows]).tokens_computed


@given(row_lists(), st.integers(1, 40), st.booleans())
def test_parts_hold_all_samples_within_the_budget(rows, budget, paired):
    step = 2 if paired and len(rows) > 1 else 1
    samples = [Sample(at, tuple(rows[at : at + step])) for at in range(0, len(rows), step)]
    groups = list(parts(samples, budget))
    assert sorted(sample.line for group in groups for sample in group) == [sample.line for sample in samples]
    assert all(len(group) == 1 or computed(group) <= budget for group in groups)


def test_a_budget_is_of_tokens_that_are_computed():
    """Ten rows of 101 tokens that share 100 are one part of 110."""
    ids = np.arange(101, dtype=np.int32)
    rows = [Row(np.append(ids[:100], 200 + n).astype(np.int32), np.ones(101, np.float32)) for n in range(10)]
    samples = [Sample(n, (row,)) for n, row in enumerate(rows)]
    assert [len(group) for group in parts(samples, 110)] == [10]
    assert [len(group) for group in parts(samples, 105)] == [5, 5]
