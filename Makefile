# Set-up and everyday commands. `make` alone lists them.

PYTHON ?= python3
RECIPE ?= configs/inverted_pendulum/ncp_ppo.yaml
ARGS ?=
BENCHMARKS ?= neurons training

BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train test test-slow check format bench clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

train: $(READY) ## train a recipe: make train RECIPE=configs/... ARGS="--seed 1"
	$(BIN)/liquid-control train $(RECIPE) $(ARGS)

test: $(READY) ## run the tests, without the slow ones
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(READY) ## run the slow tests: whole trainings, high-accuracy references
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(READY) ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict liquid_control

format: $(READY) ## format the code and fix what the linter can fix
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(READY) ## run the benchmarks: make bench BENCHMARKS=neurons
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py $(ARGS); done

clean: ## remove build products and caches; .venv and runs stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find liquid_control tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The stamp is the last step, so that a set-up that was interrupted starts again.
# The versions of constraints.txt hold for what builds the package as well.
$(READY): export PIP_CONSTRAINT := constraints.txt
$(READY): export PIP_BUILD_CONSTRAINT := constraints.txt
$(READY): export PIP_DISABLE_PIP_VERSION_CHECK := 1
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "liquid_control needs Python 3.11 or newer; '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>/dev/null || echo missing). Name another: make PYTHON=python3.13" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot create virtual environments (on Debian and Ubuntu:" \
			"apt install python3-venv)" >&2; exit 1; }
	@rm -f $@
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet pip setuptools
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@
