# `make repro` runs all stages, `make test` all tests, `make bench` the benchmarks; each sets up what it needs.
# `make quick` runs lint, types, and the tests that start no other process and take at most about two seconds each.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test quick bench bench-scale bench-quick bench-reliability lint format lock audit coverage mutations clean

repro: .venv/installed
	dvc repro
	softlabel table

test: lint
	pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

quick: lint
	pytest --numprocesses auto --dist loadfile -m "not slow" --durations=5

# Everything that docs/benchmarks.md shows, except `teachers`; it and `quality` need data of your own: see --help.
BENCHMARKS := student_step student_epoch student_matrix precompute soft_label_file memory sweep

bench: .venv/installed
	for name in $(BENCHMARKS); do python -m benchmarks.$$name || exit 1; done
	python -m benchmarks.document

# What docs/scale.md shows: measured first, and computed from that last.
SCALE := split split_photographs shards large_index large_run workers how_far

bench-scale: .venv/installed
	for name in $(SCALE); do python -m benchmarks.$$name || exit 1; done
	python -m benchmarks.document

# What docs/reliability.md shows: hours.
RELIABILITY := full_disk crash_matrix fuzz mutations coverage

bench-reliability: .venv/checked
	for name in $(RELIABILITY); do python -m benchmarks.$$name || exit 1; done
	python -m benchmarks.document

bench-quick: .venv/installed
	for name in $(BENCHMARKS) quality; do python -m benchmarks.$$name --quick || exit 1; done

lint: .venv/installed
	ruff check .
	ruff format --check .
	mypy

format: .venv/installed
	ruff check --fix .
	ruff format .

# Pins every dependency, for every platform and Python that pyproject.toml allows.
lock: .venv/installed
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --quiet --upgrade --extra dev pyproject.toml --output-file requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --quiet --upgrade --group checks --output-file checks.lock
	python -m benchmarks.licences

# Known weaknesses of what is pinned. It asks a database on the network.
audit: .venv/installed
	uvx pip-audit --requirement requirements.lock --requirement checks.lock --require-hashes --disable-pip

# Which lines and branches of pipeline/ the tests run: an hour or more.
coverage: .venv/checked
	python -m benchmarks.coverage
	python -m benchmarks.document

# Which small changes of the code the tests notice.
mutations: .venv/installed
	python -m benchmarks.mutations
	python -m benchmarks.document

clean:
	rm -rf .venv .work .pytest_cache .mypy_cache .ruff_cache

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Coverage.py and Atheris.
.venv/checked: .venv/installed checks.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r checks.lock
	touch $@
