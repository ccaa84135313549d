"""Benchmark tables: where numbers stand that others report, and what is said of them."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats

from paths import ROOT
from videomatch.data import tables
from videomatch.pipeline import jobs
from videomatch.pipeline import params as parameters
from videomatch.pipeline.plan import Plan
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
            "rows": [["ours", {"R@1 (t2v)": "24.6 ± 0.4"}], ["theirs", {"R@1 (t2v)": "20.9"}]],
        },
        {
            "source": "a paper",
            "corpus": "msrvtt",
            "split": "official split",
            "protocols": ["captions_test"],
            "rows": [["ours", {"R@1 (t2v)": "12.9 ?"}], ["both", {"R@1 (v2t)": "2.0", "R@1 (t2v)": "1.0"}]],
        },
    ],
}


def table(folder: Path, corpus: str, splits: dict[str, str], leaks: list[dict] = (), **about: dict) -> list[str]:
    cells = [[split, row["system"], ["seed0"]] for split in splits for row in TABLE["rows"]]
    for split, system, _ in cells:
        path = folder / split / system / "seed0"
        path.mkdir(parents=True)
        result = {"metrics": {"R@1": 10.0}, "counts": {"queries": 5}}
        (path / "metrics.json").write_text(json.dumps(result | about.get(system, {})))
    (folder / "leaks.json").write_text(json.dumps({"cells": [*leaks]}))
    tabulate(
        leaks=folder,
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
    assert [(row["label"], row["kind"], row["mean"], row["reported"], row["split"]) for row in rows] == [
        ("ours", "system", "10.0", "", ""),
        ("other", "system", "10.0", "", ""),
        ("ours", "reported", "", "24.6 ± 0.4", "1k-A"),
        ("theirs", "reported", "", "20.9", "1k-A"),
        ("ours", "elsewhere", "", "12.9 ?", "official split"),
        ("both", "elsewhere", "", "1.0", "official split"),
        ("both", "elsewhere", "", "2.0", "official split"),
    ]
    assert [row["measure"] for row in rows] == ["R@1"] * 6 + [""]


@pytest.mark.parametrize("corpus", ["generated", "msvd"])
def test_on_another_data_set_no_reported_number_is_a_line_of_the_table(tmp_path, corpus):
    lines = table(tmp_path, corpus, {"captions_test": "t2v", "v2t_captions_test": "v2t"})
    apart = lines.index("| reported elsewhere | R@1 (t2v) | R@1 (v2t) | data and split |")
    assert not [line for line in lines[:apart] if "reported: " in line]
    assert len([line for line in lines[apart:] if line.endswith(("| 1k-A |", "| official split |"))]) == 4
    assert ("generated videos and small networks" in lines[apart - 2]) == (corpus == "generated")


def test_what_was_looked_up_is_told_with_its_recall(tmp_path):
    plain = table(tmp_path / "plain", "msrvtt", {"pairs_test": ""})
    assert not [line for line in plain if "looked up" in line]
    ours, other = (
        {"approximate": {"queries": n, "sample": 256, "top": 10, "recall": r}}
        for n, r in ((12345, 0.98), (9000, 0.9644))
    )
    for name, about, share in (
        ("one", {"ours": ours}, "98.0"),
        ("two", {"ours": ours, "other": other}, "96.4 to 98.0"),
    ):
        told = " ".join(table(tmp_path / name, "msrvtt", {"pairs_test": ""}, **about)[:4])
        assert "Neighbours of 12,345 queries without judged pairs were looked up" in told
        assert f"found {share} % of the true 10 nearest (a sample of 256 queries)" in told


def runs(folder: Path, members: dict[str, np.ndarray], digest: str = "", name: str = "videos") -> list[str]:
    """Results of evaluate: R@1 of 40 videos with two captions each, (40, 2) of each member."""
    for member, hits in members.items():
        rows = pl.DataFrame({"first": np.repeat(np.arange(40), 2), "value": hits.ravel().astype(float)})
        rows = [rows.with_columns(pl.lit(name).alias("statistic"), second=None, other=None) for name in ("R@1", "R@5")]
        tables.write("statistics", pl.concat(rows), folder / member)
        resampled = {"units": 40, "name": name, "digest": digest or member}
        values = dict.fromkeys(("R@1", "R@5"), hits.mean())
        result = {"metrics": values, "chance": {"R@1": 2.5}, "counts": {"queries": 80}}
        result["resampled"] = resampled
        (folder / member / "metrics.json").write_text(json.dumps(result))
    return list(members)


def compared(folder: Path, cells: dict[str, list[str]], **table) -> tuple[str, list[str], dict[str, dict[str, str]]]:
    """The sentences above a table of systems -> members, its lines, and the rows of its file by system."""
    rows = [{"label": f"the {system}", "system": system} for system in cells]
    (folder / "leaks.json").write_text(json.dumps({"cells": []}))
    tabulate(
        leaks=folder,
        metrics=[folder / system for system in cells],
        output=folder / "table",
        table={"title": "A table", "dataset": "videos", "rows": rows, "base": "base", **table},
        splits=[("captions_test", "")],
        columns=[(name, name) for name in ("R@1", *table.get("differences", ()))],
        cells=[["captions_test", system, members] for system, members in cells.items()],
        corpus_kind="generated",
        scale="small",
    )
    lines = (folder / "table/table.md").read_text().splitlines()
    records = csv.DictReader((folder / "table/table.csv").open())
    return lines[2], lines, {row["system"]: row for row in records}


@pytest.fixture
def hits():
    """Hits of a base, and of a system that has some 15 points more of the same videos."""
    rng = np.random.default_rng(0)
    easy = rng.random((40, 1)) < 0.4
    base = 100 * (easy | (rng.random((40, 2)) < 0.1))
    return base, np.maximum(base, 100 * (rng.random((40, 2)) < 0.2))


def test_single_runs_are_compared_by_the_same_draws_of_videos(tmp_path, hits):
    cells = {system: runs(tmp_path / system, {"all": h}, "d") for system, h in zip(("base", "new"), hits, strict=True)}
    said, lines, rows = compared(tmp_path, cells)
    assert "[low, high] is the 95 % bootstrap interval of a single run (10,000 resamples of the 40 videos)." in said
    assert "to `the base`, with their 95 % interval (paired, 10,000 resamples of videos)." in said and "±" not in said
    low, high, difference, below, above = (
        float(rows["new"][name]) for name in ("low", "high", "difference", "difference_low", "difference_high")
    )
    assert difference == pytest.approx(hits[1].mean() - hits[0].mean())
    of_videos = (hits[1] - hits[0]).mean(axis=1)
    assert (above - below) / 2 == pytest.approx(1.96 * of_videos.std() / np.sqrt(40), rel=0.1)
    assert above - below < 0.7 * (high - low), "paired"
    assert lines[-2] == "| the base | {} |  | 1 |".format(
        "{:.1f} [{:.1f}, {:.1f}]".format(*(float(rows["base"][name]) for name in ("mean", "low", "high")))
    )
    assert lines[-1].endswith(f" | {difference:+.1f} [{below:.1f}, {above:.1f}] | 1 |")
    assert {name: (row["kind"], row["measure"]) for name, row in rows.items()} == {
        "": ("chance", "R@1"),
        "base": ("base", "R@1"),
        "new": ("system", "R@1"),
    }
    assert rows[""]["mean"] == "2.5"
    before = (tmp_path / "table/table.csv").read_bytes()
    compared(tmp_path, cells)
    assert (tmp_path / "table/table.csv").read_bytes() == before


def test_differences_are_in_the_metrics_that_a_table_names(tmp_path, hits):
    cells = {system: runs(tmp_path / system, {"all": h}, "d") for system, h in zip(("base", "new"), hits, strict=True)}
    _, lines, _ = compared(tmp_path, cells)
    last = lines[-1].split(" | ")[-2]
    _, lines, _ = compared(tmp_path, cells, differences=["R@5"])
    assert lines[-5] == "| system | R@1 | R@5 | difference in R@5 | runs |"
    assert lines[-1].split(" | ")[-2] == last, "of the same hits the same difference"


def test_folds_with_videos_of_their_own_are_compared_by_fold(tmp_path, hits):
    rng = np.random.default_rng(1)
    of_base = {f"fold{n}-seed0": 100 * (rng.random((40, 2)) < 0.2 + n / 5) for n in range(3)}
    of_new = {fold: np.maximum(h, hits[1]) for fold, h in of_base.items()}
    cells = {"base": runs(tmp_path / "base", of_base), "new": runs(tmp_path / "new", of_new)}
    said, _, rows = compared(tmp_path, cells)
    assert "± is the standard deviation over folds." in said and "bootstrap" not in said
    assert "(paired, Student's t over folds)." in said
    means = [[h.mean() for h in members.values()] for members in (of_new, of_base)]
    expected = scipy.stats.ttest_rel(*means).confidence_interval()
    found = [float(rows["new"][f"difference_{side}"]) for side in ("low", "high")]
    assert found == pytest.approx([expected.low, expected.high])
    assert float(rows["base"]["sd"]) == pytest.approx(np.std(means[1], ddof=1))


def test_seeds_and_videos_both_count_and_are_added_in_quadrature(tmp_path, hits):
    rng = np.random.default_rng(2)
    of_base, of_new = ({f"seed{n}": h + rng.normal() for n in range(3)} for h in hits)
    both = {"base": runs(tmp_path / "base", of_base, "d"), "new": runs(tmp_path / "new", of_new, "d")}
    both |= {"single": runs(tmp_path / "single", {"all": hits[1]}, "d")}
    said, _, rows = compared(tmp_path, both)
    assert "paired, Student's t over seeds and 10,000 resamples of videos, added in quadrature" in said
    means = [[h.mean() for h in members.values()] for members in (of_new, of_base)]
    of_videos = 1.96 * (hits[1] - hits[0]).mean(axis=1).std() / np.sqrt(40)

    def half(system):
        return (float(rows[system]["difference_high"]) - float(rows[system]["difference_low"])) / 2

    paired = scipy.stats.ttest_rel(*means).confidence_interval()
    assert half("new") == pytest.approx(np.hypot((paired.high - paired.low) / 2, of_videos), rel=0.08)
    of_base = scipy.stats.t.ppf(0.975, 2) * np.std(means[1], ddof=1) / np.sqrt(3)  # the other has one run
    assert half("single") == pytest.approx(np.hypot(of_base, of_videos), rel=0.08)


def test_what_cannot_be_paired_has_no_difference_and_is_named(tmp_path, hits):
    cells = {"base": runs(tmp_path / "base", {"all": hits[0]}, "d", "queries")}
    cells |= {"new": runs(tmp_path / "new", {"all": hits[1]}, "d", "queries")}
    cells |= {"others": runs(tmp_path / "others", {"all": hits[1]}, "other queries", "queries")}
    said, lines, rows = compared(tmp_path, cells)
    assert "There is none where other queries, references or folds are judged: `the others`." in said
    assert "10,000 resamples of queries" in said
    assert rows["others"]["difference"] == "" and lines[-1].endswith("] |  | 1 |") and rows["new"]["difference"]
    for member in tmp_path.glob("*/all"):  # an older result, without rows to resample
        (member / "statistics.parquet").unlink()
        result = json.loads((member / "metrics.json").read_text())
        del result["resampled"]
        (member / "metrics.json").write_text(json.dumps(result))
    said, lines, _ = compared(tmp_path, cells)
    assert said.endswith("(`videos` at scale `small`).") and lines[-1] == f"| the others | {hits[1].mean():.1f} | 1 |"


def test_ablations_have_the_seeds_of_their_base(monkeypatch):
    monkeypatch.chdir(ROOT)
    params, _ = parameters.load(["configs/evidence.yaml"])
    jobs.tabulate(Plan(parameters.resolved(params)), "search_mmt")
    params["systems"]["mmt_no_time"]["seeds"] = [0]
    message = "search_mmt.yaml: system 'mmt_no_time' has the seeds [0], its base 'mmt' has [0, 1, 2, 3, 4]"
    with pytest.raises(ValueError, match=re.escape(message)):
        jobs.tabulate(Plan(parameters.resolved(params)), "search_mmt")


def test_a_table_of_left_out_folds_needs_a_system_that_has_folds(monkeypatch):
    monkeypatch.chdir(ROOT)
    params, _ = parameters.load(["params.yaml"])
    for system in params["systems"].values():
        system.pop("folds", None)
    with pytest.raises(ValueError, match=r"similarity_overview\.yaml: 'out_of_fold', but no system of a row has folds"):
        jobs.tabulate(Plan(parameters.resolved(params)), "similarity_overview")


def test_what_every_run_measures_anew_reaches_a_column_that_says_so_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for folder, values in (("metrics/all", {"F1": 50.0, "MB/h": 0.284}), ("aligned", {})):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metrics.json").write_text(json.dumps({"metrics": values, "counts": {}}))
    (tmp_path / "aligned/measured.json").write_text(json.dumps({"CPU s/h": 1.256}))  # nothing was searched: no answer
    (tmp_path / "leaks.json").write_text(json.dumps({"cells": []}))
    plan = Plan(parameters.resolved(parameters.load(["params.yaml"])[0]))
    job = jobs.tabulate(plan, "samesource_overview")
    shown = [column for column in job.settings["columns"] if column[0] in ("F1", "MB/h", "CPU s/h")]
    shown.append(["answer s/h", "answer s/h"])
    tabulate(
        metrics=[tmp_path / "metrics"], measured=[tmp_path / "aligned"], leaks=tmp_path, output=tmp_path / "table",
        table={"title": "A table", "dataset": "films", "rows": [{"label": "keys", "system": "keys"}]},
        splits=[("copies_test", "")], columns=shown, cells=[["copies_test", "keys", ["all"]]],
        corpus_kind="generated", scale="small",
    )  # fmt: skip
    lines = (tmp_path / "table/table.md").read_text().splitlines()
    assert lines[-3:] == [
        "| system | F1 | MB/h | CPU s/h (measured) | answer s/h | runs |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| keys | 50.0 | 0.28 | 1.26 |  | 1 |",
    ]
    assert len(job.inputs["measured"]) >= len(job.settings["cells"]) and job.patterns["measured"] == ["measured.json"]
    system = job.settings["cells"][0][1]
    evaluated = jobs.evaluate(plan, "films", "copies_test", system)
    assert "CPU s/h" not in evaluated.settings["metrics"] and "measured.json" not in evaluated.patterns["segments"]


def test_what_was_trained_on_is_in_italics_and_counted(tmp_path):
    cells = [("ours", 0, ["captions_train_9k"]), ("other", 1234, ["captions_train"])]
    leaks = [
        {"split": "captions_1ka_test", "system": system, "videos": 2000, "shared": shared, "trained_on": splits}
        for system, shared, splits in cells
    ]
    lines = table(tmp_path, "msrvtt", {"captions_1ka_test": "t2v", "captions_test": "full"}, leaks)
    assert "- trained on `captions_train_9k` (ours), `captions_train` (other)" in lines
    shown = [line for line in lines if line.startswith(("| system", "| ours", "| other"))]
    assert shown[:3] == [
        "| system | R@1 (t2v) | R@1 (full) | runs | videos trained on, `captions_1ka_test` |",
        "| ours | 10.0 | 10.0 | 1 |  |",
        "| other | *10.0* | 10.0 | 1 | 1,234 |",
    ]
    assert any(line.startswith("In italics: ") for line in lines)
    with (tmp_path / "table/table.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == "other"]
    assert {row["metric"]: row["shared"] for row in rows} == {"R@1 (t2v)": "1234", "R@1 (full)": "0"}


def test_oracles_stand_apart_and_what_is_wanted_of_the_others_is_said(tmp_path, hits):
    for system, h in (("all", np.full((40, 2), 100.0)), ("base", hits[0]), ("new", hits[1])):
        runs(tmp_path / system, {"all": h}, "d")
    for wanted in (5.0, 99.0):
        rows = [
            {"label": "all facts", "system": "all"},
            {"label": "old", "system": "base"},
            {"label": "new", "system": "new"},
        ]
        (tmp_path / "leaks.json").write_text(json.dumps({"cells": []}))
        tabulate(
            leaks=tmp_path,
            metrics=[tmp_path / row["system"] for row in rows],
            output=tmp_path / "table",
            table={"title": "A table", "dataset": "videos", "rows": rows, "wanted": {"R@1": wanted}},
            splits=[("captions_test", "")],
            columns=[("R@1", "R@1")],
            cells=[["captions_test", row["system"], ["all"]] for row in rows],
            corpus_kind="generated",
            scale="small",
            oracles=["all", "elsewhere"],
        )
        text = (tmp_path / "table/table.md").read_text()
        assert (
            "An oracle knows the named facts" in text and f"| *wanted* | {wanted} |  |\n| *oracle: all facts* |" in text
        )
        with (tmp_path / "table/table.csv").open(encoding="utf-8") as file:
            kinds = [(row["kind"], row["label"], row["mean"]) for row in csv.DictReader(file)]
        assert kinds[:2] == [("chance", "chance", "2.5"), ("wanted", "wanted", str(wanted))]
        assert [kind for kind, *_ in kinds[2:]] == ["oracle", "system", "system"]
        reached = f"Not reached by any system: R@1 ({hits[1].mean():.1f} of {wanted:g})."
        assert (reached in text) == (wanted == 99)
        assert list(json.loads((tmp_path / "table/summary.json").read_text())) == ["old", "new"]
