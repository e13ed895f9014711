# `make help` lists the targets.

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
REMOTE_PATH ?= /
SCHEDULE ?= */10 * * * *
S3SYNC := @$(BIN)/python -m s3sync
RUN_ARGS = '$(RUN)' --bucket '$(BUCKET)' --remote-path '$(REMOTE_PATH)' $(if $(LOG_DIR),--log-dir '$(LOG_DIR)') $(ARGS)
CONFIG_ARGS = $(if $(CONFIG),--config '$(CONFIG)') $(ARGS)
NEEDS_RUN = @test -n '$(RUN)' && test -n '$(BUCKET)' || { echo "usage: make $@ RUN=/data/RUN BUCKET=my-bucket \
	[REMOTE_PATH=/] [LOG_DIR=DIR] [ARGS='--dry-run ...']" >&2; exit 2; }
NEEDS_CONFIG = @test -n '$(CONFIG)' || { echo 'usage: make $@ CONFIG=FILE (`make init` writes one)' >&2; exit 2; }
NEEDS_OUTPUT = @test -n '$(OUTPUT)' || { echo 'usage: make report OUTPUT=DIR [CONFIG=FILE]' >&2; exit 2; }

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo
	@echo 'Other options go into ARGS: make status ARGS="--json RUN".'
	@echo 'make exits with 2 if a command fails; its last line has the exit code: Error 75.'

install: $(VENV)/.installed  ## install s3sync and the AWS CLI into .venv
	@$(BIN)/python -m compileall -q s3sync  # its users may not be allowed to write here
	@echo 'ready: $(BIN)/s3sync'
	@echo 'next:  sudo ln -s "$(CURDIR)/$(BIN)/s3sync" /usr/local/bin/s3sync   (puts it on PATH)'
	@echo '       s3sync init   (writes a config for the monitor)'

demo: $(VENV)/.installed  ## upload a simulated run to a local S3; ARGS=--keep to go on
	$(BIN)/python scripts/demo.py $(ARGS)

upload: $(VENV)/.installed  ## upload one run: RUN=/data/RUN BUCKET=B [LOG_DIR=]
	$(NEEDS_RUN)
	$(S3SYNC) upload $(RUN_ARGS)

verify: $(VENV)/.installed  ## compare a run with S3: RUN=/data/RUN BUCKET=B
	$(NEEDS_RUN)
	$(S3SYNC) verify $(RUN_ARGS)

init: $(VENV)/.installed  ## write a config for the monitor: [CONFIG=FILE]
	$(S3SYNC) init $(CONFIG_ARGS)

check: $(VENV)/.installed  ## check the monitor's setup: [CONFIG=FILE]
	$(S3SYNC) check $(CONFIG_ARGS)

monitor: $(VENV)/.installed  ## one scan, as cron makes it: CONFIG=FILE
	$(NEEDS_CONFIG)
	@scripts/monitor.sh '$(CONFIG)' $(ARGS)

dry-run: $(VENV)/.installed  ## what a scan would upload, and why: CONFIG=FILE
	$(NEEDS_CONFIG)
	@scripts/monitor.sh '$(CONFIG)' --dry-run $(ARGS)

status: $(VENV)/.installed  ## all runs with state and reason: [CONFIG=FILE] [ARGS=RUN]
	$(S3SYNC) status $(CONFIG_ARGS)

report: $(VENV)/.installed  ## write the dashboard: OUTPUT=DIR [CONFIG=FILE]
	$(NEEDS_OUTPUT)
	$(S3SYNC) report --output '$(OUTPUT)' $(CONFIG_ARGS)

cleanup: $(VENV)/.installed  ## runs that may be deleted: [CONFIG=FILE] [ARGS=--delete]
	$(S3SYNC) cleanup $(CONFIG_ARGS)

install-cron: $(VENV)/.installed  ## monitor into your crontab: CONFIG=FILE [SCHEDULE=]
	@$(BIN)/python scripts/install_cron.py install --config '$(CONFIG)' --schedule '$(SCHEDULE)'

uninstall-cron: $(VENV)/.installed  ## remove it from there: [CONFIG=FILE]
	@$(BIN)/python scripts/install_cron.py uninstall --config '$(CONFIG)'

WORKERS ?= auto
PYTEST = $(BIN)/python -m pytest -n $(WORKERS)
NO_EXTRAS = and not real and not sweep

test: $(VENV)/.dev-installed  ## unit tests, and each promise once: three minutes
	$(PYTEST) --dist worksteal -m '(unit or promise) $(NO_EXTRAS)' tests/e2e tests/faults tests/unit $(ARGS)

test-e2e: $(VENV)/.dev-installed  ## all tests of the real program as a process
	$(PYTEST) --dist loadgroup tests/e2e $(ARGS)

test-faults: $(VENV)/.dev-installed  ## whatever can go wrong, stalls, kills
	$(PYTEST) --dist loadgroup tests/faults $(ARGS)

test-contract: $(VENV)/.dev-installed  ## the doubles of the CLI and S3 against real ones
	$(PYTEST) --dist loadgroup tests/contract $(ARGS)

test-docs: $(VENV)/.dev-installed  ## README, docs, installation
	$(PYTEST) --dist loadgroup tests/docs $(ARGS)

test-bench: $(VENV)/.dev-installed  ## the benchmark and the simulated runs
	$(PYTEST) --dist loadgroup tests/bench $(ARGS)

test-real: $(VENV)/.dev-installed  ## with real servers, Slurm, systemd (Debian packages)
	S3SYNC_REQUIRE_REAL=1 $(PYTEST) --dist loadgroup -m real $(ARGS)

test-sweep: $(VENV)/.dev-installed  ## SIGKILL at every write and at random; needs strace
	S3SYNC_REQUIRE_REAL=1 $(PYTEST) --dist loadgroup -m sweep $(ARGS)

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

.PHONY: help install demo upload verify init check monitor dry-run status report cleanup install-cron uninstall-cron test test-e2e test-faults test-contract test-docs test-bench test-real test-sweep bench lint man lock clean
.DEFAULT_GOAL := help
