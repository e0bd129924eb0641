# SPDX-License-Identifier: GPL-3.0-or-later
# make demo, make test; make help lists the rest.
SHELL := /bin/sh
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Ansible refuses a locale that is not UTF-8, which a bare machine has.
export LC_ALL ?= C.UTF-8

# Tests run in as many processes as there are processors.
PYTEST := -m pytest -q -n auto
INTEGRATION := --dist worksteal tests/integration

.PHONY: help demo demo-no-go demo-fleet new-phase watch demo-clean setup check test generate lint unit browser integration molecule coverage mutants crashpoints bench bench-sizes lock collection changelog

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: .venv/.use ## Dry run, then the real run, on an embedded PostgreSQL (SESSIONS=1682827 for full size)
	@scripts/demo

demo-no-go: .venv/.use ## The same with the reference finding's indexes only: NO-GO, and the index that helps
	@scripts/demo --no-go

demo-fleet: .venv/.use ## Both on eight databases: planned everywhere, approved once, canary host first
	@scripts/demo --fleet

new-phase: override export TABLE := $(value TABLE)
new-phase: override export SOURCE := $(value SOURCE)
new-phase: override export MODELS := $(value MODELS)
new-phase: override export NAME := $(value NAME)
new-phase: override export FOLDER := $(value FOLDER)
new-phase: override export I := $(value I)
new-phase: .venv/.use ## Write a phase file for another table, then its dry run: TABLE=… SOURCE=…
	@scripts/new-phase

watch: .venv/.use ## How the newest run of each host stands, live: make watch I=inventories/production
	@ansible-playbook $(if $(I),-i $(I)) playbooks/watch.yml

demo-clean: .venv/.use ## Stop the demos' servers and delete their data
	@python -m demo.server destroy
	@python -m demo.server destroy --data-dir .demo/no-go/pgdata
	@python -m demo.fleet destroy

setup: .venv/.dev ## Install what tests and development need into .venv

check: lint unit .venv/.dev ## For the loop while you edit: lint, unit tests, and an integration test of each kind
	python $(PYTEST) -m representative -k "not pg16" tests/integration

test: lint unit browser integration molecule ## Everything that has to pass

generate: .venv/.dev ## Write what follows from the declarations of options: documentation and tables
	scripts/generate
	scripts/draw-way

lint: .venv/.dev ## ruff, mypy, import-linter and ansible-lint
	ruff check .
	ruff format --check .
	scripts/generate --check
	scripts/draw-way --check
	mypy
	PYTHONPATH=module_utils lint-imports --no-logo --no-cache
	ansible-lint --offline

unit: .venv/.dev ## Tests that need no database
	python $(PYTEST) tests/unit

browser: .venv/.dev ## The reports in Chromium: axe-core, html-validate, screens of two widths, paper
	python -m pytest -q tests/browser

integration: .venv/.dev ## Tests on embedded PostgreSQL 16 and 18
	python $(PYTEST) --durations 10 $(INTEGRATION)

molecule: .venv/.dev ## The runbook against PostgreSQL 17 in a container; see molecule/README.md
	@scripts/molecule

coverage: .venv/.dev ## Lines and branches that the unit and integration tests run, subprocesses included
	coverage erase
	coverage run $(PYTEST) tests/unit
	coverage run $(PYTEST) $(INTEGRATION)
	coverage combine -q
	coverage report

mutants: .venv/.dev ## Break the program in more than 200 places, one at a time: a test has to notice each
	@python -m tests.mutants

crashpoints: .venv/.dev ## Cut a small run's connections behind each message, one at a time: all has to end as without
	@python -m tests.crashpoints
	@python -m tests.crashpoints --patient
	ALL_POINTS=1 python -m pytest -q tests/integration/test_failover.py

bench: .venv/.dev ## Compare the backfill with other ways, SESSIONS=1682827 rows; see docs/benchmark.md
	python -m benchmarks.run

bench-sizes: .venv/.dev ## Measure dry run, backfill, validation and rollback by size, SIZES=100000,…,16000000 rows
	python -m benchmarks.run sizes

collection: .venv/.use ## Build the collection pgrunbook.pgrunbook, build/*.tar.gz
	@scripts/collection

changelog: .venv/.dev ## Put the fragments of changelogs/ into CHANGELOG.rst, under the version that is next
	antsibull-changelog release --update-existing \
	    --version $$(sed -n 's/^VERSION = "\(.*\)"/\1/p' module_utils/pgrunbook/core/version.py)

lock: .venv/.dev ## Renew the locked requirements from pyproject.toml
	uv pip compile --quiet --universal --generate-hashes --upgrade \
	    --custom-compile-command "make lock" --extra use pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --generate-hashes --upgrade \
	    --custom-compile-command "make lock" -c requirements.txt pyproject.toml -o requirements-core.txt
	uv pip compile --quiet --universal --generate-hashes --upgrade --extra dev \
	    --custom-compile-command "make lock" -c requirements.txt pyproject.toml -o requirements-dev.txt

.venv/.use: requirements.txt scripts/make-venv
	@scripts/make-venv requirements.txt
	@touch $@

.venv/.dev: requirements-dev.txt scripts/make-venv
	@scripts/make-venv requirements-dev.txt
	@touch $@ .venv/.use
