# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
NODE_PACKAGES := tests/conformance/node/package.json tests/conformance/node/package-lock.json

# Two busy threads on two busy cores stall in OpenMP spinning.
export OMP_WAIT_POLICY := passive

# Bytecode is kept, in .venv, also where the environment says to keep none: each of the programs that the tests start
# would else compile torch again.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/bytecode
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check serve format bench lock clean
.DEFAULT_GOAL := help

help:  ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt $(NODE_PACKAGES)
	@echo "Setting up .venv with the locked dependencies (once; about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -q --no-compile --disable-pip-version-check $$(grep -E '^(torch|uv)==' constraints.txt)
	@$(BIN)/uv pip install -q -p .venv -c constraints.txt -e '.[dev]'
	@mkdir -p .venv/node && cp $(NODE_PACKAGES) .venv/node/
	@if command -v npm >/dev/null && npm ci --prefix .venv/node --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=30000 --loglevel=error >/dev/null; then :; else \
		rm -rf .venv/node/node_modules; \
		echo; \
		echo "*** npm is missing or could not install: the tests with npm's @sigstore/verify will SKIP. ***"; \
		echo; fi
	@touch $@

demo: $(STAMP)  ## train, withdraw one voice, certify, verify: the whole story on synthetic people
	@$(BIN)/mbd demo

test: $(STAMP)  ## all tests, in parallel
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $${MBD_TEST_WORKERS:-2} --dist worksteal

check: $(STAMP)  ## format, lint, strict types, import contracts, documents against the code
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@# types take as long as all the rest: side by side on two cores
	@$(BIN)/mypy & types=$$!; \
		$(BIN)/lint-imports && $(BIN)/python -m benchmarks.readme --check && \
		OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/architecture; rest=$$?; \
		wait $$types && exit $$rest

# The deployment of `mbd` without --home; where there is none yet, the demo's.
serve: $(STAMP)  ## API, worker and predictor on one machine, until Ctrl-C
	@home="$${MBD_HOME:-$${XDG_STATE_HOME:-$$HOME/.local/state}/mbd}"; \
		test -d "$$home" || { echo "There is no deployment in $$home yet: making the demo's ..."; $(BIN)/mbd demo --home "$$home"; }
	@trap 'kill $$(jobs -p) 2>/dev/null; wait' EXIT; trap 'exit 0' INT TERM; \
		$(BIN)/mbd worker & $(BIN)/mbd predictor & $(BIN)/mbd serve & wait -n

format: $(STAMP)  ## put the code into its one form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP)  ## every table and picture, from the real cohorts in ../shared/data (hours)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.real_cohorts mosi
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.real_cohorts ravdess
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.deletion
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.audit
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.planted_bugs
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ledger
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.service
	@for cohort in mosi ravdess; do \
		OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.missing $$cohort && \
		OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers.run $$cohort people && \
		OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers.run $$cohort everyone || exit 1; done
	@for cohort in mosi wordlevel ravdess; do OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.zoo $$cohort || exit 1; done
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reliability
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.alignmamba
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.clips
	@$(BIN)/python -m benchmarks.readme
	@$(BIN)/python -m benchmarks.picture
	@$(BIN)/python -m benchmarks.deletion_picture
	@$(BIN)/python -m benchmarks.missing picture
	@$(BIN)/python -m benchmarks.peers.tables

lock:  ## freeze the versions that are installed now
	@$(BIN)/uv pip freeze -p .venv --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:  ## remove everything that the other commands made
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -prune -exec rm -rf {} +
