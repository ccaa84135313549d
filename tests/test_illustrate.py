"""The page of a run: what it shows, that all text is escaped, and that odd logs and tables do not break it."""

import math
import re
import shutil
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

import pages
from test_tune import data  # noqa: F401  (the planted corpus)
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.reports import charts, drawn_table
from videomatch.stages.illustrate import illustrate

NASTY = '<script>alert("1")</script>&'
HEAD = "label,kind,system,metric,measure,mean,sd,low,high,difference,difference_low,difference_high,runs,shared"
#: chance, an oracle, the base, a row clearly ahead, one that is not, one that cannot be paired, and reported numbers
TABLE = f"""{HEAD},reported,split,source
chance,chance,,MSE,MSE,0.3,,,,,,,,,,,
chance,chance,,Spearman (valid),Spearman,0.0,,,,,,,,,,,
place,oracle,place,Spearman (valid),Spearman,0.9,,0.8,0.95,0.5,0.4,0.6,1,0,,,
old,base,old,Spearman (valid),Spearman,0.4,0.1,,,,,,3,0,,,
old,base,old,MSE,MSE,0.2,0.1,,,,,,3,0,,,
"{NASTY.replace('"', '""')}",system,new,Spearman (valid),Spearman,0.5,0.1,,,0.1,0.05,0.15,3,0,,,
"{NASTY.replace('"', '""')}",system,new,MSE,MSE,0.1,0.1,,,,,,3,0,,,
near,system,near,Spearman (valid),Spearman,0.41,0.1,,,0.01,-0.05,0.07,3,0,,,
worse,system,worse,Spearman (valid),Spearman,0.1,0.1,,,-0.3,-0.4,-0.2,3,0,,,
apart,system,apart,Spearman (valid),Spearman,0.2,,0.1,0.3,,,,1,0,,,
leaked,system,leaked,Spearman (valid),Spearman,0.8,,0.7,0.9,0.4,0.3,0.5,1,9,,,
theirs,reported,,Spearman (valid),Spearman,,,,,,,,,,0.88 ± 0.01 ?,fold,a paper
theirs,elsewhere,,Spearman (valid),Spearman,,,,,,,,,,0.99,other,a paper
"""
VIDEOS = ["v1", "v2", "v3", "<b>&.mp4"]
#: tags that have no end
VOID = {"meta", "img", "br"}


