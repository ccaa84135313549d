"""Ad-hoc video search: shots, topics and judgements, NIST's measures on NIST's numbers, and run files."""

import gzip
import json
import shutil

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paths import fixtures, realdata
from test_search_stage import same_value
from videomatch.corpora import avs as corpus
from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.data.store import StoreWriter
from videomatch.data.tables import ranked
from videomatch.metrics import avs
from videomatch.reports import submission_avs
from videomatch.specs.reports import Submission
from videomatch.stages.evaluate import evaluate
from videomatch.stages.prepare import prepare
from videomatch.stages.search import search
from videomatch.stages.submit import submit

NAMES = {"infAP": "infAP", "infNDCG": "infNDCG", "iP10": "iP@10", "iP100": "iP@100", "iP1000": "iP@1000"}
NAMES |= {"inum_rel_ret": "relevant returned", "inum_rel": "relevant"}


def files():
    return realdata() / "text_annotations_avs"


@pytest.fixture(scope="module")
def pools():
    """topic -> shot -> (stratum, judgement) of the judgements of 2021, read without the package."""
    found = {}
    for line in (files() / "bmezaris+TextToVideoRetrieval-TtimesV/avs.qrels.main.tv21").read_text().splitlines():
        topic, _, shot, stratum, judgement = line.split()
        found.setdefault(topic, {})[shot] = (int(stratum) - 1, int(judgement))
    return found


def scored(run, pools):
    """The measures of a run in treceval's format, topic by topic."""
    answers = {}
    for line in run.splitlines():
        topic, _, shot, _, score, _ = line.split()
        answers.setdefault(topic, []).append((float(score), shot))
    found = {}
    for topic, shots in answers.items():
        pool = np.array(list(pools[topic].values()))
        listed = np.array([pools[topic].get(shot, (-1, -1)) for _, shot in sorted(shots, reverse=True)])
        found[topic] = avs.inferred(listed[:, 0], listed[:, 1], (pool[:, 0], pool[:, 1]))
    return found


def test_fixture_every_run_and_topic_equals_nist(pools):
    expected, compared = json.loads((fixtures() / "avs_infap_expected.json").read_text()), 0
    for name, about in expected.items():
        run = gzip.decompress((fixtures() / f"avs_infap/{name}.txt.gz").read_bytes()).decode()
        found = scored(run, pools)
        assert len(found) == about["topics_in_run"]
        for topic, values in about["values"].items():
            if topic == "all":
                for theirs, value in values.items():
                    if theirs in NAMES and not theirs.startswith("inum"):
                        mean = np.mean([v[NAMES[theirs]] for v in found.values()])
                        assert mean == pytest.approx(value, rel=1e-9, abs=1e-11), (name, theirs)
                continue
            for theirs, value in values.items():
                if theirs in NAMES:
                    assert found[topic][NAMES[theirs]] == pytest.approx(value, rel=1e-9, abs=1e-11), (name, topic)
                    compared += 1
    assert compared == 94 * 7


@pytest.mark.parametrize("name", ["ideal", "random", "short"])
def test_real_runs_equal_what_nists_program_printed(name, pools):
    folder = realdata() / "derived/avs_sample_eval"
    found = scored((folder / f"{name}.run").read_text(), pools)
    lines = (folder / f"{name}.run.sample_eval.txt").read_text().splitlines()
    compared = 0
    for line in lines:
        theirs, topic, value = line.split()
        if topic in found and theirs in NAMES:
            assert found[topic][NAMES[theirs]] == pytest.approx(float(value), abs=5.1e-5), line
            compared += 1
        elif topic == "all" and theirs in ("infAP", "infNDCG", "iP10", "iP100"):
            mean = np.mean([values[NAMES[theirs]] for values in found.values()])
            assert mean == pytest.approx(float(value), abs=5.1e-5), line
    assert compared >= 20 * 7
    if name == "ideal":  # more than 1,000 relevant shots are expected of 8 topics: better than perfect
        assert max(values["infAP"] for values in found.values()) > 1


