"""What is sampled of a mesh's texture, where the right law is known: Langevin, other constraints, and averaging.

    python experiments/textures.py                  # errors of mean and covariance against calls
    python experiments/textures.py --picture FILE   # textures of a cube: the right law, Langevin, averaging

The world is `gauss-texture` of `pullback evaluate worlds`: the texture of a cube seen by four cameras, each of which
has a Gaussian denoiser of its own. The errors are exact: the law is propagated through every visit, as in gauss.py.

Averaging is what SyncTweedies (arXiv 2403.14370) does with the views' own noisy images: in every step, the x0 of all
views are averaged texel by texel, with the weights of the lookup, and each view takes a DDIM step towards the average's
render. SyncMVD (arXiv 2311.12891) does so with noise that lies in the texture.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pullback
import torch
from pullback.constraints import Constraint, Visit
from pullback.diffreps import MeshTexture
from pullback.evaluate.exact_worlds.propagate import propagate, schedule
from pullback.evaluate.exact_worlds.textured import TextureWorld, cube
from pullback.output.contact_sheet import grid
from pullback.output.markdown import print_table
from pullback.output.pictures import save_png
from torch import Tensor

D = torch.float64
LOW = 0.03


class Averaging(Constraint):
    """x̂0 of all views averaged in the texture: D⁻¹Aᵀ x̂0, D the sums of A's columns.

    Where every pixel shows one texel, AᵀA is D, the average is the least squares of the plain flow, and so is its law.
    """

    def __init__(self, matrix: Tensor):
        self.blend = matrix @ (matrix / matrix.sum(0)).T

    def target(self, visit: Visit) -> Tensor:
        """(σ'/σ) u + (1 − σ'/σ) A D⁻¹Aᵀ x̂0."""
        ratio, x0 = visit.sigma_next / visit.sigma, visit.x0
        if x0.shape[-1] == len(self.blend):  # all views in one row, as `propagate` has them
            mean = x0 @ self.blend
        else:
            mean = (x0.movedim(1, 0).flatten(1) @ self.blend.T).view(x0.shape[1], -1, *x0.shape[2:]).movedim(0, 1)
        return ratio * visit.clean + (1 - ratio) * mean


def in_texture(matrix: Tensor) -> Tensor:
    """The covariance of noise that is drawn for texels and rendered, each pixel scaled to unit variance."""
    unit = matrix / matrix.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return unit @ unit.T


def karras(count: int) -> Tensor:
    return pullback.karras_sigmas(count, LOW, 10.0)


def settling(count: int) -> Tensor:
    return pullback.settling_sigmas(count, LOW, 3.0)


def ways(world: TextureWorld) -> list[tuple[str, Constraint, Tensor, Tensor | None]]:
    """Name, constraint, levels and the covariance of the noise at the start, None for white."""
    averaging, textured = Averaging(world.matrix), in_texture(world.matrix)
    listed: list[tuple[str, Constraint, Tensor, Tensor | None]] = [
        (f"SyncTweedies' averaging, noise of each view ({n})", averaging, karras(n), None) for n in (25, 100)
    ]
    listed += [(f"averaging, noise in the texture ({n})", averaging, karras(n), textured) for n in (25, 100)]
    listed += [(f"plain flow ({n})", Constraint(), karras(n), None) for n in (25, 100)]
    listed += [("Repaint(4) (25)", pullback.Repaint(4), karras(25), None)]
    listed += [("Projection(0) (100)", pullback.Projection(), karras(100), None)]
    return listed + [(f"**Langevin() ({n})**", pullback.Langevin(), settling(n), None) for n in (25, 50, 100, 200)]


def errors() -> None:
    """Prints the table."""
    world, rows = TextureWorld("gauss-texture"), []
    views = len(world.cameras)
    root = torch.linalg.cholesky(world.exact_cov)
    for name, constraint, sigmas, noise in ways(world):
        visits = schedule(constraint, sigmas)
        mean, cov = propagate(world, constraint, visits, noise)
        found = world.errors(mean, cov)
        ratios = torch.linalg.eigvalsh(torch.linalg.solve(root, torch.linalg.solve(root, cov).T))
        rows.append([name, str(len(visits)), str(views * len(visits)), f"{found['cov error']:.4f}",
                     f"{found['mean error']:.4f}", f"{ratios[0]:.2f} to {ratios[-1]:.2f}"])  # fmt: skip
        print(*rows[-1], flush=True)
    header = ["way (levels)", "calls of each view", "of all views", "covariance error", "mean error"]
    print_table([*header, "variances over the right ones"], rows)


def drawn(world: TextureWorld, constraint: Constraint, sigmas: Tensor, seed: int, count: int) -> Tensor:
    """Textures [count,R,R] of the sampler itself, all at once as channels."""
    module = MeshTexture(*cube(), world.texture.resolution, channels=count, height=world.texture.height,
                         width=world.texture.width, fovy=world.texture.fovy, background=0.0).to(D)  # fmt: skip

    def denoise(noisy: Tensor, sigma: float, views: Tensor) -> Tensor:
        joint = noisy.movedim(1, 0).reshape(count, 1, 1, -1)
        return world.prior.denoise(joint, sigma).view(count, len(views), *noisy.shape[2:]).movedim(0, 1)

    pullback.sample(
        module, world.cameras, denoise, sigmas, noise="independent", constraint=constraint,
        solver=pullback.GaussNewton(1, 40), generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return module.texture.detach()


def picture(file: Path, count: int = 8) -> None:
    """Draws renders of textures: a row of the right law, of Langevin, and of averaging."""
    world = TextureWorld("gauss-texture")
    white = torch.randn(count, len(world.exact_mean), dtype=D, generator=torch.Generator().manual_seed(0))
    right = world.exact_mean + white @ torch.linalg.cholesky(world.exact_cov).T
    textures = [right.view(count, *world.texture.texture.shape[1:])]
    listed: list[tuple[Constraint, Callable[[int], Tensor]]] = [
        (pullback.Langevin(iterations=40), settling), (Averaging(world.matrix), karras),
    ]  # fmt: skip
    textures += [drawn(world, constraint, levels(100), 1, count) for constraint, levels in listed]
    rows = []
    for batch in textures:
        large = MeshTexture(*cube(), world.texture.resolution, 48, 48, channels=count, fovy=0.5, samples=2).to(D)
        with torch.no_grad():
            large.texture.copy_(batch / 2)
            rows.append(large.render(world.cameras[:1])[0][:, None].expand(-1, 3, -1, -1).float())
    save_png(file, grid(rows, 2))


def main() -> None:
    """Prints the table, or draws the picture, of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw textures of each way, a PNG")
    arguments = parser.parse_args()
    if arguments.picture:
        picture(arguments.picture)
    else:
        errors()


if __name__ == "__main__":
    main()
