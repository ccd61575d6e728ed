"""Writing pictures, videos, meshes and data into the run's `save` folder, under threestudio's names."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import UserError
from ...output import arrays, mesh_files, whole
from ...output.pictures import png_info, save_image
from ...output.video import save_video
from ..folders import lies_in

_RGB = {"data_format": "HWC", "data_range": (0, 1)}
_GRAYSCALE = {"data_range": None, "cmap": "jet"}


class SaverMixin:
    """Every `save_…` takes a file name relative to the save folder and returns the path written.

    Pictures are tensors or arrays; those with a `name` also go to TensorBoard, under that name at `step`.
    """

    _save_dir: str | None = None

    def origin(self) -> dict[str, Any]:
        """Override: what pictures, videos and meshes say of their origin in their metadata."""
        return {}

    def set_save_dir(self, save_dir: str) -> None:
        """Sets the folder that relative names start from."""
        self._save_dir = save_dir

    def get_save_dir(self) -> str:
        """The folder that relative names start from; ValueError where none is set."""
        if self._save_dir is None:
            raise ValueError("no save folder is set; call set_save_dir first")
        return self._save_dir

    def get_save_path(self, filename: str) -> str:
        """The full path of a file; makes its folder. UserError for a file outside of the save folder."""
        path = os.path.join(self.get_save_dir(), filename)
        if not lies_in(path, self.get_save_dir()):
            raise UserError(f"cannot write {filename!r}: it is no file below {self.get_save_dir()}; give another name")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def convert_data(self, data: Any) -> Any:
        """Tensors, at any depth of lists and dicts, as arrays on the CPU."""
        if isinstance(data, torch.Tensor):
            data = data.detach().cpu()
            return (data.float() if data.dtype in (torch.float16, torch.bfloat16) else data).numpy()
        if isinstance(data, list):
            return [self.convert_data(d) for d in data]
        if isinstance(data, dict):
            return {k: self.convert_data(v) for k, v in data.items()}
        if data is None or isinstance(data, np.ndarray):
            return data
        raise TypeError(f"can save tensors, arrays, lists and dicts, not {type(data).__name__}")

    # ---- pictures

    def get_rgb_image_(self, img: Any, data_format: str, data_range: tuple[float, float]) -> np.ndarray:
        """[H,W,C] ("HWC") or [C,H,W] ("CHW") as uint8 [H,W,3]; see `output.arrays.rgb`."""
        return arrays.rgb(self.convert_data(img), data_format, data_range)

    def get_grayscale_image_(self, img: Any, data_range: tuple[float, float] | None, cmap: str | None) -> np.ndarray:
        """[H,W] as uint8 [H,W,3]; see `output.arrays.grayscale`."""
        return arrays.grayscale(self.convert_data(img), data_range, cmap)

    def get_image_grid_(self, imgs: list[Any], align: Any) -> np.ndarray:
        """One row of pictures, or a list of rows, as uint8 [H,W,3]; see `save_image_grid`."""
        if isinstance(imgs[0], list):
            rows = [self.get_image_grid_(row, align) for row in imgs]
            width = max(r.shape[1] for r in rows)
            return np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0))) for r in rows])
        cells = [self._cell(cell) for cell in imgs]
        if align == "max" or align == "min":
            pick = max if align == "max" else min
            size = (pick(c.shape[0] for c in cells), pick(c.shape[1] for c in cells))
        else:
            size = (align, align) if isinstance(align, int) else tuple(align)
        return np.concatenate([arrays.resize(c, size) for c in cells], axis=1)

    def _cell(self, cell: dict[str, Any]) -> np.ndarray:
        kwargs = cell.get("kwargs", {})
        if cell["type"] == "rgb":
            return self.get_rgb_image_(cell["img"], **{**_RGB, **kwargs})
        if cell["type"] == "grayscale":
            return self.get_grayscale_image_(cell["img"], **{**_GRAYSCALE, **kwargs})
        raise ValueError(f"a grid cell is of type 'rgb' or 'grayscale', not {cell['type']!r}")

    def save_rgb_image(
        self,
        filename: str,
        img: Any,
        data_format: str = "HWC",
        data_range: tuple[float, float] = (0, 1),
        name: str | None = None,
        step: int | None = None,
    ) -> str:
        """A colour picture; see `get_rgb_image_`."""
        return self._write_image(filename, self.get_rgb_image_(img, data_format, data_range), name, step)

    def save_grayscale_image(
        self,
        filename: str,
        img: Any,
        data_range: tuple[float, float] | None = None,
        cmap: str | None = "jet",
        name: str | None = None,
        step: int | None = None,
    ) -> str:
        """A picture of one channel; see `get_grayscale_image_`."""
        return self._write_image(filename, self.get_grayscale_image_(img, data_range, cmap), name, step)

    def save_image_grid(
        self,
        filename: str,
        imgs: list[Any],
        align: Any = "max",
        name: str | None = None,
        step: int | None = None,
        texts: list[Any] | None = None,
    ) -> str:
        """A row (list of cells) or several rows (list of lists) of pictures.

        Args:
            filename: relative to the save folder.
            imgs: cells {"type": "rgb" | "grayscale", "img": picture, "kwargs": of the single picture's save}.
            align: cell size: "max" or "min" over the cells, an int, or (height, width).
            name: name in TensorBoard; None logs nothing.
            step: step in TensorBoard.
            texts: lines written into the top left corner.
        """
        grid = self.get_image_grid_(imgs, align)
        if texts is not None:
            from PIL import Image, ImageDraw

            picture = Image.fromarray(grid)
            ImageDraw.Draw(picture).text((2, 2), "\n".join(str(t) for t in texts), fill=(255, 255, 255))
            grid = np.asarray(picture)
        return self._write_image(filename, grid, name, step)

    def save_image(self, filename: str, img: Any) -> str:
        """A uint8 picture [H,W], [H,W,3] or [H,W,4] as it is."""
        return self._write_image(filename, self.convert_data(img), None, None)

    def _write_image(self, filename: str, img: np.ndarray, name: str | None, step: int | None) -> str:
        from PIL import Image

        path = self.get_save_path(filename)
        options = {"pnginfo": png_info(self.origin())} if path.endswith(".png") else {}
        save_image(path, Image.fromarray(img), **options)
        trainer = getattr(self, "_trainer", None)
        for logger in trainer.loggers if name and trainer is not None else []:
            if hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image(name, img, step, dataformats="HWC")
        return path

    def save_img_sequence(
        self,
        filename: str,
        img_dir: str,
        matcher: str,
        save_format: str = "mp4",
        fps: int = 30,
        name: str | None = None,
        step: int | None = None,
    ) -> str:
        """A video ("mp4" or "gif") of the pictures in `img_dir` whose names match, in the order of group 1.

        Raises:
            UserError: no picture matches, or the video could not be written whole.
        """
        if save_format not in ("mp4", "gif"):
            raise ValueError(f"save_format is 'mp4' or 'gif', not {save_format!r}")
        import imageio.v2 as imageio

        path = self.get_save_path(filename if filename.endswith(save_format) else f"{filename}.{save_format}")
        folder = os.path.join(self.get_save_dir(), img_dir)
        pictures = [(int(m.group(1)), f) for f in os.listdir(folder) if (m := re.search(matcher, f))]
        if not pictures:
            raise UserError(f"there are no pictures in {folder} to make a video of")
        frames = [imageio.imread(os.path.join(folder, f)) for _, f in sorted(pictures)]
        save_video(path, frames, fps, self.origin())
        return path

    # ---- the rest

    def save_mesh(self, filename: str, v_pos: Any, t_pos_idx: Any, v_rgb: Any = None, **more: Any) -> str:
        """A triangle mesh; the file's extension (glb, obj, ply) is the format.

        Args:
            filename: relative to the save folder.
            v_pos: [N,3] vertices, in the axes of the format.
            t_pos_idx: [M,3] indices.
            v_rgb: [N,3] colours in [0,1], or None.
            more: what else `output.mesh_files.MeshData` has.
        """
        path = self.get_save_path(filename)
        parts = {"v_pos": v_pos, "t_pos_idx": t_pos_idx, "v_rgb": v_rgb, "extras": self.origin(), **more}
        tensors = {k: self.convert_data(v) for k, v in parts.items() if isinstance(v, torch.Tensor)}
        mesh_files.save(path, mesh_files.MeshData(**{**parts, **tensors}))
        return path

    def save_data(self, filename: str, data: Any) -> str:
        """An array as .npy, a dict of arrays as .npz."""
        data = self.convert_data(data)
        kind = ".npz" if isinstance(data, dict) else ".npy"
        path = self.get_save_path(filename if filename.endswith(kind) else filename + kind)
        content = io.BytesIO()
        if isinstance(data, dict):
            np.savez(content, **data)
        else:
            np.save(content, data)
        whole.write(path, content.getvalue())
        return path

    def save_state_dict(self, filename: str, data: Any) -> str:
        """A state dict, by `torch.save`."""
        path = self.get_save_path(filename)
        content = io.BytesIO()
        torch.save(data, content)
        whole.write(path, content.getvalue())
        return path

    def save_file(self, filename: str, src_path: str) -> str:
        """A copy of a file."""
        path = self.get_save_path(filename)
        whole.write(path, Path(src_path).read_bytes())
        return path

    def save_json(self, filename: str, payload: Any) -> str:
        """Plain dicts, lists and values as JSON."""
        path = self.get_save_path(filename)
        whole.write(path, json.dumps(payload))
        return path
