# Two commands work on a fresh machine: `make demo` and `make test`. Python 3.11 or later is all they need.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A quoted path with spaces would break make's own words; the default has none.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# An environment is made anew when its pins change; the stamp is touched last, so a broken install is repeated.
define install
	$(PYTHON) -m venv --clear $(VENV) && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 && \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r $(1)
endef

$(VENV)/run.stamp: envs/pip/run.txt
	@if ! [ $(VENV)/test.stamp -nt envs/pip/run.txt ]; then echo "setting up $(VENV)" && \
	$(call install,envs/pip/run.txt); fi
	@touch $@

$(VENV)/test.stamp: envs/pip/test.txt
	@echo "setting up $(VENV) with what the tests need"
	@$(call install,envs/pip/test.txt)
	@touch $@

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

.PHONY: demo
demo: $(VENV)/run.stamp ## set up and run the digits study, offline; the report is results/digits/report.html
	snakemake --cores all

.PHONY: test
test: $(VENV)/test.stamp ## set up and run the tests
	python -m pytest -n 2 -rs tests/unit tests/workflow
	python -m pytest -rs tests/cluster
	python -m pytest -rs tests/browser

.PHONY: torture
torture: $(VENV)/test.stamp ## do every fault many times, kill a study 50 times, fuzz; the tables go into docs/reliability.md
	python tests/torture --write

.PHONY: fuzz
fuzz: $(VENV)/test.stamp ## give every reader 100,000 damaged inputs, five minutes; the counts go into docs/reliability.md
	python tests/torture --jobs 0 --workflows 0 --kills 0 --write

.PHONY: status
status: $(VENV)/run.stamp ## how far the studies are that were begun, from their results alone
	@python workflow/scripts/status.py

BENCHMARKS ?= step memory_format epoch range_test lars job runs_per_job parts sweep workflow profile_step profile_imports

.PHONY: bench
bench: $(VENV)/test.stamp ## measure speed on this machine; about an hour, the first time two. BENCHMARKS="step epoch" measures those
	for name in $(BENCHMARKS); do [[ $$name = profile_* ]] || name=bench_$$name; \
	PYTHONPATH=workflow/scripts python tests/benchmarks/$$name.py --record $(BENCH) || exit; done
	PYTHONPATH=workflow/scripts python tests/benchmarks/table.py

.PHONY: lint
lint: $(VENV)/test.stamp ## formatting and style of Python and Snakemake code
	ruff check . && ruff format --check . && snakefmt --check Snakefile rules workflow/Snakefile
	snakemake --lint --cores 1

.PHONY: format
format: $(VENV)/test.stamp ## rewrite the code in the project's format
	ruff check --fix . && ruff format . && snakefmt Snakefile rules workflow/Snakefile

.PHONY: pins
pins: $(VENV)/test.stamp ## resolve envs/pip/*.in anew into pinned requirements with hashes
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header envs/pip/test.in -o envs/pip/test.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c envs/pip/test.txt envs/pip/run.in -o envs/pip/run.txt

.PHONY: clean
clean: ## delete the environment and the results
	rm -rf $(VENV) results/* .snakemake
