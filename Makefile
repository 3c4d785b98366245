# `make demo` and `make test` each work as the first command on a fresh clone.

.DEFAULT_GOAL := help
.PHONY: help env demo test quick fuzz guided drills endurance unprotected mutants coverage docs check format digests yardsticks audit \
	bench lock clean

BIN := .venv/bin
# Bytecode is kept also where the shell says not: without it each process of a test compiles anew.
export PYTHONDONTWRITEBYTECODE :=
# One thread per process: as many processes as cores of a small machine, and no result that depends on their number.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
# Benchmarks that need nothing; those on real data take --data and are started by hand.
ON_DATA := serve_pictures how_sure market1501 market_long outliers market_table unseen_cameras memory_cures refinement cluster_contrast_peer criteria finch own_images search_inference
BENCH ?= $(filter-out $(ON_DATA:%=benchmarks/%.py),$(wildcard benchmarks/*.py))

ROUNDS ?= 20
QUICK := $(wildcard tests/test_layering.py tests/test_repository.py tests/test_losses.py tests/test_memory.py \
	tests/test_clustering_*.py tests/test_metrics_*.py tests/test_config.py tests/test_device.py \
	tests/test_models_batchnorm.py tests/test_models_detectors_assign.py tests/test_data_samplers.py \
	tests/test_data_transforms.py tests/test_data_images.py)

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

quick: check ## lint, types and the tests of rooms that compute without training: for whoever changes one of them
	$(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/pytest -q -n 2 $(QUICK) $(ARGS)

docs: env ## the site, strict, into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # not --quiet: it would not count warnings

test: env ## every check, the site and every test; ARGS="-k losses" narrows it
	@$(MAKE) --no-print-directory --output-sync -j 2 check docs
	$(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --dist worksteal $(ARGS)

fuzz: env ## tests of drawn cases with cases drawn anew, ROUNDS=20 times; stops at the first that fails
	@for round in $$(seq $(ROUNDS)); do echo "== round $$round of $(ROUNDS)"; \
		$(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/pytest -q -n 2 -m hypothesis --hypothesis-profile=fuzz $(ARGS) || exit 1; done

guided: env ## what reads outside data, fuzzed by the lines that are reached: INPUTS=20000 of each; needs `pip install atheris`
	@for test in $$($(BIN)/pytest --collect-only -q tests/test_fuzz_readers.py | grep ::); do \
		RESEEN_FUZZ=$(or $(INPUTS),20000) $(ONE_THREAD) $(BIN)/pytest -q -n 0 -s --timeout=0 -p guided "$$test" || exit 1; done

drills: env ## kill -9 at KILLS=50 random moments of each kind of work, and go on until it is done (about 20 minutes)
	RESEEN_DRILLS=$(or $(KILLS),50) $(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/pytest -q -n 0 -s --timeout=3600 tests/test_drills.py $(ARGS)

endurance: env ## memory, open files and threads over 1,500 epochs and 100,000 requests (about 40 minutes)
	RESEEN_EPOCHS=1500 RESEEN_REQUESTS=100000 $(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/pytest -q -n 0 -s tests/test_endurance.py $(ARGS)

unprotected: env ## take each protection out of a copy: the test that is for it has to fail (about 20 minutes)
	@$(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/python .ci/unprotected

coverage: env ## which lines the tests miss, printed; slower than `test`
	$(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --cov --cov-report=term $(ARGS)

mutants: env ## small faults put into the arithmetic, 300 of them: which do the tests not notice? (needs uv; about 20 minutes)
	$(ONE_THREAD) OPENBLAS_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python .ci/mutants

format: env ## write the format that `check` wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

digests: env ## record the bits of every method on this platform, on a commit that is trusted (tests/test_digests.py)
	$(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/pytest -q tests/test_digests.py --record

yardsticks: ## how large and how deep the code is, beside what it is meant to be
	@python3 .ci/yardsticks

audit: env ## licences, bill of materials and known weaknesses of what the lock installs, into build/audit
	@$(BIN)/python .ci/audit

bench: env ## the benchmarks that need no data; BENCH=FILE runs one
	@for file in $(BENCH); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lock: ## resolve pyproject.toml into requirements.lock (needs uv); UPGRADE=--upgrade for newer versions
	uv pip compile pyproject.toml --group dev --group docs --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header $(UPGRADE) --output-file requirements.lock --quiet

clean: ## remove caches and build outputs; keeps .venv and runs/
	rm -rf build dist .coverage .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
