# `make demo` and `make test` do all their own set-up, in .venv. PYTHON=python3.12 chooses another interpreter (3.11 or 3.12).
PYTHON ?= python3
BIN := .venv/bin
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo 'innerloop needs Python 3.11 or 3.12; name one: make PYTHON=python3.12'; exit 1; }

.PHONY: demo test test-slow test-slurm check benchmark reproduce docs install install-light requirements clean

demo: install
	$(BIN)/python scripts/demo.py

test: install check
	$(BIN)/python -m pytest -n 2

# the demo, the longer notebooks, and what takes half a minute or more and has a quicker test beside it
test-slow: install
	$(BIN)/python -m pytest -n 2 -m slow

# a Slurm cluster of one node, started for the tests; as root on Debian or Ubuntu
test-slurm: install
	scripts/slurm.sh up
	SLURM_CONF=/var/lib/innerloop-slurm/slurm.conf $(BIN)/python -m pytest tests/sweeps/test_slurm.py; code=$$?; scripts/slurm.sh down; exit $$code

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# on a quiet machine; 35 minutes. ARGS=--quick for the short one
benchmark: install
	$(BIN)/python scripts/benchmark.py $(ARGS)

# a cell of the ledger: make reproduce cell=cavia_sine_5 ARGS="--seeds 3,4"
reproduce: install
	$(BIN)/python scripts/reproduce.py $(cell) $(ARGS)

# docs/settings.md, from the comments in conf/ and config.py; docs/ledger.md and README's table, from ledger/
docs: install
	$(BIN)/python scripts/settings.py
	$(BIN)/python scripts/ledger.py

install: .venv/installed

# uv, because it can pass learn2learn's build setting on and replace its outdated requirements (pyproject.toml, [tool.uv])
.venv/installed: requirements.txt pyproject.toml
	@$(CHECK_PYTHON)
	@echo 'Setting up .venv: about 6 GB with PyTorch and Ray, learn2learn is compiled; minutes the first time'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt --editable .
	@touch $@

# what trains and scores, without launchers, Optuna, learn2learn, transformers and the tests' own: less than half of the packages
install-light: .venv/installed-light

.venv/installed-light: requirements.txt pyproject.toml
	@$(CHECK_PYTHON)
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints requirements.txt --editable .
	@touch $@

# new pins of everything, for all platforms
requirements: install
	$(BIN)/uv pip compile --quiet --upgrade --all-extras --universal --no-emit-index-url --no-header pyproject.toml -o requirements.txt

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
