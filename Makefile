# make demo    train and score small models on images made on the spot (no network needed for it):
#              tissue, two classes; streets, eight classes. EPOCHS=1 is quick
# make test    the whole test suite, on the CPU       (PYTEST="-k data" runs a part of it)
# make soak    what make test does a few times, in full: kills, faults, all models on 1, 2, 4 processes
# make bench   segacc beside its ceiling and its peers: BENCH="--models linknet" as benchmarks.throughput
# make docs    the site of the documentation, into site/: open site/index.html
# make lint    style, format and types                make format   write the format; no outputs in notebooks
# make clean   remove .venv and the tools' caches; runs/ stays
# The first call makes .venv and installs into it: about 6 GB.

PYTHON ?= python3
EPOCHS ?= 8
PYTEST ?=
BENCH ?=

BIN := .venv/bin
INSTALLED := .venv/installed
DEMO_RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo test soak bench docs lint format clean

# The encoder starts from ImageNet, with weights that pip has installed. So few steps need a higher
# learning rate than the default.
DEMO_FLAGS := --encoder timm-tf_efficientnet_lite0 --batch-size 4 --lr 5e-3

demo: $(INSTALLED)
	$(BIN)/python train.py --model linknet --crop 256 --dataset demo $(DEMO_FLAGS) \
		--epochs $(EPOCHS) --output-dir $(DEMO_RUN)
	$(BIN)/python evaluate.py $(DEMO_RUN)
	$(BIN)/python train.py --model fpn --dataset demo-street $(DEMO_FLAGS) \
		--epochs $(EPOCHS) --output-dir $(DEMO_RUN)-street
	$(BIN)/python evaluate.py $(DEMO_RUN)-street
	@echo; echo "the demo is done, look at these pages:"
	@echo "  $(DEMO_RUN)/test/report.html          glands in tissue"
	@echo "  $(DEMO_RUN)-street/test/report.html   eight classes of street scenes"

# A file of tests stays in one worker, so that what its tests share is made once. Threads that wait
# sleep, since several programs share the cores.
test: export OMP_WAIT_POLICY := PASSIVE
test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder $(PYTEST)

# One after the other: each run has the whole machine, as a user's has. -s shows what was found.
soak: $(INSTALLED)
	$(BIN)/python -m pytest -s -m "soak or not soak" tests/faults $(PYTEST)
	$(BIN)/python -m pytest -s -m soak --ignore tests/faults $(PYTEST)

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m benchmarks.throughput $(BENCH)

# mkdocs advertises another program, and says itself how to switch that off. A warning of the pages is
# an error.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(INSTALLED)
	$(BIN)/python docs/pages.py build/docs
	$(BIN)/mkdocs build --quiet --strict
	@echo "look at: site/index.html (its search needs a server: python -m http.server -d site)"

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/python tests/notebooks.py

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here: install it \
	(apt-get install python3 python3-venv), or name another: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is \
	$$($(PYTHON) --version), segacc needs 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip; ensurepip.version()' 2>/dev/null || { echo "$(PYTHON) \
	cannot make a virtual environment: apt-get install python3-venv, then run make again"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	@touch $@
