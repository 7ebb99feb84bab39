.DEFAULT_GOAL := help
.PHONY: require-root help install assets demo demo-down test check lint docs tour bench

BIN := .venv/bin

# They wait for daemons more than they compute, so one process more than there are cores; file by
# file in their order, for the browser's have to be a process's last. The lab is one, and its hosts
# need the machine for themselves.
FAST_TESTS := $(BIN)/pytest -q -m "not e2e and not bench" --ignore=tests/bench \
	-n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder
LAB_TESTS := $(BIN)/pytest -q -m e2e

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

require-root:
	@[ "$$(id -u)" = 0 ] || { echo "This makes namespaces and needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

install: ## Debian packages and .venv, only what is missing (root)
	@./lab/install.sh

assets: install ## what browsers load, built from the packages that npm's lock file pins
	@$(BIN)/python -m controlplane.gui.assets.build

demo: require-root install ## a whole cluster on this machine, with a few mails sent through it (root)
	@$(BIN)/python -m lab.demo

demo-down: require-root ## remove every trace of the demo (root)
	@if [ -x $(BIN)/relay-lab ]; then $(BIN)/relay-lab down; else echo "There is no demo here."; fi

test: require-root install ## all tests, but no figures (root)
	@$(FAST_TESTS); fast=$$?; $(LAB_TESTS) && exit $$fast

check: install lint ## style, types, layers and the fast tests
	@$(FAST_TESTS)

lint: install ## ruff, mypy and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: install ## docs/reference, written anew by the program itself
	@$(BIN)/python docs/generate.py

tour: require-root install ## the pictures of docs/tour, taken anew in a lab (root, minutes)
	@RELAY_TOUR_DIR=docs/tour $(BIN)/pytest -q tests/browser/lab

bench: require-root ## the figures, as a table; rspamd and postfwd are installed to compare (root, minutes)
	@./lab/install.sh postfwd rspamd
	@$(BIN)/pytest -q -s -m bench tests/bench
