"""Loss curves of training in bf16 beside those in fp32, over whole runs: ``python benchmarks/precision.py RUN``.

RUN is a result of ``train``; its settings and inputs are in its manifest. It is trained again from each seed, once in
each precision, from the same weights, with the same batches. For each loss and each metric of its log, claims are made
of the distance between both precisions' means over the seeds, at every epoch, beside the standard deviation over the
seeds of fp32: within it (1 or more) a precision changes no more than another seed does. One thread.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from pathlib import Path

import polars as pl

from _claims import claim
from videomatch.stages.train import train

PRECISIONS = ("fp32", "bf16")
#: inputs of which the stage takes one; of all others it takes a list
SINGLE = "corpus"


def curves(manifest: dict, precision: str, seed: int, folder: Path) -> pl.DataFrame:
    """The log of a run of these settings: losses and metrics by epoch."""
    settings = copy.deepcopy(manifest["settings"]) | {"seed": seed}
    settings["system"]["training"]["precision"] = precision
    inputs = {name: [Path(each["path"]).parent for each in every] for name, every in manifest["inputs"].items()}
    given = {name: paths[0] if name == SINGLE else paths for name, paths in inputs.items()}
    output, scratch = folder / f"{precision}{seed}", folder / f"scratch{precision}{seed}"
    scratch.mkdir()
    train(**settings, **given, output=output, scratch=scratch, threads=1)
    log = pl.read_csv(output / "log.csv")
    return log.select("epoch", pl.col("^(train|val)/.*$")).with_columns(precision=pl.lit(precision), seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    manifest = json.loads((options.run / "manifest.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        runs = [curves(manifest, p, seed, Path(folder)) for seed in range(options.seeds) for p in PRECISIONS]
    by_run = pl.concat(runs)
    fp32, bf16 = (by_run.filter(precision=p).drop("precision", "seed").group_by("epoch") for p in PRECISIONS)
    spread, mean = fp32.agg(pl.all().std()).sort("epoch"), fp32.agg(pl.all().mean()).sort("epoch")
    apart = bf16.agg(pl.all().mean()).sort("epoch") - mean
    for name in spread.columns[1:]:
        last = f"at the last epoch {mean[name][-1]:.4g} {apart[name][-1]:+.2g}"
        claim(
            f"{name} over {len(spread)} epochs and {options.seeds} seeds, bf16 from fp32 ({last})",
            apart[name].abs().to_list(),
            "at an epoch",
            peer=("standard deviation over fp32's seeds", spread[name].to_list()),
            bar=1,
        )


if __name__ == "__main__":
    main()