class Page(pages.Page):
    """What a browser would see, and whether every tag is closed in order."""

    def __init__(self, text: str):
        self.open = []
        super().__init__(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def count(self, tag: str) -> int:
        return len(self.of(tag))


def ranking(folder, rows):
    frame = pl.DataFrame([(*row, None, None) for row in rows], schema=tables.SCHEMAS["rankings"], orient="row")
    tables.write("rankings", frame, folder)


@pytest.fixture
def run(tmp_path):
    """A small run, everything in it named as badly as can be: the arguments of the stage."""
    corpus = tmp_path / "corpus"
    videos = [dict.fromkeys(tables.SCHEMAS["videos"]) | {"video_id": v, "tags": [], "shard": 0} for v in VIDEOS]
    corpora.write_videos(tables.check("videos", pl.DataFrame(videos, infer_schema_length=None)), _made(corpus), 1)
    titles = [{"text_id": v, "video_id": v, "kind": "title", "text": f"{NASTY} of {v}"} for v in VIDEOS]
    schema = tables.SCHEMAS["texts"]
    tables.write("texts", pl.DataFrame([dict.fromkeys(schema) | t for t in titles], schema=schema), corpus)
    near = [(q, r, 0.1 * n, None) for q in VIDEOS for n, r in enumerate(VIDEOS) if q != r]
    ranking(tmp_path / "near/all", near)
    rng = np.random.default_rng(0)
    grades = rng.choice([0.0, 0.5, 1.0], 40)
    pairs = [(f"q{n}{NASTY}", f"r{n}", float(g + rng.normal() / 4), float(g)) for n, g in enumerate(grades)]
    ranking(tmp_path / "judged/fold0", pairs)
    (_made(tmp_path / "table") / "table.md").write_text(
        f"# Title {NASTY}\n\nCorpus `aiac`.\n\n- valid: 3 pairs\n\n| system | Spearman (valid) |\n| --- | ---: |\n"
        f"| *chance* | 0.0 |\n| {NASTY} | 0.5 ± 0.1 |\n\nReported: a paper\n"
    )
    (tmp_path / "table/table.csv").write_text(TABLE)
    for fold in range(2):
        log = _made(tmp_path / f"run/fold{fold}") / "log.csv"
        log.write_text(
            "epoch,lr,train/mse,val/mse,val/Spearman,best/Spearman\n"
            f"1,0.1,0.{fold + 2},,,\n2,0.1,0.1,0.2,0.4,0.4\n3,0.0,0.05,nan,0.{fold + 3},0.4\n"
        )
    return {
        "corpus": corpus,
        "rankings": tmp_path / "near",
        "title": NASTY,
        "top": 2,
        "system": f"sys{NASTY}",
        "member": "all",
        "judged": [tmp_path / "judged"],
        "judged_names": [["tuned", "fold0"]],
        "tables": [tmp_path / "table"],
        "table_charts": ["intervals"],
        "runs": [tmp_path / "run/fold0", tmp_path / "run/fold1"],
        "run_names": [[f"tuned{NASTY}", "fold0"], [f"tuned{NASTY}", "fold1"]],
    }


def _made(folder):
    folder.mkdir(parents=True)
    return folder


def shown(run, output):
    illustrate(output=_made(output), **run)
    text = (output / "index.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_everything_is_on_the_page(run, tmp_path):
    _, page = shown(run, tmp_path / "page")
    assert page.open == [], "every tag is closed"
    assert page.count("svg") == 5, "values, differences, one scatter, one chart of a loss, one of a metric"
    assert page.count("table") == 2
    assert page.count("tr") == 3 + 2
    words = re.sub(r"\s+", " ", " ".join(page.words))
    assert re.search(r"Spearman 0\.\d{3} · Pearson 0\.\d{3} · 40 pairs", words)
    assert "validation 0.350, best 0.400" in words
    assert "2 runs (fold0, fold1), 3 epochs" in words
    assert words.count("cosine 0.") + words.count("cosine -0.") + words.count("cosine 1.") == 40, "a hint a pair"
    assert "4 of 4 queries are shown" in words
    near = pl.read_csv(tmp_path / "page/neighbours.csv")
    assert near.columns == ["query_id", "rank", "reference_id", "score"]
    assert near.group_by("query_id").len()["len"].to_list() == [2] * 4
    pairs = pl.read_csv(tmp_path / "page/similarity-tuned-fold0.csv")
    assert pairs.columns == ["query_id", "reference_id", "grade", "score"]
    assert len(pairs) == 40


def test_no_text_becomes_markup_and_nothing_is_fetched(run, tmp_path):
    text, page = shown(run, tmp_path / "page")
    assert page.count("script") == 0
    assert "<b>&.mp4" not in text
    assert "http" not in text and "url(" not in text.replace("url(#", "") and "@import" not in text
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "image"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))


def test_each_id_is_of_one_element_and_each_drawing_has_a_name(run, tmp_path):
    twice = run | {"tables": run["tables"] * 2, "table_charts": ["intervals", "heat map"]}
    shutil.copytree(run["tables"][0], tmp_path / "other")
    twice["tables"] = [run["tables"][0], tmp_path / "other"]
    _, page = shown(twice, tmp_path / "page")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    names = [attributes["aria-label"] for attributes in page.of("svg")]
    assert len(names) == 6 and all(names)
    linked = [attributes["href"][1:] for attributes in page.of("a") if attributes["href"].startswith("#")]
    assert {"table-table", "table-other"} <= set(linked) <= set(ids)


