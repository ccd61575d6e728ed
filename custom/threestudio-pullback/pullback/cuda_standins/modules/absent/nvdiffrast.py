"""Stand-in for nvdiffrast. threestudio's mesh exporter makes a context even where it rasterises nothing."""

from typing import Any

from pullback.cuda_standins.absent import stand_in


class Context:
    """What rasterises, in nvdiffrast; here nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


stand_in(
    __name__,
    "it needs CUDA, so meshes cannot be rasterised or textured here; choose a volume renderer, and export with "
    "system.exporter.save_texture=false",
    RasterizeGLContext=Context,
    RasterizeCudaContext=Context,
)
