"""`pullback-system`: text to 3D by sampling; one training step is one visit of a noise level."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pullback
import torch
from pullback import models, processes
from pullback.errors import UserError
from pullback.output.turntable import Pictures
from pullback.sampling.consistency import Verdict
from torch import Tensor

from .._framework import (
    BaseLift3DSystem,
    batch_of_step,
    find,
    fresh_batch,
    info,
    keep_checkpoints_whole,
    keep_command,
    parse_structured,
    register,
    run_seed,
    seed_step,
    write_page,
)
from ..guidance import guidance as _guidance  # noqa: F401  (registers pullback-guidance)
from ..guidance.foreign import split
from ..rendered_field import RenderedField
from ..shared_field import SharedField


@register("pullback-system")
class PullbackSystem(Pictures, BaseLift3DSystem):
    """Samples the field's parameters by the pulled-back reverse diffusion of Savani et al. 2024.

    A step takes the batch's cameras, forms the targets of one noise level and fits the field to them with the
    optimiser of `system.optimizer`. All options are in the `guidance` block. The run ends after the last level, or at
    `trainer.max_steps` if that comes first.
    """

    @dataclass
    class Config(BaseLift3DSystem.Config):
        pass

    cfg: Config
    several_devices = True

    def configure(self) -> None:
        """Reads the number of fit steps; the sampler is built when the fit starts."""
        super().configure()
        self.automatic_optimization = False
        self.sampler: pullback.Sampler | None = None
        self.state: Any = None
        self._seed = run_seed()
        self._saved: dict[str, Any] | None = None
        self._begun = 0  # steps of the checkpoint; the host's own count is restored only after on_fit_start
        self._verdict: Verdict | None = None
        config = find(self.cfg.guidance_type).Config
        options = parse_structured(config, split(self.cfg.guidance, config)[0])
        self._fit_steps = int(options.fit_steps)

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The renderer's pictures of a camera batch."""
        return self.renderer(**batch)

    def do_update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Updates the parts' schedules, which count steps of the optimiser; a visit has many of them."""
        steps = global_step if on_load_weights else global_step * self._fit_steps
        super().do_update_step(epoch, steps, on_load_weights=on_load_weights)

    def on_fit_start(self) -> None:
        """Builds the sampler, and goes on from the checkpoint's state if there is one."""
        super().on_fit_start()
        self._check_trainer()
        data: Any = getattr(self.trainer, "datamodule", None)
        models.check_square(getattr(data, "cfg", None))
        if data is not None:
            data.updates = self._fit_steps
        keep_checkpoints_whole(self.trainer)
        if self.trainer.is_global_zero:
            keep_command(self)
        if hasattr(self.geometry, "initialize_shape") and not self.resumed and self.cfg.weights is None:
            # in threestudio this is the system's task; a hash grid whose bands open one by one begins with none
            self.do_update_step(self.true_current_epoch, self.true_global_step)
            self.geometry.initialize_shape()
        self.guidance = find(self.cfg.guidance_type)(self.cfg.guidance)
        prompt_processor = find(self.cfg.prompt_processor_type)(self.cfg.prompt_processor)
        denoise = self.guidance.denoiser(prompt_processor())
        if several := processes.count() > 1:
            self.guidance.share()
        self._field = (  # a tuple hides it from state_dict
            (SharedField if several else RenderedField)(
                self.renderer, self.geometry, [self.material, self.background],
                self.guidance.cfg.fit_rays, self.true_current_epoch,
            ),
        )  # fmt: skip
        sampler = self.sampler = self.guidance.sampler(
            self._field[0],
            views=lambda generator: fresh_batch(self, generator),
            denoise=denoise,
            optimizer=self.optimizers(use_pl_optimizer=False),  # type: ignore[arg-type]
            seed=self._seed,
        )
        self._decode = (getattr(denoise, "decode", None),)
        self.state = sampler.initial() if self._saved is None else sampler.restore(self._saved)
        self._limit = self.trainer.fit_loop.epoch_loop.max_steps
        self._plan(self._begun)
        info(
            f"Sampling {len(sampler.sigmas) - 1 - self.state.level} noise levels in "
            f"{sampler.remaining(self.state)} visits, from sigma {sampler.sigmas[self.state.level]:.3g} to "
            f"{sampler.sigmas[-2]:.3g}. A line shows the level (0 the noisiest), "
            "its sigma, and the residual: the rms between its target and the fitted renders"
        )

    def _plan(self, done: int) -> None:
        """Sets the host's number of steps, which grows where the run begins again."""
        assert self.sampler is not None
        steps = done + self.sampler.remaining(self.state)
        self.trainer.fit_loop.epoch_loop.max_steps = steps if self._limit < 0 else min(steps, self._limit)

    def watch(self, look: Callable[[float, Tensor, Tensor, Tensor], None]) -> None:
        """Has each visit hand its tensors to those who look on; nothing of the run changes.

        Args:
            look: (sigma, noisy, x0, clean) of all views [V,C,H,W], in the model's space.
        """
        assert self.sampler is not None
        integrate = self.sampler.integrate

        def seen(space: Any, fit: Any, visit: Any, *rest: Any) -> Any:
            look(visit.sigma, visit.clean + visit.sigma * visit.noise, visit.x0, visit.clean)
            return integrate(space, fit, visit, *rest)

        self.sampler.integrate = seen

    @torch.no_grad()
    def pictures(self, values: Tensor) -> Tensor:
        """What the model works on [V,C,H,W] as pictures [V,3,h,w] in [-1,1]."""
        (decode,) = self._decode
        return values if decode is None else decode(values)

    def _check_trainer(self) -> None:
        if self.trainer.precision not in ("32-true", "32", 32, "64-true", "bf16-mixed"):
            raise UserError(
                f"`trainer.precision` must be 32 or bf16-mixed, not {self.trainer.precision}: the fit of a level has "
                "no gradient scaling; the diffusion model has its own system.guidance.half_precision_weights"
            )

    def _check_saved(self) -> None:
        if self._saved is None:
            raise UserError(
                "`resume` names a checkpoint of another system, which holds no sampler state; "
                "start from its parameters with system.weights=…"
            )
        if self._saved["seed"] != self._seed:
            raise UserError(
                f"`seed` is {self._seed}, but the checkpoint's run had {self._saved['seed']}; resume with its own"
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int, unused: int = 0) -> None:
        """Seeds the step."""
        seed_step(self._seed, self.true_global_step)
        super().on_train_batch_start(batch, batch_idx)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """One visit of the sampler, with the batch's cameras as views."""
        assert self.sampler is not None
        field = self._field[0]
        field.fit_step = self.true_global_step * self._fit_steps
        attempt = self.state.attempt
        self.state = self.sampler.visit(self.state, batch_of_step(self, batch))
        if self.state.attempt > attempt:
            where = "" if self.state.noise is None else ", with new noise where they do"
            info(f"The views disagree: try {self.state.attempt + 1} begins at sigma {self.state.sigma:.3g}{where}")
        self._plan(self.true_global_step + 1)
        for name in ("level", "sigma", "residual"):
            self.log(name, float(self.state.record[name]), prog_bar=True)
        for name in ("cycle", "nfe", "residual_before"):
            self.log(name, float(self.state.record[name]))
        if self.state.sigma == 0:
            if hasattr(self.geometry, "remove_specks"):
                info(f"Specks round the object: {self.geometry.remove_specks()} voxels, emptied")
            verdict = self._verdict = self.state.verdict or self.sampler.check()
            self.log("consistency", verdict.consistency)
            self.log("consistency_threshold", verdict.threshold)
            self.log("consistency_floor", verdict.floor)
        self._count_step()

    def _count_step(self) -> None:
        """Steps the host's optimiser without gradients: nothing moves, and the host counts one step."""
        optimizer = self.optimizers()
        optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        optimizer.step()  # type: ignore[union-attr]
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if scheduler is not None:
                scheduler.step()  # type: ignore[call-arg]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Saves last.ckpt at the end of the run; the number of visits is rarely a multiple of the saving interval."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.trainer.global_step != self.trainer.max_steps:
            return
        for callback in self.trainer.checkpoint_callbacks:
            saved = getattr(callback, "_last_global_step_saved", None)
            if getattr(callback, "save_last", None) is True and saved != self.trainer.global_step:
                self.trainer.save_checkpoint(os.path.join(str(callback.dirpath), "last.ckpt"))  # type: ignore[attr-defined]

    def on_fit_end(self) -> None:
        """Logs the verdict of the check, or that it can give none."""
        if self._verdict is None:
            return
        verdict = self._verdict
        said = (
            f"Self-consistency {verdict.consistency:.3f}, rms, in the model's space at noise level 1, between the "
            "render of the worst camera and what the model makes of it"
        )
        if not verdict.tells:
            said += (
                f". That is no verdict: this model moves its own pictures by {verdict.floor:.3f} there, so that right "
                "objects and blends have like numbers; the pictures tell"
            )
        elif verdict.passed:
            said += f"; the threshold is {verdict.threshold:.3f}"
        else:
            said += f"; above the threshold, {verdict.threshold:.3f}: a blend of objects, or a fit that stays coarse"
        info(said)

    def on_test_end(self) -> None:
        """Ends the run with its page."""
        super().on_test_end()
        if self.trainer.is_global_zero:
            write_page(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the sampler's state."""
        super().on_save_checkpoint(checkpoint)
        if self.state is not None:
            verdict = {} if self._verdict is None else {"consistency": self._verdict.consistency}
            checkpoint["pullback"] = {**self.state.state_dict(with_params=False), "seed": self._seed, **verdict}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the sampler's state.

        Raises:
            UserError: Another system or another seed made the checkpoint of a fit.
        """
        super().on_load_checkpoint(checkpoint)
        self._saved, self._begun = checkpoint.get("pullback"), checkpoint["global_step"]
        if self.trainer.state.fn == "fit":
            self._check_saved()
