# Everything runs in .venv, which `make setup` makes and each other target makes sure of.

PYTHON ?= python3
# How many tests run at once: one more than there are cores, as some only wait for a server's time-out.
JOBS ?= 3
# Further arguments for pytest or the benchmarks: make test ARGS="-k lane"
ARGS ?=

# Where it is set, as in images of Python, each worker would compile all tests anew, with their asserts rewritten.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
READY := .venv/.ready
# A server that tests run against, apart from what it can't be installed beside.
MOTO := .cache/moto
# Ray, which brings half a gigabyte of its own.
RAY := .cache/ray
# The trainers that have callbacks of ours, as far as they go without torch.
TRAINERS := .cache/trainers
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

.PHONY: setup demo test soak lint bench protos

setup: $(READY) $(MOTO)/.ready $(RAY)/.ready $(TRAINERS)/.ready

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY) $(MOTO)/.ready $(RAY)/.ready $(TRAINERS)/.ready
	$(PYTEST) $(ARGS)

# The limits per test are for `make test`; full counts take as long as they take.
soak: $(READY) $(MOTO)/.ready $(RAY)/.ready $(TRAINERS)/.ready
	WHERRY_SOAK=1 $(PYTEST) -m soak --timeout=0 -o faulthandler_timeout=0 $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	scripts/protos --check

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

protos: $(READY)
	scripts/protos

$(READY): pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python --quiet -e '.[daemon]' --group dev --compile-bytecode
	@touch $@

$(MOTO)/.ready: pyproject.toml | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(MOTO)
	$(BIN)/uv pip install --python $(MOTO)/bin/python --quiet --group moto
	@touch $@

$(RAY)/.ready: pyproject.toml | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(RAY)
	$(BIN)/uv pip install --python $(RAY)/bin/python --quiet -e '.[daemon]' --group ray --compile-bytecode
	@touch $@

$(TRAINERS)/.ready: pyproject.toml | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(TRAINERS)
	$(BIN)/uv pip install --python $(TRAINERS)/bin/python --quiet -e '.[daemon]' --compile-bytecode
	$(BIN)/uv pip install --python $(TRAINERS)/bin/python --quiet --group transformers
	$(BIN)/uv pip install --python $(TRAINERS)/bin/python --quiet --no-deps --group lightning
	@touch $@

$(BIN)/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
