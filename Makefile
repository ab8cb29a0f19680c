# Everything runs in .venv, which `make setup` makes and each other target makes sure of.

PYTHON ?= python3
# How many tests run at once: one more than there are cores, as some only wait for a server's time-out.
JOBS ?= 3
# Further arguments for pytest or the benchmarks: make test ARGS="-k lane"
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

.PHONY: setup demo test soak lint bench protos

setup: $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(PYTEST) $(ARGS)

# The limits per test are for `make test`; full counts take as long as they take.
soak: $(READY)
	WHERRY_SOAK=1 $(PYTEST) -m soak --timeout=0 $(ARGS)

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

$(BIN)/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
