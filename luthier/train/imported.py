"""What an adapter from anywhere makes of its base, for the engine to be held against.

    python -m luthier.train.imported BASE ADAPTER PROBE

BASE is a complete base folder, ADAPTER a PEFT folder; writes PROBE (`train/probe.py`). Exits with the reason where the
adapter cannot be put on the base.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.run import AdapterShape
from luthier.data.base_folder import BaseFolder
from luthier.data.merging import lora_alpha, read_adapter_config, read_factors
from luthier.train.policy import Policy
from luthier.train.trial import trial_policy, write_trial


def load_adapter(base: BaseFolder, adapter: Path) -> Policy:
    """The base with the adapter on it. Errors: `InvalidRequest` naming a module or a shape that does not fit."""
    rank, alpha = lora_alpha(adapter, read_adapter_config(adapter))
    factors = read_factors(adapter)
    kinds = sorted({module.rpartition(".")[2] for module in factors})
    policy = trial_policy(base, AdapterShape(rank, rank, tuple(kinds)))
    if unknown := sorted(set(factors) - set(policy.adapter.layers)):
        raise InvalidRequest(f"the base has no linear layer {unknown[0]}, which the adapter changes")
    for name, layer in policy.adapter.layers.items():
        layer.scale = alpha / rank
        for side, ours in (("A", layer.A_RI), ("B", layer.B_RO.t())):
            theirs = torch.from_numpy(factors[name][side].copy()) if name in factors else torch.zeros(ours.shape)
            if theirs.shape != ours.shape:
                raise InvalidRequest(f"{name}: {side} is {list(theirs.shape)}, but the base wants {list(ours.shape)}")
            ours.data.copy_(theirs)
    return policy


def main() -> int:
    """The command."""
    base, adapter, probe = (Path(word) for word in sys.argv[1:])
    try:
        write_trial(BaseFolder(base), load_adapter(BaseFolder(base), adapter), probe)
    except (LuthierError, ValueError, RuntimeError) as error:
        sys.exit(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