def test_a_pool_that_is_judged_whole_gives_plain_average_precision():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        judgement = (rng.random(200) < 0.2).astype(int)
        pool = (np.zeros(200, int), judgement)
        found = avs.inferred(np.zeros(200, int), judgement, pool, ks=(10,))
        assert found["infAP"] == pytest.approx(average_precision_score(judgement, -np.arange(200)), abs=1e-4)
        assert found["iP@10"] == pytest.approx(judgement[:10].mean(), abs=1e-4)
        assert found["relevant"] == judgement.sum() and found["relevant returned"] == pytest.approx(
            judgement.sum(), 1e-4
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60))
def test_the_measures_equal_a_walk_down_the_list(seed, length):
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 3, 80), rng.integers(-1, 2, 80)
    drawn = rng.permutation(110)[:length]  # 30 shots were never pooled
    listed = [(int(pool[0][n]), int(pool[1][n])) if n < 80 else (-1, -1) for n in drawn]
    walked = by_hand(listed, *pool)
    array = np.array(listed, int).reshape(-1, 2)
    assert avs.inferred(array[:, 0], array[:, 1], pool)["infAP"] == pytest.approx(walked, abs=1e-12)


def by_hand(listed, strata, judgements):
    seen, judged, relevant = (dict.fromkeys(range(3), 0) for _ in range(3))
    sums = dict.fromkeys(range(3), 0.0)
    for rank, (c, judgement) in enumerate(listed, start=1):
        if judgement == 1:
            above = sum(seen[b] * (relevant[b] + 1e-5) / (judged[b] + 3e-5) for b in seen if seen[b])
            sums[c] += (1 + above) / rank
            relevant[c] += 1
        if c >= 0:
            seen[c] += 1
            judged[c] += judgement >= 0
    of_stratum = [judgements[strata == c] for c in range(3)]
    counts = [(len(pooled), (pooled >= 0).sum(), (pooled > 0).sum()) for pooled in of_stratum]
    expected = [r * N / n if n else 0 for N, n, r in counts]
    return sum(e / sum(expected) * sums[c] / counts[c][2] for c, e in enumerate(expected) if counts[c][2])


