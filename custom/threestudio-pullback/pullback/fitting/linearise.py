"""The renders as a function of one flat parameter vector, with its derivative J as products J v and Jᵀ w only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError, UserError
from .diffrep import DiffRep

Linear = Callable[[Tensor], Tensor]


def trainable(module: DiffRep | nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by name.

    Raises:
        UserError: There are none.
    """
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        raise UserError("the representation has no parameters that require gradients, so there is nothing to sample")
    return parameters


class _AsForward(nn.Module):
    """torch.func swaps parameters in a module's forward; the diffrep's function is its render."""

    def __init__(self, diffrep: DiffRep):
        super().__init__()
        self.diffrep = diffrep

    def forward(self, views: Any) -> Tensor:
        return self.diffrep.render(views)


class FlatRender:
    """θ [P] ↦ f(θ, views) [V,C,H,W] over the diffrep's trainable parameters, concatenated in their order.

    A call leaves the parameters alone; `write` sets them.

    Args:
        diffrep: The representation.
        views: The views to render.
        encode: An optional map of the render, such as an image encoder.

    Raises:
        UserError: The representation has no parameter that requires gradients.
    """

    def __init__(self, diffrep: DiffRep, views: Any, encode: Linear | None = None):
        self._module = _AsForward(diffrep)
        self._views, self._encode = views, encode
        self._parameters = trainable(self._module)

    @property
    def flat(self) -> Tensor:
        """A copy of the present parameters [P]."""
        return torch.cat([p.detach().reshape(-1) for p in self._parameters.values()])

    def _split(self, flat: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(flat, [p.numel() for p in self._parameters.values()])
        named = zip(self._parameters.items(), pieces, strict=True)
        return {name: piece.view_as(parameter) for (name, parameter), piece in named}

    def write(self, flat: Tensor) -> None:
        """Sets the parameters to `flat` [P]."""
        with torch.no_grad():
            for name, piece in self._split(flat).items():
                self._parameters[name].copy_(piece)

    def __call__(self, flat: Tensor) -> Tensor:
        """f(θ, views) [V,C,H,W] at θ = flat [P]."""
        render = torch.func.functional_call(self._module, self._split(flat), (self._views,))
        return render if self._encode is None else self._encode(render)

    def linearise(self, flat: Tensor) -> tuple[Tensor, Linear, Linear]:
        """The render and its derivative at θ = flat.

        Args:
            flat: θ [P].

        Returns:
            f(θ) [V,C,H,W], and the maps v [P] ↦ J v [V,C,H,W] and w [V,C,H,W] ↦ Jᵀ w [P]. The first map raises
            UserError where the render has no forward-mode derivative.
        """
        render, pull = cast(tuple[Tensor, Any], torch.func.vjp(self, flat))

        def push(v: Tensor) -> Tensor:
            try:
                with _attention_with_derivatives():
                    return cast(Tensor, torch.func.jvp(self, (flat,), (v,))[1])
            except NotImplementedError as error:
                raise UserError(
                    "GaussNewton and Langevin need a render with forward-mode derivatives, which this one lacks; "
                    "use FirstOrder and Repaint"
                ) from error

        return render, push, lambda w: pull(w)[0]

    def project(self, images: Tensor, iterations: int) -> Tensor:
        """J (JᵀJ)⁺ Jᵀ images [V,C,H,W]: their nearest point in the range of J at the present parameters.

        Conjugate gradients compute it. With few iterations it is the nearest point of a smaller space, still an
        orthogonal projection.

        Args:
            images: [V,C,H,W].
            iterations: Of conjugate gradients.
        """
        _, push, pull = self.linearise(self.flat)
        return push(conjugate_gradients(lambda v: pull(push(v)), pull(images), iterations, tolerance=1e-6))


def _attention_with_derivatives() -> AbstractContextManager[Any]:
    """A context in which attention, as an autoencoder has it, has forward-mode derivatives: one kernel of several."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # before PyTorch 2.3
        return nullcontext()
    return cast(AbstractContextManager[Any], sdpa_kernel(SDPBackend.MATH))


def conjugate_gradients(matrix: Linear, right: Tensor, iterations: int, tolerance: float) -> Tensor:
    """Solves matrix(x) = right for a symmetric positive semi-definite matrix.

    It starts from 0, so x stays in the span of right, matrix(right), …: the minimum-norm solution where there are many.
    It ends after `iterations`, at ‖right − matrix(x)‖ <= tolerance ‖right‖, or where the matrix is flat to rounding.
    Source: Hestenes & Stiefel 1952.

    Args:
        matrix: Maps a vector [P] to its product with the matrix [P].
        right: The right side [P].
        iterations: Maximum number of products.
        tolerance: Relative residual that is small enough.

    Returns:
        x [P].

    Raises:
        NonFiniteError: A product with the matrix is not finite.
    """
    x, residual = torch.zeros_like(right), right.clone()
    direction, square = residual, residual.dot(residual)
    enough = tolerance**2 * square
    for _ in range(iterations):
        image = matrix(direction)
        if not image.isfinite().all():  # of any size where it is finite, since the render may be steep
            raise NonFiniteError("the derivative of the render has a NaN or infinity")
        curvature = direction.dot(image)
        if not curvature > 0:
            break
        x = x + (square / curvature) * direction
        residual = residual - (square / curvature) * image
        previous, square = square, residual.dot(residual)
        if square <= enough:
            break
        direction = residual + (square / previous) * direction
    return x
