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
from videomatch.reports import charts
from videomatch.stages.illustrate import illustrate

NASTY = '<script>alert("1")</script>&'
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
    assert page.count("svg") == 3, "one scatter, one chart of a loss, one of a metric"
    assert page.count("table") == 1
    assert page.count("tr") == 3
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
    assert "<b>&" not in text
    assert "http" not in text and "url(" not in text.replace("url(#", "") and "@import" not in text
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "image"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))


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
    assert page.count("svg") == 1 + {"flat": 1, "huge": 1}.get(name, 2)
    for _, attributes in page.tags:
        for value in attributes.values():
            assert not re.search(r"\b(nan|inf)\b", value or "")
    assert ("no values" in page.words) == (name in {"head", "nan"})
    _, page = shown(run, tmp_path / "with another")
    assert page.count("svg") == 3


@pytest.mark.parametrize("number", [0, 1, 2])
def test_few_judged_pairs(run, tmp_path, number):
    ranking(tmp_path / "few/all", [(f"q{n}", "r", 0.5, 1.0) for n in range(number)] + [("q", "s", 0.1, None)])
    _, page = shown(run | {"judged": [tmp_path / "few"], "judged_names": [["s", "all"]]}, tmp_path / "page")
    assert ("no values" in page.words) == (number == 0)
    assert any(("Spearman 0.000" in word) for word in page.words) == (number == 2)


def test_the_mean_is_of_epochs_that_all_members_have():
    members = {"a": [(1, 1.0), (2, 2.0)], "b": [(1, 3.0), (2, 6.0), (3, 5.0)]}
    assert charts.mean_line(members) == [(1, 2.0), (2, 4.0)]


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
