"""What a policy counts of its products."""

import numpy as np
import torch

from luthier.data.rows import Row
from luthier.train.policy import load_policy
from luthier.train.trie import build_trie
from tests.tiny import chat_line, make_run


def test_an_adapter_that_is_off_multiplies_nothing(tmp_path, base):
    policy = load_policy(base, make_run(tmp_path / "run", base, [chat_line("q", "a")]).read_spec())
    trie = build_trie([Row(np.arange(3, 13, dtype=np.int32), np.ones(10, np.float32))])

    def counted():
        before = policy.flops
        policy.score(trie)
        return policy.flops - before

    learning = counted()
    with torch.no_grad():
        on = counted()
    with policy.as_base():
        off = counted()
    assert on - off == 2.0 * policy.adapter.parameters * trie.tokens_computed
    assert learning - 2 * off == 3 * (on - off)
