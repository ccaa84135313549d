"""What training and test videos share: planted twins are found, strangers not, and what the real files say."""

import json
import re
import zipfile

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import clips
import small_project
from paths import realdata
from repo import Repo
from videomatch.corpora import msrvtt, msvd
from videomatch.data import leaks, tables
from videomatch.data.corpus import write_videos
from videomatch.data.store import Store, StoreWriter
from videomatch.data.tables import SCHEMAS
from videomatch.pipeline import jobs, params, rules
from videomatch.pipeline.plan import Plan
from videomatch.specs.reports import Table
from videomatch.stages.check_leaks import check_leaks


def frame(name, rows):
    return pl.DataFrame(rows, schema=SCHEMAS[name], orient="row")


@pytest.fixture
def corpus(tmp_path):
    """Videos a0 to a3 to train on, t0 to t3 to test with; a3 is in both."""
    splits = [("captions_train", "reference", f"a{n}") for n in range(4)]
    splits += [("captions_train", "query", f"a{n}:0") for n in range(4)]
    splits += [("captions_test", "reference", i) for i in ("t0", "t1", "t2", "t3", "a3")]
    splits += [("captions_test", "query", i) for i in ("t0:0", "t1:0", "t2:0")] + [("all", "reference", "t3")]
    captions = {"a0": "A man, running.", "a1": "a dog", "a2": "a CAT", "a3": "x"}
    captions |= {"t0": "a man running", "t1": "a dog", "t2": "y"}
    texts = [(f"{v}:0", v, "caption", None, None, None, words, None) for v, words in captions.items()]
    texts += [("t2:1", "t2", "caption", None, None, None, "a cat", None)]  # no query of the protocol
    sources = [("a0", "film", 0.0, 5.0), ("a1", "film", 9.0, 12.0), ("a2", "reel", None, None)]
    sources += [("a3", "other", 0.0, 1.0), ("t0", "film", 4.0, 10.0), ("t1", "film", 12.0, 13.0)]
    sources += [("t2", "reel", 3.0, 4.0), ("t3", "film", 5.05, 8.0)]
    for name, rows in (("splits", splits), ("texts", texts), ("sources", sources)):
        tables.write(name, frame(name, rows), tmp_path / "corpus")
    rng = np.random.default_rng(0)
    rows = {i: rng.normal(size=(3, 16)) for i in ("a0", "a1", "a2", "t0", "t1", "t2")}
    rows["t2"] = np.concatenate([rows["a2"]] * 2) * 7 + rng.normal(size=(6, 16)) * 0.01
    with StoreWriter(tmp_path / "features", shape=(16,), dtype="float32") as writer:
        for i, values in rows.items():
            writer.add(i, values.astype(np.float32))
        writer.add("t3", np.zeros((0, 16), np.float32))
    return tmp_path


def pairs(found, check):
    return sorted(found.filter(pl.col("check") == check).select("test_id", "train_id").iter_rows())


def test_planted_twins_are_found_and_strangers_are_not(corpus):
    found = leaks.find_leaks(corpus / "corpus", ["captions_train"], ["captions_test"], [corpus / "features"])
    assert pairs(found, "same id") == [("a3", "a3")]
    assert pairs(found, "same source") == [("t0", "a0"), ("t0", "a1"), ("t2", "a2")]  # t1 begins where a1 ends
    assert pairs(found, "same text") == [("t0", "a0"), ("t1", "a1")]
    assert pairs(found, "near vector") == [("t2", "a2")]
    amount = dict(found.filter(pl.col("check") == "same source").select("train_id", "amount").iter_rows())
    assert amount == {"a0": 1.0, "a1": 1.0, "a2": None}
    assert found.filter(pl.col("check") == "near vector")["amount"][0] > 0.999
    pooled = leaks.find_leaks(corpus / "corpus", ["captions_train", "all"], ["captions_test"])
    assert ("t3", "t3") in pairs(pooled, "same id") and not pairs(pooled, "near vector")


def test_what_is_told(corpus):
    sides = (corpus / "corpus", ["captions_train"], ["captions_test"])
    text, count = leaks.report(*sides, [corpus / "features"])
    assert count == 3 and "5 test videos against 4 training videos" in text
    assert "same source: 2 test videos (40.0 %), 3 pairs\n  t0 ~ a0: film (1)" in text
    assert "near vector: not compared" in leaks.report(*sides)[0]
    assert "near vector: 1 test videos (20.0 %), 1 pairs" in text and "same id: 1 test videos" in text


