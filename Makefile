VENV := .venv
READY := $(VENV)/.ready
PYTHON ?= python3
# rules call plain `python`: with the environment first on the path that is always the right one
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# every job is a process: without bytecode on disk each would compile torch again, which triples the time of its start
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint walk fuzz crashes cluster bench lock
demo: $(READY)  ## install, then run the workflow on the generated corpus and show the tables
	snakemake
	videomatch tables

test: $(READY)  ## the whole test suite
	pytest

lint: $(READY)
	pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-lint.lock
	ruff check . && ruff format --check . && basedpyright && snakefmt --check Snakefile workflow

walk: $(READY)  ## the long random walk over both engines (half an hour where nothing else runs)
	python tests/walk.py --steps 40

fuzz: $(READY)  ## damaged files for every reader and the decoder (some minutes)
	python tests/fuzz.py --data 1500 --media 400

crashes: $(READY)  ## kill `library add`, and fill the disk, at every step (minutes)
	python tests/crashes.py

cluster: $(READY)  ## a SLURM of two nodes on this machine, killed and cancelled (root, slurm-wlm, munge, pip install -e '.[slurm]')
	PYTHONPATH=src:tests python tests/cluster.py

bench: $(READY)  ## measure the speed claims (15 minutes; OPTIONS=--full: hours) and write benchmarks/README.md
	python benchmarks/page.py $(OPTIONS)

COMPILE = uv pip compile pyproject.toml --universal --generate-hashes --override no-torch.txt \
  --custom-compile-command "make lock" --upgrade --quiet
lock: $(READY)
	pip install --quiet uv
	$(COMPILE) --extra dev -o requirements.lock
	$(COMPILE) --extra dev --extra lint -o requirements-lint.lock

# torch comes by pip's own choice (each machine gets the build that fits it), everything else from the lock
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile torch==2.13.0
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
