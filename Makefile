# make demo   distill ten digits, evaluate them on two networks, and write a page of it
# make test   the tests
# make quick  those that train and serve nothing, while editing
# make bounds the oldest and the newest releases of datasets, huggingface-hub and timm (needs a package index)
# make gpu    the script of measurements for a GPU, all its stages in small on a CPU
# make check  what CI runs before the tests: format, lint, types, wheel
# make docs   the documentation, in docs/_build; warnings are errors
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO := distilled/digits_ipc1_dm

.PHONY: demo test quick bounds gpu check lint types wheel docs clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/ddhub distill digits_ipc1_dm --out $(DEMO)
	$(BIN)/ddhub evaluate $(DEMO) --archs convnet2_w32,alexnet_in_w32 --workers 2
	$(BIN)/ddhub report $(DEMO) --html $(DEMO).html

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

quick: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not sweep"

bounds: $(VENV)/.installed
	$(BIN)/python tests/bounds.py oldest
	$(BIN)/python tests/bounds.py newest

gpu: $(VENV)/.installed
	$(BIN)/python benchmarks/gpu.py --tiny --minutes 30 --out distilled/gpu_tiny

check: lint types wheel

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed
	$(BIN)/mypy

wheel: $(VENV)/.installed
	$(BIN)/python -m build --wheel --outdir dist
	$(BIN)/python tests/check_wheel.py dist

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) dist docs/_build distilled .pytest_cache .mypy_cache .ruff_cache
