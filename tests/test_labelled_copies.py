"""The detector learns from the labels of VCSL and of VSC 2022, as their configs say, from files in the data sets' own
form to a checkpoint."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import labelled_copies
from paths import ROOT
from videomatch import examples as examples_
from videomatch.data import tables
from videomatch.pipeline import jobs, params
from videomatch.pipeline.plan import Plan
from videomatch.stages.extract import extract
from videomatch.stages.prepare import prepare
from videomatch.stages.train import train

CORPORA = {"vcsl": labelled_copies.vcsl, "vsc2022": labelled_copies.vsc2022}
#: a detector of seconds, and no map that is not the corpus's
SMALL = {
    "model": {"width": 8, "levels": 4, "head": 8},
    "examples": {"synthetic": 0, "per_pair": 4},
    "training": {"epochs": 8, "batch": 8, "lr": 4.0e-3, "ema": None},
}


@pytest.fixture(scope="module", params=CORPORA)
def labelled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A prepared corpus, its features, and the system that is trained on its labels."""
    folder, name = tmp_path_factory.mktemp(request.param), request.param
    raw = CORPORA[name](folder / "raw", train=12, val=2, test=2)
    with contextlib.chdir(ROOT):
        config, _ = params.load([f"configs/{name}.yaml"])
    given = {"datasets": {"films": {"raw": str(raw)}}, "experts": {"copy": {"dim": 32}}, "systems": {"labelled": SMALL}}
    plan = Plan(params.resolved(params.overlay(config, given)))
    prepare(output=made(folder / "corpus"), dataset="films", corpus=name, shards=1, seed=0, options={}, raw=str(raw))
    extract(
        corpus=folder / "corpus",
        shard=0,
        experts={"copy": {"extractor": "released", "dim": 32}},
        backbones={},
        output=made(folder / "features"),
        released={"corpus": name, "raw": str(raw)},
    )
    return {"folder": folder, "name": name, "settings": jobs.train(plan, "labelled", "seed0").settings, "plan": plan}


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def truth(corpus: Path) -> dict[tuple[str, str], list[tuple[float, ...]]]:
    times = ("query_start", "query_end", "reference_start", "reference_end")
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for query, reference, *box in tables.read("segments", corpus).select("query_id", "reference_id", *times).rows():
        found.setdefault((query, reference), []).append(tuple(box))
    return found


def losses(labelled: dict[str, Any], corpus: Path, name: str) -> pl.DataFrame:
    folder = labelled["folder"] / name
    train(
        corpus=corpus,
        features=[labelled["folder"] / "features"],
        output=made(folder / "run"),
        scratch=made(folder / "scratch"),
        threads=1,
        **labelled["settings"],
    )
    return pl.read_csv(folder / "run/log.csv")


def test_maps_and_segments_are_those_of_the_labels(labelled):
    corpus, options = labelled["folder"] / "corpus", labelled["settings"]["system"]["examples"]
    assert (options["expert"], options["split"]) == ("copy", "copies_train")
    system, features = labelled["settings"]["system"], [labelled["folder"] / "features"]
    drawn, _ = examples_.of_system(system, corpus, features, None).parts()
    labels = truth(corpus)
    train_only = {pair: boxes for pair, boxes in labels.items() if pair[0].startswith(("Qtrain", "Q0"))}
    assert len(train_only) == 8 < len(labels)
    listed = 12 if labelled["name"] == "vcsl" else 8  # the challenge's ground truth lists copies only
    assert len(drawn) == 4 * listed
    drawn.is_training = False  # no map is changed
    batch = drawn.batch(np.arange(listed), np.random.default_rng(0))
    found = [boxes[mask].tolist() for boxes, mask in zip(batch["segments"], batch["segments_mask"], strict=True)]
    # a frame a second: seconds are frames; what is no copy is a map without a segment
    assert sorted(tuple(box) for boxes in found for box in boxes) == sorted(
        box for boxes in train_only.values() for box in boxes
    )
    assert sum(not boxes for boxes in found) == listed - 8
    for values, boxes in zip(batch["similarity"].numpy(), found, strict=True):
        for start, end, first, _ in boxes:
            line = [values[q, q - int(start) + int(first)] for q in range(int(start), int(end))]
            assert np.mean(line) > 0.7 > np.abs(values).mean()


def test_the_loss_reads_the_labels_and_falls(labelled):
    corpus = labelled["folder"] / "corpus"
    log = losses(labelled, corpus, "true")
    parts = [f"segment_{part}" for part in ("focal", "giou", "corners", "line")]
    named = {part: next(column for column in log.columns if part in column) for part in parts}
    for part in ("segment_giou", "segment_line"):  # of cells, the target itself grows with the fit of their boxes
        assert log[named[part]][-1] < log[named[part]][0], part
    # the same maps, the same seed, segments that begin three seconds later
    other = made(labelled["folder"] / "moved") / "corpus"
    other.mkdir()
    for file in corpus.glob("*"):
        (other / file.name).symlink_to(file)
    (other / "segments.parquet").unlink()
    moved = tables.read("segments", corpus).with_columns(pl.col("query_start") + 3)
    tables.write("segments", moved, other)
    again = losses(labelled, other, "elsewhere")
    for part, column in named.items():
        assert (log[column] != again[column]).all(), part
