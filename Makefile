# `make demo` and `make test` each work as the first command on a fresh clone.

.DEFAULT_GOAL := help
.PHONY: help env demo test check format bench lock clean

BIN := .venv/bin
# One thread per process: as many processes as cores of a small machine, and no result that depends on their number.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
# Benchmarks that need nothing; those on real data take --data and are started by hand.
BENCH ?= $(filter-out benchmarks/market1501.py benchmarks/cluster_contrast_peer.py benchmarks/finch.py benchmarks/search_inference.py,$(wildcard benchmarks/*.py))

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

env: ## make .venv from requirements.lock, once per lock; PYTHON=FILE chooses the interpreter
	@PYTHON="$(PYTHON)" .ci/environment

demo: env ## train CACL on the drawn street (2 to 3 minutes on two free cores); runs/demo/report has the pictures
	@$(BIN)/reseen demo

check: env ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check ## every check and every test; ARGS="-k losses" narrows it
	$(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 $(ARGS)

format: env ## write the format that `check` wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: env ## the benchmarks that need no data; BENCH=FILE runs one
	@for file in $(BENCH); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lock: ## resolve pyproject.toml into requirements.lock (needs uv); UPGRADE=--upgrade for newer versions
	uv pip compile pyproject.toml --group dev --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header $(UPGRADE) --output-file requirements.lock --quiet

clean: ## remove caches and build outputs; keeps .venv and runs/
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
