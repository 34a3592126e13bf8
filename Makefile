# Everything a fresh machine with Python 3.11-3.13 and make needs. Set-up is cached in .venv and .cache (both untracked).
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
CORES := $(shell nproc 2>/dev/null || echo 2)
# Processes of the tests: one more than cores, four at most, because tests wait for half of their time (keepalives, sessions, kills); none of
# its own (0) where ARGS names files, so that -x, -s and --pdb work.
JOBS ?= $(if $(findstring .py,$(ARGS)),0,$(shell echo $$(($(CORES) < 4 ? $(CORES) + 1 : 4))))
# Compiles the kernels, a minute of a core in a fresh clone and half a second from then on; a second one waits for the first.
WARM := flock $(VENV)/.warming $(BIN)/python -m processors.warm

.PHONY: demo up-local test check bench nightly clean setup setup-dev ahead
.DEFAULT_GOAL := help

help:
	@echo "make demo     set up, then a virtual gym and a ride, ranked live (ARGS=\"--seconds 30 --json out.json\")"
	@echo "make up-local the services of docker-compose.yml as processes, beside a real Kafka and InfluxDB (ARGS=--demo)"
	@echo "make test     set up, then all tests against the real servers they need (ARGS=tests/unit/test_site.py for one file, JOBS=1)"
	@echo "make check    lint, types, import arrows"
	@echo "make bench    the benchmarks, quick (ARGS=\"spool --json f.json\" for one)"
	@echo "make nightly  the full figures, written to docs/figures/"

$(VENV)/.base:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "Paceline needs Python 3.11-3.13 ($(PYTHON) is not): make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { echo "could not make a virtual environment: on Debian, apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.demo: $(VENV)/.base pyproject.toml
	@echo "installing the gateway, the processors and the compiled kernels"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e ".[gateway,processors,fast]"
	@touch $@

# pip takes a core, so the other one compiles the kernels meanwhile, and the modules afterwards, which pip would do one by one.
$(VENV)/.dev: $(VENV)/.demo pyproject.toml
	@echo "installing the test and check tools"
	@$(WARM) >/dev/null 2>&1 & $(BIN)/pip install --quiet --no-compile --disable-pip-version-check -e ".[gateway,processors,fast,scale,dev]"
	@nice $(BIN)/python -m compileall -q $(VENV)/lib >/dev/null 2>&1 &
	@touch $@

setup: $(VENV)/.demo
setup-dev: $(VENV)/.dev

demo: setup
	@$(BIN)/paceline demo $(ARGS)

up-local: setup-dev
	@$(BIN)/python -m deploy.up_local $(ARGS)

# What tests need of other programs is fetched and built once, beside the checks and the first tests: InfluxDB takes Go two minutes of a core.
# Tests that need it come last, and wait for it.
ahead: setup-dev
	@( test -n "$(findstring .py,$(ARGS))" || nice $(BIN)/python -m tests.made_ahead ) >/dev/null 2>&1 &

# A file stays in one process, for its servers; slow files (system) come first. Tests start hundreds of processes: modules are compiled once.
test: export PYTHONDONTWRITEBYTECODE =
test: setup-dev ahead
	@$(WARM)
	@$(BIN)/python -m pytest -m "not nightly" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup-dev $(if $(filter test,$(MAKECMDGOALS)),ahead)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

bench: setup-dev
	@$(BIN)/paceline bench $(if $(ARGS),$(ARGS),all --quick)

# Plan on an hour and a half: 500 kills, millions of mutants, whole recordings. Writes docs/figures/nightly.txt and bench.json.
nightly: SHELL := /bin/bash -o pipefail
nightly: setup-dev
	@$(BIN)/python -m pytest -m nightly --no-header -q -rfEp --durations=0 $(ARGS) | tee docs/figures/nightly.txt
	@$(BIN)/paceline bench all --json docs/figures/bench.json

clean:
	rm -rf $(VENV) .cache build *.egg-info
