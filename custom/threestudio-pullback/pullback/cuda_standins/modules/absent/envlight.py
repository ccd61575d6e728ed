"""Stand-in for envlight, which needs nvdiffrast."""

from pullback.cuda_standins.absent import stand_in

stand_in(__name__, "it needs CUDA, so pbr-material cannot be used here; choose another material")
