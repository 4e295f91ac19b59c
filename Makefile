# Needs only make and Python >= 3.11; everything else lands in .venv, from hash-locked requirement files.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
BIN := $(VENV)/bin
IMAGE ?= investbus:dev
EXTRAS ?= kafka
JOBS ?= 2
BUS ?= kafka
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help install demo test test-fast brokers lint bench chaos image lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with every extra and the development tools

# The stamp stands for "what is installed is what the files say"; a change of either installs again.
$(INSTALLED): pyproject.toml requirements/all.txt | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/all.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/python:
	@for candidate in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$candidate -m venv $(VENV)"; exec "$$candidate" -m venv $(VENV); \
	  fi; \
	done; \
	echo "make install: no Python >= 3.11 found; install one, or name it: make install PYTHON=/path/to/python3" >&2; exit 1

demo: install ## Show the main job on this machine, nothing else needed
	$(BIN)/investbus demo

test: install brokers ## Run the whole suite, JOBS files at a time; REQUIRE_BROKERS=1 turns a missing broker into a failure
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

test-fast: install ## Run what needs no broker, in seconds
	$(BIN)/python -m pytest -q -m "not broker and not slow" --ignore=tests/chaos --ignore=tests/bench

brokers: ## Install what the brokers of the tests run on (as root on Debian; elsewhere: say what is missing)
	@requirements/brokers.sh

# Written as a pattern that does not match itself.
REGISTRIES := pypi[.]org|pythonhosted[.]org|crates[.]io|proxy[.]golang[.]org|registry[.]npmjs[.]org|repo1?[.]maven[.]|deb[.]debian[.]org

lint: install ## ruff, mypy --strict, hadolint, the Compose schema, no registry named in any file
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	@if git grep --untracked --line-number -I --extended-regexp '$(REGISTRIES)'; then \
	  echo "make lint: a package registry is named above; whoever installs chooses it, so leave it out" >&2; exit 1; fi

bench: install ## Measure side by side with peers; prints a table and writes it as Markdown
	$(PIP) install --require-hashes -r requirements/bench.txt
	$(BIN)/python -m tests.bench

chaos: install brokers ## Kill workers while events flow, then compare the ledgers (BUS=kafka, rabbitmq or servicebus)
	$(BIN)/python -m tests.chaos --bus $(BUS) --kills 20 --events 10000

image: ## Build the container image (fails with one line where no container engine answers)
	@docker info >/dev/null 2>&1 || { echo "make image: no container engine answers 'docker info'; start one, nothing was built" >&2; exit 1; }
	docker build --file deploy/Dockerfile --build-arg EXTRAS=$(EXTRAS) --tag $(IMAGE) .

# One resolution (all.txt) binds the others, so that a package has one version wherever it appears.
COMPILE = UV_NO_CONFIG=1 $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)
BOUND := --constraint requirements/all.txt

lock: ## Write the requirement files anew (newest versions: make lock UPGRADE=--upgrade)
lock: $(BIN)/python
	$(PIP) install --require-hashes -r requirements/lock.txt
	$(COMPILE) --group lock --output-file requirements/lock.txt
	$(COMPILE) pyproject.toml --all-extras --group build --group test --group lint --output-file requirements/all.txt
	$(COMPILE) pyproject.toml $(BOUND) --output-file requirements/core.txt
	for extra in kafka rabbitmq servicebus postgresql; do \
	  $(COMPILE) pyproject.toml $(BOUND) --extra $$extra --output-file requirements/$$extra.txt; done
	$(COMPILE) pyproject.toml $(BOUND) --all-extras --group bench --output-file requirements/bench.txt
	$(COMPILE) $(BOUND) --group build --output-file requirements/build.txt
	$(COMPILE) --group emulator --output-file requirements/emulator.txt

clean: ## Remove what was built (the virtual environment too)
	rm -rf $(VENV) .demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
