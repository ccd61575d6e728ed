"""Trains the shipped text-to-image model (assets/tiny-sd) from nothing, on the studio world.

    python tools/train_tiny_sd.py --out custom/threestudio-pullback/assets/tiny-sd --work .cache/tiny-sd

Stages (each resumes from --work): pictures → autoencoder → latents → UNet + text encoder → autoencoder made
robust to pictures on their way to being one (see `steady_vae`) → export.
Settings are the SETTINGS below; curves go to curves.csv beside the model.
"""

from __future__ import annotations

import argparse
import copy
import csv
import itertools
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pullback.evaluate.studio import captions
from pullback.evaluate.studio import world as worlds
from safetensors.torch import load_file, save_file
from torch import Tensor

SETTINGS = {
    "seed": 0,
    "cameras_per_shape": 2500,
    "elevation": [0.0, 60.0],
    "overhead_share": 0.15,
    "overhead_elevation": [60.0, 85.0],
    "vae": {"steps": 2600, "batch": 12, "lr": 2e-3, "kl_weight": 2e-5},
    "colourings": 4,
    "steady": {"steps": 1600, "batch": 6, "lr": 1e-3},
    "unet": {"steps": 9000, "batch": 24, "lr": 8e-4, "ema": 0.9995, "caption_dropout": 0.1},
}


class Log:
    """Appends rows (stage, step, seconds, loss) to a CSV file and prints them."""

    def __init__(self, path: Path) -> None:
        self.path, self.start = path, time.time()
        if not path.exists():
            path.write_text("stage,step,seconds,loss\n")

    def __call__(self, stage: str, step: int, loss: float) -> None:
        """Adds a row."""
        with self.path.open("a") as f:
            csv.writer(f).writerow([stage, step, round(time.time() - self.start), f"{loss:.5f}"])
        print(f"{stage:5s} {step:6d} {time.time() - self.start:7.0f} s  loss {loss:.5f}", flush=True)


