VENV := .venv
READY := $(VENV)/.ready
PYTHON ?= python3
# rules call plain `python`: with the environment first on the path that is always the right one
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: demo test lint walk lock clean
demo: $(READY)  ## install, then run the main job on the generated corpus and show the tables
	snakemake
	videomatch tables

test: $(READY)  ## the whole test suite
	pytest

lint: $(READY)
	ruff check . && ruff format --check . && basedpyright && snakefmt --check Snakefile workflow

walk: $(READY)  ## the long random walk over both engines (about an hour)
	python tests/walk.py --steps 40

lock: $(READY)
	pip install --quiet uv
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --override no-torch.txt \
	  --custom-compile-command "make lock" --upgrade --quiet -o requirements.lock

# torch comes by pip's own choice (each machine gets the build that fits it), everything else from the lock
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
