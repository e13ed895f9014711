# `make help` lists the targets.

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
REMOTE_PATH ?= /
SCHEDULE ?= */10 * * * *
NEEDS_CONFIG = test -n '$(CONFIG)' || { echo 'usage: make $@ CONFIG=FILE (see conf/s3sync.minimal.yaml)' >&2; exit 2; }

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## install s3sync and the AWS CLI into .venv
	@$(BIN)/python -m compileall -q s3sync  # its users may not be allowed to write here
	@echo 'ready: $(BIN)/s3sync (next: "Install" in README.md puts it on PATH)'

demo: $(VENV)/.installed  ## upload a simulated run to a local S3; no account needed
	$(BIN)/python scripts/demo.py

upload: $(VENV)/.installed  ## upload one run: RUN=/data/RUN BUCKET=B [LOG_DIR=] [ARGS=]
	@test -n "$(RUN)" && test -n "$(BUCKET)" || { echo 'usage: make upload RUN=/data/RUN BUCKET=my-bucket [REMOTE_PATH=/] [LOG_DIR=DIR] [ARGS=--dry-run]' >&2; exit 2; }
	@$(BIN)/python -m s3sync upload --local_path '$(RUN)' --bucket '$(BUCKET)' --remote_path '$(REMOTE_PATH)' $(if $(LOG_DIR),--log_dir '$(LOG_DIR)') $(ARGS)

verify: $(VENV)/.installed  ## compare a run with S3: RUN=/data/RUN BUCKET=B [ARGS=]
	@test -n "$(RUN)" && test -n "$(BUCKET)" || { echo 'usage: make verify RUN=/data/RUN BUCKET=my-bucket' >&2; exit 2; }
	@$(BIN)/python -m s3sync verify '$(RUN)' --bucket '$(BUCKET)' --remote_path '$(REMOTE_PATH)' $(if $(LOG_DIR),--log_dir '$(LOG_DIR)') $(ARGS)

check: $(VENV)/.installed  ## check the monitor's setup: CONFIG=FILE
	@$(NEEDS_CONFIG)
	@$(BIN)/python -m s3sync check --config '$(CONFIG)' $(ARGS)

monitor: $(VENV)/.installed  ## one scan of the monitor: CONFIG=FILE
	@$(NEEDS_CONFIG)
	@scripts/monitor.sh '$(CONFIG)' $(ARGS)

dry-run: $(VENV)/.installed  ## what a scan would upload, and why: CONFIG=FILE
	@$(NEEDS_CONFIG)
	@scripts/monitor.sh '$(CONFIG)' --dry_run $(ARGS)

status: $(VENV)/.installed  ## all runs with state and reason: CONFIG=FILE [ARGS=RUN]
	@$(NEEDS_CONFIG)
	@$(BIN)/python -m s3sync status --config '$(CONFIG)' $(ARGS)

report: $(VENV)/.installed  ## write the dashboard: CONFIG=FILE OUTPUT=DIR
	@test -n '$(CONFIG)' && test -n '$(OUTPUT)' || { echo 'usage: make report CONFIG=FILE OUTPUT=DIR' >&2; exit 2; }
	@$(BIN)/python -m s3sync report --config '$(CONFIG)' --output '$(OUTPUT)' $(ARGS)

cleanup: $(VENV)/.installed  ## runs that may be deleted: CONFIG=FILE [ARGS=--delete]
	@$(NEEDS_CONFIG)
	@$(BIN)/python -m s3sync cleanup --config '$(CONFIG)' $(ARGS)

install-cron: $(VENV)/.installed  ## monitor into your crontab: CONFIG=FILE [SCHEDULE='...']
	@$(BIN)/python scripts/install_cron.py install --config '$(CONFIG)' --schedule '$(SCHEDULE)'

uninstall-cron: $(VENV)/.installed  ## remove it again: [CONFIG=FILE]
	@$(BIN)/python scripts/install_cron.py uninstall --config '$(CONFIG)'

test: $(VENV)/.dev-installed  ## all tests that need nothing but Python
	$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

test-real: $(VENV)/.dev-installed  ## tests with real servers, Slurm, systemd (Debian packages)
	S3SYNC_REQUIRE_REAL=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m real $(ARGS)

test-sweep: $(VENV)/.dev-installed  ## SIGKILL at every write and at random; needs strace
	S3SYNC_REQUIRE_REAL=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m sweep $(ARGS)

bench: $(VENV)/.bench-installed  ## compare with the AWS CLI, s5cmd, rclone [ARGS='--help']
	$(BIN)/python scripts/benchmark.py $(ARGS)

lint: $(VENV)/.dev-installed  ## format, lint and types
	$(BIN)/ruff format --check s3sync scripts tests
	$(BIN)/ruff check s3sync scripts tests
	$(BIN)/mypy

man: $(VENV)/.installed  ## regenerate the manual page docs/s3sync.1
	$(BIN)/python scripts/manpage.py

lock: $(VENV)/.dev-installed  ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --output-file requirements.txt pyproject.toml
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --constraints requirements.txt --extra dev --output-file requirements-dev.txt pyproject.toml
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --constraints requirements-dev.txt --extra bench --output-file requirements-bench.txt pyproject.toml

LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.10 --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: requirements.txt pyproject.toml
	@echo 'Installing what uploads need into $(VENV), once; that takes a minute or less.'
	@sh scripts/bootstrap.sh '$(PYTHON)' $(VENV)
	@touch $@

$(VENV)/.dev-installed: requirements-dev.txt $(VENV)/.installed
	@echo 'Installing what the tests need, once; that takes a minute or less.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

$(VENV)/.bench-installed: requirements-bench.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-bench.txt
	touch $@

.PHONY: help install demo upload verify check monitor dry-run status report cleanup install-cron uninstall-cron test test-real test-sweep bench lint man lock clean
.DEFAULT_GOAL := help