def test_what_cannot_be_compared_is_an_error(corpus):
    with pytest.raises(ValueError, match="no split 'nothing'"):
        leaks.find_leaks(corpus / "corpus", ["nothing"], ["captions_test"])
    with StoreWriter(corpus / "bad", shape=(2,), dtype="float32") as writer:
        writer.add("a0", np.ones((1, 2), np.float32))
        writer.add("t0", np.full((1, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="the vectors of 't0' are not finite"):
        leaks.find_leaks(corpus / "corpus", ["captions_train"], ["captions_test"], [corpus / "bad"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 10)), min_size=2, max_size=14))
def test_overlaps_equal_the_obvious_search(cut):
    rows = [
        (f"v{n}", f"film{film}", float(start), float(start + length)) for n, (film, start, length) in enumerate(cut)
    ]
    half = len(rows) // 2
    found = leaks.same_source(*[frame("sources", rows)] * 2, [r[0] for r in rows[:half]], [r[0] for r in rows[half:]])
    wanted = {
        (a[0], b[0]): min(a[3], b[3]) - max(a[2], b[2])
        for a in rows[:half]
        for b in rows[half:]
        if a[1] == b[1] and min(a[3], b[3]) - max(a[2], b[2]) >= leaks.SHARED
    }
    got = {(a, b): amount for a, b, amount in found.select("test_id", "train_id", "amount").iter_rows()}
    assert got == pytest.approx(wanted)


def test_vectors_are_compared_across_chunks(tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 8)).astype(np.float32)
    rows[41], rows[55] = rows[3] * 2, rows[29]
    ids = [f"v{n}" for n in range(60)]
    with StoreWriter(tmp_path / "s", shape=(8,), dtype="float32") as writer:
        writer.add_rows(ids, rows)
    for size in (7, 1024):
        found = leaks.near_vectors(Store(tmp_path / "s"), ids[:30], ids[30:], block=size)
        assert sorted(found.select("test_id", "train_id").iter_rows()) == [("v29", "v55"), ("v3", "v41")]


def test_real_msrvtt_1ka_test_against_the_training_clips_of_the_official_test(tmp_path):
    """Address and time alone: the annotations of the other 7,010 training videos are not at hand."""
    source = realdata() / "text_annotations"
    with zipfile.ZipFile(source / "WingsBrokenAngel+MSR-VTT-DataCleaning/test_videodatainfo.json.zip") as opened:
        opened.extractall(tmp_path)
    for name in ("MSRVTT_JSFUSION_test.csv", "MSRVTT_train.9k.csv"):
        (tmp_path / name).write_bytes((source / "www-2025+EAT" / name).read_bytes())
    for name, rows in msrvtt.read(raw=tmp_path, partial=True).items():
        tables.write(name, rows, tmp_path / "corpus")
    found = leaks.find_leaks(tmp_path / "corpus", ["train_9k"], ["captions_1ka_test"])
    counts = {check: len(pairs(found, check)) for check in ("same id", "same source", "same text")}
    found_videos = found.filter(pl.col("check") == "same source")["test_id"].n_unique()
    assert counts == {"same id": 0, "same source": 55, "same text": 635} and found_videos == 52
    sources = tables.read("sources", tmp_path / "corpus")
    where = {i: (s, a, b) for i, s, a, b in sources.iter_rows()}
    for test_id, train_id in pairs(found, "same source"):
        (one, a, b), (two, c, d) = where[test_id], where[train_id]
        assert one == two and min(b, d) - max(a, c) >= leaks.SHARED


def test_real_msvd_splits_share_no_second(tmp_path):
    source = realdata() / "text_annotations/layer6ai-labs+xpool"
    (tmp_path / "captions_msvd.json").write_bytes((source / "captions_msvd.json").read_bytes())
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}_list.txt").write_bytes((source / f"msvd_{split}_list.txt").read_bytes())
    for name, rows in msvd.read(raw=tmp_path).items():
        tables.write(name, rows, tmp_path / "corpus")
    found = leaks.find_leaks(tmp_path / "corpus", ["captions_train"], ["captions_test"])
    assert not pairs(found, "same id") and not pairs(found, "same source")
    # of 670; "a man is singing" says too little to tell a twin
    assert found["test_id"].n_unique() == 556


# --- tables: what a row's systems learned from, against what it is judged by

