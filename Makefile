# Every target sets up all it needs by itself: a virtual environment, the compiled extensions, the dependencies.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard cython_ext/*.px? cython_ext/core/*)
# More than there are processors: many tests wait for other programs most of the time.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(2 * os.cpu_count())")
# In the order of the folders, so that the long files of tests/integration do not come last.
# Threads that wait must not spin while the tests of other processes want the processor; BLAS spins whatever the policy.
PYTEST := OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all install-all sanitize debug bench docs package lint clean

demo: $(VENV)/demo.stamp
	rm -rf runs/demo
	$(BIN)/mlpot learn inputs/demo.toml

# Every promise, each by its quickest tests, within six minutes on two free processors; the rules of the house (tests/test_layers.py)
# are among them. What is marked `slow` is left to `make test-all`, and so are the fuzzers: kill campaigns, matrices of i-PI inputs,
# Slurm, Quantum ESPRESSO, whole learning runs.
test: $(VENV)/test.stamp
	$(PYTEST) -m "not slow" --durations=10 --ignore=tests/fuzz

# Everything there is, as continuous integration runs it; the fuzzers run under the sanitizers.
test-all: $(VENV)/test-all.stamp
	$(PYTEST) --durations=30 --ignore=tests/fuzz
	$(MAKE) sanitize

# What every other target needs, so that the extensions are built once.
install-all: $(VENV)/test-all.stamp

# Kernels, properties, contract and fuzzers under AddressSanitizer and UBSan, and a quick set compiled by clang where it is installed.
sanitize: $(VENV)/test-all.stamp
	.ci/sanitize $(BIN)/python gcc -n $(WORKERS) --dist load
	if command -v clang >/dev/null; then .ci/sanitize $(BIN)/python clang -n $(WORKERS) --dist load; fi

# Kernels and contract with extensions that check every index.
debug: $(VENV)/test-all.stamp
	.ci/sanitize $(BIN)/python debug -n $(WORKERS) --dist load

bench: $(VENV)/bench.stamp
	OMP_NUM_THREADS=1 $(BIN)/mlpot bench --peers

# The site, without a warning; build/site/index.html is its first page.
docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# sdist and wheel, and a first learning run of the wheel in a clean environment.
package:
	.ci/package $(PYTHON)

lint: $(VENV)/lint.stamp
	$(BIN)/ruff check mlpot tests examples benchmarks setup.py inputs docs packaging
	$(BIN)/mypy

clean:
	rm -rf build mlpot.egg-info mlpot/_ext/*.so mlpot/_ext/*.a cython_ext/*.c $(VENV)

$(VENV)/pip.stamp:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/demo.stamp: $(SOURCES) | $(VENV)/pip.stamp
	$(BIN)/python -m pip install --quiet --editable ".[xtb]"
	touch $@

$(VENV)/test.stamp: $(SOURCES) | $(VENV)/pip.stamp
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/test-all.stamp: $(SOURCES) | $(VENV)/pip.stamp
	$(BIN)/python -m pip install --quiet --editable ".[test-all]"
	touch $@ $(VENV)/test.stamp $(VENV)/lint.stamp

$(VENV)/bench.stamp: $(SOURCES) | $(VENV)/pip.stamp
	$(BIN)/python -m pip install --quiet --editable ".[peers]"
	touch $@

$(VENV)/docs.stamp: $(SOURCES) | $(VENV)/pip.stamp
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

$(VENV)/lint.stamp: $(SOURCES) | $(VENV)/pip.stamp
	$(BIN)/python -m pip install --quiet --editable ".[lint]"
	touch $@
