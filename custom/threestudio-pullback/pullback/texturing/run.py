"""The run of `pullback texture`: checks, a plan, a sample for each seed, files and a page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pullback
import torch
from torch import Tensor

from .. import models
from ..adapters.guidance.options import make_constraint, make_restart
from ..errors import UserError
from ..host.config import ExperimentConfig, check_parts, load_config
from ..host.devices import choose_device
from ..host.parts import load_parts
from ..host.quiet import quieten
from ..host.registry import find
from ..meshes.reading import Surface, read
from ..output import gallery, whole
from ..output.file_names import slug
from ..output.mesh_files import AXES, MeshData, save
from ..output.pictures import save_png
from ..output.words import counted
from ..version import describe
from .seen import SeenTexture

FRAMES, FRAME = gallery.FRAMES, gallery.SIZE
SHARE = 0.7  # of the half height that a camera sees, which the mesh may fill; the shipped models' objects do
ITERATIONS, DAMPING = 4, 0.1  # of a level's fit: conjugate gradients; in pixels, what a texel must be seen for to move


@dataclass(frozen=True)
class Request:
    """What to make.

    Attributes:
        mesh: A glb, obj or ply.
        prompt: What it is to look like.
        seeds: A texture for each.
        out: The folder for the files.
        config: A run's config, for model, levels, noise, cameras and background; its geometry is not used.
        overrides: Config overrides, key=value.
        imports: Modules with parts of the user.
        controlnet: The folder of a depth ControlNet for the model, or None.
        texels: Texels a side; 0 for twice the pixels of a render.
        new_charts: Whether the mesh's own texture coordinates are left out.
    """

    mesh: Path
    prompt: str
    seeds: Sequence[int]
    out: Path
    config: Path
    overrides: Sequence[str] = ()
    imports: Sequence[str] = ()
    controlnet: Path | None = None
    texels: int = 0
    new_charts: bool = False


def run(request: Request, say: Callable[[str], None]) -> Path:
    """Makes the textures.

    Args:
        request: What to make.
        say: Gets lines for people.

    Returns:
        The page.

    Raises:
        UserError: Bad input; nothing that is large has been loaded then.
    """
    load_parts(request.imports)
    quieten(False)
    words = [f"system.prompt_processor.prompt={request.prompt}", *request.overrides]
    cfg = load_config(str(request.config), cli_args=words, n_gpus=1)
    check_parts(ExperimentConfig, cfg)
    scene = Scene(cfg, request)
    for note in scene.surface.notes:
        say(f"{request.mesh}: {note}")
    say(scene.plan(len(request.seeds)))
    request.out.mkdir(parents=True, exist_ok=True)
    scene.load()
    samples = [_one(scene, request, seed, say) for seed in request.seeds]
    page = request.out / "index.html"
    title = (
        f"{len(samples)} textures of {request.mesh.name}" if len(samples) > 1 else f"A texture of {request.mesh.name}"
    )
    notes = ["Each is a sample of its own. A name leads to the textured mesh, a glb file beside this page."]
    whole.write(page, gallery.render(title, samples, notes))
    return page


class Scene:
    """Mesh, cameras, background, model: what all seeds share.

    Args:
        cfg: The parsed config.
        request: What to make.

    Raises:
        UserError: The config has no such cameras or guidance, or the mesh cannot be used.
    """

    def __init__(self, cfg: Any, request: Request):
        self.cfg, system = cfg, cfg.system
        self.device, _ = choose_device(cfg.trainer.get("accelerator", "auto"))
        if system.guidance_type != "pullback-guidance":
            raise UserError(
                f"`system.guidance_type` is '{system.guidance_type}'; a texture is sampled by pullback-guidance, use a "
                "config that has it"
            )
        kind = find(cfg.data_type)
        self.views: Any = getattr(kind, "training", lambda _: None)(kind.parse(kind.Config, cfg.data))
        example = None if self.views is None else self.views.draw(0)
        if not isinstance(example, dict) or "mvp_mtx" not in example:
            raise UserError(
                f"`data_type` is '{cfg.data_type}', which has no cameras round an object; use a config with "
                "random-camera-datamodule"
            )
        self.count, self.height, self.width = (int(n) for n in example["rays_o"].shape[:3])
        self.resolution = request.texels or 2 * max(self.height, self.width)
        self.surface: Surface = read(request.mesh, self.resolution, request.new_charts)
        reach = float((example["camera_distances"] * (example["fovy"] / 2).tan()).min())
        self.vertices = self.surface.in_world(SHARE * reach)
        self.shown = kind.evaluation(self._shown_config(kind), FRAMES)
        self.guidance: Any = None
        self.controlnet = request.controlnet
        if self.controlnet is not None and not self.controlnet.is_dir():
            raise UserError(f"--controlnet {self.controlnet} is no folder; give the one that save_pretrained wrote")
        self.denoise: Any = None

    def _shown_config(self, kind: Any) -> Any:
        return kind.parse(kind.Config, {**self.cfg.data, "eval_height": FRAME, "eval_width": FRAME})

    def plan(self, seeds: int) -> str:
        """A line on the calls and the memory that the run takes."""
        options = find("pullback-guidance").Config(**self.cfg.system.guidance)
        calls = (
            options.levels * make_constraint(options).cycles * self.count * (1 if options.guidance_scale == 1 else 2)
        )
        tries = int(options.tries)
        most = f", up to {tries} times as many where views disagree" if tries > 1 else ""
        folder = models.resolve(options.pretrained_model_name_or_path)
        files = [folder] if folder.is_file() else folder.rglob("*.safetensors")
        weights = sum(os.path.getsize(file) for file in files) / 1e6
        seen = self.count * self.height * self.width * 16 * 12 * 3 + self.resolution**2 * 60 + len(self.vertices) * 200
        return (
            f"{counted(seeds, 'texture')} of {self.resolution} × {self.resolution} texels, {calls} calls of the "
            f"model each{most}; memory: {weights:.0f} MB for the model's weights as saved, {seen / 1e6:.0f} MB for "
            "mesh and views, about 900 MB for PyTorch and its libraries"
        )

    def load(self) -> None:
        """Loads the model and embeds the prompt."""
        system = self.cfg.system
        self.background = find(system.background_type)(system.background).to(self.device).eval()
        self.guidance = find(system.guidance_type)(system.guidance)
        if self.controlnet is not None:
            with models.config_key("--controlnet"):
                self.guidance.model = models.controlled(self.guidance.model, self.controlnet)
        self.denoise = self.guidance.denoiser(find(system.prompt_processor_type)(system.prompt_processor)())

    def texture(self, height: int, width: int, samples: int = 1) -> SeenTexture:
        """A grey texture."""
        made = SeenTexture(self.vertices, self.surface, self.resolution, height, width, self.background, samples)
        return made.to(self.device)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Cameras of the config's own distribution."""
        self.views.seed = int(torch.randint(2**31, (), generator=generator))
        return _on(self.views.draw(0), self.device)

    def draw_with_depth(self, generator: torch.Generator) -> dict[str, Any]:
        """The same, with the depth that a ControlNet sees."""
        views = self.draw(generator)
        return views | {models.PICTURE: self.texture(self.height, self.width).nearness(views)}

    def sample(self, seed: int) -> tuple[SeenTexture, float, int]:
        """A texture, its self-consistency, and the calls that it took."""
        made, options = self.texture(self.height, self.width), self.guidance.cfg
        draw = self.draw if self.controlnet is None else self.draw_with_depth
        result = pullback.sample(
            made, draw, self.denoise, self.guidance.sigmas(), noise=self.guidance.coupling(),
            constraint=self.guidance.constraint(), order=options.order,
            solver=pullback.GaussNewton(iterations=1, cg_iterations=ITERATIONS, damping=DAMPING),
            generator=torch.Generator().manual_seed(seed), restart=make_restart(options, self.guidance.coupling()),
        )  # fmt: skip
        return made, result.consistency, result.nfe

    @torch.no_grad()
    def turntable(self, texture: Tensor) -> Tensor:
        """Pictures [FRAMES,3,H,W] all round of a mesh with a texture [3,R,R] in [−1, 1]."""
        shown = self.texture(FRAME, FRAME, 2)
        shown.texture.copy_(texture)
        frames = [shown.render(_on(self.shown.collate([i]), self.device))[0] for i in range(FRAMES)]
        return torch.stack(frames)


