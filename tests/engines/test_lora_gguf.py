import errno
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.data.merging import read_factors
from luthier.engines.gguf_header import GgufHeader, read_header
from luthier.engines.lora_gguf import adapter_gguf
from tests.engines.gguf_files import write_adapter


def test_a_header_is_read(base):
    assert read_header(base.gguf) == GgufHeader("llama", 2, 2048, 4, 2, kv_bytes_per_token=2 * 2 * 2 * (8 + 8))


def test_an_adapter_is_converted_once(base, tmp_path):
    adapter = write_adapter(base, tmp_path / "a", seed=1)
    file = adapter_gguf(adapter, read_header(base.gguf))
    made = file.stat().st_mtime_ns
    assert adapter_gguf(adapter, read_header(base.gguf)).stat().st_mtime_ns == made
    assert sorted(p.name for p in adapter.iterdir()) == [
        "adapter.gguf",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_half_precision_is_widened(base, tmp_path):
    header = read_header(base.gguf)
    whole, half = (write_adapter(base, tmp_path / name, seed=1) for name in "ab")
    tensors = load_file(half / "adapter_model.safetensors")
    save_file({name: t.astype(np.float16) for name, t in tensors.items()}, half / "adapter_model.safetensors")
    assert adapter_gguf(half, header).stat().st_size == adapter_gguf(whole, header).stat().st_size


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"r": None}, "r and lora_alpha"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(base, tmp_path, changes, words):
    adapter = write_adapter(base, tmp_path / "a", seed=1)
    config = json.loads((adapter / "adapter_config.json").read_text()) | changes
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidRequest, match=words):
        adapter_gguf(adapter, read_header(base.gguf))
    assert not (adapter / "adapter.gguf").exists()


def test_a_tensor_without_a_place_is_refused(base, tmp_path):
    adapter = write_adapter(base, tmp_path / "a", seed=1)
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors["base_model.model.model.layers.0.self_attn.z_proj.lora_A.weight"] = np.zeros((4, 32), np.float32)
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(InvalidRequest, match="z_proj"):
        adapter_gguf(adapter, read_header(base.gguf))
    assert not (adapter / "adapter.gguf").exists()


def test_a_missing_adapter_says_so(base, tmp_path):
    with pytest.raises(Unavailable, match="cannot be read"):
        adapter_gguf(tmp_path, read_header(base.gguf))


def test_a_full_disk_says_so_and_leaves_nothing(base, tmp_path, monkeypatch):
    adapter, header = write_adapter(base, tmp_path / "a", seed=1), read_header(base.gguf)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            adapter_gguf(adapter, header)
    assert sorted(p.name for p in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert adapter_gguf(adapter, header).exists()


def test_half_an_adapter_is_refused(base, tmp_path):
    adapter = write_adapter(base, tmp_path / "a", seed=1)
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors.pop(next(name for name in tensors if name.endswith("q_proj.lora_B.weight")))
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(InvalidRequest, match=r"q_proj has no LoRA factor B"):
        read_factors(adapter)
