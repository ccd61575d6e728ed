"""Files that others made: nothing in them is unpickled, and no name in them leads a run's files out of its folder."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import host_toy
import pytest
import report_example
import torch
from PIL import Image
from pullback import models
from pullback.cli.view import _shower as shower
from pullback.cli.view import read_mesh
from pullback.errors import UserError
from pullback.evaluate.compare.report import page
from pullback.evaluate.metrics.features import load_clip
from pullback.evaluate.studio import classifier
from pullback.host import launch, record
from pullback.host.base import load_module_weights
from pullback.host.config import load_config, parse_structured
from pullback.host.prompts import LIBRARY, looked_up
from pullback.host.scene.exporter import MeshExporter
from pullback.host.training.checkpoint import AtomicCheckpointIO
from pullback.host.training.saving import SaverMixin
from tiny_pipeline import build


@pytest.fixture
def toy(tmp_path: Path) -> list[str]:
    """The command line of a run that takes milliseconds; its files go to `out/toy/run`."""
    config = tmp_path / "config.yaml"
    config.write_text(host_toy.CONFIG.format(root=tmp_path / "out"))
    return ["--config", str(config), "--train", "system.prompt=x"]


# ---- pickles


class Marker:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def no_pickles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python's unpickler raises whatever it is given. PyTorch's reader of tensors and plain values is another."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something is unpickled")

    for name in ("load", "loads", "Unpickler", "_Unpickler", "_load", "_loads"):
        monkeypatch.setattr(pickle, name, refuse)
    with pytest.raises(AssertionError, match="unpickled"):
        pickle.loads(pickle.dumps(1))
    yield


def test_every_kind_of_file_is_read_where_nothing_can_be_unpickled(toy: list[str], tmp_path: Path, no_pickles: None):
    # configs, and checkpoints: to go on, to start from, to measure
    assert launch.main([*toy, "trainer.max_steps=3"]) == 0
    last = tmp_path / "out" / "toy" / "run" / "ckpts" / "last.ckpt"
    assert launch.main([*toy, f"resume={last}"]) == 0
    assert load_module_weights(str(last), "geometry")[2] == 6
    # models: index, configs, schedule, tokenizer, networks; the autoencoder of another
    folder = build(tmp_path / "sd")
    model = models.load(folder, vae=folder / "vae")
    assert model.encode_prompt(["a red cube"]).isfinite().all() and len(models.fingerprint(folder)) == 64
    # what is measured with, a comparison with its pictures, threestudio's library of prompts
    assert classifier.load_studio() is not None
    report_example.write(tmp_path / "comparison", methods=2, seeds=1)
    assert page.build(tmp_path / "comparison").stat().st_size > 10000
    assert not LIBRARY.exists() or looked_up("lib:cowboy_boots")


def _model(folder: Path, content: bytes, name: str) -> Any:
    build(folder / "sd")
    (folder / "sd" / name).write_bytes(content)
    if name.endswith(".bin"):
        (folder / "sd" / name).with_name("diffusion_pytorch_model.safetensors").unlink()
    return models.load(folder / "sd").encode_prompt(["a red cube"])  # which reads the text encoder


def _clip(folder: Path, content: bytes) -> Any:
    for name in ("config.json", "preprocessor_config.json", "vocab.json", "merges.txt"):
        (folder / name).write_text('{"model_type": "clip"}')
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(content)
    return load_clip(folder)


def _comparison(folder: Path, content: bytes) -> Any:
    report_example.write(folder / "c", methods=1, seeds=1)
    next((folder / "c").rglob("*.webp")).write_bytes(content)
    return page.build(folder / "c")


def _run(folder: Path, content: bytes) -> Any:
    (folder / "configs").mkdir()
    (folder / "configs" / "parsed.yaml").write_bytes(content)
    return record.read(folder)


def _written(read: Callable[[Path], Any], name: str) -> Callable[[Path, bytes], Any]:
    def write_and_read(folder: Path, content: bytes) -> Any:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return write_and_read


READERS: dict[str, Callable[[Path, bytes], Any]] = {
    "checkpoint": _written(lambda file: load_module_weights(str(file)), "a.ckpt"),
    "config": _written(lambda file: load_config(str(file)), "a.yaml"),
    "comparison": _written(lambda file: page.build(file.parent), "compare.json"),
    "strip of a comparison": _comparison,
    "CLIP": _clip,
    "config of a run, for its page": lambda folder, content: _run(folder, content),
    "mesh, to look at": _written(lambda file: shower(file, []), "a.ply"),
    "network": lambda folder, content: _model(folder, content, "unet/diffusion_pytorch_model.safetensors"),
    "network, bin": lambda folder, content: _model(folder, content, "unet/diffusion_pytorch_model.bin"),
    "text encoder": lambda folder, content: _model(folder, content, "text_encoder/model.safetensors"),
    "index": lambda folder, content: _model(folder, content, "model_index.json"),
    "schedule": lambda folder, content: _model(folder, content, "scheduler/scheduler_config.json"),
    "vocabulary": lambda folder, content: _model(folder, content, "tokenizer/vocab.json"),
}


@pytest.mark.parametrize("form", ["pickle", "zip"])
@pytest.mark.parametrize("kind", READERS)
def test_a_pickle_in_place_of_any_file_is_refused_in_a_sentence_and_not_run(kind: str, form: str, tmp_path: Path):
    """Bare, and in the zip that torch.save writes."""
    made = tmp_path / "made"
    if form == "pickle":
        content = pickle.dumps(Marker(made))
    else:
        torch.save({"state_dict": Marker(made), "epoch": 0, "global_step": 0}, tmp_path / "saved")
        content = (tmp_path / "saved").read_bytes()
    pickle.loads(pickle.dumps(Marker(made)))  # it does what it says
    made.rmdir()
    with pytest.raises(UserError) as refused:
        READERS[kind](tmp_path, content)
    assert not made.exists() and "\n" not in str(refused.value)


# ---- names


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("name", ["../x", "a/../../x", "{tmp}/x"]),
        ("tag", ["..", "."]),
        ("timestamp", ["/../../x", "/{tmp}/x"]),
        ("checkpoint.filename", ["../x", "../../x", "a/../../x", "{tmp}/x"]),
    ],
)
def test_names_in_a_config_that_lead_out_are_refused(
    key: str, values: list[str], toy: list[str], tmp_path: Path, capsys: Any
):
    before = everything(tmp_path)
    for value in values:
        assert launch.main([*toy, f"{key}={value.format(tmp=tmp_path)}"]) == 2
        said = capsys.readouterr().err
        assert f"`{key}`" in said and said.count("\n") == 1
    assert everything(tmp_path) == before


def test_a_tag_of_a_prompt_with_slashes_is_one_folder(toy: list[str], tmp_path: Path):
    before = everything(tmp_path)
    assert launch.main([*toy, "trainer.max_steps=1", f"tag=../../{tmp_path}/x"]) == 0
    (run,) = (tmp_path / "out" / "toy").iterdir()
    assert all(run in path.parents for path in everything(tmp_path) - before - {run, run.parent, run.parent.parent})


@pytest.mark.parametrize("value", ["../m", "{tmp}/m", "..", "a/b"])
def test_the_name_of_a_mesh_is_a_files(value: str, tmp_path: Path):
    with pytest.raises(UserError, match="save_name"):
        parse_structured(MeshExporter.Config, {"save_name": value.format(tmp=tmp_path)})
    with pytest.raises(UserError, match="texture_format"):
        parse_structured(MeshExporter.Config, {"texture_format": f"/../{value}"})


@pytest.mark.parametrize("name", ["../x.json", "a/../../x.json", "{tmp}/x.json"])
def test_no_part_saves_outside_of_the_save_folder(name: str, tmp_path: Path):
    saver = SaverMixin()
    saver.set_save_dir(str(tmp_path / "save"))
    with pytest.raises(UserError, match="is no file below"):
        saver.save_json(name.format(tmp=tmp_path), {})
    assert not everything(tmp_path)
    saver.save_json("a/x.json", {})


def test_a_checkpoint_names_no_file(toy: list[str], tmp_path: Path, capsys: Any):
    """Its step is a part of names of pictures, and it lists older checkpoints, which Lightning deletes."""
    assert launch.main([*toy, "trainer.max_steps=3"]) == 0
    last = tmp_path / "out" / "toy" / "run" / "ckpts" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    before = everything(tmp_path)
    for changed in ({"global_step": "/../../../../x"}, {"epoch": "../x"}, {"global_step": -1}, {"global_step": True}):
        torch.save({**content, **changed}, last)
        assert launch.main([*toy[:2], "--test", "system.prompt=x", f"resume={last}"]) == 2
        assert "is damaged" in capsys.readouterr().err
    assert everything(tmp_path) == before

    kept = tmp_path / "kept.ckpt"
    kept.touch()
    for name, state in content["callbacks"].items():
        if "ModelCheckpoint" in name:
            outside = f"{last.parent}/../../../../kept.ckpt"
            best = {"best_k_models": {outside: torch.tensor(0.0)}, "kth_best_model_path": outside}
            state |= {"best_model_path": outside, "last_model_path": outside, **best}
    torch.save(content, last)
    assert launch.main([*toy, f"resume={last}"]) == 0 and kept.exists()
    AtomicCheckpointIO(str(last.parent)).remove_checkpoint(f"{last.parent}/../../../../kept.ckpt")
    assert kept.exists()
    AtomicCheckpointIO(str(last.parent)).remove_checkpoint(last)
    assert not last.exists()


def test_a_mesh_that_is_looked_at_takes_its_texture_from_its_own_folder(tmp_path: Path):
    lines = ["mtllib a.mtl", "usemtl m", "v 0 0 0", "v 1 0 0", "v 0 1 0", "vt 0 0", "f 1/1 2/1 3/1"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.obj").write_text("\n".join(lines))
    for folder in (tmp_path, tmp_path / "run"):
        Image.new("RGB", (2, 2)).save(folder / f"{folder.name}.png")
    for name, read in (
        ("run.png", True),
        (f"../{tmp_path.name}.png", False),
        (f"{tmp_path}/{tmp_path.name}.png", False),
    ):
        (tmp_path / "run" / "a.mtl").write_text(f"newmtl m\nmap_Kd {name}\n")
        image = getattr(read_mesh(tmp_path / "run" / "a.obj").visual.material, "image", None)
        assert (image is not None) is read, name


def test_a_comparison_takes_no_picture_from_elsewhere(tmp_path: Path):
    data = report_example.write(tmp_path / "c", methods=1, seeds=1)
    strip = tmp_path / "c" / data["runs"][0]["turntable"]
    shutil.copy(strip, tmp_path / "other.webp")
    for name in ("../other.webp", str(tmp_path / "other.webp")):
        data["runs"][0]["turntable"] = name
        (tmp_path / "c" / "compare.json").write_text(json.dumps(data))
        with pytest.raises(UserError, match="a file in the comparison's folder"):
            page.build(tmp_path / "c")
    assert not (tmp_path / "c" / "report.html").exists()
