# Everything here sets itself up: Python 3.11 or newer, git and make are all it needs.
#   make demo           50 simulated devices, upgraded by a commit, live   (KEEP=1 leaves everything running)
#   make test           the tests                                          (ARGS="-k endpoint" for some)
#   make check          lint, types, layers                                make format: the formatter
#   make bench          the figures that the README quotes

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test check format bench clean

demo: $(VENV)/.runtime
	@$(BIN)/reconciler demo $(if $(KEEP),--keep)

# The core with its branch coverage, which must be 100 %; then the rest, much of which waits for other processes.
CORE  := tests/unit/domain tests/unit/protocol
TESTS := $(BIN)/pytest $(if $(CI),,--leave-out-missing)

test: $(VENV)/.dev
ifdef ARGS
	$(TESTS) -n 2 $(ARGS)
else
	$(TESTS) -n 2 $(CORE) --cov --cov-report=term
	$(TESTS) -n 3 --dist worksteal $(CORE:%=--ignore=%)
endif

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m bench

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }

# Not compiled: most of what is installed is never imported, and the rest is compiled by its first start.
$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (about a minute, once) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (about a minute, once) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	@touch $@ $(VENV)/.runtime

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
