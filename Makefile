# `make demo` and `make test` do all the set-up: they need Python 3.11 or newer, make and git.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test types tests slow format clean

demo: .venv/installed
	$(BIN)/agentcanary demo

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory --jobs=2 types tests

# Part of test, side by side: types take one core for a minute.
types:
	$(BIN)/mypy

tests:
	$(BIN)/pytest --numprocesses 2 --dist worksteal

slow: .venv/installed
	$(BIN)/pytest -m slow

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'agentcanary needs Python 3.11 or newer, this is ' + sys.version)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --group dev --editable .
	touch $@
