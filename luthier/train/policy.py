"""The model in training: a frozen base with an adapter, which scores tries. Knows no optimiser, no run folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from luthier.core.errors import JobFailed, Unavailable
from luthier.core.quotes import size
from luthier.core.run import RunSpec
from luthier.data.base_folder import BaseFolder
from luthier.data.rows import Row
from luthier.train import attention
from luthier.train.device import find_device, memory_bytes, precision
from luthier.train.head import Scored, capped, score_edges
from luthier.train.lora import Adapter
from luthier.train.norms import replace_norms
from luthier.train.speed import measure_peak, product_flops
from luthier.train.threads import all_threads, use_threads
from luthier.train.trie import Trie, build_trie, padded

MEMORY_SHARE: Final = 0.25
MIN_BUDGET: Final = 128
SHAPES: Final = 8  # tokens are a multiple of it, or of a 64th of a large trie: each shape costs a product 0.7 ms once
RUNTIME_BYTES: Final = 1_000_000_000  # beside weights and activations: torch, adapter, optimiser, saving, gaps
Ids = npt.NDArray[np.int32]


class Policy:
    """What is trained. `score` is differentiable in the adapter's weights."""

    def __init__(self, model: PreTrainedModel, spec: RunSpec) -> None:
        model.requires_grad_(False).eval()
        self._decoder: PreTrainedModel = model.get_decoder()
        self._vocabulary_VD: Tensor = model.get_output_embeddings().weight
        self._cap: float | None = model.config.get_text_config().to_dict().get("final_logit_softcapping")  # Gemma 2
        self._require_trie(model)
        self.adapter: Final = Adapter(model, spec.adapter, seed=spec.seed)
        self._frozen: Final = sum(layer.weight.numel() for layer in self.adapter.layers.values())
        self.token_bytes: Final = token_bytes(model.config, model.dtype)
        self.token_budget = token_budget(model, spec)
        self.most_tokens = 0  # computed of the largest trie scored, since someone set it to 0
        self.flops = 0.0  # multiplied so far with layers that are adapted and with the vocabulary, LoRA's own included

    @property
    def precision(self) -> str:
        """What the base's products are computed in."""
        return str(self._vocabulary_VD.dtype).removeprefix("torch.")

    def score(self, trie: Trie) -> Scored:
        """Log-probabilities of a trie's edges."""
        self._count(trie)
        self.adapter.begin()
        return self._score(trie)

    def matmul_peak(self) -> float:
        """FLOP/s at which this machine multiplies with the largest layer that is adapted."""
        with all_threads():
            return measure_peak(max((layer.weight for layer in self.adapter.layers.values()), key=Tensor.numel))

    def next_tokens(self, rows: Sequence[tuple[Ids, int]]) -> list[Tensor]:
        """Of each row's ids `[T]`, `[T - start, V]`: log-probabilities of those from its `start`, 1 or more, on."""
        self.adapter.begin()
        trie = build_trie([Row(ids, (np.arange(len(ids)) >= start).astype(np.float32)) for ids, start in rows])
        node_L = torch.from_numpy(trie.node_E[trie.edge_L])
        hidden_LD = self._states(trie)[node_L]
        with all_threads():
            logp_LV = capped((hidden_LD @ self._vocabulary_VD.t()).float(), self._cap).log_softmax(-1)
        return [logp_LV[torch.from_numpy(trie.row_L == row)] for row in range(len(rows))]

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Within, the adapter is off and nothing is learnt: the reference that DPO compares with."""
        self.adapter.enable(False)
        try:
            with torch.no_grad():
                yield
        finally:
            self.adapter.enable(True)

    def _count(self, trie: Trie) -> None:
        self.most_tokens = max(self.most_tokens, trie.tokens_computed)
        learn = torch.is_grad_enabled()
        scored = len(np.unique(trie.node_E))
        self.flops += product_flops(self._frozen, trie.tokens_computed, learn=learn)
        self.flops += product_flops(self._vocabulary_VD.numel(), scored, learn=learn)
        if self.adapter.on:  # LoRA's weights have a gradient of their own: 2 FLOP more for each
            self.flops += self.adapter.parameters * trie.tokens_computed * (6.0 if learn else 2.0)

    def _score(self, trie: Trie) -> Scored:
        hidden_ND = self._states(trie)
        node_E, token_E = (torch.from_numpy(axis).to(hidden_ND.device) for axis in (trie.node_E, trie.token_E))
        return score_edges(hidden_ND, self._vocabulary_VD, node_E, token_E, self._cap)

    def _states(self, trie: Trie) -> Tensor:
        device, count = self._vocabulary_VD.device, trie.tokens_computed
        trie = padded(trie, max(SHAPES, (1 << count.bit_length()) >> 6))
        use_threads(trie.tokens_computed * self._vocabulary_VD.shape[1])
        states: Tensor = self._decoder(
            input_ids=torch.from_numpy(trie.ids_N)[None].to(device),
            position_ids=torch.from_numpy(trie.depth_N)[None].to(device),
            use_cache=False,
            trie=attention.Visibility(trie, self._vocabulary_VD.dtype, device),
        ).last_hidden_state
        return states[0, :count]

    def _require_trie(self, model: PreTrainedModel) -> None:
        """Run a forked trie, and its rows through the model's own forward; they must agree.

        Finds what no list of architectures would: recurrent layers, scaled logits, attention that is not the seam's.
        """
        stem = np.arange(3, 9)
        ids = np.stack([np.concatenate([stem, tail]) for tail in ([11, 12, 13], [14, 15, 16])])
        ids = (ids % len(self._vocabulary_VD)).astype(np.int32)
        trie = build_trie([Row(row, np.ones(len(row), np.float32)) for row in ids])
        with torch.no_grad():
            ours = self._score(trie).logp_E.cpu()[torch.from_numpy(trie.edge_L)]
            model.set_attn_implementation("eager")
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
    device = find_device()
    kind = precision(spec.precision, device)
    model = AutoModelForCausalLM.from_pretrained(
        base.hf, dtype=kind, attn_implementation=attention.NAME, local_files_only=True
    )
    model = model.to(device)
    replace_norms(model)
    return Policy(model, spec)


def token_budget(model: PreTrainedModel, spec: RunSpec) -> int:
    """Tokens whose activations fit `MEMORY_SHARE` of the device's memory, or what the run may take.

    Of numbers that are the same at every start: sums depend on it.
    """
    share = MEMORY_SHARE * memory_bytes(model.device)
    if spec.memory_bytes is not None:
        weights = sum(weight.nbytes for weight in model.parameters())
        share = min(share, spec.memory_bytes - weights - RUNTIME_BYTES)
    return int(max(MIN_BUDGET, share // token_bytes(model.config, model.dtype)))


def token_bytes(config: PreTrainedConfig, kind: torch.dtype) -> int:
    """What the activations of one token take, until its gradient is known."""
    config = config.get_text_config()
    floats = config.num_hidden_layers * (16 * config.hidden_size + 6 * config.intermediate_size)
    return int(floats * kind.itemsize)


def require_memory(base: BaseFolder, spec: RunSpec, longest: int) -> None:
    """Errors: `JobFailed` where the weights and an example of `longest` tokens are more than the device has.

    The batch size does not matter: a batch is learnt from in parts.
    """
    device = find_device()
    kind = precision(spec.precision, device)
    memory = min(memory_bytes(device), spec.memory_bytes or sys.maxsize)
    weights = base.read_facts().parameters * kind.itemsize
    each = token_bytes(AutoConfig.from_pretrained(base.hf, local_files_only=True), kind)
    if weights + longest * each <= memory:
        return
    fitting = (memory - weights) // each
    whose = "that training_memory allows" if memory == spec.memory_bytes else "here"
    raise JobFailed(
        f"This does not fit into the {size(memory)} of memory {whose}: the base model's weights take {size(weights)}, "
        f"the longest example, of {longest:,} tokens, {size(longest * each)}. "
        + (
            f"Examples of up to {fitting:,} tokens would fit, or a smaller base model."
            if fitting > 0
            else f"A base model of up to {memory / kind.itemsize / 1e9:.1f} billion parameters would fit."
        ),
        code="server_error",
    )
