# Two commands on a machine with Python 3.11+ and make: `make run` and `make test`. `make help` lists the rest.
# What runs here is for development, so LINLI_ENV is dev unless it is set: without it the program takes itself for production.

PYTHON ?= python3
BIN := .venv/bin
CODE := $(wildcard bootstrap.py kit models services payments jobs handlers server sandbox migrations tests bench)

.DEFAULT_GOAL := help
.PHONY: help environment run reset tour test slow bench lint format newcomer clean
MAKEFLAGS += --no-print-directory

help: ## List what make can do here
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

environment: ## Make .venv with the pinned packages, if it is not there yet or no longer right
	@command -v $(PYTHON) >/dev/null || { echo "Linli needs Python 3.11 or newer, and there is no $(PYTHON) here." >&2; exit 1; }
	@$(PYTHON) bootstrap.py

run: environment ## Run everything here: database, demo data, API, job worker and the WeChat sandbox
	@exec env LINLI_ENV=$${LINLI_ENV:-dev} $(BIN)/linli up

reset: environment ## Throw the demo data away; refuses a database that is not a demo. The next 'make run' makes new data
	@exec env LINLI_ENV=$${LINLI_ENV:-dev} $(BIN)/linli reset

tour: environment ## Walk through what there is, against what 'make run' runs
	@exec env LINLI_ENV=$${LINLI_ENV:-dev} $(BIN)/linli tour

test: environment ## Run the tests, on a PostgreSQL of their own
	@$(BIN)/python -m pytest -q -n 2 --ignore tests/slow

slow: environment ## Run the slower checks: kill -9 in every place, Redis, fuzz (part of CI)
	@$(BIN)/python -m pytest -q tests/slow

bench: environment ## Measure side by side with what limits us; see bench/README.md
	@$(BIN)/python -m bench

lint: environment ## Check style, formatting and types
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy

format: environment ## Put the code into its format
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

newcomer: ## Try a clean clone: run, tour, check, end, run again, reset (slow; part of CI)
	@.ci/fresh-clone

clean: ## Remove the environment and all data of this clone; refuses while it runs
	@$(PYTHON) bootstrap.py clean
