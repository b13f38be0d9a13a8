# Set-up and everyday commands. `make` alone lists them.

PYTHON ?= python3
RECIPE ?= configs/half_cheetah/ncp_ppo.yaml
ARGS ?=
BENCHMARKS ?= neurons training environments

BIN := .venv/bin
INSTALLED := .venv/.installed
READY := .venv/.ready
KERNELS := $(wildcard liquid_control/kernels/src/*) liquid_control/envs/_hold.c
SANITIZED := build/sanitize

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train test test-slow docs sanitize sanitized fuzz check format bench clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

train: $(READY) ## train a recipe: make train RECIPE=configs/... ARGS="--seed 1"
	$(BIN)/liquid-control train $(RECIPE) $(ARGS)

# Workers, and the processes that tests start, compile modules once and not each for itself.
test test-slow: export PYTHONDONTWRITEBYTECODE :=
test: $(READY) ## run the tests, without the slow ones, on all processors
	$(BIN)/python -m pytest -m "not slow" -n auto --dist worksteal $(ARGS)

test-slow: $(READY) ## run the slow tests: whole trainings, high-accuracy references
	$(BIN)/python -m pytest -m slow $(ARGS)

docs: $(READY) ## build the documentation site into build/site, readable offline
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open build/site/index.html"

# AddressSanitizer's library must be loaded first, followed by the C++ library, whose exceptions it
# intercepts. Leak detection is off because Python itself leaks. The build has its own folder and
# package, separate from other tests.
WATCHED := cd $(SANITIZED) && \
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	PYTHONPATH=.

sanitize: sanitized ## run the kernels' tests under AddressSanitizer and UBSan (Linux, GCC)
	$(WATCHED) PYTHONMALLOC=malloc $(CURDIR)/$(BIN)/python -m pytest --capture=sys \
		tests/kernels tests/policies/test_fused.py tests/agents/test_surrogate.py \
		tests/agents/test_soft_updates.py $(ARGS)

fuzz: sanitized ## train on 10,000 mutated checkpoints under AddressSanitizer (Linux, GCC)
	$(WATCHED) $(CURDIR)/$(BIN)/python benchmarks/fuzz_checkpoints.py $(ARGS)

sanitized: $(READY)
	LIQUID_CONTROL_BUILD=sanitize $(BIN)/python setup.py --quiet build \
		--build-temp $(SANITIZED)/objects --build-lib $(SANITIZED)
	rm -rf $(SANITIZED)/tests $(SANITIZED)/benchmarks
	cp -R tests benchmarks pyproject.toml $(SANITIZED)

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
	rm -f $(READY) liquid_control/kernels/*.so liquid_control/envs/*.so
	find liquid_control tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Kernels are recompiled when their sources change. If there is a compiler, they must compile.
$(READY): export LIQUID_CONTROL_BUILD ?= $(if $(shell command -v $(CXX)),required,optional)
$(READY): $(INSTALLED) setup.py $(KERNELS)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

# The stamp is written last, so that an interrupted set-up starts again.
# The constraints also apply to build dependencies.
$(INSTALLED): export PIP_CONSTRAINT := constraints.txt
$(INSTALLED): export PIP_BUILD_CONSTRAINT := constraints.txt
$(INSTALLED): export PIP_DISABLE_PIP_VERSION_CHECK := 1
$(INSTALLED): export LIQUID_CONTROL_BUILD := off
$(INSTALLED): pyproject.toml constraints.txt
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
	$(BIN)/python -m pip install --editable '.[dev,docs]'
	@touch $@
