"""Benchmark tables: where numbers stand that others report, and what is said of them."""

import csv
import json
from pathlib import Path

import pytest

from videomatch.stages.tabulate import tabulate

TABLE = {
    "title": "A table",
    "dataset": "videos",
    "rows": [{"label": "ours", "system": "ours"}, {"label": "other", "system": "other"}],
    "reported": [
        {
            "source": "a paper",
            "corpus": "msrvtt",
            "split": "1k-A",
            "protocols": ["captions_1ka_test"],
            "rows": {"ours": {"R@1 (t2v)": "24.6 ± 0.4"}, "theirs": {"R@1 (t2v)": "20.9"}},
        },
        {
            "source": "a paper",
            "corpus": "msrvtt",
            "split": "official split",
            "protocols": ["captions_test"],
            "rows": {"ours": {"R@1 (t2v)": "12.9 ?"}, "both": {"R@1 (t2v)": "1.0", "R@1 (v2t)": "2.0"}},
        },
    ],
}


def table(folder: Path, corpus: str, splits: dict[str, str]) -> list[str]:
    cells = [[split, row["system"], ["seed0"]] for split in splits for row in TABLE["rows"]]
    for split, system, _ in cells:
        path = folder / split / system / "seed0"
        path.mkdir(parents=True)
        result = {"metrics": {"R@1": 10.0}, "counts": {"queries": 5}}
        (path / "metrics.json").write_text(json.dumps(result))
    tabulate(
        metrics=[folder / split / system for split, system, _ in cells],
        output=folder / "table",
        table=TABLE,
        splits=[*splits.items()],
        columns=[("R@1", "R@1")],
        cells=cells,
        corpus_kind=corpus,
        scale="small",
    )
    return (folder / "table/table.md").read_text().splitlines()


def test_reported_numbers_of_the_same_protocol_are_lines_below_ours_and_others_stand_apart(tmp_path):
    lines = table(tmp_path, "msrvtt", {"captions_1ka_test": "t2v"})
    assert lines[6:13] == [
        "| system | R@1 (t2v) | runs |",
        "| --- | ---: | ---: |",
        "| ours | 10.0 | 1 |",
        "| reported: ours [1] | 24.6 ± 0.4 |  |",
        "| other | 10.0 | 1 |",
        "| reported: theirs [1] | 20.9 |  |",
        "",
    ]
    assert lines[13] == "Not comparable with the table above: other videos, or another split of them."
    assert lines[15:] == [
        "| reported elsewhere | R@1 (t2v) | R@1 (v2t) | data and split |",
        "| --- | ---: | ---: | --- |",
        "| ours [2] | 12.9 ? |  | official split |",
        "| both [2] | 1.0 | 2.0 | official split |",
        "",
        "- [1] a paper (1k-A)",
        "- [2] a paper",
        "- ? quoted from memory, not checked against the source",
    ]
    rows = list(csv.DictReader((tmp_path / "table/table.csv").open()))
    assert [(row["label"], row["mean"], row["reported"], row["split"]) for row in rows][1:3] == [
        ("other", "10.0", "", ""),
        ("ours", "", "24.6 ± 0.4", "1k-A"),
    ]


@pytest.mark.parametrize("corpus", ["generated", "msvd"])
def test_on_another_data_set_no_reported_number_is_a_line_of_the_table(tmp_path, corpus):
    lines = table(tmp_path, corpus, {"captions_test": "t2v", "v2t_captions_test": "v2t"})
    apart = lines.index("| reported elsewhere | R@1 (t2v) | R@1 (v2t) | data and split |")
    assert not [line for line in lines[:apart] if "reported: " in line]
    assert len([line for line in lines[apart:] if line.endswith(("| 1k-A |", "| official split |"))]) == 4
    assert ("generated videos and small networks" in lines[apart - 2]) == (corpus == "generated")