def test_a_page_says_which_row_is_ahead_of_the_base_and_by_how_much(run, tmp_path):
    _, page = shown(run, tmp_path / "page")
    words = re.sub(r"\s+", " ", " ".join(page.words))
    assert f"{NASTY} 0.500 ± 0.100 old +0.100 [0.050, 0.150] ▶ clear" in words
    differences = next(a["aria-label"] for a in page.of("svg") if "difference" in a["aria-label"])
    assert differences == f"Title {NASTY}: difference in Spearman (valid) to old"
    hints = ["chance: 0.000", "oracle: place: 0.900 [0.800, 0.950]", "old (base): 0.400 ± 0.100"]
    hints += [f"{NASTY}: +0.100 [0.050, 0.150]", "near: +0.010 [-0.050, 0.070]", "reported: theirs: 0.88 ± 0.01 ?"]
    hints += ["apart: 0.200 [0.100, 0.300]", "leaked; trained on some of what it is judged by: 0.800 [0.700, 0.900]"]
    assert not set(hints).difference(page.words)
    assert "not paired" in page.words and "0.99" not in words


def test_a_row_trained_on_what_judges_it_is_not_ahead_and_less_may_be_better(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    spearman, mse = drawn_table.read(tmp_path / "table.csv")
    assert drawn_table.headlines([spearman, mse]) == [spearman], "chance, of MSE alone at first, does not count"
    verdicts = {line.label: spearman.verdict(line.difference) for line in spearman.lines if line.difference}
    assert verdicts == {"place": "ahead", NASTY: "ahead", "near": "level", "worse": "behind", "leaked": "ahead"}
    assert mse.summary()["best"] == NASTY and mse.summary()["other"] == "old" and mse.sign == -1
    worse = drawn_table.Column("", "Spearman", [line for line in spearman.lines if line.label in ("old", "worse")])
    found = worse.summary()
    assert (found["best"], found["other"], found["verdict"]) == ("old", "worse", "ahead")
    assert found["difference"] == "+0.300 [0.200, 0.400]"
    assert drawn_table.Column("", "Spearman", spearman.lines[:3]).summary() is None, "nothing to compare"


def test_a_heat_map_has_a_cell_for_each_value(run, tmp_path):
    _, page = shown(run | {"table_charts": ["heat map"]}, tmp_path / "page")
    name = next(n for n, (tag, a) in enumerate(page.tags) if tag == "svg")
    assert page.tags[name][1]["aria-label"] == f"Title {NASTY}"
    cells = [word for word in page.words if re.search(r", (MSE|Spearman \(valid\)): ", word)]
    assert len(cells) == 11 and "chance, MSE: 0.3000" in cells and f"{NASTY}, Spearman (valid): 0.500" in cells


def test_same_run_same_bytes(run, tmp_path):
    assert shown(run, tmp_path / "one")[0] == shown(run, tmp_path / "two")[0]


def test_neighbours_alone(run, tmp_path):
    needed = {name: run[name] for name in ("corpus", "rankings", "title", "top", "system", "member")}
    _, page = shown(needed, tmp_path / "page")
    assert page.count("svg") == page.count("table") == page.count("nav") == 0
    assert page.count("figure") == 4 * 3
    assert sorted(p.name for p in (tmp_path / "page").iterdir()) == ["index.html", "neighbours.csv"]


LOGS = {
    "head": "epoch,lr,train/mse,val/Spearman\n",
    "one": "epoch,lr,train/mse,val/Spearman\n1,0.1,0.5,0.1\n",
    "nan": "epoch,lr,train/mse,val/Spearman\n1,0.1,nan,\n2,0.1,inf,NaN\n",
    "flat": "epoch,lr,train/mse\n1,0.1,0\n2,0.1,0\n",
    "huge": "epoch,lr,train/mse\n1,0.1,1e30\n2,0.1,-1e-30\n",
}


@pytest.mark.parametrize("name", LOGS)
def test_odd_logs(run, tmp_path, name):
    log = run["runs"][0] / "log.csv"
    log.write_text(LOGS[name])
    _, page = shown(run | {"runs": run["runs"][:1], "run_names": run["run_names"][:1]}, tmp_path / "alone")
    assert page.count("svg") == 3 + {"flat": 1, "huge": 1}.get(name, 2)
    for _, attributes in page.tags:
        for value in attributes.values():
            assert not re.search(r"\b(nan|inf)\b", value or "")
    assert ("no values" in page.words) == (name in {"head", "nan"})
    _, page = shown(run, tmp_path / "with another")
    assert page.count("svg") == 5


@pytest.mark.parametrize("number", [0, 1, 2])
def test_few_judged_pairs(run, tmp_path, number):
    ranking(tmp_path / "few/all", [(f"q{n}", "r", 0.5, 1.0) for n in range(number)] + [("q", "s", 0.1, None)])
    _, page = shown(run | {"judged": [tmp_path / "few"], "judged_names": [["s", "all"]]}, tmp_path / "page")
    assert ("no values" in page.words) == (number == 0)
    assert any(("Spearman 0.000" in word) for word in page.words) == (number == 2)


def test_the_mean_is_of_epochs_that_all_members_have():
    members = {"a": [(1, 1.0), (2, 2.0)], "b": [(1, 3.0), (2, 6.0), (3, 5.0)]}
    assert charts.mean_line(members) == [(1, 2.0), (2, 4.0)]
    assert charts.band(members) == [(1, 1.0, 3.0), (2, 2.0, 6.0)]


@pytest.mark.parametrize("count", [3, 50])
def test_every_grade_lies_in_one_box(count):
    grade = np.random.default_rng(0).choice(np.linspace(0, 1, count), 300)
    edges, centres = charts.boxes(grade)
    assert len(edges) == len(centres) + 1 == min(count, charts.MAX_BOXES) + 1
    assert sum(((grade >= a) & (grade < b)).sum() for a, b in pairwise(edges)) == 300


def test_a_log_reads_as_it_was_written(tmp_path):
    pl.DataFrame({"epoch": [1, 2], "val/Spearman": [None, 0.25]}).write_csv(tmp_path / "log.csv")
    log = charts.read_log(tmp_path / "log.csv")
    assert log["epoch"] == [1, 2] and math.isnan(log["val/Spearman"][0]) and log["val/Spearman"][1] == 0.25


def test_pages_of_segments(data, tmp_path):  # noqa: F811
    """Queries with segments come first; each has a page with its maps, found and true segments."""
    corpus = tmp_path / "corpus"
    shutil.copytree(data / "corpus", corpus)
    ids = Store(data / "features/frames").ids
    videos = [dict.fromkeys(tables.SCHEMAS["videos"]) | {"video_id": v, "tags": [], "shard": 0} for v in ids]
    corpora.write_videos(tables.check("videos", pl.DataFrame(videos, infer_schema_length=None)), corpus, 1)
    true = tables.read("segments", corpus).sort("query_id")
    wrong = true[:1].with_columns(pl.lit("r5").alias("reference_id"))
    found = pl.concat([true[:4], wrong]).with_columns(pl.lit(0.5).alias("score"))
    tables.write("segments", found.cast(tables.SCHEMAS["segments"]), _made(tmp_path / "segments"))
    illustrate(
        corpus=corpus,
        output=_made(tmp_path / "page"),
        title=NASTY,
        top=5,
        system=f"aligner{NASTY}",
        member="all",
        segments=tmp_path / "segments",
        features=[data / "features"],
        similarity_map={"expert": "frames"},
        split="copies_val",
    )
    index = Page((tmp_path / "page/index.html").read_text(encoding="utf-8"))
    rows = re.findall(r"(q\d) 1 ([01]) ([01]) ", re.sub(r"\s+", " ", " ".join(index.words)))
    assert rows == [("q0", "1", "1"), ("q1", "1", "0"), ("q2", "1", "0"), ("q3", "1", "0"), ("q4", "0", "0")]
    files = [attributes["href"] for tag, attributes in index.tags if tag == "a"]
    assert (
        sorted(p.name for p in (tmp_path / "page").iterdir()) == ["index.html", *files] and index.count("script") == 0
    )
    first, last = (Page((tmp_path / "page" / file).read_text(encoding="utf-8")) for file in (files[0], files[-1]))
    kinds = [attributes.get("class") for tag, attributes in first.tags if tag == "rect"]
    assert (first.count("svg"), kinds.count("segment"), kinds.count("true")) == (2, 2, 1) and first.open == []
    assert "no true segment" in first.words and last.count("svg") == 1 and last.count("table") == 0