PARAMS = """
scale: planted
seed: 0
datasets:
  mine: {corpus: folder, raw: RAW, experts: [frames, clip]}
  same: {corpus: folder, raw: RAW/other/.., experts: [frames, clip]}
  other: {corpus: folder, raw: RAW/other, experts: [frames]}
backbones: {clip: {system: network}, elsewhere: {system: foreign}}
experts:
  frames: {extractor: frames}
  clip: {extractor: image, backbone: clip, source: frames}
  keys: {key_frames_of: clip, method: uniform}
systems:
  network: &network
    dataset: mine
    model: {name: image_tagger}
    examples: {kind: frame_tags, expert: frames, split: pictures, validation: null}
    objectives: {bce_tags: {}}
  foreign: {from: network, dataset: other, examples: {split: all}}
  pooled: {embeddings: {features: clip}}
  pretrained: {from: network, dataset: same, examples: {split: more}}
  started: {from: network, init: pretrained, examples: {split: train}}
  own: {from: network, examples: {split: train}}
  chosen: {from: own, examples: {validation: val}, training: {keep: best, monitor: val/loss}}
  watched: {from: own, examples: {validation: val}}
  both: {combine: {systems: [own, pooled]}}
  detector:
    dataset: mine
    model: {name: segment_detector}
    examples: {kind: similarity_map, expert: frames, split: copies_train, validation: null}
    objectives: {segment_focal: {}}
  synthetic: {from: detector, examples: {expert: null}}
  aligned: {align: {expert: frames, detector: detector, options: {}}}
  invented: {align: {expert: frames, detector: synthetic, options: {}}}
  normalised: {rescore: {system: pooled, method: qb_norm, bank: captions_query}}
  noised: {align: {expert: frames, aligner: dtw, options: {}, noise: {split: copies_train}}}
  tuned: {align: {expert: frames, aligner: dtw, tune: {split: copies_train}}}
  copied: {from: own, dataset: other, examples: {split: twins}}
"""
#: split -> the videos that it holds as references; of `copies_…` the first is the query
SPLITS = {
    "pictures": ["p"], "more": ["m"], "train": ["a", "b"], "val": ["v"], "copies_train": ["q", "r"],
    "clean": ["x", "y"], "of_twins": ["x", "f"], "of_train": ["x", "a"], "of_val": ["x", "v"], "of_more": ["x", "m"],
    "of_pictures": ["x", "p"],
    "copies_of_query": ["q", "x"], "copies_of_reference": ["y", "r"], "copies_clean": ["x", "y"],
}  # fmt: skip


@pytest.fixture
def planted(tmp_path):
    """Check a row ``(system, protocol, shares)`` of a table: (shared, of videos, by), from ``leaks.json``."""
    (tmp_path / "other").mkdir()
    splits = []
    for name, ids in SPLITS.items():
        queries = ids[:1] if name.startswith("copies") else []
        splits += [(name, "query", i) for i in queries] + [(name, "reference", i) for i in ids[len(queries) :]]
    splits += [("captions_query", "query", "a:0"), ("captions_query", "reference", "x")]
    ids = sorted({i for some in SPLITS.values() for i in some})
    texts = [(f"{i}:0", i, "caption", None, None, None, "a film", None) for i in ids]
    relevance = [(pair[0], pair[1], 1.0) for name, pair in SPLITS.items() if name.startswith("copies")]
    for folder, own, listed in (
        ("mine", {i: i for i in ids}, splits),
        ("other", {"f2": "f", "s2": "s"}, [("twins", "reference", "f2"), ("all", "reference", "s2")]),
    ):
        rows = [{"video_id": i, "sha256": digest} for i, digest in own.items()]
        write_videos(tables.videos(rows), tmp_path / folder, 1)
        tables.write("splits", frame("splits", listed), tmp_path / folder)
        if folder == "mine":
            tables.write("texts", frame("texts", texts), tmp_path / folder)
            tables.write("relevance", frame("relevance", relevance), tmp_path / folder)
    content = yaml.safe_load(PARAMS.replace("RAW", str(tmp_path)))
    plan = Plan(params.resolved(content))
    folders = {plan.result("corpora", name): tmp_path / name for name in ("mine", "other")}
    folders[plan.result("corpora", "same")] = tmp_path / "mine"

    def check(system, split, shares=None):
        row = {"label": "a row", "system": system} | ({"shares": shares} if shares else {})
        table = {"title": "", "dataset": "mine", "metrics": ["R@1"], "split": split, "rows": [row]}
        plan.tables = {"planted": Table.read(table)}
        job = jobs.check_leaks(plan, "planted")
        check_leaks(corpora=[folders[path] for path in job.inputs["corpora"]], output=tmp_path, **job.settings)
        (cell,) = json.loads((tmp_path / "leaks.json").read_text())["cells"]
        return cell["shared"], cell["videos"], [how for _, how in cell["by"]]

    return check