def test_nothing_judged_nothing_returned_nothing_relevant():
    none = np.zeros(0, int)
    assert avs.inferred(none, none, (none, none))["infAP"] == 0
    unjudged = (np.zeros(4, int), np.full(4, -1))
    assert avs.inferred(np.zeros(4, int), np.full(4, -1), unjudged)["infAP"] == 0
    pool = (np.zeros(4, int), np.array([1, 0, 1, 0]))
    found = avs.inferred(none, none, pool)
    assert found["infAP"] == 0 == found["iP@10"] and found["relevant"] == 2
    only_unpooled = avs.inferred(np.full(5, -1), np.full(5, 1), pool)
    assert only_unpooled["infAP"] == 0 == only_unpooled["iP@10"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The topics and judgements of 2019 to 2021, and the pooled shots as those that there are."""
    folder = tmp_path_factory.mktemp("v3c1")
    source = files() / "bmezaris+TextToVideoRetrieval-TtimesV"
    names = ("trecvid.progress.avs.topics_parsed.txt", "tv19.avs.topics_parsed.txt", "tv19_20.avs.topics_parsed.txt")
    for name in (*names, "tv21.avs.topics.txt", "avs.qrels.main.tv21", "V3C1.dropped.shots.list"):
        shutil.copy(source / name, folder)
    shutil.copy(files() / "li-xirong+avs/tv20.avs.txt", folder)
    lines = (source / "avs.qrels.main.tv21").read_text().splitlines()
    dropped = (source / "V3C1.dropped.shots.list").read_text().split()[:2]
    (folder / "shots.txt").write_text(" ".join(sorted({line.split()[2] for line in lines} | set(dropped))))
    return folder


def test_real_topics_and_judgements(raw):
    found = corpus.read(raw=raw, shots="shots.txt")
    for name, rows in found.items():
        assert rows.equals(tables.check(name, rows))
    wanted = {"captions_progress": 20, "captions_tv19": 30, "captions_tv20": 20, "captions_tv21": 20}
    assert {s for s in found["splits"]["split"] if s != "shots"} == set(wanted)
    for split, count in wanted.items():
        assert len(split_ids(found["splits"], split, "query")) == count
        assert len(split_ids(found["splits"], split, "reference")) == len(found["videos"])
    said = dict(found["texts"].select("text_id", "text").iter_rows())
    assert said["661"] == "a hang glider floating in the sky on a sunny day"
    assert split_ids(found["splits"], "captions_tv21", "query") == [str(n) for n in range(661, 681)]
    pool = found["strata"]
    assert len(pool) == 124_431 and pool["query_id"].n_unique() == 20
    judgement = pl.col("judgement")
    counted = pool.group_by("stratum").agg(pl.len(), judged=(judgement >= 0).sum(), relevant=(judgement == 1).sum())
    assert sorted(counted.iter_rows()) == [
        ("1", 15_822, 15_822, 7021),
        ("2", 19_727, 19_727, 5174),
        ("3", 88_882, 22_869, 3454),
    ]
    assert len(found["relevance"]) == 15_822 + 19_727 + 22_869 and found["relevance"]["grade"].sum() == 15_649
    assert set(found["rejected"]["reason"]) == {"on the list of dropped shots"} and len(found["rejected"]) == 2
    assert set(found["rejected"]["video_id"]).isdisjoint(found["videos"]["video_id"])


def test_topics_of_the_first_editions(tmp_path):
    for year in (16, 17, 18):
        shutil.copy(files() / f"li-xirong+avs/tv{year}.avs.txt", tmp_path)
    (tmp_path / "msb").mkdir()
    (tmp_path / "msb/39238.msb").write_text("shots of f\xe9te\n0 99\n100 250\n\n", encoding="iso-8859-1")
    found = corpus.read(raw=tmp_path)
    for year in (16, 17, 18):
        assert len(split_ids(found["splits"], f"captions_tv{year}", "query")) == 30
    assert found["sources"].rows() == [("shot39238_1", "39238", None, None), ("shot39238_2", "39238", None, None)]
    assert found["relevance"].is_empty() and "strata" not in found
    (tmp_path / "tv16.avs.txt").write_text("501 x\n")
    with pytest.raises(ValueError, match=r"edition 'tv16': 1 of the topics 501 to 530, 502 is missing"):
        corpus.read(raw=tmp_path)
    assert len(split_ids(corpus.read(raw=tmp_path, partial=True)["splits"], "captions_tv16", "query")) == 1


def test_shots_of_the_reference_with_times_and_files(tmp_path):
    (tmp_path / "msb").mkdir()
    heading = "startframe\tstarttime\tendframe\tendtime\n"
    (tmp_path / "msb/00008.tsv").write_text(heading + "0\t0.0\t49\t1.96\n50\t2.0\t99\t3.96\n")
    (tmp_path / "msb/00012.tsv").write_text(heading + "0\t0.0\t10\t0.4\n")
    (tmp_path / "a.avs.txt").write_text("661  Find shots of a dog\n662 a cat\n")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/shot00008_2.mp4").touch()
    found = corpus.read(raw=tmp_path, partial=True)
    # the end frame is the last one of a shot
    assert found["sources"].rows()[:2] == [("shot00008_1", "00008", 0.0, 2.0), ("shot00008_2", "00008", 2.0, 4.0)]
    assert found["videos"]["start"].to_list() == [None] * 3
    assert found["videos"]["path"].to_list() == [None, str(tmp_path / "videos/shot00008_2.mp4"), None]
    assert found["texts"]["text"].to_list() == ["a dog", "a cat"]
    (tmp_path / "valid").write_text("8 2\n12 1\n")
    again = corpus.read(raw=tmp_path, shots="valid", partial=True)
    assert again["videos"]["video_id"].to_list() == found["videos"]["video_id"].to_list()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("msb/00008.tsv", "h\n0\t0\n", "00008.tsv, line 2: .*expected 4 numbers from 0 up, the end not before"),
        ("msb/00008.tsv", "h\n9\t0\t3\t1\n", "expected 4 numbers from 0 up, the end not before"),
        ("msb/00008.tsv", "h\nnot found\n", "line 2: 'not found', expected 4 numbers"),
        ("msb/00008.tsv", "<html>", "no shot in it"),
        ("msb/film.msb", "0 9\n", "is no film's number"),
        ("a.avs.txt", "a person playing guitar\n", "a.avs.txt, line 1: 'a person playing guitar', expected a topic"),
        ("a.avs.txt", "661\n", "expected a topic's number, a blank, its query"),
        ("b.avs.txt", "661 a bird\n", "topic 661 reads 'a bird', in .*a.avs.txt otherwise"),
        ("a.avs.txt", "9999 a bird\n", "topic 9999 belongs to no edition, expected one of tv16 501-530"),
        ("avs.qrels.x", "1661 0 shot00008_1 1\n", "line 1: expected 5 cells"),
        ("avs.qrels.x", "1661 0 shot00008_1 1 2\n", "'1661 0 shot00008_1 1 2', expected 1<topic> 0 shot"),
        ("avs.qrels.x", "661 0 shot00008_1 1 1\n", "expected 1<topic> 0 shot"),
        ("avs.qrels.x", "1661 0 clip8 1 1\n", "expected 1<topic> 0 shot"),
        ("avs.qrels.x", "1662 0 shot00008_1 1 1\n", "judges topic 662, which no file of topics has"),
        ("avs.qrels.x", "1661 0 shot00008_1 1 1\n1661 0 shot00008_1 2 0\n", "shot00008_1 of topic 661 stands twice"),
        ("x.dropped.shots.list", "<html>", "'<html>' is no shot"),
    ],
)
def test_wrong_files_are_refused(tmp_path, name, text, message):
    (tmp_path / "msb").mkdir()
    (tmp_path / "msb/00008.tsv").write_text("h\n0\t0\t9\t0.4\n")
    (tmp_path / "a.avs.txt").write_text("661 a dog\n")
    corpus.read(raw=tmp_path, partial=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        corpus.read(raw=tmp_path, partial=True)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"looked for the folder or file .*msb"):
        corpus.read(raw=tmp_path)
    (tmp_path / "msb").mkdir()
    with pytest.raises(ValueError, match=r"looked for \*.tsv and \*.msb"):
        corpus.read(raw=tmp_path)
    (tmp_path / "msb/1.msb").write_text("0 9\n")
    with pytest.raises(ValueError, match=r"topics are missing; looked for \*.avs.txt"):
        corpus.read(raw=tmp_path)


RUN = {"trType": "D", "class": "F", "task": "M", "novelty": "C", "pid": "TEAM", "priority": 1}
RUN |= {"desc": "a <test> & more"}


@pytest.fixture(scope="module")
def searched(raw, tmp_path_factory):
    """Random embeddings of the topics of 2021 but three, and of shots that were pooled for five of them; searched."""
    folder = tmp_path_factory.mktemp("avs")
    for name in ("corpus", "raw"):
        (folder / name).mkdir()
    lines = (raw / "avs.qrels.main.tv21").read_text().splitlines(keepends=True)
    lines = [line for line in lines if line.split()[0] in ("1661", "1662", "1663", "1679", "1680")]
    (folder / "raw/avs.qrels.some").write_text("".join(lines))
    (folder / "raw/shots.txt").write_text(" ".join(sorted({line.split()[2] for line in lines if hash_of(line) < 3})))
    shutil.copy(raw / "tv21.avs.topics.txt", folder / "raw")
    given = {"dataset": "v3c1", "corpus": "avs", "shards": 1, "seed": 0, "options": {"shots": "shots.txt"}}
    prepare(output=folder / "corpus", raw=str(folder / "raw"), **given)
    rng = np.random.default_rng(0)
    splits = tables.read("splits", folder / "corpus")
    shots, topics = (split_ids(splits, "captions_tv21", role) for role in ("reference", "query"))
    for name, ids in (("videos", shots), ("texts", topics[:-3])):
        with StoreWriter(folder / "embeddings/all" / name, shape=(8,), dtype="float32") as writer:
            writer.add_rows(ids, rng.normal(size=(len(ids), 8)).astype(np.float32))
    for top in (1000, 999):
        options = {"split": "captions_tv21", "kind": "text_video", "members": {"all": None}, "top": top}
        out = folder / f"rankings{top}"
        search(corpus=folder / "corpus", embeddings=folder / "embeddings", output=out, **options)
    return folder


def hash_of(line):
    return sum(map(ord, line.split()[2])) % 10


def test_evaluate_measures_the_pool(searched, pools):
    metrics = ["infAP", "infAP (NIST)", "iP@10", "iP@100 (NIST)", "infNDCG", "R@1"]
    given = {"rankings": searched / "rankings1000", "metrics": metrics, "members": ["all"]}
    evaluate(output=searched / "m", corpus=searched / "corpus", **given)
    result = json.loads((searched / "m/all/metrics.json").read_text())
    table = tables.read("rankings", searched / "rankings1000/all")
    lines = []
    for (topic,), rows in table.group_by("query_id"):
        best = sorted(zip(rows["score"], rows["reference_id"], strict=True), reverse=True)[:1000]
        lines += [f"1{topic} 0 {shot} 1 {score!r} x" for score, shot in best]
    wanted = scored("\n".join(line for line in lines if line[:4] in ("1661", "1662", "1663")), pools)
    assert result["metrics"]["infAP (NIST)"] == pytest.approx(np.mean([v["infAP"] for v in wanted.values()]), rel=1e-9)
    assert result["metrics"]["infAP"] == pytest.approx(np.sum([v["infAP"] for v in wanted.values()]) / 5, rel=1e-9)
    assert result["metrics"]["iP@10"] == pytest.approx(np.sum([v["iP@10"] for v in wanted.values()]) / 5, rel=1e-9)
    assert result["metrics"]["iP@100 (NIST)"] == pytest.approx(np.mean([v["iP@100"] for v in wanted.values()]))
    assert result["counts"]["judged topics"] == 5 and result["counts"]["judged topics without an answer"] == 2
    assert result["chance"]["infAP"] == pytest.approx(result["metrics"]["infAP"] * 5 / 3, rel=0.6), (
        "embeddings are random"
    )
    assert result["resampled"]["name"] == "queries" and result["resampled"]["units"] == 5
    assert same_value(result, tables.read("statistics", searched / "m/all")) == set(metrics)


def test_evaluate_says_what_a_pool_needs(searched, tmp_path):
    given = {"members": ["all"], "output": tmp_path, "metrics": ["infAP"]}
    with pytest.raises(ValueError, match=r"fewer than 1000 ranked references.*\(`top`\)"):
        evaluate(rankings=searched / "rankings999", corpus=searched / "corpus", **given)
    tables.write("splits", tables.read("splits", searched / "corpus"), tmp_path / "bare")
    with pytest.raises(ValueError, match=r"has no judged pool \(table strata\) of protocol 'captions_tv21'"):
        evaluate(rankings=searched / "rankings1000", corpus=tmp_path / "bare", **given)
    with pytest.raises(ValueError, match="no metric named 'infap'; did you mean 'infAP'"):
        evaluate(rankings=searched / "rankings1000", corpus=searched / "corpus", **(given | {"metrics": ["infap"]}))


def test_ties_go_to_the_later_shot():
    rows = [("q", s, 1.0, None, 0, 2) for s in ("shot1_1", "shot2_1", "shot1_9")] + [("q", "shot9_9", 0.5, 1.0, 3, 0)]
    table = pl.DataFrame(rows, schema=tables.SCHEMAS["rankings"], orient="row")
    assert ranked(table, 1000, 4)["reference_id"].to_list() == ["shot2_1", "shot1_9", "shot1_1", "shot9_9"]
    assert ranked(table, 2, 4)["rank"].to_list() == [1, 2]
    with pytest.raises(ValueError, match="1 queries have fewer than 5 ranked references, first 'q'"):
        ranked(table, 1000, 5)


def test_submit_writes_a_run_that_the_checker_accepts(searched, tmp_path):
    splits = tables.read("splits", searched / "corpus")
    given = {"corpus": searched / "corpus", "results": [searched / "rankings1000"], "member": "all", "format": "avs"}
    with pytest.raises(ValueError, match="3 of 20 topics have no ranking, first '678'"):
        submit(output=tmp_path, split="captions_tv21", run=RUN, **given)
    lost = pl.col("id").is_in(["678", "679", "680"])
    shutil.copytree(searched / "corpus", tmp_path / "corpus")
    tables.write("splits", splits.filter(~lost), tmp_path / "corpus")
    given["corpus"] = tmp_path / "corpus"
    submit(output=tmp_path, split="captions_tv21", run=RUN, elapsed=3, **given)
    about = json.loads((tmp_path / "submission.json").read_text())
    assert about["topics"] == 17 and about["shots"] == 17_000 and about["run"]["class"] == "F"
    text = (tmp_path / "run.xml").read_text()
    best = ranked(tables.read("rankings", searched / "rankings1000/all"), 1000, 10**6).row(0)
    assert f'<item seqNum="1" shotId="{best[2]}" />' in text and 'desc="a &lt;test&gt; &amp; more"' in text
    assert 'tNum="661" elapsedTime="3"' in text and "videoAdhocSearchResults.dtd" in text
    for options, message in (
        ({"run": RUN | {"class": "X"}}, "class 'X', expected one of F, M, R"),
        ({"run": {k: v for k, v in RUN.items() if k != "pid"}}, "attribute 'pid' is missing"),
        ({"run": RUN | {"colour": "red"}}, "unknown attribute 'colour'"),
        ({"run": RUN | {"priority": 11}}, "priority '11', expected one of 1, 2"),
        ({"split": "captions_tv20", "run": RUN}, "ranks split 'captions_tv21', to submit is 'captions_tv20'"),
        ({"elapsed": 0.5, "run": RUN}, "elapsedTime '0.5', expected a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            submit(**({"output": tmp_path, "split": "captions_tv21"} | given | options))


def test_a_run_that_cannot_be_is_found_with_the_parameters():
    def wrong(split, **run):
        entry = {"dataset": "v", "split": split, "system": "s", "format": "avs", "run": {**RUN, "desc": "x", **run}}
        return [text for _, text in Submission.read(entry).mistakes()]

    assert wrong("captions_tv21", task="M") == wrong("captions_progress", task="P") == []
    assert wrong("captions_tv21", task="M", **{"class": "X"}) == ["class 'X', expected one of F, M, R"]
    assert "is the main task, but 'captions_progress_1' has" in wrong("captions_progress_1", task="M")[0]
    assert "named captions_progress" in wrong("captions_tv21", task="P")[0]


ITEM = '<item seqNum="{}" shotId="{}" />'
GOOD = ITEM.format(1, "shot1_1") + ITEM.format(2, "shot1_2")


def run_of(answers, start="", **attributes):
    said = " ".join(f'{k}="{v}"' for k, v in (RUN | {"desc": "x"} | attributes).items() if v is not None)
    body = "".join(
        f'<videoAdhocSearchTopicResult tNum="{topic}" elapsedTime="{elapsed}">{items}</videoAdhocSearchTopicResult>'
        for topic, elapsed, items in answers
    )
    inner = f"<videoAdhocSearchRunResult {said}>{body}</videoAdhocSearchRunResult>"
    return f"{start}<videoAdhocSearchResults>{inner}</videoAdhocSearchResults>"


def test_what_others_write_is_accepted(tmp_path):
    start = f'<?xml version="1.0"?>\n<!DOCTYPE videoAdhocSearchResults SYSTEM "{submission_avs.DTD}">\n'
    (tmp_path / "run.xml").write_text(run_of([("2", 0, ""), ("1", 12, GOOD)], start))
    submission_avs.check(tmp_path / "run.xml", ["1", "2"], ["shot1_1", "shot1_2"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (run_of([("1", 1, GOOD)]), "1 of 2 topics are missing, first '2'"),
        (run_of([("1", 1, GOOD), ("1", 1, GOOD), ("2", 1, "")]), "topic '1' occurs twice"),
        (run_of([("1", 1, GOOD), ("3", 1, GOOD), ("2", 1, "")]), "topic '3': .* expected one of the 2 topics"),
        (run_of([("1", 0.5, GOOD), ("2", 1, "")]), "elapsedTime '0.5', expected a whole number"),
        (run_of([("1", -1, GOOD), ("2", 1, "")]), "elapsedTime '-1'"),
        (run_of([("1", 1, ITEM.format(1, "shot9_9")), ("2", 1, "")]), "seqNum 1: there is no shot 'shot9_9'"),
        (run_of([("1", 1, GOOD + ITEM.format(3, "shot1_1")), ("2", 1, "")]), "shot shot1_1 occurs twice"),
        (run_of([("1", 1, ITEM.format(2, "shot1_1") + ITEM.format(2, "shot1_2"))]), "seqNum 2 occurs twice"),
        (run_of([("1", 1, ITEM.format(0, "shot1_1"))]), "seqNum '0', expected 1 to 1000"),
        (run_of([("1", 1, ITEM.format(1001, "shot1_1"))]), "seqNum '1001', expected 1 to 1000"),
        (run_of([("1", 1, ITEM.format("x", "shot1_1"))]), "seqNum 'x', expected 1 to 1000"),
        (run_of([("1", 1, '<shot seqNum="1" shotId="shot1_1" />')]), "shot with seqNum '1'"),
        (
            run_of([("1", 1, "".join(ITEM.format(n, "shot1_1") for n in range(1001)))]),
            "names 1001 shots, expected at most",
        ),
        (run_of([("1", 1, GOOD), ("2", 1, "")], trType="B"), "trType 'B', expected one of A, D, E, F"),
        (run_of([("1", 1, GOOD), ("2", 1, "")], task=None), "attribute 'task' is missing"),
        (run_of([("1", 1, GOOD), ("2", 1, "")], pid=" "), "attribute 'pid' is missing"),
        (run_of([("1", 1, GOOD), ("2", 1, "")], algo="C"), "unknown attribute 'algo'"),
        ("<videoAdhocSearchResults/>", "expected videoAdhocSearchRunResult"),
        ("<a><videoAdhocSearchRunResult/></a>", "expected videoAdhocSearchRunResult"),
        (run_of([("1", 1, GOOD), ("2", 1, "")])[:-9], "is not XML"),
        ("661 0 shot1_1 1 9998 x", "is not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + run_of([("1", 1, GOOD)]), "declares an entity"),
    ],
)
def test_broken_runs_are_refused(tmp_path, text, message):
    (tmp_path / "run.xml").write_text(text)
    with pytest.raises(ValueError, match=message):
        submission_avs.check(tmp_path / "run.xml", ["1", "2"], ["shot1_1", "shot1_2"])
