"""The space of u: the renders themselves, or their latents where the denoiser has an encoder."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoiser import Decoder, Denoiser, JointDenoiser, LatentDenoiser
from ..errors import FiniteChecks, UserError, check_finite
from ..fitting import DiffRep, Fit, FlatRender, Solution, Solver
from ..noise import Coupling, Shared, Slot


class Space:
    """The diffrep as the denoiser sees it: renders, or latents encode(render) of a `LatentDenoiser`.

    θ is fitted in the space that a latent denoiser's `fit_space` names: "image" decodes each target once, so that the
    fit calls no network; "latent" fits encode(render) to it. All renders and answers are checked to be finite.

    Args:
        diffrep: The representation.
        denoise: The denoiser.

    Attributes:
        nfe: Denoiser calls since `begin`, every view of a group counted.
        noise: The coupling for such a denoiser, where none is asked for.

    Raises:
        UserError: The denoiser has another `fit_space`.
    """

    def __init__(self, diffrep: DiffRep, denoise: Denoiser):
        self.diffrep, self._denoise = diffrep, denoise
        self._encode = denoise.encode if isinstance(denoise, LatentDenoiser) else None
        self._group = denoise.group_size if isinstance(denoise, JointDenoiser) else 1
        self.noise: Coupling = Slot(self._group) if self._group > 1 else Shared()
        self.nfe = 0
        self._checks: FiniteChecks | None = None
        self.fit_space: Literal["image", "latent"] = getattr(denoise, "fit_space", "image")
        if self.fit_space not in ("image", "latent"):
            raise UserError(f"the denoiser's fit_space must be 'image' or 'latent', not {self.fit_space!r}")

    @torch.no_grad()
    def render(self, views: Any) -> Tensor:
        """f(θ, views) [V,C,H,W]."""
        render = self.diffrep.render(views).clone()  # it may share memory with θ, which a fit moves
        if render.ndim != 4 or len(render) == 0:
            raise UserError(f"the representation must render at least one view [V,C,H,W], not {list(render.shape)}")
        return self.finite(render, "the render")

    @torch.no_grad()
    def clean(self, views: Any) -> Tensor:
        """The images u [V,C,H,W]: renders or latents."""
        render = self.render(views)
        return render if self._encode is None else self.finite(self._encode(render), "the encoded render")

    def begin(self, memory: Any = None) -> None:
        """Counts calls from 0, and gives the denoiser back what it kept, if it is one that keeps anything."""
        self.nfe = 0
        if hasattr(self._denoise, "memory"):
            self._denoise.memory = memory  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def checked_together(self) -> Generator[None, None, None]:
        """Looks at all renders and answers of a block when the fit's numbers are read, or at its end."""
        self._checks = FiniteChecks()
        try:
            yield
        finally:
            checks, self._checks = self._checks, None
            checks.read()  # also where a NaN has made something else fail

    def read(self, *numbers: Tensor) -> list[float]:
        """The values of scalars, after all that must be finite so far has been looked at."""
        return [value for (value,) in (self._checks or FiniteChecks()).read(*(x.reshape(1) for x in numbers))]

    def finite(self, tensor: Tensor, what: str) -> Tensor:
        """The tensor [V,...] itself, which is checked now or with all others of a block, see `checked_together`."""
        return check_finite(tensor, what) if self._checks is None else self._checks.expect(tensor, what)

    @property
    def memory(self) -> Any:
        """What the denoiser keeps between calls; None for most."""
        return getattr(self._denoise, "memory", None)

    @torch.no_grad()
    def denoise(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        """x̂0(y, σ) [V,C,H,W]; `nfe` grows by the calls that it cost."""
        if len(noisy) % self._group:
            raise UserError(f"the denoiser sees {self._group} views at a time; use a multiple of it, not {len(noisy)}")
        before = getattr(self._denoise, "nfe", None)
        x0 = self._denoise(noisy, sigma, views).detach()  # one guided by gradients may leave its graph
        if before is None:
            self.nfe += len(noisy) * int(getattr(self._denoise, "nfe_per_view", 1))
        else:
            self.nfe += int(self._denoise.nfe) - int(before)  # type: ignore[attr-defined]
        if x0.shape != noisy.shape:
            raise UserError(f"the denoiser must keep the shape {list(noisy.shape)}, but gave {list(x0.shape)}")
        return self.finite(x0, "the denoiser's answer")

    @torch.no_grad()
    def project(self, views: Any, images: Tensor, iterations: int) -> Tensor:
        """The change of u [V,C,H,W] by a small change of θ that is nearest to `images`; see FlatRender.project."""
        function = FlatRender(self.diffrep, views, self._encode)
        return self.finite(function.project(images, iterations), "the projection")

    def aim(self, target: Tensor) -> Tensor:
        """A target [V,C,H,W] for u in the space of the fit, where it is decoded if the fit is one of images.

        Raises:
            UserError: The target must be decoded, and the denoiser has no `decode`.
        """
        if self._encode is None or self.fit_space == "latent":
            return target
        if not isinstance(self._denoise, Decoder):
            raise UserError("the denoiser has encode but no decode; give it one, or fit_space = 'latent'")
        with torch.no_grad():
            return self.finite(self._denoise.decode(target), "the decoded target")

    def fitted(self, views: Any, clean: Tensor | None = None) -> Tensor:
        """What a fit compares with its target [V,C,H,W]: renders, or latents in a fit of latents; `clean` is u."""
        if self._encode is None or self.fit_space == "latent":
            return self.clean(views) if clean is None else clean
        return self.render(views)

    def fit(self, solver: Solver, views: Any, target: Tensor, generator: torch.Generator) -> Solution:
        """Moves θ so that the renders reach a target [V,C,H,W] in the space of the fit, see `aim`."""
        encode = self._encode if self.fit_space == "latent" else None
        return solver.solve(Fit(self.diffrep, views, target, encode, generator, self._checks or FiniteChecks()))
