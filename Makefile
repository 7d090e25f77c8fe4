# Every target sets up what it needs in .venv, pinned by the lock files of requirements/.
# On a machine where the package index offers only a CUDA build of torch, name an index of CPU builds:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3.11
PIP_ARGS ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)

.PHONY: demo test test-slow check docs format lock clean

demo: $(VENV)/runtime
	$(BIN)/fedlmd demo $(ARGS)

# A file's tests stay together, as they share what is expensive to make. Those that start Flower come first.
test: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(VENV)/dev
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/docs
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --strict --clean

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: requirements/runtime.lock pyproject.toml | $(BIN)/python
	$(PIP) -r requirements/runtime.lock
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/dev: requirements/dev.lock $(VENV)/runtime
	$(PIP) -r requirements/dev.lock
	touch $@

$(VENV)/docs: requirements/docs.lock $(VENV)/runtime
	$(PIP) -r requirements/docs.lock
	touch $@

# Resolves the newest allowed versions in clean environments and freezes them.
lock:
	for kind in runtime dev docs; do \
	  rm -rf .lock-venv && $(PYTHON) -m venv .lock-venv; \
	  extra=$$([ $$kind = runtime ] && echo "[photos]" || echo "[$$kind]"); \
	  .lock-venv/bin/python -m pip install --quiet $(PIP_ARGS) torch==2.13.0 ".$$extra"; \
	  .lock-venv/bin/python -m pip freeze --exclude fedlmd | sed -E 's/^(torch==[0-9.]+)\+cpu$$/\1/' > requirements/$$kind.lock; \
	done; rm -rf .lock-venv

clean:
	rm -rf $(VENV) demo-output docs-site docs/reference
