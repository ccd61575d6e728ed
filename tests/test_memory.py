"""Presets of a card's memory: what they choose, and that a network kept otherwise answers as before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pullback import models
from pullback.adapters.guidance.options import Options
from pullback.errors import ConfigError
from pullback.models.memory import SIZES, Thrift, chosen, fitting, thrift
from test_family_flux import build as build_flux
from test_family_stable_diffusion_xl import build as build_xl
from tiny_pipeline import build

GIB = 2**30
CPU = torch.device("cpu")


def test_the_network_is_kept_whole_where_it_fits_then_as_float8_then_on_the_cpu():
    whole, casting, offload = Thrift(), Thrift(casting=True), Thrift(offload=True)
    assert [fitting(size, 1.7 * GIB, 0) for size in SIZES] == [whole] * 4  # Stable Diffusion 1.5
    assert [fitting(size, 4.8 * GIB, 0) for size in SIZES] == [casting, whole, whole, whole]  # SDXL
    assert [fitting(size, 22.2 * GIB, 0) for size in SIZES] == [offload, offload, casting, casting]  # FLUX.1
    assert fitting(12, 0, 8.8 * GIB).text_on_cpu and not fitting(16, 0, 8.8 * GIB).text_on_cpu  # T5-XXL
    for network in (1.0, 5.0, 12.0, 40.0):
        assert all(fitting(size, network * GIB, 0).weights(network) <= size - 4 for size in SIZES)


def test_what_is_chosen_by_hand_stays():
    assert chosen(None, None, None, 40 * GIB, 0) == Thrift()
    assert chosen(None, True, None, 0, 0) == Thrift(casting=True)
    assert chosen(24, None, True, 0, 0) == Thrift(offload=True)
    assert chosen(8, False, None, 5 * GIB, 0) == Thrift() and chosen(8, True, None, 40 * GIB, 0) == Thrift(casting=True)
    assert chosen(8, None, True, 5 * GIB, 0) == Thrift(offload=True)
    assert chosen(12, None, None, 22.2 * GIB, 0, four_bits=True) == Thrift(four_bits=True)  # FLUX.1: 6.2 GiB of 8
    assert chosen(8, None, None, 22.2 * GIB, 0, four_bits=True) == Thrift(offload=True, four_bits=True)
    assert Thrift(four_bits=True).weights(64) == 18


def test_a_preset_sets_what_is_null():
    made = Options(memory=8)
    assert (made.views_per_call, made.enable_vae_tiling) == (1, True)
    made = Options(memory=8, views_per_call=3, enable_vae_tiling=False)
    assert (made.views_per_call, made.enable_vae_tiling) == (3, False)
    assert (Options().views_per_call, Options().enable_vae_tiling, Options(memory=24).views_per_call) == (8, False, 8)
    with pytest.raises(ConfigError, match=r"`memory` must be one of 8, 12, 16, 24 \(GB\), not 10"):
        Options(memory=10)
    with pytest.raises(ConfigError, match="`views_per_call` must be at least 1"):
        Options(views_per_call=0)


@pytest.mark.parametrize("make", [build, build_flux, build_xl])
def test_a_network_that_is_brought_layer_by_layer_answers_as_before(make, tmp_path: Path):
    folder = make(tmp_path)
    whole, brought = models.load(folder), models.load(folder, enable_group_offload=True)
    y = torch.randn(2, whole.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    text = whole.encode_prompt(["a red cube", "a ball"])
    assert torch.equal(brought.predict_x0(y, 2.0, text), whole.predict_x0(y, 2.0, text))
    assert brought.device == CPU and brought.dtype == torch.float32


def test_weights_as_float8(tmp_path: Path):
    folder = build(tmp_path)
    whole, cast = models.load(folder), models.load(folder, enable_layerwise_casting=True)
    kinds = {p.dtype for p in cast.network.parameters()}
    assert torch.float8_e4m3fn in kinds and cast.dtype == torch.float32
    sizes = [sum(p.numel() * p.element_size() for p in m.network.parameters()) for m in (whole, cast)]
    assert sizes[1] < 0.5 * sizes[0]
    y, text = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), whole.encode_prompt(["a ball"])
    expected, found = (m.predict_x0(y, 2.0, text) for m in (whole, cast))
    assert 0 < (found - expected).abs().max() < 0.2 * expected.abs().max()  # float8 has 3 bits of mantissa


def test_tiles_are_those_of_diffusers(tmp_path: Path):
    model = models.load(build(tmp_path))
    z = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    whole, small = model.decode(z), model.decode(z[..., :8, :8])
    model.save_memory(enable_vae_tiling=True)
    assert torch.equal(model.decode(z[..., :8, :8]), small)  # no larger than the autoencoder's own pictures
    with torch.no_grad():
        expected = model.vae.tiled_decode(z / 0.5).sample
    assert torch.equal(model.decode(z), expected) and not torch.equal(expected, whole)


def test_memory_of_no_card(tmp_path: Path):
    folder = build(tmp_path)
    assert models.load(folder, memory=8).dtype == torch.float32  # no effect on a CPU
    with pytest.raises(models.ModelError, match=r"^memory must be one of 8, 12, 16, 24 \(GB\), not 9$"):
        thrift(models.ModelFolder(folder), ("unet",), 9, None, None)
    kept = thrift(models.ModelFolder(folder), ("unet", "text_encoder"), 8, None, None)
    assert kept == Thrift()
