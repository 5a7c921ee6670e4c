# make book: install, train, execute the notebooks, build the HTML book.   make test: install, then every check.
# Other targets: make help. Variables: PYTHON=python3.12, PROFILE=smoke, PIP_ARGS="--extra-index-url ...".

PYTHON ?= python3
PROFILE ?= small
PIP_ARGS ?=
VENV := .venv
# Relative, as targets are: make cannot read a space in a path, and the checkout may lie under one.
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STAGE := scripts/stage
INDEX := _build/html/index.html
NOTEBOOKS = $(sort $(wildcard book/*.ipynb))

# Where finished runs live: `dipa run` and the notebooks look here first and reuse what they find.
export DIPA_RUNS ?= $(CURDIR)/runs
# The kernels of this environment, not those of the user; no banners in stored outputs.
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export PYTHONUNBUFFERED := 1
# Threads that wait sleep instead of spinning: two jobs on two cores would else slow each other many times over.
export OMP_WAIT_POLICY ?= PASSIVE
# Threads: all cores for training and notebooks unless the caller says otherwise. The unit tests fix one thread, because
# the last digits of a trained result depend on their number.
TEST_THREADS ?= 1
# Tests at a time, each with that many threads.
TEST_WORKERS ?= 2
# Of `make gpu`: where everything it makes lies, and how long one call works.
GPU_OUT ?= _gpu
GPU_SECONDS ?= 540

.DEFAULT_GOAL := help
.PHONY: help install book train build pages test pairs verify nbval smoke presets unit faults properties mutants gpu lint format runs sync notebooks clean distclean
# one thing at a time: the stages share the cores and the build folder
.NOTPARALLEL:

help: ## this list
	@echo "dipa: make book builds the book, make test runs every check; each installs what it needs into $(VENV)."
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- environment -----------------------------------------------------------------------------------------------------

install: $(STAMP) ## the virtual environment with the pinned packages and dipa itself

# The lock with hashes describes one platform, and PyPI: elsewhere, and where PIP_ARGS may name another index, versions alone.
ON_LOCKED_PLATFORM := import platform as p, sys; \
	sys.exit(not ((3, 11, 5) <= sys.version_info < (3, 12) and (p.system(), p.machine()) == ("Linux", "x86_64")))

$(STAMP): requirements.txt constraints.txt requirements-locked.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "error: no $(PYTHON) found; install Python 3.10 or newer, or set PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: dipa needs Python 3.10 or newer, $(PYTHON) is $$("$(PYTHON)" -V 2>&1); set PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) cannot create virtual environments; install its venv package (Debian: python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || $(STAGE) "create $(VENV) with $$("$(PYTHON)" -V)" "$(PYTHON)" -m venv $(VENV)
	@if $(if $(PIP_ARGS),false,$(BIN)/python -c '$(ON_LOCKED_PLATFORM)'); \
		then packages="--require-hashes -r requirements-locked.txt"; else packages="-r requirements.txt"; fi; \
	$(STAGE) "install the packages of $${packages##* } (several minutes and GB the first time)" \
		$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-input $(PIP_ARGS) $$packages
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-input $(PIP_ARGS) --no-build-isolation --no-deps -e .
	@touch $@

# --- the book --------------------------------------------------------------------------------------------------------

book: train build ## train the example preconditioner, execute the notebooks, build the book, say where it is
	@echo
	@$(BIN)/python -c 'from pathlib import Path; path = Path("$(INDEX)"); print(f"The book: {path}   (open it in a browser: {path.resolve().as_uri()})")'

train: $(STAMP) ## the run behind the first page: L-DIPA on photographs (a finished run is reused)
	@$(STAGE) "train: L-DIPA for the single-pixel camera, profile $(PROFILE)" $(BIN)/dipa run idea --profile $(PROFILE)

# From nothing: a warm Sphinx build repeats no warnings of pages it does not read again.
build: $(STAMP)
	@rm -rf _build/html _build/.jupyter_cache _build/jupyter_execute _build/.doctrees
	@$(STAGE) "build the book: execute the notebooks, warnings are errors" \
		$(BIN)/jupyter-book build . -W -n --keep-going --quiet

# The same from the outputs that the notebooks are stored with: for where nbval has just executed them and compared.
pages: $(STAMP)
	@rm -rf _build/html _build/.jupyter_cache _build/jupyter_execute _build/.doctrees
	@mkdir -p _build && sed -e 's/^  execute_notebooks: .*/  execute_notebooks: "off"/' -e 's|: book/_extensions|: ../book/_extensions|' _config.yml > _build/stored.yml
	@$(STAGE) "build the book: stored outputs, warnings are errors" \
		$(BIN)/jupyter-book build . --config _build/stored.yml -W -n --keep-going --quiet

# --- checks ----------------------------------------------------------------------------------------------------------

test: pairs verify train nbval smoke pages presets unit ## notebook pairs, recorded runs, stored outputs, papermill run, book from nothing, every preset, unit tests

pairs: $(STAMP)
	@$(STAGE) "notebook pairs" $(BIN)/python scripts/check_pairs.py

verify: $(STAMP) ## every file of the recorded runs is as it was written
	@$(STAGE) "recorded runs, file by file" $(BIN)/dipa verify book/results

# Each notebook alone in an empty folder, with the package of a freshly built wheel, as on Colab.
nbval: $(STAMP)
	@OMP_NUM_THREADS=$(TEST_THREADS) $(STAGE) "every notebook alone, with a fresh wheel; stored outputs (nbval)" \
		$(BIN)/python scripts/alone.py

# From an empty folder with its own run folder, so that nothing of this checkout is reused.
smoke: $(STAMP)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && root="$$PWD" && cd "$$folder" && DIPA_RUNS="$$folder/runs" \
		"$$root/$(STAGE)" "papermill: the training notebook, smoke profile, in another folder" \
		"$$root/$(BIN)/papermill" --no-progress-bar "$$root/book/train.ipynb" "$$folder/train.ipynb" -p method l-dipa -p profile smoke

presets: $(STAMP) ## every preset once in profile smoke (minutes)
	@OMP_NUM_THREADS=$(TEST_THREADS) $(STAGE) "every preset, profile smoke" $(BIN)/python -m pytest tests/test_experiments_presets.py -m presets -q -n $(TEST_WORKERS) --durations=5

unit: $(STAMP)
	@OMP_NUM_THREADS=$(TEST_THREADS) $(STAGE) "unit tests" $(BIN)/python -m pytest tests -q -n $(TEST_WORKERS) --durations=5

faults: $(STAMP) ## kill runs at 30 random moments, start 20 at once, let the disk fail at every write, use two processes (minutes)
	@DIPA_KILLS=30 DIPA_AT_ONCE=20 DIPA_DISK=1 OMP_NUM_THREADS=$(TEST_THREADS) $(STAGE) "faults, long form" $(BIN)/python -m pytest tests/test_faults.py -q -s --durations=3

properties: $(STAMP) ## the property tests, fuzzed calls and command lines, damaged files, twenty times as many (many minutes)
	@OMP_NUM_THREADS=$(TEST_THREADS) $(STAGE) "properties, long form" $(BIN)/python -m pytest tests/test_properties.py tests/test_fuzz.py tests/test_fuzz_files.py -q --hypothesis-profile long

mutants: $(STAMP) ## small changes of the package, one at a time in a copy: the tests must notice 95 % of them (half an hour)
	@$(STAGE) "mutants" $(BIN)/python scripts/mutants.py

# A slice of less than ten minutes; status 3 says that something is left.
gpu: $(STAMP) ## tests, benchmarks and paper-sized runs on a GPU, in slices of nine minutes: again to go on
	@$(BIN)/python scripts/gpu.py --out "$(GPU_OUT)" --seconds $(GPU_SECONDS) || test $$? -eq 3

lint: $(STAMP) ## ruff: rules and format; mypy: types of the package
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy dipa

format: $(STAMP) ## ruff: rewrite
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# --- maintenance -----------------------------------------------------------------------------------------------------

runs: $(STAMP) ## record the committed runs that are missing (hours; needs MNIST, MR slices, faces and the papers' denoiser)
	@$(STAGE) "record the runs of book/results/records.yaml" $(BIN)/python scripts/record.py

sync: $(STAMP) ## bring each notebook and its .py twin together (the newer one wins)
	@$(BIN)/jupytext --sync --quiet $(NOTEBOOKS)

notebooks: $(STAMP) ## execute the committed notebooks again, in place
	@$(BIN)/python scripts/refresh_notebooks.py

clean: ## remove the built book and caches
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info build dist
	find dipa tests scripts book -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the virtual environment
	rm -rf $(VENV)
