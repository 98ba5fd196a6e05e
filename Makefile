# Two commands matter: `make demo` and `make test`. Both set everything up, once.
.PHONY: help setup demo test check bench format constraints clean
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.12.24
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/demo
DEMO_DATA := drawn:240x12

export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0

help: ## Say what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Install everything into .venv

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(DEMO)/report.html ## Train four organisations on drawn people and write a report
	@echo "The report: $(DEMO)/report.html"

$(DEMO)/report.html: $(READY)
	@if [ -f $(DEMO)/run.json ]; then $(BIN)/veilface-sim run --resume $(DEMO); else \
	$(BIN)/veilface-sim run --data $(DEMO_DATA) --organisations 4 \
	  --arms local,federated,central --seed 1 --out $(DEMO); fi

test: check ## Check and run every test
	$(BIN)/python -m pytest

check: $(READY) ## Format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(READY) ## Slow measurements, printed as ratios
	$(BIN)/python -m pytest -m bench -s

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(READY) ## Write the versions in .venv down
	{ sed -n '/^#/p' constraints.txt; $(BIN)/uv pip freeze --exclude-editable | grep -v '^uv=='; } \
	  > constraints.new && mv constraints.new constraints.txt

clean: ## Remove what was set up; runs are kept
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
