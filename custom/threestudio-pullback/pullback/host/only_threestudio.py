"""The names that threestudio 0.2.3 (28d9d80) registers and the bundled host does not."""

NAMES = {
    "co3d-datamodule", "control4d-multiview-system", "deep-floyd-guidance",
    "deep-floyd-prompt-processor", "dummy-prompt-processor", "eff-random-camera-datamodule",
    "efficient-dreamfusion-system", "fantasia3d-system", "gan-volume-renderer", "hybrid-rgb-latent-material",
    "image-condition-dreamfusion-system", "instructnerf2nerf-system", "latentnerf-system",
    "magic123-system", "magic3d-system", "multiview-camera-datamodule", "neural-radiance-material",
    "patch-renderer", "pbr-material", "perceptual-loss",
    "sd-latent-adapter-material", "single-image-datamodule", "stable-diffusion-controlnet-guidance",
    "stable-diffusion-instructpix2pix-guidance", "stable-diffusion-unified-guidance", "stable-zero123-guidance",
    "textmesh-system", "zero123-guidance", "zero123-simple-system", "zero123-system",
    "zero123-unified-guidance",
}  # fmt: skip
