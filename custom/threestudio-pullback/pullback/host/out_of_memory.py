"""What to say where the memory does not suffice: in which stage, and which keys of this config need less there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import torch


class Stage(NamedTuple):
    """A stage of a run: its words in the sentence, and the keys that need less memory there, the best first."""

    words: str
    keys: tuple[str, ...]


_GUIDANCE = "system.guidance."
LOADING = Stage(
    "while the diffusion model loads",
    (_GUIDANCE + "half_precision_weights", _GUIDANCE + "enable_sequential_cpu_offload"),
)
NETWORKS = Stage(
    "in the diffusion model's networks",
    (
        _GUIDANCE + "views_per_call", _GUIDANCE + "enable_attention_slicing",
        _GUIDANCE + "enable_sequential_cpu_offload", "data.batch_size",
    ),
)  # fmt: skip
FIT = Stage("in the fit of a level", (_GUIDANCE + "fit_rays", "system.renderer.num_samples_per_ray"))
WHOLE_FIT = Stage(  # fit_space latent: the encoder needs all pixels
    "in the fit of a level to whole pictures",
    ("data.batch_size", "data.width", "data.height", "system.renderer.num_samples_per_ray"),
)
RENDERS = Stage(
    "in the renders of a visit's views",
    ("system.renderer.eval_chunk_size", "data.batch_size", "data.width", "data.height"),
)
PICTURES = Stage(
    "in the pictures of validation or test",
    ("system.renderer.eval_chunk_size", "data.eval_width", "data.eval_height"),
)
EXPORT = Stage("in the export", ("system.geometry.isosurface_resolution", "system.geometry.isosurface_chunk"))
TEXTURE = Stage("while the mesh's texture is made", ("system.exporter.texture_size", "system.exporter.faces"))
SCENE = Stage(
    "while `system.geometry` is built",
    (
        "system.geometry.grid_size", "system.geometry.pos_encoding_config.log2_hashmap_size",
        "system.geometry.pos_encoding_config.n_levels",
    ),
)  # fmt: skip
STEP = Stage(
    "in a training step",
    (_GUIDANCE + "fit_rays", "data.batch_size", "data.width", "data.height", "system.renderer.num_samples_per_ray"),
)

# the fused renderer keeps nothing per sample, so what bounds the number of samples does not help there
_FUSED = "pullback.host.scene.renderer:_render_fused"
_OF_SAMPLES = ("system.renderer.eval_chunk_size", "system.renderer.num_samples_per_ray")

# A stage, and the frames of a traceback that show it: modules, or a function after a colon. The first that fits holds.
_STAGES: tuple[tuple[Stage, tuple[str, ...]], ...] = (
    (LOADING, ("pullback.models.loading",)),
    (NETWORKS, ("pullback.models",)),
    (TEXTURE, ("pullback.host.scene.texture",)),
    (EXPORT, ("pullback.host.scene.mesh",)),
    (EXPORT, ("pullback.host.scene.exporter",)),
    (WHOLE_FIT, ("pullback.fitting", "pullback.adapters.rendered_field:render")),
    (FIT, ("pullback.fitting",)),
    (RENDERS, ("pullback.adapters.rendered_field:render",)),
    (SCENE, ("pullback.host.training.systems:configure",)),
    (PICTURES, ("pullback.output.turntable",)),
    (PICTURES, ("pytorch_lightning.loops.evaluation_loop",)),
    (EXPORT, ("pytorch_lightning.loops.prediction_loop",)),
    (STEP, ("pytorch_lightning.loops",)),
)


def shortage(error: BaseException, blocks: Mapping[str, Any]) -> str:
    """What ran out where, and what to change.

    Args:
        error: One for which `errors.is_out_of_memory` holds.
        blocks: The config's blocks with all defaults; of the keys of a stage, those that are not in them are not named.
    """
    frames = _frames(error.__traceback__)
    stage = next((stage for stage, needed in _STAGES if frames.issuperset(needed)), None)
    on_gpu = isinstance(error, torch.cuda.OutOfMemoryError) or re.search(r"CUDA|cuda|CU(BLAS|DNN)", str(error))
    asked = re.search(r"allocate ([\d.]+ ?(?:[KMGT]i?B|bytes))", str(error))
    words = f"out of {'GPU ' if on_gpu else ''}memory"
    words += f" {stage.words}" if stage else ""
    words += f", at {_readable(asked[1])} more" if asked else ""
    keys = stage.keys if stage else STEP.keys
    if _FUSED in frames:
        keys = tuple(key for key in keys if key not in _OF_SAMPLES)
    changes = list(_changes(keys, blocks))
    return words + (f"; {', or '.join(changes)}" if changes else "; use a smaller config")


def _readable(size: str) -> str:
    if not size.endswith("bytes"):
        return size
    return f"{int(size.split()[0]) / 2**30:.3g} GiB"


def _frames(trace: TracebackType | None) -> set[str]:
    """The modules of a traceback, those above them, and its functions as module:function."""
    frames = set()
    while trace is not None:
        module, function = str(trace.tb_frame.f_globals.get("__name__")), trace.tb_frame.f_code.co_name
        parts = module.split(".")
        frames |= {".".join(parts[:n]) for n in range(1, len(parts) + 1)} | {f"{module}:{function}"}
        trace = trace.tb_next
    return frames


def _changes(keys: tuple[str, ...], blocks: Mapping[str, Any]) -> Iterator[str]:
    for key in keys:
        value: Any = blocks
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None or value is True:
            continue
        if value is False:
            yield f"set `{key}` to true"
        elif value != 0:  # a 0 leaves the choice to the part
            yield f"lower `{key}`, now {list(value) if isinstance(value, (list, tuple)) else value}"
