# `make demo` trains on the digits, prints the table and writes a report; `make test` runs all checks.
# Both set up .venv first: Python 3.11 or later is all that a machine needs.
# `make test-oldest` runs the tests with the oldest torch and torchvision that pyproject.toml allows, in
# .venv-oldest; `make test-wheel` installs the wheel where nothing else is, and trains with it.
# `make docs` builds the site of docs/ into build/docs; warnings are errors.
# `make notebook` runs docs/notebook.ipynb, in about seven minutes.
# `make study` trains the 32 runs of the second study's first question, in about an hour on two cores
# with AVX-512.
# `make gpu` runs all that is to be shown on a GPU, into the folder OUT.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
OUT ?= runs/gpu
OLDEST = $(shell sed -nE 's/^ +"(torch|torchvision)>=([0-9.]+),.*/\1==\2.0/p' pyproject.toml)
PYTEST := -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
TESTS ?= tests

.PHONY: demo test docs notebook test-oldest test-wheel study bench gpu clean

demo: $(INSTALLED)
	$(BIN)/python tools/train.py --config configs/digits.yaml --output runs/demo --overwrite
	$(BIN)/python tools/report.py runs/demo --output runs/demo/report.html

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python $(PYTEST)

notebook: $(INSTALLED)
	$(BIN)/jupyter execute docs/notebook.ipynb

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python $(PYTEST) $(TESTS)

test-wheel:
	PYTHON=$(PYTHON) tests/wheel.sh

docs: $(INSTALLED)
	$(BIN)/sphinx-build -q --fail-on-warning --keep-going -d build/doctrees docs build/docs
	@echo build/docs/index.html

study: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python tools/compare.py --config configs/digits_rcnn.yaml --jobs 2 \
	    --vary data.digits.seed=1..8 --seeds 2 --train.seed 100 --data.digits.val 1000 \
	    --data.root data/clean --train.lr 0.001 --train.weight_decay 0.05 \
	    --set "plain: center=null" --set "center: center.weight=3" --output runs/second/clean

bench: $(INSTALLED)
	$(BIN)/python benchmarks/post_processing.py
	$(BIN)/python benchmarks/around_the_model.py
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/loop.py --config configs/digits.yaml
	$(BIN)/python benchmarks/rank_hard.py
	$(BIN)/python benchmarks/checking.py
	$(BIN)/python benchmarks/data_loading.py --config configs/digits.yaml

# With the Python that there is, and no environment made: make gpu BIN=$(dirname $(which python)) INSTALLED=
gpu: $(INSTALLED)
	$(BIN)/python benchmarks/gpu.py --output $(OUT)

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

.venv-oldest/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet $(OLDEST) --editable ".[test]"
	touch $@

clean:
	rm -rf .venv .venv-oldest
