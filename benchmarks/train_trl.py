"""The peer's side of benchmarks/train.py: TRL's SFTTrainer or DPOTrainer over the rows that Luthier made.

Runs in an environment of its own. Settings that were faster on a CPU than their defaults: no gradient checkpointing,
no packing, fused AdamW, the base in the type that the machine multiplies best.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Clock(TrainerCallback):
    """Seconds of each optimiser step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def main() -> None:
    task = json.loads(sys.stdin.read())
    half = task["precision"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(task["base"], dtype=getattr(torch, task["precision"]))
    tokenizer = AutoTokenizer.from_pretrained(task["base"])
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder,
            "per_device_train_batch_size": task["batch"],
            "max_steps": task["steps"],
            "learning_rate": 1e-3,
            "max_length": None,
            "gradient_checkpointing": False,
            "bf16": half,
            "use_cpu": not torch.cuda.is_available(),
            "optim": "adamw_torch_fused",
            "dataloader_pin_memory": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        }
        trainer_of, config_of = (DPOTrainer, DPOConfig) if task["method"] == "dpo" else (SFTTrainer, SFTConfig)
        trainer = trainer_of(
            model=model,
            args=config_of(**settings),
            train_dataset=Dataset.from_list(task["rows"]),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=MODULES),
            callbacks=[clock],
        )
        trainer.train()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": clock.seconds, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
