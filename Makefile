# `make demo` samples a NeRF from a text prompt; `make test` runs the tests. Both set up .venv first.
.PHONY: demo test test-slow check setup
.DEFAULT_GOAL := demo

PROMPT ?= a cube with a red front and a blue back
SEED ?= 0

setup:
	@./install.sh

demo: setup
	@.venv/bin/pullback demo --prompt "$(PROMPT)" --seed $(SEED)

test: setup
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow" -n 2  # two workers, a thread each

test-slow: setup
	@.venv/bin/python -m pytest -m slow

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright
