# Two commands for users: `make quickstart` and `make test`. Each does all its own set-up; repeating it is cheap.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEVELOP := $(VENV)/.develop

# `make annotate-demo` opens a project with 60 items and a simulated day of labels in the browser's reach.
.PHONY: quickstart annotate-demo test check format model bench clean

quickstart: $(INSTALLED)
	@$(BIN)/burnish models pull smollm2-135m
	@$(BIN)/burnish run recipes/quickstart.yaml

annotate-demo: $(INSTALLED)
	@$(BIN)/burnish annotate demo

test: $(DEVELOP) model
	$(BIN)/python -m pytest

check: $(DEVELOP)
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(DEVELOP)
	$(BIN)/ruff check --fix src tests benchmarks examples
	$(BIN)/ruff format src tests benchmarks examples

model: $(INSTALLED)
	@$(BIN)/burnish models pull smollm2-135m

bench: $(DEVELOP) model
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info

# torch goes first: pip then takes the pinned build, and nothing later asks for another.
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(DEVELOP): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
