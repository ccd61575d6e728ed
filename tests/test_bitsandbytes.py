"""Folders that bitsandbytes quantised, where it is installed: `pip install bitsandbytes`.

It is not among the packages of the set-up: diffusers and transformers import it wherever it is, which takes two seconds
in each of the processes that the tests start. It computes on a CPU too; diffusers refuses to read there, but not here.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import diffusers
import family_contract as contract
import first_layout as first
import pytest
import tiny_parts as tiny
import torch
import transformers
from diffusers.quantizers.bitsandbytes import bnb_quantizer
from pullback import models
from pullback.models import quantised
from test_family_stable_diffusion_3 import build, run
from test_quantised import answer, distance

bnb = pytest.importorskip("bitsandbytes")


@pytest.fixture(autouse=True)
def reads_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "has_gpu", lambda: True)
    # some CPUs multiply in bfloat16 whatever the compute dtype, where float32's last digit decides on larger ones
    monkeypatch.setattr(bnb.nn.modules, "has_avx512bf16", lambda: False)
    for kind in (bnb_quantizer.BnB4BitDiffusersQuantizer, bnb_quantizer.BnB8BitDiffusersQuantizer):
        monkeypatch.setattr(kind, "validate_environment", lambda *_, **__: None)
        monkeypatch.setattr(kind, "update_device_map", lambda *_: {"": "cpu"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sd3") / "folder", width=32, text=64)


KINDS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
}


@pytest.mark.parametrize(("kind", "error"), [("nf4", 0.1), ("fp4", 0.15), ("int8", 0.02)])
def test_it_ends_where_the_pipeline_does(folder: Path, tmp_path: Path, kind: str, error: float):
    """Transformer and T5 are quantised, as in folders that people share; `save_pretrained` wrote them."""
    made = Path(shutil.copytree(folder, tmp_path / "folder"))
    at = {"device_map": {"": "cpu"}, "dtype": torch.float32}
    how = KINDS[kind] | ({"bnb_4bit_compute_dtype": torch.float32} if kind != "int8" else {})
    for part, library, name in (
        ("transformer", diffusers, "SD3Transformer2DModel"),
        ("text_encoder_3", transformers, "T5EncoderModel"),
    ):
        config = library.BitsAndBytesConfig(**how)
        network = getattr(library, name).from_pretrained(folder / part, quantization_config=config, **at)
        for old in (made / part).glob("*.safetensors"):
            old.unlink()
        network.save_pretrained(made / part)
    model, pipe = models.load(made), diffusers.DiffusionPipeline.from_pretrained(made, dtype=torch.float32)
    contract.ends_alike(pipe, model, run)
    single = models.ModelFolder(made)
    held = 2 * sum(p.numel() for p in models.load(folder).network.parameters())
    assert single.quantised("transformer") and single.size("transformer") < 0.8 * held
    assert 0 < distance(answer(model), answer(models.load(folder))) < error
    if kind == "nf4":
        now = models.load(folder, enable_4bit_weights=True)
        assert torch.uint8 in {p.dtype for p in now.network.parameters()} and now.dtype == torch.float32
        text = model.encode_prompt(["a red cube"])
        y = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(now.predict_x0(y, 2.0, text), model.predict_x0(y, 2.0, text), atol=1e-5)
        file = first.save(tmp_path / "m.safetensors", first.stable_diffusion_3(first.read(folder, "transformer")))
        with pytest.raises(models.ModelError, match=r"^enable_4bit_weights is for folders, and the model is one file"):
            models.load(file, single_file_config=folder, enable_4bit_weights=True)
    brought = models.load(made, enable_group_offload=True)
    assert torch.equal(answer(brought), answer(model))
    assert tiny.refusal(made, enable_layerwise_casting=True).startswith("is set, but the model's weights are quantised")
