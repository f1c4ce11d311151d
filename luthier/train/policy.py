"""The model in training: a frozen base with an adapter, which scores tries. Knows no optimiser, no run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from luthier.core.errors import Unavailable
from luthier.core.run import RunSpec
from luthier.data.base_folder import BaseFolder
from luthier.data.rows import Row
from luthier.train import attention
from luthier.train.head import Scored, score_edges
from luthier.train.lora import Adapter
from luthier.train.trie import Trie, build_trie

MEMORY_SHARE: Final = 0.25
MIN_BUDGET: Final = 512
Ids = npt.NDArray[np.int32]


class Policy:
    """What is trained. `score` is differentiable in the adapter's weights."""

    def __init__(self, model: PreTrainedModel, spec: RunSpec) -> None:
        model.requires_grad_(False).eval()
        self._decoder: PreTrainedModel = model.get_decoder()
        self._vocabulary_VD: Tensor = model.get_output_embeddings().weight
        self._require_trie(model)
        self.adapter: Final = Adapter(model, spec.adapter, seed=spec.seed)
        self.token_budget: Final = token_budget(model)

    @property
    def precision(self) -> str:
        """What the base's products are computed in."""
        return str(self._vocabulary_VD.dtype).removeprefix("torch.")

    def score(self, trie: Trie) -> Scored:
        """Log-probabilities of a trie's edges."""
        hidden_ND = self._states(trie)
        node_E, token_E = (torch.from_numpy(axis).to(hidden_ND.device) for axis in (trie.node_E, trie.token_E))
        return score_edges(hidden_ND, self._vocabulary_VD, node_E, token_E)

    def next_tokens(self, ids_T: Ids) -> Tensor:
        """`[T - 1, V]`: log-probabilities of what follows each of the ids but the last."""
        hidden_ND = self._states(build_trie([Row(ids_T, np.ones(len(ids_T), np.float32))]))
        return (hidden_ND @ self._vocabulary_VD.t()).float().log_softmax(-1)

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Within, the adapter is off and nothing is learnt: the reference that DPO compares with."""
        self.adapter.enable(False)
        try:
            with torch.no_grad():
                yield
        finally:
            self.adapter.enable(True)

    def _states(self, trie: Trie) -> Tensor:
        device = self._vocabulary_VD.device
        states: Tensor = self._decoder(
            input_ids=torch.from_numpy(trie.ids_N)[None].to(device),
            position_ids=torch.from_numpy(trie.depth_N)[None].to(device),
            use_cache=False,
            trie=attention.Visibility(trie, self._vocabulary_VD.dtype, device),
        ).last_hidden_state
        return states[0]

    def _require_trie(self, model: PreTrainedModel) -> None:
        """Run a forked trie, and its rows through the model's own forward; they must agree.

        Finds what no list of architectures would: recurrent layers, capped logits, attention that is not the seam's.
        """
        stem = np.arange(3, 9)
        ids = np.stack([np.concatenate([stem, tail]) for tail in ([11, 12, 13], [14, 15, 16])])
        ids = (ids % len(self._vocabulary_VD)).astype(np.int32)
        trie = build_trie([Row(row, np.ones(len(row), np.float32)) for row in ids])
        with torch.no_grad():
            ours = self.score(trie).logp_E.cpu()[torch.from_numpy(trie.edge_L)]
            model.set_attn_implementation("sdpa")
            ids_RT = torch.from_numpy(ids.astype(np.int64)).to(model.device)
            logp_RTV = model(input_ids=ids_RT, use_cache=False).logits.float().log_softmax(-1)
            model.set_attn_implementation(attention.NAME)
        theirs = logp_RTV[:, :-1].gather(2, ids_RT[:, 1:, None]).flatten().cpu()
        tolerance = 1e-3 if self.precision == "float32" else 0.25
        if not torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance):
            raise Unavailable(
                f"models of type {model.config.model_type} cannot be trained here: their layers see more of a row than "
                "causal attention over its tokens, or score tokens in a way of their own"
            )


def load_policy(base: BaseFolder, spec: RunSpec) -> Policy:
    """The base model of a spec with a fresh adapter, on this machine's device.

    Errors: `Unavailable` for an architecture that a trie cannot be run through.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # untyped in torch
    attention.register()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        base.hf, dtype=precision(spec), attn_implementation=attention.NAME, local_files_only=True
    )
    return Policy(model, spec)


def precision(spec: RunSpec) -> torch.dtype:
    """What the base is multiplied in: bfloat16 where the machine has instructions for it, else it would be slower."""
    if spec.precision != "auto":
        return torch.float32 if spec.precision == "float32" else torch.bfloat16
    has_bfloat16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def token_budget(model: PreTrainedModel) -> int:
    """Tokens whose activations fit `MEMORY_SHARE` of the machine's memory: the same number on every start here."""
    config = model.config.get_text_config()
    floats = config.num_hidden_layers * (16 * config.hidden_size + 6 * config.intermediate_size)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(max(MIN_BUDGET, MEMORY_SHARE * memory // (floats * model.dtype.itemsize)))
