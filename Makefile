# Every command sets up what it needs: a virtual environment in .venv, installed by uv from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9
UV := $(shell command -v uv || echo build/uv/bin/uv)
# Where data sets are looked for that are not in data/; read, never written.
export DATA_SOURCE ?= ../shared/data
# Further flags of the scripts, such as --ray or --device cpu.
FLAGS ?=
# Scripts of the quick preset that run at the same time.
JOBS ?= 2
MINUTES ?= 10
SEED ?= 0
SCRIPTS := $(sort $(wildcard ist597_norms/p*.py coms6998_hw2/p*.py))
# 4.2 first: the rest of problem 4 waits for its summary.
QUICK := $(addprefix quick/,$(filter %p4_2_learning_rate_range.py,$(SCRIPTS)) $(filter-out %p4_2_learning_rate_range.py,$(SCRIPTS)))
# The lock's checksum names the environment that is made of it: whatever the files' dates, it is made once.
INSTALLED := .venv/installed-$(word 1,$(shell cksum requirements.lock))
INSTALLED_RAY := .venv/installed-ray-$(word 1,$(shell cksum requirements-ray.lock))
# An environment whose Python has vanished is made anew.
ifneq ($(shell [ -x $(BIN)/python ] && echo there),there)
.PHONY: $(INSTALLED)
endif
export TF_CPP_MIN_LOG_LEVEL ?= 3
# This checkout's modules, also where .venv was copied or moved here together with another one.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

.PHONY: all quick full report test audit bench lint format lock ray ray-demo $(QUICK)
all: quick

quick: $(INSTALLED)
	@echo "== every script on the quick preset, then the PDFs: results, figures and PDFs go to build/quick/"
	@$(MAKE) --no-print-directory -j $(JOBS) $(QUICK)
	@$(BIN)/python report/build.py --preset quick --no-figures

$(QUICK): quick/%: $(INSTALLED)
	@echo "-- $*"; $(BIN)/python $* --preset quick $(FLAGS)
quick/coms6998_hw2/p4_3_cyclical_learning_rate.py quick/coms6998_hw2/p4_4_batch_size_range.py: \
  quick/coms6998_hw2/p4_2_learning_rate_range.py
quick/coms6998_hw2/p4_6_cyclical_batch_size.py: \
  quick/coms6998_hw2/p4_3_cyclical_learning_rate.py quick/coms6998_hw2/p4_4_batch_size_range.py

full: $(INSTALLED)
	@echo "== every run that has no valid record, then figures and PDFs: report/ and figures/; interrupt and resume at will"
	@for script in $(SCRIPTS); do echo "-- $$script"; $(BIN)/python $$script $(FLAGS) || exit 1; done
	@$(BIN)/python report/build.py --no-figures

report: $(INSTALLED)
	@echo "== figures and PDFs from the committed records, into figures/ and report/; nothing is trained"
	@$(BIN)/python report/build.py

test: $(INSTALLED_RAY)
	@echo "== the tests"
	@$(BIN)/python -m pytest

audit: $(INSTALLED)
	@echo "== recorded runs, drawn at random, are run again for $(MINUTES) minutes and compared; nothing is written"
	@$(BIN)/python report/audit.py --minutes $(MINUTES) --seed $(SEED) $(FLAGS)

bench: $(INSTALLED)
	@echo "== the side-by-side benchmarks, into report/results/"
	@for script in $(sort $(wildcard tests/bench/bench_*.py)); do $(BIN)/python $$script || exit 1; done

ray: $(INSTALLED_RAY)

ray-demo: $(INSTALLED_RAY)
	@echo "== a sweep on a Ray cluster of two nodes on this machine, one of which is killed meanwhile; into build/ray-demo/"
	@$(BIN)/python tests/machinery/ray_cluster.py

lint: $(INSTALLED)
	@echo "== ruff and mypy"
	@$(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check . && $(BIN)/python -m mypy

format: $(INSTALLED)
	@$(BIN)/python -m ruff check --fix . && $(BIN)/python -m ruff format .

lock: | $(UV)
	@echo "== requirements.lock and requirements-ray.lock: every package that the two lists need, with its hashes"
	@for name in requirements requirements-ray; do \
	  $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url $$name.txt --output-file $$name.lock || exit 1; \
	done

$(INSTALLED): | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "This project needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "== installing the dependencies into .venv (once, a minute or two)"
	@$(UV) venv --quiet --clear --python "$$(command -v $(PYTHON))" .venv
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED_RAY): $(INSTALLED)
	@echo "== installing Ray into .venv (once)"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-ray.lock
	@touch $@

# uv from PyPI: in an environment of its own or, where Python cannot make one (Debian without python3-venv, Colab), by pip
# alone. PIP_USER would send it elsewhere.
build/uv/bin/uv:
	@mkdir -p build && rm -rf build/uv
	@export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1; \
	  { $(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install --quiet uv==$(UV_VERSION); } > build/uv.log 2>&1 || \
	  { rm -rf build/uv; $(PYTHON) -m pip install --quiet --target build/uv uv==$(UV_VERSION) >> build/uv.log 2>&1; }; \
	  [ -x $@ ] || { cat build/uv.log; echo "uv could not be installed, for the reason above; pip install uv may do it"; exit 1; }
