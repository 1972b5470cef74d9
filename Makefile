# Every command sets up what it needs: a virtual environment in .venv, and the data sets if they lie beside this folder.
PYTHON ?= python3
DATA_SOURCE ?= ../shared/data
BIN := .venv/bin
# Further flags of the scripts, such as --ray or --device cpu.
FLAGS ?=
SCRIPTS := $(sort $(wildcard ist597_norms/p*.py coms6998_hw2/p*.py))
# Problem 4's that train a network; LeNet-5 first, which takes hours where MiniGoogLeNet takes days.
LENET5 := $(filter-out %p4_1_fashion_mnist.py,$(filter coms6998_hw2/p4%,$(SCRIPTS)))
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: quick full report gallery test bench lint format data ray-demo
quick: .venv/installed data
	@echo "== every script on the quick preset, then the PDFs: results, figures and PDFs go to build/quick/"
	@for script in $(SCRIPTS); do echo "-- $$script"; $(BIN)/python $$script --preset quick $(FLAGS) || exit 1; done
	@$(BIN)/python report/build.py --preset quick

full: .venv/installed data
	@echo "== every run that has no valid record, then figures and PDFs: report/ and figures/; interrupt and resume at will"
	@for script in $(LENET5); do echo "-- $$script --network lenet5"; $(BIN)/python $$script --network lenet5 $(FLAGS) || exit 1; done
	@for script in $(SCRIPTS); do echo "-- $$script"; $(BIN)/python $$script $(FLAGS) || exit 1; done
	@$(BIN)/python report/build.py

report: .venv/installed
	@echo "== figures and PDFs from the committed records, into figures/ and report/; nothing is trained"
	@$(BIN)/python report/build.py

gallery: .venv/installed
	@echo "== every figure on one sheet, into figures/gallery.png"
	@$(BIN)/python -m utils.gallery

test: .venv/installed-ray data
	@echo "== the tests"
	@$(BIN)/python -m pytest

bench: .venv/installed data
	@echo "== the side-by-side benchmarks, into report/results/"
	@for script in $(sort $(wildcard tests/bench/bench_*.py)); do $(BIN)/python $$script || exit 1; done

ray-demo: .venv/installed-ray
	@echo "== a sweep on a Ray cluster of two nodes on this machine, one of which is killed meanwhile; into build/ray-demo/"
	@$(BIN)/python tests/ray_cluster.py

lint: .venv/installed
	@echo "== ruff and mypy"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: .venv/installed
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "This project needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "== installing the dependencies into .venv (once, some minutes)"
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is missing; install it (Debian: apt install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-ray: requirements-ray.txt .venv/installed
	@echo "== installing Ray into .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-ray.txt
	@touch $@

data:
	@[ "$(origin DATA_SOURCE)" = file ] || [ -d "$(DATA_SOURCE)" ] || \
	  { echo "DATA_SOURCE=$(DATA_SOURCE) is not a folder"; exit 1; }
	@for set in MNIST FashionMNIST; do \
	  if [ -d "$(DATA_SOURCE)/$$set" ] && [ ! -e "data/$$set" ]; then \
	    echo "== copying $$set from $(DATA_SOURCE)"; \
	    rm -rf "data/.$$set.partial" && cp -r "$(DATA_SOURCE)/$$set" "data/.$$set.partial" && \
	    chmod -R u+w "data/.$$set.partial" && mv "data/.$$set.partial" "data/$$set" || exit 1; \
	  fi; done
