# Two commands on a fresh machine: `make demo` and `make test`. Both need Python 3.11 or newer and nothing else.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
JOBS ?= auto
INSTALLED := .venv/.installed
BENCHED := .venv-bench/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast chaos coverage docs test-wheel test-lowest bench bench-long lint format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## run the problem-solving agent, with a Postgres and an MLflow of its own; SERVE=1 leaves the dashboard open
	@$(BIN)/python examples/demo.py $(if $(SERVE),--serve) $(ARGS)

test: lint ## run every check and every test
	$(BIN)/pytest -n $(JOBS) $(ARGS)

test-fast: $(INSTALLED) ## run the tests that failed last, then the others, up to the first failure
	$(BIN)/pytest -n $(JOBS) --failed-first --exitfirst $(ARGS)

chaos: $(INSTALLED) ## run the fault tests in their long form, 45 minutes with the soak, and print what they measure
	LGSS_CHAOS=1 LGSS_EXAMPLES=2000 $(BIN)/pytest -p no:randomly -rP tests/test_faults*.py tests/test_spool.py::TestSpoolMachine $(ARGS)
	$(BIN)/python tests/chaos/soak.py --minutes 20 --plot docs/images/soak.svg

coverage: $(INSTALLED) ## run every test with branches counted, and show what none of them reaches
	$(BIN)/coverage erase
	$(BIN)/pytest -n $(JOBS) --cov --cov-report= $(ARGS)
	$(BIN)/coverage report

docs: $(INSTALLED) ## build the documentation into build/site, without a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test-wheel: $(INSTALLED) ## run every test against the built wheel, as installed, away from this folder
	sh tests/as_installed.sh wheel $(ARGS)

test-lowest: $(INSTALLED) ## run every test with the oldest libraries that pyproject.toml allows, away from this folder
	sh tests/as_installed.sh lowest $(ARGS)

bench: $(BENCHED) ## measure against everything one could use instead, about ten minutes, and write docs/benchmarks.md
	.venv-bench/bin/python benchmarks $(ARGS)

bench-long: $(BENCHED) ## the same for hours: ten million rows, a hundred thousand runs, and instructions if valgrind is there
	.venv-bench/bin/python benchmarks --long $(ARGS)

lint: $(INSTALLED) ## check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## rewrite the sources in the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what these commands made here
	rm -rf .venv .venv-bench .demo build dist .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(BENCHED): GROUP := bench
$(INSTALLED): GROUP := test
$(INSTALLED) $(BENCHED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Found no Python 3.11 or newer with venv (Debian: apt install python3-venv); set PYTHON=" >&2; exit 1; }
	@echo "Installing into $(@D) (a minute or two) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(@D)/bin/python -m pip install --quiet --editable '.[all]' --group $(GROUP)
	@touch $@
