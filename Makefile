# make demo | test | test-long | docs | setup | clean. PYTHON=python3.12 make setup picks another interpreter.
PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -qq
# Processes of `make test`. A thread each: what tests compute is small, and threads that wait for it are dear.
JOBS ?= 2
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: setup demo test test-long docs clean

setup: .venv/stamp
	@:

.venv/stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "voiceflow needs Python 3.11 or newer; $(PYTHON) is not (or is missing). Try: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@echo "set-up: .venv with $$($(PYTHON) --version), then the libraries of constraints.txt (some minutes)"
	@$(PYTHON) -m venv .venv
	@echo "set-up: $(TORCH)"
	@$(PIP) install '$(TORCH)' -c constraints.txt
	@echo "set-up: voiceflow and its libraries"
	@$(PIP) install -e '.[dev]' -c constraints.txt
	@$(PY) -m voiceflow doctor --mend-torchaudio
	@touch $@

# The benchmark's scorers, which the tests alone need; some are compiled.
.venv/scorers: .venv/stamp
	@echo "set-up: the libraries of the benchmark's scorers"
	@$(PIP) install -e '.[dev,eval]' -c constraints.txt || echo "set-up: the extra eval cannot be installed here (no C compiler?): the tests of its scorers are skipped"
	@touch $@

demo: setup
	@.venv/bin/voiceflow demo

test: setup .venv/scorers
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m "not long" -n $(JOBS) --dist loadfile

# pytest's 5 says that no test was collected, which is no failure here.
test-long: setup .venv/scorers
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m long || [ $$? -eq 5 ]

docs: setup
	@$(PY) -m mkdocs build --strict --quiet && echo "docs: site/index.html"

clean:
	rm -rf .venv demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
