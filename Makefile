# Every target is one line of what there is to do; `make help` lists them.

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
LOG_DIR ?= /var/log/s3_upload
REMOTE_PATH ?= /

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## the virtual environment with all that uploads need

demo: $(VENV)/.dev-installed  ## upload a simulated run to an embedded S3: no account needed
	$(BIN)/python scripts/demo.py

upload: $(VENV)/.installed  ## upload one run: make upload RUN=/data/RUN BUCKET=my-bucket [REMOTE_PATH=/] [LOG_DIR=...] [ARGS=...]
	@test -n "$(RUN)" && test -n "$(BUCKET)" || { echo 'usage: make upload RUN=/data/RUN BUCKET=my-bucket' >&2; exit 2; }
	@$(BIN)/python -m s3sync upload --local_path '$(RUN)' --bucket '$(BUCKET)' --remote_path '$(REMOTE_PATH)' --log_dir '$(LOG_DIR)' $(ARGS)

test: $(VENV)/.dev-installed  ## all tests that need nothing but Python
	$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

test-real: $(VENV)/.dev-installed  ## the tests that need Debian's awscli (version 2) and radosgw
	S3SYNC_REQUIRE_REAL=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m real $(ARGS)

lint: $(VENV)/.dev-installed  ## format, lint and types
	$(BIN)/ruff format --check s3sync scripts tests
	$(BIN)/ruff check s3sync scripts tests
	$(BIN)/mypy

lock: $(VENV)/.dev-installed  ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --output-file requirements.txt pyproject.toml
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --constraints requirements.txt --extra dev --output-file requirements-dev.txt pyproject.toml

LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.10 --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	touch $@

$(VENV)/.dev-installed: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

.PHONY: help install demo upload test test-real lint lock clean
.DEFAULT_GOAL := help
