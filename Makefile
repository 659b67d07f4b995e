# `make run` and `make test` are all that a person needs; `make` is check and test, what CI runs.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
RUN_STAMP := $(VENV)/.run-installed
DEV_STAMP := $(VENV)/.dev-installed
BENCH_STAMP := $(VENV)/.bench-installed
PINE_STAMP := $(VENV)/.pinets-installed
BROWSER_STAMP := $(VENV)/.browser-installed
ARGS ?=
WORKERS ?= 2

# Every file that is installed must have a hash of its lock. uv is used when it is there: the same files, in a few seconds.
install = if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(PY) --require-hashes -r $(1); \
	else $(PY) -m pip install -q --disable-pip-version-check --no-compile --require-hashes -r $(1); fi

.PHONY: all setup run fast test check bench nightly coverage clean browser pictures findings locks
all: check test

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is %s; set PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.lock | $(PY)
	@echo "installing the locked packages (about a minute, once)"
	@$(call install,requirements.lock)
	@touch $@

$(DEV_STAMP): requirements-dev.lock $(RUN_STAMP)
	@$(call install,requirements-dev.lock)
	@touch $@

setup: $(RUN_STAMP)

# 130 is Ctrl-C, the usual end and no error.
run: $(RUN_STAMP)
	@trap : INT; $(PY) -m bot run $(ARGS) || { code=$$?; [ $$code -eq 130 ] || exit $$code; }

# The same bot with its engine compiled by mypyc into build/fast/, for research: make fast ARGS="backtest --klines data/klines".
fast: $(DEV_STAMP)
	@$(PY) -m tools.fast $(ARGS)

# PineTS runs our Pine script in tests (AGPL-3.0: a tool beside the project, never shipped); without npm that test is skipped.
$(PINE_STAMP): | $(PY)
	@if ! command -v npm >/dev/null 2>&1; then echo "npm is not installed: the test of the Pine script is skipped"; \
	elif npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/pinets pinets@0.9.34 >/dev/null 2>&1; then touch $@; \
	else echo "pinets could not be installed: the test of the Pine script is skipped"; fi

# The browser of the page's tests: Debian's own packages, installed where that may be done (root and apt-get). Without them
# those tests are skipped with the reason, and fail when CI=true.
$(BROWSER_STAMP): | $(PY)
	@if command -v chromedriver >/dev/null 2>&1 && command -v chromium >/dev/null 2>&1; then touch $@; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then echo "installing chromium for the page's tests (once)"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null && touch $@ \
		|| echo "chromium could not be installed: the page's tests cannot run"; \
	else echo "chromium and chromium-driver are missing and this is not root with apt-get: the page's tests cannot run"; fi

browser: $(BROWSER_STAMP)

# The pictures of the README, taken from a replay of the synthetic market.
pictures: $(DEV_STAMP) $(BROWSER_STAMP)
	$(PY) -m tests.pictures

# Two workers, a file at a time: what a module prepares once is not prepared twice. WORKERS=0 runs everything in one process.
test: $(DEV_STAMP) $(PINE_STAMP) $(BROWSER_STAMP)
	$(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: $(DEV_STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# What is measured beside us; nothing of ours needs it.
$(BENCH_STAMP): requirements-bench.lock $(DEV_STAMP)
	@$(call install,requirements-bench.lock)
	@touch $@

bench: $(BENCH_STAMP)
	$(PY) -m bench $(ARGS)

# The locks anew from pyproject.toml, with hashes; pins stay unless ARGS="--upgrade" or ARGS="--upgrade-package NAME".
locks: | $(PY)
	$(PY) -m tools.locks $(ARGS)

# Every number of docs/findings.md, measured anew on the klines beside the project (about ten minutes on two cores).
findings: $(RUN_STAMP)
	$(PY) -m tools.findings --klines ../shared/klines $(ARGS)

# The long tests, 5,000 examples a property, and the kernels as plain Python with every line counted (about two hours on two cores).
nightly: $(DEV_STAMP)
	$(PY) -m pytest -m nightly --timeout 14400 $(ARGS)
	HYPOTHESIS_PROFILE=nightly $(PY) -m pytest -m "hypothesis and not nightly" -n 2 --timeout 14400 $(ARGS)
	$(MAKE) coverage

# Coverage cannot look into compiled kernels; without jit it can, at a thousandth of the speed.
coverage: $(DEV_STAMP)
	HYPOTHESIS_PROFILE=coverage NUMBA_DISABLE_JIT=1 $(PY) -m pytest -m "hypothesis or not reference" -n 2 --timeout 3600 \
	    --cov=bot.indicators --cov=bot.structure --cov-report=term --cov-fail-under=95 \
	    tests/test_smc.py tests/test_supertrend_ai.py tests/test_pac.py tests/test_oscillator.py tests/test_overlays.py tests/test_classifier.py

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find bot tests bench tools -name __pycache__ -type d -exec rm -rf {} +
