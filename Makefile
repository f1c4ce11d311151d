# make demo runs the story, make test passes the tests; both set up what they need, once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := .venv/.installed

.PHONY: install demo serve test test-slow check docs lock

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing Luthier into .venv (about 2 GB of wheels the first time) ..."
	@$(PIP) install --no-deps -r torch-cpu.lock || $(PIP) install -c constraints.txt torch
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: install
	$(BIN)/luthier demo

serve: install
	$(BIN)/luthier serve

test: check
	$(BIN)/python -m pytest

# Minutes each: the examples with every client (wants node), 512 MB uploads, fifty kills.
test-slow: install
	$(BIN)/python -m pytest -m slow

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages that are made from the code: commands, compatibility.
docs: install
	$(BIN)/python -m tools.commands
	$(BIN)/python -m tools.compatibility

lock:
	$(PYTHON) tools/lock.py