def random_cameras(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Elevation and azimuth, each [n] in degrees."""
    u = torch.rand(n, 3, generator=generator)
    lo, hi = SETTINGS["elevation"]
    lo2, hi2 = SETTINGS["overhead_elevation"]
    over = u[:, 0] < SETTINGS["overhead_share"]
    elevation = torch.where(over, lo2 + (hi2 - lo2) * u[:, 1], lo + (hi - lo) * u[:, 1])
    return elevation, u[:, 2] * 360 - 180


def make_pictures(work: Path) -> dict[str, Tensor]:
    """Shading buffers of every shape from random cameras, and the cameras; kept in `work`."""
    path = work / "pictures.pt"
    if path.exists():
        return torch.load(path, weights_only=True)
    generator = torch.Generator().manual_seed(SETTINGS["seed"])
    n = SETTINGS["cameras_per_shape"]
    buffers, elevation, azimuth = [], [], []
    for shape in worlds.SHAPES:
        el, az = random_cameras(n, generator)
        for i in range(0, n, 25):
            c2w = worlds.look_at(el[i : i + 25], az[i : i + 25])
            buffers.append((worlds.shading_buffers(shape, c2w) * 255).round().byte())
        elevation.append(el)
        azimuth.append(az)
        print("pictures of", shape, flush=True)
    data = {"buffers": torch.cat(buffers), "elevation": torch.cat(elevation), "azimuth": torch.cat(azimuth)}
    torch.save(data, path)
    return data


class Pictures:
    """Coloured pictures on demand: [B,3,64,64] in [-1,1] from indices and objects."""

    def __init__(self, data: dict[str, Tensor]) -> None:
        self.data = data
        self.palette = torch.tensor(list(worlds.COLORS.values()))
        self.names = list(worlds.COLORS)
        self.per_shape = SETTINGS["cameras_per_shape"]

    def __len__(self) -> int:
        return len(self.data["buffers"])

    def make(self, index: list[int], rng: random.Random) -> tuple[Tensor, list[worlds.StudioObject], list[str]]:
        """Pictures of random colours for some indices, their objects and the words of their views."""
        objects, directions = [], []
        for i in index:
            o = captions.random_object(rng)
            objects.append(worlds.StudioObject(worlds.SHAPES[i // self.per_shape], o.front, o.back))
            directions.append(worlds.direction_name(float(self.data["elevation"][i]), float(self.data["azimuth"][i])))
        front = self.palette[[self.names.index(o.front) for o in objects]]
        back = self.palette[[self.names.index(o.back) for o in objects]]
        c2w = worlds.look_at(self.data["elevation"][index], self.data["azimuth"][index])
        background = worlds.backdrop(worlds.camera_rays(c2w, 64)[1]).movedim(-1, 1)
        images = worlds.compose(self.data["buffers"][index].float() / 255, front, back, background)
        return images, objects, directions


def warm_cosine(step: int, steps: int, warm: int = 200) -> float:
    """The share of the learning rate: a warm-up, then half a cosine down to 0.02."""
    return min(1.0, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def save_state(path: Path, **state) -> None:
    """Saves a state in one move, so that a killed training has the old one or the new one."""
    tmp = path.with_suffix(".tmp")
    torch.save(state, tmp)
    tmp.replace(path)


def new_vae():
    """The autoencoder with random weights."""
    from diffusers import AutoencoderKL

    make: Any = AutoencoderKL  # its annotations ask for tuples of one
    return make(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64), layers_per_block=1, latent_channels=4, norm_num_groups=8, sample_size=64,
    )  # fmt: skip


def new_unet(text_width: int = 96):
    """The UNet with random weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(64, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_width, attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip


def new_tokenizer(folder: Path):
    """A CLIP tokenizer whose merges are learned from the captions, so that each of their words is one token."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    bpe = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789,.!?'-:")
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=letters, end_of_word_suffix="</w>", min_frequency=1)
    bpe.train_from_iterator(captions.vocabulary_corpus(), trainer)
    learned = json.loads(bpe.to_str())["model"]
    vocab = {c: i for i, c in enumerate(letters + [c + "</w>" for c in letters])}
    for token in learned["vocab"]:
        vocab.setdefault(token, len(vocab))
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocab[token] = len(vocab)
    merges = [m if isinstance(m, str) else " ".join(m) for m in learned["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return (
        CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=24)
        if _transformers_major() >= 5
        else CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24)
    )


def _transformers_major() -> int:
    import transformers

    return int(transformers.__version__.split(".")[0])


def new_text_encoder(tokenizer):
    """The text encoder with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=96, intermediate_size=256, projection_dim=96,
            num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=24,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def train(
    stage: str, cfg: dict[str, Any], parts: dict[str, Any], loss_of: Callable[[], tuple[Tensor, Tensor]], work: Path,
    log: Log, every: int = 100, smooth: float = 0.98, ema: torch.nn.Module | None = None,
    rate: Callable[[int, int], float] = warm_cosine, **adam: Any,
) -> None:  # fmt: skip
    """Trains a stage with AdamW, from its last saved state on.

    Args:
        stage: The name of its file in `work`.
        cfg: Its settings.
        parts: What the file holds by name; the first is the network that is trained.
        loss_of: Computes the loss of a step, and the figure that the log shows.
        work: The folder of the file.
        log: Gets a running mean of the figure.
        every: How many steps there are between two saves.
        smooth: The weight of the past in the running mean.
        ema: A slow copy of the network.
        rate: The share of the learning rate at (step, steps).
        adam: Further options of AdamW.
    """
    path, start, running = work / f"{stage}.pt", 0, 0.0
    network = next(iter(parts.values()))
    parts["optimizer"] = optimizer = torch.optim.AdamW(network.parameters(), lr=cfg["lr"], **adam)
    if path.exists():
        saved = torch.load(path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        start = saved["step"]
    for step in range(start, cfg["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = cfg["lr"] * rate(step, cfg["steps"])
        loss, figure = loss_of()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if ema is not None:
            with torch.no_grad():
                for slow, fast in zip(ema.parameters(), network.parameters(), strict=True):
                    slow.lerp_(fast, 1 - min(cfg["ema"], (step + 1) / (step + 10)))
        running = smooth * running + (1 - smooth) * float(figure.detach()) if step > start else float(loss.detach())
        if step % every == every - 1 or step + 1 == cfg["steps"]:
            log(stage, step + 1, running)
            save_state(path, step=step + 1, **{name: part.state_dict() for name, part in parts.items()})


def steps_of(work: Path, stage: str) -> int:
    """How many steps of a stage its file holds."""
    path = work / f"{stage}.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def train_vae(pictures: Pictures, work: Path, log: Log):
    """The autoencoder, trained on exact pictures."""
    cfg, rng = SETTINGS["vae"], random.Random(SETTINGS["seed"] + 1)
    vae: Any = new_vae()

    def loss_of() -> tuple[Tensor, Tensor]:
        images = pictures.make([rng.randrange(len(pictures)) for _ in range(cfg["batch"])], rng)[0]
        posterior = vae.encode(images).latent_dist
        error = vae.decode(posterior.sample()).sample - images
        # squared error for the PSNR, absolute error for sharp edges
        loss = error.square().mean() + 0.1 * error.abs().mean() + cfg["kl_weight"] * posterior.kl().mean() / 100
        return loss, error.square().mean()

    train("vae", cfg, {"vae": vae}, loss_of, work, log, weight_decay=1e-3)
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def make_latents(pictures: Pictures, vae, work: Path) -> dict:
    """Latents of all pictures in several colours, their scale, objects and views; kept in `work`."""
    path, meta = work / "latents.pt", work / "captions.json"
    if path.exists() and meta.exists():
        return {**torch.load(path, weights_only=True), **json.loads(meta.read_text())}
    rng = random.Random(SETTINGS["seed"] + 2)
    latents, objects, directions = [], [], []
    for _ in range(SETTINGS["colourings"]):
        for i in range(0, len(pictures), 50):
            images, o, d = pictures.make(list(range(i, min(i + 50, len(pictures)))), rng)
            latents.append(vae.encode(images).latent_dist.mean)
            objects += [[x.shape, x.front, x.back] for x in o]
            directions += d
    z = torch.cat(latents)
    scale = float(1 / z.std())
    save_state(path, latents=z * scale, scale=scale)
    meta.write_text(json.dumps({"objects": objects, "directions": directions}))
    print(f"latents {tuple(z.shape)}, channel means {z.mean((0, 2, 3)).tolist()}, scale {scale:.4f}", flush=True)
    return make_latents(pictures, vae, work)


def unfinished(images: Tensor, other: Tensor, background: Tensor) -> Tensor:
    """Pictures as a field shows them before it is an object: faded, blended, blurred, foggy, empty or mere blobs."""
    count = len(images)
    fade = torch.rand(count, 1, 1, 1)
    kinds = [
        background + fade * (images - background),
        images + fade * (other - images),
        _blur(images, 1 + 6 * float(torch.rand(()))),
        background + 0.5 * fade * (2 * torch.rand(count, 3, 1, 1) - 1 - background),
        background,
        _blobs(background),
        images + 0.3 * fade * torch.randn_like(images),
    ]
    pick = torch.randint(len(kinds), (count,))
    return torch.stack([kinds[int(k)][i] for i, k in enumerate(pick)])


def _blur(images: Tensor, sigma: float) -> Tensor:
    r = torch.arange(-12.0, 13.0)
    kernel = torch.exp(-(r**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = F.pad(images, (12, 12, 12, 12), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel[:, :, None], groups=3), kernel[:, :, :, None], groups=3)


def _blobs(background: Tensor) -> Tensor:
    """One to four soft or hard discs of any colour."""
    t = torch.linspace(-1, 1, background.shape[-1])
    out = background
    for _ in range(int(torch.randint(1, 5, ()))):
        x, y, radius, edge = (torch.rand(len(background), 1, 1) for _ in range(4))
        distance = ((t[None, :, None] - 1.4 * y + 0.7) ** 2 + (t[None, None, :] - 1.4 * x + 0.7) ** 2).sqrt()
        cover = torch.sigmoid((0.1 + 0.5 * radius - distance) / (0.01 + 0.2 * edge))[:, None]
        out = out + torch.rand(len(background), 1, 1, 1) * cover * (2 * torch.rand(len(background), 3, 1, 1) - 1 - out)
    return out


def steady_vae(pictures: Pictures, vae, scale: float, work: Path, log: Log):
    """Goes on training the autoencoder so that it also keeps unfinished pictures, its latents of finished ones fixed.

    A field passes through pictures no world ever shows, and an autoencoder that has seen finished ones alone turns
    an empty backdrop into rms errors of 0.25, which the field would then be fitted to. The UNet stays valid because
    the encoder is held to its earlier answers on the world's pictures.
    """
    n, teacher = SETTINGS["steady"]["batch"], copy.deepcopy(vae)
    student: Any = vae.requires_grad_(True).train()
    torch.manual_seed(SETTINGS["seed"] + 4)
    rng = random.Random(SETTINGS["seed"] + 4)

    def loss_of() -> tuple[Tensor, Tensor]:
        index = [rng.randrange(len(pictures)) for _ in range(n)]
        images = pictures.make(index, rng)[0]
        c2w = worlds.look_at(pictures.data["elevation"][index], pictures.data["azimuth"][index])
        background = worlds.backdrop(worlds.camera_rays(c2w, 64)[1]).movedim(-1, 1) * 2 - 1
        same_camera = pictures.data["buffers"][[(i + pictures.per_shape) % len(pictures) for i in index]]
        color = torch.rand(2, n, 3)
        other = worlds.compose(same_camera.float() / 255, color[0], color[1], (background + 1) / 2)
        batch = torch.cat([images, unfinished(images, other, background), unfinished(images, other, background)])
        mean = student.encode(batch).latent_dist.mean
        with torch.no_grad():
            target = teacher.encode(images).latent_dist.mean
        # noise as large as what a UNet leaves, so that the decoder stays smooth
        error = student.decode(mean + 0.05 / scale * torch.randn_like(mean)).sample - batch
        moved = (scale * (mean[:n] - target)).square().mean()
        if next(calls) % 100 == 0:
            print(f"  unfinished pictures {float(error[n:].square().mean()):.5f}, latents moved {float(moved):.5f}")
        loss = error.square().mean() + 0.1 * error.abs().mean() + moved
        return loss, loss

    calls = itertools.count(1)
    train("steady", SETTINGS["steady"], {"vae": student}, loss_of, work, log, weight_decay=1e-3)
    return student.eval().requires_grad_(False)


def noise_levels(beta_end: float = 0.012) -> Tensor:
    """The cumulative signal powers of a scaled-linear schedule, by default Stable Diffusion's, [1000]."""
    return (1 - torch.linspace(0.00085**0.5, beta_end**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0).float()


def draw(
    data: dict[str, Any], objects: list[worlds.StudioObject], tokenizer: Any, cfg: dict[str, Any], rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Latents [B,4,16,16] of random pictures, and the tokens [B,24] of their captions, some of them empty.

    Args:
        data: Latents and words of the views.
        objects: What each picture shows.
        tokenizer: The model's.
        cfg: Settings of the stage: the batch, and the share of empty captions.
        rng: Chooses pictures and captions.
    """
    index = [rng.randrange(len(objects)) for _ in range(cfg["batch"])]
    texts: list[str] = []
    for i in index:
        drop = rng.random() < cfg["caption_dropout"]
        texts.append("" if drop else captions.random_caption(objects[i], data["directions"][i], rng))
    words = {"padding": "max_length", "truncation": True, "max_length": 24, "return_tensors": "pt"}
    return data["latents"][index], tokenizer(texts, **words).input_ids


def train_unet(data: dict, work: Path, log: Log):
    """UNet and text encoder; returns the tokenizer and their slow copy."""
    cfg, bars = SETTINGS["unet"], noise_levels()
    seed = SETTINGS["seed"] + 3
    torch.manual_seed(seed)
    tokenizer = new_tokenizer(work / "tokenizer")
    nets = torch.nn.ModuleDict({"unet": new_unet(), "text": new_text_encoder(tokenizer)})
    ema = copy.deepcopy(nets).requires_grad_(False)
    if start := steps_of(work, "unet"):
        torch.manual_seed(seed + start)  # after a restart noise and captions are new
    rng = random.Random(seed + start)
    objects = [worlds.StudioObject(*o) for o in data["objects"]]

    def loss_of() -> tuple[Tensor, Tensor]:
        clean, ids = draw(data, objects, tokenizer, cfg, rng)
        noise = torch.randn(cfg["batch"], 4, 16, 16)
        t = torch.randint(0, 1000, (cfg["batch"],))
        a, b = bars[t].sqrt()[:, None, None, None], (1 - bars[t]).sqrt()[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            out = nets["unet"](a * clean + b * noise, t, nets["text"](ids).last_hidden_state).sample
        loss = F.mse_loss(out.float(), a * noise - b * clean)
        return loss, loss

    train(
        "unet", cfg, {"nets": nets, "ema": ema}, loss_of, work, log, 250, 0.99, ema, weight_decay=1e-2,
        betas=(0.9, 0.99),
    )  # fmt: skip
    return tokenizer, ema


def export(out: Path, work: Path, vae, scale: float, tokenizer, ema) -> None:
    """Writes Stable Diffusion's folder format; UNet and autoencoder in half precision, for size."""
    vae.register_to_config(scaling_factor=scale)
    vae.half().save_pretrained(out / "vae")
    tokenizer.save_pretrained(out / "tokenizer")
    for name in ("vocab.json", "merges.txt"):  # older tokenizers want these two
        (out / "tokenizer" / name).write_bytes((work / "tokenizer" / name).read_bytes())
    save_networks(out, ema, 0.012, ["StableDiffusionPipeline", "diffusers", "UNet2DConditionModel"])
    save_record(out, work, SETTINGS)


def save_networks(out: Path, ema, beta_end: float, names: list[str]) -> None:
    """Writes what the UNet's training made, the scheduler of its noise levels, and the folder's index.

    Args:
        out: The model's folder.
        ema: UNet and text encoder.
        beta_end: See `noise_levels`.
        names: The index's names of the pipeline, of the UNet's library, and of the UNet's class.
    """
    from diffusers import DDIMScheduler

    ema["unet"].half().save_pretrained(out / "unet")
    ema["text"].save_pretrained(out / "text_encoder")
    # transformers 5 writes names without this prefix, which version 4 and all older models have
    weights = out / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    DDIMScheduler(
        beta_start=0.00085, beta_end=beta_end, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction",
    ).save_pretrained(out / "scheduler")  # fmt: skip
    pipeline, library, unet = names
    index = {
        "_class_name": pipeline, "_diffusers_version": "0.19.3",
        "feature_extractor": [None, None], "requires_safety_checker": False, "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": [library, unet], "vae": ["diffusers", "AutoencoderKL"],
    }  # fmt: skip
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def save_record(out: Path, work: Path, settings: dict[str, Any]) -> None:
    """Writes settings and curves beside the model, and prints its size."""
    (out / "training.json").write_text(json.dumps(settings, indent=2) + "\n")
    (out / "curves.csv").write_text((work / "curves.csv").read_text())
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


def begin(description: str | None, *, steps: bool = False) -> argparse.Namespace:
    """Reads the command line of a training, sets its threads and makes its work folder.

    Args:
        description: What the tool does.
        steps: Whether it has `--steps`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    if steps:
        parser.add_argument("--steps", type=int, help="of the UNet, in place of the setting")
    parser.add_argument("--export-now", action="store_true", help="write the model as it stands, train no further")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    return args


def main() -> None:
    """Makes all stages that the work folder lacks, and writes the model."""
    args = begin(__doc__)
    torch.manual_seed(SETTINGS["seed"])
    log = Log(args.work / "curves.csv")
    pictures = Pictures(make_pictures(args.work))
    if args.export_now:
        for stage in ("vae", "unet", "steady"):
            SETTINGS[stage]["steps"] = steps_of(args.work, stage)
    vae = train_vae(pictures, args.work, log)
    data = make_latents(pictures, vae, args.work)
    tokenizer, ema = train_unet(data, args.work, log)
    vae = steady_vae(pictures, vae, data["scale"], args.work, log)
    export(args.out, args.work, vae, data["scale"], tokenizer, ema)


if __name__ == "__main__":
    main()
