# The same commands as in the README and in CI. Everything happens in .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run quick test docs notebooks faults simulate mutations bench lint format lock clean

run: $(VENV)/ready  ## set up, then the main job on the embedded default
	$(BIN)/cnnbench $(ARGS)

# Processes share the tests: each begins with its part, and who is done early takes from the other's end.
PYTEST := $(BIN)/python -m pytest -n $(or $(J),auto) --dist worksteal

quick: $(VENV)/ready  ## after each edit: one case of each test, but for those that train or start a process
	$(PYTEST) -q -r fE --quick $(ARGS)

test: $(VENV)/ready  ## set up, then the tests, in as many processes as there are cores (J=2: in two)
	$(PYTEST) $(ARGS)

docs: $(VENV)/ready  ## the documentation, strictly, in site/: open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

notebooks: $(VENV)/ready  ## execute examples/*.ipynb and keep their outputs; a quarter of an hour, needs Fashion-MNIST and CIFAR-10
	$(BIN)/python examples/execute.py $(ARGS)

faults: $(VENV)/ready  ## kill, interrupt and damage runs many times over; half an hour
	CNNBENCH_FAULTS=$(or $(N),50) $(BIN)/python -m pytest tests/training/test_resume.py $(ARGS)
	CNNBENCH_FAULTS=$(or $(N),200) $(BIN)/python -m pytest tests/runs/test_damaged_files.py tests/test_properties.py $(ARGS)

simulate: $(VENV)/ready  ## how often intervals and tests of a comparison are right, by simulation
	CNNBENCH_SIMULATIONS=$(or $(N),1000) $(BIN)/python -m pytest tests/analysis/test_significance.py \
		tests/analysis/test_linear_probe.py tests/analysis/test_learning_curve.py tests/runs/test_intervals.py \
		tests/runs/test_calibration.py tests/runs/test_conformal.py tests/analysis/test_paired.py $(ARGS)

mutations: $(VENV)/ready  ## whether the tests notice 40 changes of the code (benchmarks/mutations.py); an hour
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pytest-cov
	$(PYTEST) -q --cov=cnnbench --cov-branch --cov-context=test --cov-report=
	$(BIN)/python benchmarks/mutations.py --coverage .coverage $(ARGS)

bench: $(VENV)/ready .venv-bench/ready  ## against plain Keras, PyTorch and Lightning, on a GPU where one is; hours (benchmarks/bench.py)
	$(BIN)/python benchmarks/bench.py $(ARGS)

.venv-bench/ready: benchmarks/contenders/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/contenders/requirements.txt
	touch $@

lint: $(VENV)/ready  ## ruff, mypy, who may import whom, and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/hadolint docker/Dockerfile

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

LOCK := .venv-lock/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --quiet

lock:  ## exact versions with hashes, for every platform and without the address of any index; those of containers, too
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv
	$(LOCK) --extra dev --upgrade -o requirements.lock
	echo hatchling | $(LOCK) --no-annotate - -c requirements.lock --upgrade -o docker/cpu.lock
	echo hatchling | $(LOCK) --no-annotate - -c requirements.lock --upgrade --extra cuda -o docker/cuda.lock

clean:
	rm -rf $(VENV) .venv-lock .venv-bench dist build site .pytest_cache .mypy_cache .ruff_cache
