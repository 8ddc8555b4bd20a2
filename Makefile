PYTHON ?= python3
# LATEST=1 takes the newest versions that pyproject.toml allows instead of the locked ones.
VENV := $(if $(LATEST),.venv-latest,.venv)
BIN := $(VENV)/bin
LOCK := requirements.lock
# Habitat-Lab pins versions that are older than ours, and does not install on Python 3.13.
HABITAT_PYTHON ?= python3.11
HABITAT_VENV := .venv-habitat
HABITAT_BIN := $(HABITAT_VENV)/bin
RUN ?= runs/demo
SMOKE_RUN ?= runs/smoke
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
PIP_INSTALL = pip install --quiet --disable-pip-version-check
resume = $(if $(wildcard $(1)/config.yaml),resume=true)

.PHONY: demo smoke test test-all test-shared test-fuzz test-kill test-wheel test-habitat lint bench gpu-check docs lock tutorials clean

$(VENV)/installed: pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
ifdef LATEST
	$(BIN)/$(PIP_INSTALL) --upgrade --editable ".[dev]"
else
	$(BIN)/$(PIP_INSTALL) --require-hashes --requirement $(LOCK)
	$(BIN)/$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
endif
	touch $@

$(HABITAT_VENV)/installed: pyproject.toml
	$(HABITAT_PYTHON) -m venv $(HABITAT_VENV)
	$(HABITAT_BIN)/$(PIP_INSTALL) --editable ".[habitat]" pytest pytest-xdist
	touch $@

# Apartments to learn in look as differently as they can, so that the agent also finds its way in places of another make.
DEMO = env=apartments env.appearance=wide
# Four points of a learning curve on 8 held-out episodes, for the report; it decides nothing.
CURVE = validation.episodes=8 validation.every=50
# Train a seeing and a blind agent the same way, evaluate both in apartments that neither has seen, write the report.
demo: $(VENV)/installed
	$(BIN)/python -m agents.train algo=dagger algo.updates=10000 adapt=features base=normal $(DEMO) $(CURVE) \
		run=$(RUN) $(call resume,$(RUN))
	$(BIN)/python -m agents.train algo=dagger algo.updates=10000 blind=true $(DEMO) run=$(RUN)/blind \
		$(call resume,$(RUN)/blind)
	$(BIN)/python -m agents.evaluate run=$(RUN) blind=$(RUN)/blind env.split=val

# The steps of `make demo` in about a minute, up to two the first time, while kernels are compiled, at budgets too small
# to learn much: does everything work here?
SMOKE = $(DEMO) env.agents=16 env.splits.train.scenes=4 env.splits.val.scenes=2 algo=dagger algo.updates=100 \
	algo.warmup_frames=512 algo.buffer_frames=8192 env.task.max_steps=80
smoke: $(VENV)/installed
	rm -rf $(SMOKE_RUN)
	$(BIN)/python -m agents.train $(SMOKE) adapt=features base=normal validation.episodes=2 validation.every=1 \
		run=$(SMOKE_RUN)
	$(BIN)/python -m agents.train $(SMOKE) blind=true run=$(SMOKE_RUN)/blind
	$(BIN)/python -m agents.evaluate run=$(SMOKE_RUN) blind=$(SMOKE_RUN)/blind env.split=val

test: $(VENV)/installed
	$(PYTEST) -m "not slow and not gpu and not habitat"

test-all: $(VENV)/installed
	$(PYTEST) -m "not habitat"

# Besides what the tests make themselves: real data and released weights in ../shared or SIDESTEP_SHARED=<folder>.
test-shared: $(VENV)/installed
	$(PYTEST) -m "shared and not habitat"

# 10,000 mutated inputs of every kind, read as commands read them; FUZZ_INPUTS=500 FUZZ_SEED=7 for others.
test-fuzz: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -m fuzz -s tests/test_fuzz.py

# kill -9 at 200 random moments, and the documented command again after each; KILLS=50 KILL_SEED=7 for others.
test-kill: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -m kill -s tests/test_kill.py

# The wheel in an environment of its own: its files are all there, and every documented command prints its help.
test-wheel: $(VENV)/installed
	$(BIN)/python -m pytest tests/test_wheel.py

# Habitat-Lab on the embedded simulator; habitat-sim is not needed.
test-habitat: $(HABITAT_VENV)/installed
	OMP_NUM_THREADS=1 $(HABITAT_BIN)/python -m pytest -n 2 --dist loadfile tests/test_habitat_*.py

lint: $(VENV)/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python -m agents.bench

# Where there is a CUDA device: tests of the CUDA code, both benchmarks and a profile, in under 8 minutes, into build/gpu.
gpu-check: $(VENV)/installed
	$(BIN)/$(PIP_INSTALL) "warp-lang>=1.8"
	PYTHON=$(BIN)/python .ci/gpu_check

DOCS_TOOLS = "mkdocs-material>=9.5" "mkdocstrings[python]>=0.26" "mkdocs-jupyter>=0.25" "nbclient>=0.10" "ipykernel>=6.29"
# The documentation as a site in build/site; a broken link is an error.
docs: $(VENV)/installed
	$(BIN)/$(PIP_INSTALL) $(DOCS_TOOLS)
	$(BIN)/mkdocs build --strict --site-dir build/site

# Run the tutorials and write down what they print; `make docs` shows it.
tutorials: $(VENV)/installed
	$(BIN)/$(PIP_INSTALL) $(DOCS_TOOLS)
	$(BIN)/python -m tests.tools.tutorials

# Lock the whole environment again, for Python 3.10 to 3.13, with the hash of every file that may be installed.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/$(PIP_INSTALL) "uv>=0.5"
	.venv-lock/bin/uv pip compile --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
		--quiet --upgrade --extra dev --constraint .ci/lock-constraints.txt --output-file $(LOCK) pyproject.toml

clean:
	rm -rf .venv .venv-latest .venv-lock $(HABITAT_VENV) build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
