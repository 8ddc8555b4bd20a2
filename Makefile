PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Habitat-Lab pins versions that are older than ours, and does not install on Python 3.13.
HABITAT_PYTHON ?= python3.11
HABITAT_VENV := .venv-habitat
HABITAT_BIN := $(HABITAT_VENV)/bin
RUN ?= runs/demo
resume = $(if $(wildcard $(1)/config.yaml),resume=true)

.PHONY: demo test test-all test-shared test-habitat lint bench clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

$(HABITAT_VENV)/installed: pyproject.toml
	$(HABITAT_PYTHON) -m venv $(HABITAT_VENV)
	$(HABITAT_BIN)/pip install --quiet --disable-pip-version-check --editable ".[habitat]" pytest pytest-xdist
	touch $@

# Train a seeing and a blind agent the same way, judge both in apartments that neither has seen, write the report.
demo: $(VENV)/installed
	$(BIN)/python -m agents.train algo=dagger adapt=side_tuning base=curvature env=apartments run=$(RUN) $(call resume,$(RUN))
	$(BIN)/python -m agents.train algo=dagger blind=true env=apartments run=$(RUN)/blind $(call resume,$(RUN)/blind)
	$(BIN)/python -m agents.evaluate run=$(RUN) blind=$(RUN)/blind env.split=val

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu and not habitat"

test-all: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not habitat"

# Besides what the tests make themselves: real data and released weights in ../shared or SIDESTEP_SHARED=<folder>.
test-shared: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "shared and not habitat"

# Habitat-Lab on the embedded simulator; habitat-sim is not needed.
test-habitat: $(HABITAT_VENV)/installed
	OMP_NUM_THREADS=1 $(HABITAT_BIN)/python -m pytest -n 2 --dist loadfile tests/test_habitat_*.py

lint: $(VENV)/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python -m agents.bench

# Numba does not notice a change in a kernel that another file calls: `make clean` drops what it compiled.

clean:
	rm -rf $(VENV) $(HABITAT_VENV) build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