LEAKS = {
    "a reference in train": ("own", "of_train", "own (train)"),
    "a query in train": ("own", "captions_query", "own (train)"),
    "through init": ("started", "of_more", "started → init pretrained (more)"),
    "through a backbone": ("pooled", "of_pictures", "pooled → expert clip → backbone clip (system network) (pictures)"),
    "a query of a pair file": ("aligned", "copies_of_query", "aligned → detector detector (copies_train)"),
    "a reference of a pair file": ("aligned", "copies_of_reference", "aligned → detector detector (copies_train)"),
    "tuned by pairs": ("tuned", "copies_of_reference", "tuned → tune (copies_train)"),
    "a bank of queries about a reference": ("normalised", "train", "normalised → bank (captions_query)"),
    "scores normalised by what is searched": ("noised", "copies_of_reference", "noised → noise (copies_train)"),
    "weights chosen by validation": ("chosen", "of_val", "chosen (train + val to choose weights)"),
    "in an ensemble": ("both", "of_train", "both → own (train)"),
    "the same file of another data set": ("copied", "of_twins", "copied (twins)"),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_a_table_with_a_leak_is_refused_by_name_unless_its_row_says_so(planted, kind):
    system, split, how = LEAKS[kind]
    message = f"table 'planted', row 'a row' (system {system}), protocol '{split}': 1 of its 2 videos were trained on: "
    with pytest.raises(ValueError, match=re.escape(f"{message}1 by {how}")):
        planted(system, split)
    for shares in ("train", {split: "train"}):
        assert planted(system, split, shares) == (1, 2, [how])
    with pytest.raises(ValueError, match="shares: train"):
        planted(system, split, {"another": "train"})


@pytest.mark.parametrize(
    "case", ["own clean", "pooled of_train", "watched of_val", "invented copies_of_query", "tuned copies_clean"]
)
def test_a_table_without_a_leak_is_not_refused(planted, case):
    assert planted(*case.split()) == (0, 2, [])


def test_an_id_is_the_same_video_wherever_the_files_of_a_data_set_are(tmp_path):
    datasets = {
        "clips": {"corpus": "msrvtt", "raw": str(tmp_path / "clips")},
        "features": {"corpus": "msrvtt", "raw": str(tmp_path / "features")},
        "folder": {"corpus": "folder", "raw": str(tmp_path / "clips")},
        "link": {"corpus": "folder", "raw": str(tmp_path / "link")},
        "another": {"corpus": "folder", "raw": str(tmp_path / "features")},
        "made": {"corpus": "generated", "seed": 1},
        "made_again": {"corpus": "generated", "seed": 2},
    }
    (tmp_path / "clips").mkdir()
    (tmp_path / "link").symlink_to("clips")
    plan = Plan(params.resolved({"scale": "s", "seed": 0, "datasets": datasets}, has_data=False))
    assert plan.ids_of("clips") == plan.ids_of("features") and plan.ids_of("folder") == plan.ids_of("link")
    assert len({plan.ids_of(name) for name in ("clips", "folder", "another", "made", "made_again")}) == 5


def test_what_a_table_is_made_from_waits_for_its_check_and_a_table_that_is_asked_for_for_no_other():
    plan = Plan(params.resolved(*params.load([params.PARAMS])))
    made, checks = rules.needed(plan), rules.checks(plan)
    waiting, behind = [plan.result("tables", "samesource_overview")], set()
    while waiting:
        if (result := waiting.pop()) not in behind:
            behind.add(result)
            waiting += made[result].results
    readers = {result for result in behind if "corpus" in made[result].inputs}
    assert {made[result].stage for result in readers} >= {"extract", "train"}
    assert len({made[result].settings.get("dataset") for result in behind}) > 1
    assert all(plan.result("leaks", "samesource_overview") in checks[result] for result in readers)
    of_one = rules.checks(plan, frozenset(["similarity_overview"]))
    assert {check for some in of_one.values() for check in some} == {plan.result("leaks", "similarity_overview")}


def test_nothing_is_extracted_or_trained_for_a_refused_table(tmp_path):
    """By the engine, on real files: the network behind the features was trained on the videos that are searched."""
    repo = Repo(tmp_path / "repo", toy=False, dvc=False)
    (repo.folder / "raw").mkdir()
    for name in ("one", "two"):
        clips.write(repo.folder / f"raw/{name}.mp4", range(6))
    (repo.folder / "raw/videos.csv").write_text("path,captions,split\none.mp4,a film,train\ntwo.mp4,a clip,train\n")
    table = {"title": "", "dataset": "mine", "split": "captions_train", "metrics": ["R@1"]}
    table["rows"] = [{"label": "CLIP", "system": "zero_shot"}]
    (repo.folder / "workflow/tables/planted.yaml").write_text(yaml.safe_dump(table))
    (repo.folder / "params.yaml").write_text(small_project.PARAMS + "tables: [planted]\n")
    done = repo.run("snakemake", "planted")
    assert done.returncode != 0
    cause = "zero_shot → expert clip → backbone clip (system tiny_clip) (train)"
    refusal = "row 'CLIP' (system zero_shot), protocol 'captions_train': 2 of its 2 videos were trained on: 2 by "
    assert f"table 'planted', {refusal}{cause}" in done.stdout + done.stderr
    made = {path.relative_to(repo.folder / "results/tiny").parts[0] for path in repo.folder.glob("results/tiny/*/**/*")}
    assert made == {"corpora"}