def _one(scene: Scene, request: Request, seed: int, say: Callable[[str], None]) -> gallery.Sample:
    """Samples a texture and writes its files."""
    started, clock = time.strftime("%Y-%m-%d %H:%M:%S"), time.perf_counter()
    made, consistency, calls = scene.sample(seed)
    texture, share = made.whole(scene.vertices, scene.surface)
    surface, name = scene.surface, f"{slug(request.prompt)}-{seed}"
    file = request.out / f"{name}.glb"
    extras = {"prompt": request.prompt, "seed": seed, "version": describe()}
    turned = surface.vertices @ (torch.tensor(AXES[surface.up]) @ torch.tensor(AXES["y"]).T).double().numpy()
    save(str(file), MeshData(turned, surface.faces, v_tex=surface.coordinates, t_tex_idx=surface.corners,
                             texture=texture, texture_format="png", extras=extras))  # fmt: skip
    frames = scene.turntable(torch.from_numpy(texture).movedim(-1, 0).to(scene.device) * 2 - 1)
    folder = request.out / "views" / name
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        save_png(folder / f"{i:03d}.png", frame.cpu())
    say(f"seed {seed}: {file}, {time.perf_counter() - clock:.0f} s, {calls} calls, self-consistency {consistency:.3f}, "
        f"{share:.0%} of the surface was seen")  # fmt: skip
    pictures = [folder / f"{i:03d}.png" for i in range(len(frames))]
    return gallery.Sample(request.prompt, seed, consistency, started, pictures, link=file.name)


def _on(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
