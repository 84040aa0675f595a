# Everything a person does here, as one word each. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_INSTALLED := $(VENV)/.installed-demo
TEST_INSTALLED := $(VENV)/.installed-test
COMPONENTS := collectors exporters instrumentation processors

.PHONY: help demo test attack crash lint format docs kafka bench clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(DEMO_INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[screening]' || \
		echo 'Without screening, which the demonstration leaves out: PyICU needs g++, pkg-config and the headers of ICU (libicu-dev).'
	@touch $@

$(TEST_INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[screening]' || \
		echo 'Without screening, whose tests are skipped: PyICU needs g++, pkg-config and the headers of ICU (libicu-dev).'
	@touch $@ $(DEMO_INSTALLED)

demo: $(DEMO_INSTALLED)  ## the whole way on this machine: call, kill, flag, export, verify, tamper, verify
	$(BIN)/python -m examples.demo

# A file stays with one worker, for what its tests share; the longest files come first (tests/conftest.py).
test: $(TEST_INSTALLED)  ## the test suite, on all cores
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

attack: $(TEST_INSTALLED)  ## the attack matrix in its long form: 1,000 honest packages of random shape, attacked at random places
	$(BIN)/python tests/attack

crash: $(TEST_INSTALLED)  ## the crash matrix in its long form: 210 kills on real Kafka (needs Java and Maven; about an hour)
	$(BIN)/python tests/crash

lint: $(TEST_INSTALLED) build/typecheck  ## ruff, mypy strict, generated pages up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=build/typecheck $(BIN)/mypy --explicit-package-bases -p auditspan
	$(BIN)/python -m tools.generate_docs --check

# mypy follows folders, not the package map of pyproject.toml: show it the package as it installs.
build/typecheck: pyproject.toml FORCE
	@mkdir -p $@/auditspan
	@for part in auditspan/*; do ln -sfn ../../../$$part $@/auditspan/$$(basename $$part); done
	@for part in $(COMPONENTS); do ln -sfn ../../../$$part $@/auditspan/$$part; done
.PHONY: FORCE
FORCE:

format: $(TEST_INSTALLED)  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

kafka: $(TEST_INSTALLED)  ## a Kafka broker on a free port, until Ctrl-C (needs Java and Maven)
	$(BIN)/python tests/kafka/broker.py

docs: $(TEST_INSTALLED)  ## write the generated pages anew
	$(BIN)/python -m tools.generate_docs

bench: $(TEST_INSTALLED)  ## the figures of docs/benchmarks.md (BENCH=--write puts them there); fails below 70 % of a target
	$(BIN)/python -m benchmarks.run $(BENCH)

clean:  ## forget what was built and installed here
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demo-data
