"""Other ways to let a diffusion model shape a representation, with one interface: `sds.sample`, `sjc`, `sdi`."""
