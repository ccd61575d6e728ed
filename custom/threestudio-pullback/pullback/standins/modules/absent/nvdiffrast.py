"""Stand-in for nvdiffrast, which needs CUDA."""

from pullback.standins.absent import stand_in

stand_in(
    __name__,
    "it needs CUDA, so meshes cannot be rasterised or textured here; choose a volume renderer, and export with "
    "system.exporter.save_texture=false",
)
