#!/bin/sh
# Measure on NVIDIA cards, 10 minutes at most, for benchmarks/README.md: a pretraining step at the published size against
# its plain twin (some 60 GB of the card's memory), the training loop, killed and resumed (12 GB of TMPDIR), and
# extraction by CLIP B/32. All weights and inputs are random.
#   benchmarks/gpu.sh                         into benchmarks/measured.json and benchmarks/README.md
#   benchmarks/gpu.sh --measured FOLDER/measured.json
#   benchmarks/gpu.sh --tiny --measured …     a try of all of it, small and without a card
# PYTHON names a python that has the package's requirements; without it, `make` installs them into .venv.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    make --silent .venv/.ready
    PYTHON=.venv/bin/python
fi
PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" exec "$PYTHON" benchmarks/page.py --card "$@"
