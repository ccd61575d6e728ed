# `make demo` samples a NeRF from a text prompt; `make test` runs the tests. Both set up .venv first.
.PHONY: demo test test-slow test-threestudio coverage check audit docs setup
.DEFAULT_GOAL := demo

PROMPT ?= a cube with a red front and a blue back
SEED ?= 0
AUDIT ?= pip-audit
# by the environment, so that neither make nor the shell reads quotes and dollars in it
export DEMO_PROMPT := $(value PROMPT)

setup:
	@./install.sh

demo: setup
	@.venv/bin/pullback demo --prompt="$$DEMO_PROMPT" --seed "$(SEED)"

# two workers, a thread each; byte code is kept, since tests start many processes
test: setup
	@PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow" -n 2 --dist worksteal

coverage: setup
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow" -n 2 --cov --cov-report=html --cov-report=term:skip-covered

test-slow: setup
	@.venv/bin/python -m pytest -m slow

# The contract with real threestudio (THREESTUDIO_ROOT=…, commit 28d9d80), with packages of both ages, and what of our
# own tests depends on diffusers and transformers.
AGES ?= today 2023
PYTHON ?= python3
CONTRACT = tests/threestudio tests/test_models.py tests/test_perp_neg.py tests/test_dropin.py tests/test_tiny_sd.py tests/test_lora.py

test-threestudio: $(AGES:%=.venv-threestudio/%/installed)
	@for age in $(AGES); do \
	    echo "== packages of $$age"; \
	    OMP_NUM_THREADS=1 .venv-threestudio/$$age/bin/python -m pytest $(CONTRACT) -m "not slow" -n 2 --dist loadfile -rs || exit 1; \
	done

.venv-threestudio/%/installed: requirements/locked/threestudio-%.txt requirements.txt
	@echo "Setting up .venv-threestudio/$* (about 2 GB)"
	@[ -x .venv-threestudio/$*/bin/python ] || $(PYTHON) -m venv .venv-threestudio/$*
	@.venv-threestudio/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@.venv-threestudio/$*/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	@.venv-threestudio/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright

# What is known against the versions that the set-up commands install. It asks PyPI; add ARGS="-s osv" for another service.
audit:
	@for file in requirements/locked/*.txt; do \
	    echo "== $$file"; $(AUDIT) --require-hashes --disable-pip -r $$file $(ARGS) || failed=1; \
	done; exit $${failed:-0}

docs: setup
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	@echo "The documentation is site/index.html"
