"""Features of pictures: CLIP from a folder in its real format, and the studio's own classifier."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_pipeline
import torch
from pullback import models
from pullback.errors import NonFiniteError, UserError
from pullback.evaluate import metrics
from pullback.evaluate.metrics import features
from pullback.evaluate.studio import classifier as studio_classifier
from pullback.evaluate.studio import world as worlds
from pullback.evaluate.studio.model import sample_pictures
from pullback.output.pictures import to_bytes
from pullback.resources import TINY_MODEL
from torch import Tensor

PROMPTS = ["a red cube", "a blue ball", "a red cube with a blue ball"]


def pictures(*size: int, seed: int = 0) -> Tensor:
    """Smooth pictures in [-1,1]."""
    coarse = torch.rand(size[0], 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size[1:], mode="bilinear")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CLIP with random weights, as save_pretrained of CLIPModel and CLIPProcessor writes it."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip") / "openai-tiny"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = tiny_pipeline.write_tokenizer(folder)
        tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
        text = {"vocab_size": size, "max_position_embeddings": 16, "bos_token_id": size - 2, "eos_token_id": size - 1}
        vision = {"image_size": 48, "patch_size": 12}
        config = CLIPConfig(text_config=tower | text, vision_config=tower | vision, projection_dim=24)
        CLIPModel(config).save_pretrained(folder)
    preparation = {
        "crop_size": {"height": 48, "width": 48}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor", "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": 48},
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    return folder


@pytest.fixture(scope="module")
def clip(folder: Path) -> features.Clip:
    return features.load_clip(folder)


def test_clip_is_the_folders_model(folder: Path, clip: features.Clip):
    """Pictures prepared by hand in PyTorch, towers and projections called one by one."""
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder).eval()
    seen = pictures(3, 64, 96)
    shrunk = torch.nn.functional.interpolate(
        to_bytes(seen).float(), (48, 72), mode="bicubic", antialias=True, align_corners=False
    )
    pixels = (shrunk[..., 12:-12].round().clamp(0, 255) / 255).movedim(1, -1)
    pixels = (pixels - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    with torch.no_grad():
        wanted = model.visual_projection(model.vision_model(pixels.movedim(-1, 1)).pooler_output)
    found = clip.images(seen)
    assert found.shape == (3, 24) and found.dtype == torch.float32
    # PIL and PyTorch round to bytes differently here and there
    assert torch.allclose(found, wanted, atol=0.02 * float(wanted.abs().max()))
    tokens = CLIPTokenizer.from_pretrained(folder)(PROMPTS[1], return_tensors="pt")
    with torch.no_grad():
        word = model.text_projection(model.text_model(**tokens).pooler_output)
    # alone or padded beside a longer one, a prompt means the same
    assert torch.allclose(clip.texts(PROMPTS)[1:2], word, atol=1e-5)
    assert clip.scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_clip_cuts_a_long_prompt_and_does_not_mind_the_batch(clip: features.Clip):
    assert clip.texts(["a cube " * 40]).shape == (1, 24)
    seen = pictures(40, 48, 48)  # more than one batch
    assert torch.allclose(clip.images(seen)[33:34], clip.images(seen[33:34]), atol=1e-5)


def test_clip_iqa_from_a_folder_is_torchmetrics_own(folder: Path, clip: features.Clip, monkeypatch):
    """torchmetrics whole, but for loading, where it wants the hub's names and transformers 4."""
    from torchmetrics.functional.multimodal import clip_image_quality_assessment as theirs
    from transformers import CLIPProcessor

    class Model:
        def to(self, device: object) -> Model:
            return self

        def get_image_features(self, pixels: Tensor) -> Tensor:
            return features._projected(clip.model.get_image_features(pixels))

        def get_text_features(self, tokens: Tensor, mask: Tensor) -> Tensor:
            return features._projected(clip.model.get_text_features(tokens, mask))

    module = sys.modules[theirs.__module__]
    processor = CLIPProcessor(clip._processor, clip._tokenizer)
    monkeypatch.setattr(module, "_get_clip_iqa_model_and_processor", lambda name: (Model(), processor))
    seen = pictures(3, 48, 48, seed=2)
    wanted: Any = theirs(to_bytes(seen), str(folder), data_range=1.0)  # pyright: ignore[reportArgumentType]
    texts = clip.texts(list(metrics.GOOD_AND_BAD))
    found = [metrics.clip_iqa(one[None], texts) for one in clip.images(seen)]
    assert found == pytest.approx(wanted.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("config.json", "has no config.json"),
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("vocab.json", "vocab.json and merges.txt"),
        ("model.safetensors", "has no model.safetensors"),
    ],
)
def test_an_incomplete_clip_folder_is_named(folder: Path, tmp_path: Path, gone: str, said: str):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / gone).unlink()
    with pytest.raises(UserError, match=said) as raised:
        features.load_clip(broken, config_path="--clip")
    assert "`--clip`" in str(raised.value) and str(broken) in str(raised.value)


def test_no_clip_folder_at_all(tmp_path: Path):
    for nothing in (None, "", "???"):
        with pytest.raises(UserError, match=r"`system.clip` is not set; give a folder"):
            features.load_clip(nothing, config_path="system.clip")
    with pytest.raises(UserError, match="there is no folder 'openai/clip-vit-base-patch16'"):
        features.load_clip("openai/clip-vit-base-patch16")


def test_a_clip_folder_with_pickled_other_or_damaged_weights(folder: Path, tmp_path: Path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    weights = broken / "model.safetensors"
    whole = weights.read_bytes()
    weights.rename(broken / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled"):
        features.load_clip(broken)
    weights.write_bytes(whole[:5000])
    with pytest.raises(UserError, match="cannot be loaded"):
        features.load_clip(broken)
    from safetensors.torch import load_file, save_file

    kept = {k: v for k, v in load_file(folder / "model.safetensors").items() if "projection" not in k}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match="lacks 2 weights"):
        features.load_clip(broken)
    (broken / "config.json").write_text(json.dumps({"model_type": "clip_text_model"}))
    with pytest.raises(UserError, match="clip_text_model"):
        features.load_clip(broken)


# The studio's classifier


def exact(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of random objects from random cameras, a shape at a time for speed, and their labels."""
    generator, seen, wanted = torch.Generator().manual_seed(seed), [], []
    palette = torch.tensor(list(worlds.COLORS.values()))
    for i, shape in enumerate(worlds.SHAPES):
        n = count // len(worlds.SHAPES)
        u, colours = torch.rand(2, n, generator=generator), torch.randint(6, (2, n), generator=generator)
        c2w = worlds.look_at(u[0] * 60, u[1] * 360)
        buffers = worlds.shading_buffers(shape, c2w)
        background = worlds.backdrop(worlds.camera_rays(c2w, 64)[1]).movedim(-1, 1)
        seen.append(worlds.compose(buffers, palette[colours[0]], palette[colours[1]], background))
        wanted.append(studio_classifier.labels(torch.full((n,), i), colours[0], colours[1], buffers))
    return torch.cat(seen), torch.cat([w[0] for w in wanted]), torch.cat([w[1] for w in wanted])


def test_labels_are_what_the_camera_sees():
    """From the front and from the back at height 0, one side of a cube; from the side, both; of one colour, that."""
    c2w = worlds.look_at(torch.zeros(4), torch.tensor([0.0, 180.0, 90.0, 90.0]))
    red, blue = list(worlds.COLORS).index("red"), list(worlds.COLORS).index("blue")
    front, back = torch.full((4,), red), torch.tensor([blue, blue, blue, red])
    _, found = studio_classifier.labels(torch.ones(4), front, back, worlds.shading_buffers("cube", c2w))
    assert [row.nonzero().flatten().tolist() for row in found] == [[red], [blue], [red, blue], [red]]
    # 30° round, 1.7 % of what is seen of the sphere is its back: neither seen nor hidden
    around = worlds.look_at(torch.zeros(1), torch.full((1,), 30.0))
    _, found = studio_classifier.labels(torch.zeros(1), front[:1], back[:1], worlds.shading_buffers("sphere", around))
    assert found[0, blue] == studio_classifier.UNCLEAR and found[0, red] == 1


@pytest.fixture(scope="module")
def classifier() -> features.StudioClassifier:
    return features.load_studio()


def test_the_classifier_is_small_and_safe():
    files = [f for f in studio_classifier.FOLDER.rglob("*") if f.is_file()]
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".csv", ".md"}
    assert sum(f.stat().st_size for f in files) <= 1.1e6


def test_the_classifier_knows_fresh_exact_pictures(classifier: features.StudioClassifier):
    """The share without an error is on its card; were it 95 %, 235 of 240 or more had a chance of 1.8 %."""
    pictures, shape, colours = exact(240, seed=20)
    good = 0
    for found, i, row in zip(classifier.see(pictures), shape.tolist(), colours.tolist(), strict=True):
        seen = [name in found.colours for name in worlds.COLORS]
        good += found.shape == worlds.SHAPES[i] and all(a == b or b < 0 for a, b in zip(seen, row, strict=True))
    assert good >= 235


def test_the_classifier_sees_nothing_in_the_empty_studio(classifier: features.StudioClassifier):
    c2w = worlds.look_at(torch.arange(0, 60, 5.0), torch.arange(0, 360, 30.0))
    empty = worlds.backdrop(worlds.camera_rays(c2w, 64)[1]).movedim(-1, 1) * 2 - 1
    assert classifier.see(empty) == [(None, ())] * 12


@pytest.mark.parametrize("shape", worlds.SHAPES)
def test_the_back_of_a_thing_of_one_colour_looks_like_its_front(classifier: features.StudioClassifier, shape: str):
    """And that of a two-coloured one does not, seen from height 0, where no back shows over the top."""
    c2w = worlds.look_at(torch.zeros(4), torch.tensor([0.0, 90.0, 180.0, 270.0]))
    one, two = (
        metrics.janus(classifier.images(worlds.render(worlds.StudioObject(shape, "red", back), c2w)))
        for back in ("red", "blue")
    )
    assert one.front_back > 0.85 and abs(one.excess) < 0.15
    assert two.front_back < 0.5


def test_features_are_of_one_length_and_repeat(classifier: features.StudioClassifier):
    seen = exact(24, seed=21)[0]
    found = classifier.images(seen)
    assert found.shape == (24, studio_classifier.WIDTH) and found.dtype == torch.float32
    assert torch.allclose(found.square().mean(1), torch.ones(24), atol=1e-3)
    assert torch.equal(found, classifier.images(seen))
    assert torch.allclose(found[5:6], classifier.images(seen[5:6]), atol=1e-5)
    assert torch.allclose(found, classifier.images(seen.double()), atol=1e-5)


def test_other_sizes_mean_the_same(classifier: features.StudioClassifier):
    """A picture of 128 px, each pixel four of a smaller one's, has its features."""
    seen = exact(24, seed=22)[0]
    enlarged = seen.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.allclose(classifier.images(enlarged), classifier.images(seen), atol=1e-5)
    half = classifier.see(torch.nn.functional.avg_pool2d(seen, 2))
    assert sum(a.shape == b.shape for a, b in zip(half, classifier.see(seen), strict=True)) >= 22


def test_a_picture_that_is_not_finite_is_named(classifier: features.StudioClassifier, clip: features.Clip):
    seen = exact(6, seed=23)[0]
    seen[4, 0, 3, 3] = torch.nan
    for found in (classifier, clip):
        with pytest.raises(NonFiniteError, match="view 4"):
            found.images(seen)


def test_kid_tells_the_models_pictures_from_others(classifier: features.StudioClassifier):
    """By the classifier's features: exact pictures of the same captions are nearer than those of another shape."""
    model = models.load(TINY_MODEL)
    prompts = [f"a {c} cube, side view" for c in worlds.COLORS] * 3
    drawn = classifier.images(sample_pictures(model, prompts, 2.5, seed=3, levels=12))

    def of(shape: str) -> Tensor:
        c2w = worlds.look_at(torch.linspace(0, 60, 18), torch.linspace(60, 120, 18))
        objects = [worlds.StudioObject(shape, c, c) for c in worlds.COLORS] * 3
        return classifier.images(torch.cat([worlds.render(o, c2w[i : i + 1]) for i, o in enumerate(objects)]))

    same, other = metrics.kid(of("cube"), drawn), metrics.kid(of("torus"), drawn)
    assert other.value - same.value > 5 * max(same.error, other.error)


def test_a_classifier_that_is_gone_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"train_studio_classifier.py"):
        studio_classifier.load_studio(tmp_path)
