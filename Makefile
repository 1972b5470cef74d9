# Every command sets up what it needs: a virtual environment in .venv, and the data sets if they lie beside this folder.
PYTHON ?= python3
DATA_SOURCE ?= ../shared/data
BIN := .venv/bin
# Further flags of the scripts, such as --ray or --device cpu.
FLAGS ?=
ARCHIVES := $(foreach set,MNIST FashionMNIST,$(foreach part,train t10k,$(foreach kind,images-idx3 labels-idx1,\
  $(set)/raw/$(part)-$(kind)-ubyte.gz)))
SCRIPTS := $(sort $(wildcard ist597_norms/p*.py coms6998_hw2/p*.py))
export TF_CPP_MIN_LOG_LEVEL ?= 3
# This checkout's modules, also where .venv was copied or moved here together with another one.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

.PHONY: quick full report test bench lint format data ray-demo
quick: .venv/installed data
	@echo "== every script on the quick preset, then the PDFs: results, figures and PDFs go to build/quick/"
	@for script in $(SCRIPTS); do echo "-- $$script"; $(BIN)/python $$script --preset quick $(FLAGS) || exit 1; done
	@$(BIN)/python report/build.py --preset quick --no-figures

full: .venv/installed data
	@echo "== every run that has no valid record, then figures and PDFs: report/ and figures/; interrupt and resume at will"
	@for script in $(SCRIPTS); do echo "-- $$script"; $(BIN)/python $$script $(FLAGS) || exit 1; done
	@$(BIN)/python report/build.py --no-figures

report: .venv/installed
	@echo "== figures and PDFs from the committed records, into figures/ and report/; nothing is trained"
	@$(BIN)/python report/build.py

test: .venv/installed-ray data
	@echo "== the tests"
	@$(BIN)/python -m pytest

bench: .venv/installed data
	@echo "== the side-by-side benchmarks, into report/results/"
	@for script in $(sort $(wildcard tests/bench/bench_*.py)); do $(BIN)/python $$script || exit 1; done

ray-demo: .venv/installed-ray
	@echo "== a sweep on a Ray cluster of two nodes on this machine, one of which is killed meanwhile; into build/ray-demo/"
	@$(BIN)/python tests/machinery/ray_cluster.py

lint: .venv/installed
	@echo "== ruff and mypy"
	@$(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check . && $(BIN)/python -m mypy

format: .venv/installed
	@$(BIN)/python -m ruff check --fix . && $(BIN)/python -m ruff format .

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

# What is looked for and copied are the archives: regular files, also from links; the source is left as it is, and a link
# in data/ to a folder that lacks some is replaced by a folder.
data:
	@[ "$(origin DATA_SOURCE)" = file ] || [ -d "$(DATA_SOURCE)" ] || \
	  { echo "DATA_SOURCE=$(DATA_SOURCE) is not a folder"; exit 1; }
	@for archive in $(ARCHIVES); do \
	  target="data/$$archive"; folder="$${target%/*}"; \
	  if [ ! -f "$$target" ] && [ -f "$(DATA_SOURCE)/$$archive" ]; then \
	    for link in "$${folder%/*}" "$$folder" "$$target"; do if [ -L "$$link" ]; then rm "$$link" || exit 1; fi; done; \
	  fi; \
	done
	@for archive in $(ARCHIVES); do \
	  source="$(DATA_SOURCE)/$$archive"; target="data/$$archive"; \
	  if [ -f "$$target" ]; then continue; fi; \
	  if [ ! -f "$$source" ]; then \
	    if [ -L "$$source" ]; then echo "$$source is a link that leads to no file; it is not copied"; \
	    elif [ "$(origin DATA_SOURCE)" != file ]; then echo "$$source is not there; it is not copied"; fi; \
	    continue; \
	  fi; \
	  echo "== copying $$archive from $(DATA_SOURCE)"; \
	  mkdir -p "$${target%/*}" && rm -f "$$target.partial" && cp -L "$$source" "$$target.partial" && \
	    chmod u+w "$$target.partial" && mv "$$target.partial" "$$target" || exit 1; \
	done
