"""Stand-in for nvdiffrast, which needs CUDA: `nvdiffrast.torch` by this package's own rasteriser, on any device."""
