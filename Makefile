# Everything runs in .venv, which is made once and reused until pyproject.toml or constraints.txt changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help install demo test lint bench clean
help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

install: $(READY)  ## make .venv with every dependency at its pinned version

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## invert some sentences at once, then adapt the inverter to others for 5 minutes, and show before and after
	@mkdir -p runs
	$(BIN)/python generate.py --model minilm-en --text-file data/examples.en.txt --refine 5 --output runs/examples.txt
	@echo "What came back from the vectors of some sentences, with the inverter that comes with the package:"
	@paste -d '\n' data/examples.en.txt runs/examples.txt | sed 'N;s/\n/\n    -> /'
	@echo
	$(BIN)/python train.py experiment=demo
	@echo
	$(BIN)/python generate.py --model minilm-en --vector runs/demo/heldout.npy --output runs/demo/heldout.before.txt
	$(BIN)/python generate.py --model runs/demo/inverter --vector runs/demo/heldout.npy --output runs/demo/heldout.after.txt
	@echo
	@echo "Held-out sentences, and what came back from their vectors alone before and after training:"
	@paste -d '\n' runs/demo/heldout.txt runs/demo/heldout.before.txt runs/demo/heldout.after.txt \
		| head -n 36 | sed 'N;N;s/\n/\n    before -> /;s/\n\([^\n]*\)$$/\n    after  -> \1/'

test: $(READY)  ## run the tests (offline, CPU)
	$(BIN)/python -m pytest -n auto --cov=vec2text --cov-fail-under=90 --cov-report=term

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## measure speed beside what people do otherwise, then memory and time up to a million
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/scaling.py

clean:  ## remove runs, caches of vectors and tool caches (not .venv)
	rm -rf runs cache .pytest_cache .mypy_cache .ruff_cache .coverage
