# Two commands for users: `make quickstart` and `make test`. Each does all its own set-up; repeating it is cheap.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEVELOP := $(VENV)/.develop
DOCS := $(VENV)/.docs
ARITHMETIC := tests/test_batch.py tests/algorithms tests/models tests/generation tests/trainers tests/rewards/test_rewards_model.py tests/gpu

# `make annotate-demo` opens a project with 60 items and a simulated day of labels in the browser's reach.
.PHONY: quickstart annotate-demo test test-scale test-processors check release-check docs format model bench clean

quickstart: $(INSTALLED)
	@$(BIN)/burnish models pull smollm2-135m
	@$(BIN)/burnish run recipes/quickstart.yaml

annotate-demo: $(INSTALLED)
	@$(BIN)/burnish annotate demo

test: $(DEVELOP) model
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not scale"

# What starts processes of its own and kills them.
test-scale: $(DEVELOP)
	$(BIN)/python -m pytest -m scale

# The rooms of arithmetic as another processor would compute them: older instruction sets, the library that another vendor's
# processors get, and another rounding for each shape of a product (tests/processors.py).
test-processors: $(DEVELOP)
	ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 BURNISH_TEST_VENDOR=AuthenticAMD \
	BURNISH_TEST_ROUNDING=shape $(BIN)/python -m pytest -n 2 --dist loadfile -m "not real" $(ARITHMETIC)

check: $(DEVELOP)
	$(BIN)/ruff check src tests benchmarks examples tools
	$(BIN)/ruff format --check src tests benchmarks examples tools
	$(BIN)/pyright
	$(BIN)/lint-imports
	@$(BIN)/python tools/house.py

# Built, checked by twine, installed into a clean environment, run outside of the repository.
release-check: $(DEVELOP)
	$(BIN)/python tools/release_check.py

# The documentation as a site: build/site/index.html. A link that leads nowhere stops it.
docs: $(DOCS)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(DEVELOP)
	$(BIN)/ruff check --fix src tests benchmarks examples tools
	$(BIN)/ruff format src tests benchmarks examples tools

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

$(DOCS): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@
