# Two commands matter: `make demo` and `make test`. Both set everything up, once.
.PHONY: help setup demo test check bench drill format constraints clean
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.12.24
BIN := .venv/bin
READY := .venv/.ready
SIM := $(BIN)/veilface-sim
DEMO := runs/demo
PUBLIC := runs/demo-public
PRIVATE := runs/demo-private
LEDGER := $(PRIVATE)/organisations/org-1/ledger
VIDEO := runs/demo-video
FILM := $(VIDEO)/film/film.mp4
OWN := VEILFACE_HOME=$(VIDEO)/shop VEILFACE_PASSPHRASE_FILE=$(VIDEO)/passphrase.txt $(BIN)/veilface
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

demo: $(DEMO)/report.html $(PRIVATE)/budget.html ## Train together, then privately; watch a film
	@$(MAKE) --no-print-directory -j2 $(VIDEO)/report.html
	@echo "The reports: $(DEMO)/report.html, $(PRIVATE)/report.html, $(PRIVATE)/budget.html,"
	@echo "  $(VIDEO)/report.html"

$(DEMO)/report.html: $(READY)
	@if [ -f $(DEMO)/run.json ]; then $(SIM) run --resume $(DEMO); else \
	$(SIM) run --data $(DEMO_DATA) --organisations 4 \
	  --arms local,federated,central --seed 1 --out $(DEMO); fi

# A model of other drawn people, which is public, ...
$(PUBLIC)/report.html: $(READY)
	@if [ -f $(PUBLIC)/run.json ]; then $(SIM) run --resume $(PUBLIC); else \
	$(SIM) run --data $(DEMO_DATA) --arms central --rounds 3 --seed 2 --out $(PUBLIC); fi

# ... turned by what four organisations may say of their people.
$(PRIVATE)/report.html: $(PUBLIC)/report.html
	@if [ -f $(PRIVATE)/run.json ]; then $(SIM) run --resume $(PRIVATE); else \
	$(SIM) run --data drawn:600x4 --organisations 4 --arms federated --seed 1 \
	  --init $(PUBLIC)/model --privacy identity --epsilon 8 --delta 1e-5 --out $(PRIVATE); fi

$(PRIVATE)/budget.html: $(PRIVATE)/report.html
	@$(BIN)/veilface-audit $(LEDGER).db --key $(LEDGER).pub --heads $(PRIVATE)/server/rounds.jsonl \
	  --server-key $(PRIVATE)/server/server.pub
	@$(BIN)/veilface report $(LEDGER).db --out $@

# An organisation enrols four people who do not exist, with the model that was trained together, ...
$(VIDEO)/enrolled: $(DEMO)/report.html
	@rm -rf $(VIDEO)/people $(VIDEO)/strangers $(VIDEO)/shop && mkdir -p $(VIDEO)
	$(SIM) draw 4x8 --seed 10 --out $(VIDEO)/people
	$(SIM) draw 40x1 --seed 30 --out $(VIDEO)/strangers
	@(umask 077; echo 'a passphrase of your own' > $(VIDEO)/passphrase.txt)
	$(OWN) init --name shop --model $(DEMO)/model
	for name in ada bob cyd dan; do \
	  $(OWN) enrol $$name $(VIDEO)/people/$$name/*.png --consent 2026-01 || exit; done
	$(OWN) calibrate identify --rate 0.01 --impostors folder:$(VIDEO)/strangers
	@touch $@

# ... watches a film in which they and two strangers come and go, ...
$(VIDEO)/film/truth.json: | $(READY)
	@rm -rf $(@D)
	$(SIM) film 4 --seed 10 --out $(@D)

$(VIDEO)/watched.jsonl: $(VIDEO)/enrolled $(VIDEO)/film/truth.json
	$(OWN) watch $(FILM) --json --contact-sheet $(VIDEO)/sheet.png --overlay $(VIDEO)/named.mp4 > $@

# ... hides everybody but one of them, and watches again.
$(VIDEO)/hidden.mp4: $(VIDEO)/enrolled $(VIDEO)/film/truth.json
	@rm -f $@
	$(OWN) hide $(FILM) --except cyd --out $@

$(VIDEO)/again.jsonl: $(VIDEO)/hidden.mp4
	$(OWN) watch $< --json > $@

$(VIDEO)/report.html: $(VIDEO)/watched.jsonl $(VIDEO)/again.jsonl
	$(SIM) film-report $(VIDEO)/film --watched $(VIDEO)/watched.jsonl --sheet $(VIDEO)/sheet.png \
	  --overlay $(VIDEO)/named.mp4 --hidden $(VIDEO)/hidden.mp4 --again $(VIDEO)/again.jsonl \
	  --except cyd --out $@

# Two files at a time; one alone of those that start federations, whose heartbeats want a core.
test: check ## Check and run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/integration
	$(BIN)/python -m pytest tests/integration

check: $(READY) ## Format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(READY) ## Slow measurements, printed as ratios
	$(BIN)/python -m pytest -m bench -s

drill: $(READY) ## Kill, cut off and fill up each part of a federation; needs root
	$(BIN)/python -m pytest -m drill -s tests/drill

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(READY) ## Write the versions in .venv down
	{ sed -n '/^#/p' constraints.txt; $(BIN)/uv pip freeze --exclude-editable | grep -v '^uv=='; } \
	  > constraints.new && mv constraints.new constraints.txt

clean: ## Remove what was set up; runs are kept
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
