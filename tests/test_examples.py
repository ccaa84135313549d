"""Whole videos and judged pairs as training examples, against corpora small enough to say what must come out."""

import inspect
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paths import fixtures
from toys import toy
from videomatch import examples as examples_
from videomatch.common import named
from videomatch.data import tables
from videomatch.data.corpus import joined_texts, write_videos
from videomatch.data.pairs import fold_pairs
from videomatch.data.store import Store, StoreWriter
from videomatch.data.tokenize import tokenizer, wrap
from videomatch.examples import Examples, Source, frame_index
from videomatch.examples.frame_tags import FrameTags
from videomatch.examples.video_pair import VideoPair
from videomatch.examples.video_text import VideoText
from videomatch.metrics.correlation import rank_normalised

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
PAD, UNK, CLS, SEP, MASK = range(5)
A, B, C, D, E, F, G, H = range(5, 13)
#: video -> frames, title, ASR segments with their starts, tags
VIDEOS = {
    "v0": (2, "a b c", [("d", 5.0), ("e f", 1.0)], ["x", "y"]),
    "v1": (5, "d", [], ["x"]),
    "v2": (0, "e", [("a", 0.0)], None),
    "v3": (3, None, [], ["z", "y", "x"]),
    "v4": (0, None, [], ["x"]),
    "v5": (None, " ", [], ["x"]),
    "v6": (None, "h g z", [("b", 0.0)], ["w"]),
}


def frame(video: str, number: int) -> np.ndarray:
    return np.array([int(video[1:] or 0), number, 0.5], np.float16)


def corpus_of(folder: Path, videos=VIDEOS, pairs=(), splits=None) -> tuple[Path, Store]:
    corpus = folder / "corpus"
    rows, texts = [], []
    with StoreWriter(folder / "store", shape=(3,)) as store:
        for video, (frames, title, asr, tags) in videos.items():
            if frames is not None:
                store.add(video, np.stack([frame(video, n) for n in range(frames)]) if frames else np.zeros((0, 3)))
            rows.append({"video_id": video, "tags": tags})
            said = [("title", title, None)] if title is not None else []
            said += [("asr", text, start) for text, start in asr]
            texts += [(f"{video}:{n}", video, kind, None, start, None, t) for n, (kind, t, start) in enumerate(said)]
    corpus.mkdir(parents=True)
    write_videos(tables.check("videos", tables.videos(rows)), corpus, 1)
    listed = splits or {("train", "reference"): list(videos)}
    named = [(split, role, i) for (split, role), ids in listed.items() for i in ids]
    for name, made in (("texts", texts), ("splits", named), ("relevance", pairs)):
        tables.write(name, tables.frame(name, made), corpus)
    return corpus, Store(folder / "store")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    splits = {
        ("train", "reference"): ["v0", "v1", "v2", "v3", "v4", "v5"],
        ("more", "reference"): ["v6", "v3"],
        ("val", "reference"): ["v6"],
        ("none", "reference"): ["v4", "v5"],
        ("untagged", "reference"): ["v2"],
    }
    return Source(*corpus_of(tmp_path_factory.mktemp("videos"), splits=splits), wrap(WORDS))


PLAIN = {"mask_tokens": 0.0, "mask_frames": 0.0}
RNG = np.random.default_rng


def test_a_batch_of_whole_videos(source):
    examples = VideoText(source, texts={"title": 2, "asr": 3}, max_frames=4, num_tags=2, **PLAIN).on("train")
    assert len(examples) == 4  # v4 and v5 have neither frames nor text
    batch = examples.batch(np.array([0, 1, 2, 3]), RNG(0))
    assert batch["input_ids"].tolist() == [
        [CLS, SEP, A, B, SEP, E, F, D, SEP],  # the title is cut to 2 tokens; ASR in order of time
        [CLS, SEP, D, SEP, SEP, PAD, PAD, PAD, PAD],
        [CLS, SEP, E, SEP, A, SEP, PAD, PAD, PAD],
        [CLS, SEP, SEP, SEP, PAD, PAD, PAD, PAD, PAD],
    ]
    assert batch["attention_mask"].sum(1).tolist() == [9, 5, 6, 4]
    assert torch.equal(batch["attention_mask"] > 0, batch["input_ids"] != PAD)
    assert batch["frames"].dtype == torch.float32 and batch["frames"].shape == (4, 4, 3)
    assert batch["frame_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]]
    assert not batch["frames"][~batch["frame_mask"]].any()
    assert batch["frames"][1].tolist() == [frame("v1", n).tolist() for n in frame_index(5, 4)]
    assert batch["frames"][3, :3].tolist() == [frame("v3", n).tolist() for n in range(3)]
    assert examples.labels == ["x", "y"]  # of v0 … v5: x 5 times, y twice, z once
    assert batch["labels"].tolist() == [[1, 1], [1, 0], [0, 0], [1, 1]]
    assert batch["is_tagged"].tolist() == [True, True, False, True]
    assert set(batch) == {"input_ids", "attention_mask", "frames", "frame_mask", "labels", "is_tagged"}
    assert examples.derived_config() == {
        "vocab_size": 13,
        "pad_token_id": PAD,
        "cls_token_id": CLS,
        "sep_token_id": SEP,
        "frame_dim": 3,
        "max_frames": 4,
        "max_tokens": 9,
        "layout": "frames_inside",
        "id2label": {0: "x", 1: "y"},
    }
    some = examples.batch(np.array([3, 1]), RNG(0))  # any numbers in any order; only as wide as they need
    assert some["frames"].shape == (2, 4, 3) and some["input_ids"].shape == (2, 5)
    assert torch.equal(some["labels"], batch["labels"][[3, 1]])
    assert torch.equal(some["frames"], batch["frames"][[3, 1]])


def test_layouts_and_budgets(source):
    kinds = {"asr": 2, "title": 3}  # the order of the sequence does not hang on the order of the options
    first = VideoText(source, texts=kinds, layout="frames_first", **PLAIN).on("train")
    batch = first.batch(np.array([0, 3]), RNG(0))
    assert batch["input_ids"].tolist() == [[CLS, A, B, C, SEP, E, F, SEP], [CLS, SEP, SEP, *[PAD] * 5]]
    assert first.derived_config()["max_tokens"] == batch["input_ids"].shape[1] == 8
    silent = VideoText(Source(source.corpus, source.store), texts={}, max_frames=8).on("train")
    batch = silent.batch(np.arange(3), RNG(0))
    assert batch["input_ids"].tolist() == [[1, 2]] * 3 and silent.derived_config()["max_tokens"] == 2
    assert "token_labels" not in batch and "labels" not in batch and "id2label" not in silent.derived_config()
    read = VideoText(Source(source.corpus, None, source.tokenizer), texts={"title": 3}, max_frames=0, **PLAIN)
    batch = read.on("train").batch(np.array([0, 2]), RNG(0))
    assert len(read.on("train")) == 3  # those with a title
    assert batch["frames"].shape == (2, 0, 1) and batch["frame_mask"].shape == (2, 0)
    assert batch["input_ids"].tolist() == [[CLS, SEP, A, B, C, SEP], [CLS, SEP, E, SEP, PAD, PAD]]


def test_tags_that_are_no_labels_are_zeros_and_unknown_ones_are_no_target(tmp_path):
    tags = {"a": ["x"], "b": ["x", "y"], "c": ["y"], "d": [], "e": None}
    source = Source(*corpus_of(tmp_path, {video: (1, None, [], some) for video, some in tags.items()}))
    batch = VideoText(source, texts={}, num_tags=1).on("train").batch(np.arange(5), RNG(0))
    assert batch["labels"].tolist() == [[1], [1], [0], [0], [0]]
    assert batch["is_tagged"].tolist() == [True, True, True, True, False]


def test_tags_of_a_test_set_are_not_looked_at(source):
    options = {"texts": {"title": 3}, "num_tags": 9, "max_frames": 4, **PLAIN}
    known = VideoText(source, split=["train", "more"], **options).on(["train", "more"])
    hidden = VideoText(source, split=["train", "more"], untagged=["more"], **options).on(["train", "more"])
    rows = np.arange(len(known))
    videos = known._rows["video_id"].to_list()
    mine = [n for n, v in enumerate(videos) if v not in ("v6", "v3")]
    seen, blind = known.batch(rows, RNG(0)), hidden.batch(rows, RNG(0))
    assert seen["is_tagged"].any() and set(hidden.labels) < set(known.labels)
    assert not blind["is_tagged"][[videos.index("v3"), videos.index("v6")]].any()
    assert not blind["labels"][[videos.index("v3"), videos.index("v6")]].any()
    assert torch.equal(blind["is_tagged"][mine], seen["is_tagged"][mine])


def test_splits_are_pooled_and_labels_stay_those_of_training(source):
    examples = VideoText(source, texts={"title": 3}, split=["more", "train"], num_tags=9, max_frames=4, **PLAIN)
    train, val = examples.parts()
    assert val is not None and len(train) == 5 and len(val) == 1
    assert train.labels == val.labels == ["x", "y", "w", "z"]  # equally frequent ones by name
    first = train.batch(np.arange(5), RNG(0))
    assert first["input_ids"][:, 2].tolist() == [SEP, H, A, D, E]  # v3, v6 of `more`, then the rest of `train`
    assert val.batch(np.arange(1), RNG(0))["labels"].tolist() == [[0, 0, 1, 0]]
    assert val.batch(np.arange(1), RNG(0))["input_ids"].tolist() == [[CLS, SEP, H, G, UNK, SEP]]
    assert val.batch(np.arange(1), RNG(0))["frames"].shape == (1, 0, 3)  # v6 is not in the store
    alone = VideoText(source, texts={"title": 3}, validation=None, **PLAIN).parts()
    assert len(alone[0]) == 4 and alone[1] is None
    with pytest.raises(ValueError, match="VideoText knows no folds"):
        examples.parts((0, 5))
    with pytest.raises(ValueError, match="none of the 2 videos of split 'none'"):
        examples.on("none")


def test_masks_are_drawn_from_the_generator_alone(source):
    examples = VideoText(source, texts={"title": 3, "asr": 3}, mask_tokens=0.5, mask_frames=0.5).on("train")
    numbers = np.array([0, 1, 2, 3] * 8)
    plain = VideoText(source, texts={"title": 3, "asr": 3}, **PLAIN).on("train").batch(numbers, RNG(0))
    batch, again, other = (examples.batch(numbers, RNG(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["token_labels"], other["token_labels"])
    assert not torch.equal(batch["masked_frames"], other["masked_frames"])
    guessed = batch["token_labels"] != -100
    assert torch.equal(torch.where(guessed, batch["token_labels"], batch["input_ids"]), plain["input_ids"])
    assert (plain["input_ids"][guessed] > MASK).all() and 0.3 < guessed.sum() / (plain["input_ids"] > MASK).sum() < 0.7
    hidden = batch["masked_frames"]
    assert hidden.dtype == torch.bool and hidden.any() and not hidden[~batch["frame_mask"]].any()
    assert torch.equal(batch["frames"], plain["frames"])  # the model hides them, and knows what it has to guess


def test_videos_to_embed(source):
    examples = VideoText(source, texts={"title": 2}, max_frames=4, num_tags=2)
    assert examples.usable(["v5", "v3", "v6", "v4", "v0", "nowhere"]) == ["v3", "v6", "v0"]
    batch = examples.read_videos(["v3", "v6", "v0", "v3"])
    assert set(batch) == {"frames", "frame_mask", "input_ids", "attention_mask"}
    assert batch["frame_mask"].sum(1).tolist() == [3, 0, 2, 3]
    assert batch["input_ids"].tolist() == [
        [CLS, SEP, SEP, PAD, PAD],
        [CLS, SEP, H, G, SEP],
        [CLS, SEP, A, B, SEP],
        [CLS, SEP, SEP, PAD, PAD],
    ]
    for odd in ("v4", "nowhere"):
        with pytest.raises(KeyError, match=f"'{odd}' has neither"):
            examples.read_videos(["v0", odd])
    turned = examples.on("train").batch(np.array([3, 0]), RNG(0))
    assert torch.equal(turned["frames"], examples.read_videos(["v3", "v0"])["frames"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(1, 6), st.integers(1, 4))
def test_a_row_does_not_depend_on_its_batch(source, numbers, max_frames, budget):
    options = {"texts": {"title": budget, "asr": budget}, "max_frames": max_frames, "num_tags": 3, **PLAIN}
    examples = VideoText(source, **options).on("train")
    batch = examples.batch(np.array(numbers), RNG(0))
    assert all(len(tensor) == len(numbers) for tensor in batch.values())
    for row, number in enumerate(numbers):
        alone = examples.batch(np.array([number]), RNG(0))
        for name, tensor in alone.items():
            assert torch.equal(batch[name][row][: tensor.shape[1]] if tensor.ndim > 1 else batch[name][row], tensor[0])
        rest = batch["frame_mask"][row, alone["frame_mask"].shape[1] :]
        assert not rest.any()
    assert batch["frames"].shape[1] <= max_frames


def test_options_that_do_not_fit_are_refused(source):
    bare = Source(source.corpus, source.store)
    with pytest.raises(ValueError, match="texts 'name': 5, expected title"):
        VideoText(source, texts={"name": 5})
    with pytest.raises(ValueError, match="nothing of a video would be read"):
        VideoText(source, texts={}, max_frames=0)
    with pytest.raises(ValueError, match=r"need a tokenizer with \[CLS\]"):
        VideoText(bare, texts={"title": 5})
    with pytest.raises(ValueError, match="the system names no expert"):
        VideoText(Source(source.corpus, None, source.tokenizer), texts={"title": 5})
    with pytest.raises(ValueError, match="no video of split 'untagged' has a tag or a category"):
        VideoText(source, texts={"title": 5}, num_tags=5).on("untagged")
    with pytest.raises(ValueError, match="expected rates from 0 to 1"):
        VideoText(source, texts={"title": 5}, mask_tokens=15)


def test_joined_texts_keep_kinds_apart_and_time_in_order(source):
    found = joined_texts(source.corpus, ["asr", "title"])
    assert found.rows() == [
        ("v0", "e f d", "a b c"),
        ("v1", None, "d"),
        ("v2", "a", "e"),
        ("v5", None, " "),
        ("v6", "b", "h g z"),
    ]
    assert joined_texts(source.corpus, ["asr"], ["v2", "v1"]).rows() == [("v2", "a")]
    assert VideoText.vocabulary(source.corpus, {"texts": {"title": 3}}) == ["a b c", "d", "e", " "]
    assert VideoText.vocabulary(source.corpus, {"texts": {"asr": 3}, "split": ["val", "train"]}) == [
        "d",
        "e f",
        "a",
        "b",
    ]
    assert len(FrameTags.vocabulary(source.corpus, {"split": "val"})) == 2  # every kind, where none is named


JUDGED = {
    "pairs_train": [("v0", "v1", 0.0), ("v1", "v0", 0.5), ("v3", "v4", 1.0), ("v0", "v6", 0.0)],
    "pairs_val": [("v2", "v3", 0.25), ("v6", "v3", 1.0)],
}


def sides_of(pairs):
    """Splits with the queries and references of pairs."""
    return {
        (name, role): sorted({row[n] for row in rows})
        for name, rows in pairs.items()
        for n, role in enumerate(("query", "reference"))
    }


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Source:
    pairs = [row for rows in JUDGED.values() for row in rows]
    made = corpus_of(tmp_path_factory.mktemp("pairs"), pairs=pairs, splits=sides_of(JUDGED))
    return Source(*made, wrap(WORDS))


def test_a_batch_of_pairs(judged, caplog):
    with caplog.at_level(logging.INFO):
        train, val = VideoPair(judged, texts={"title": 2}, max_frames=2).parts()
    assert val is not None and (len(train), len(val)) == (3, 2)  # v4 has nothing to read
    assert "pairs_train: 3 pairs, 1 left out" in caplog.text
    batch = train.batch(np.array([0, 1, 2]), RNG(0))
    assert batch["frames"].shape == (3, 2, 2, 3) and batch["frame_mask"].shape == (3, 2, 2)
    assert batch["input_ids"][:, :, 2].tolist() == [[A, D], [D, A], [A, H]]  # query first, as given
    assert batch["frames"][:, :, 0, 0].tolist() == [[0, 1], [1, 0], [0, 0]]
    assert batch["frame_mask"].sum(2).tolist() == [[2, 2], [2, 2], [2, 0]]
    # mean ranks of all labels of both protocols, the unreadable pair's too: 0 0 0.25 0.5 1 1
    known = dict(zip([0.0, 0.0, 0.25, 0.5, 1.0, 1.0], rank_normalised(np.array([0, 0, 0.25, 0.5, 1, 1])), strict=True))
    assert batch["grade"].tolist() == pytest.approx([known[0.0], known[0.5], known[0.0]])
    assert val.batch(np.array([0, 1]), RNG(0))["grade"].tolist() == pytest.approx([known[0.25], 1.0])
    assert "id2label" not in train.derived_config() and train.derived_config()["max_tokens"] == 5
    read = train.read_videos(["v1", "v0"])
    assert torch.equal(read["frames"], batch["frames"][1])
    assert VideoPair.vocabulary(judged.corpus, {"texts": {"title": 2}}) == ["a b c", "d", "h g z"]
    assert VideoPair(judged, texts={"title": 2}, validation=None).parts()[1] is None


def test_every_pair_of_an_epoch_comes_once(judged):
    train = VideoPair(judged, texts={"title": 2}).on(["pairs_val", "pairs_train"])
    assert len(train) == 5 and sorted(train.epoch(RNG(0)).tolist()) == list(range(5))
    assert train.epoch(RNG(1)).tolist() == train.epoch(RNG(1)).tolist()
    assert train.batch(np.arange(5), RNG(0))["input_ids"][:, 0, 2].tolist() == [E, H, A, D, A]  # pairs_val comes first


@pytest.mark.parametrize("protocol", ["disjoint", "remainder"])
def test_folds_of_pairs_are_those_that_anyone_else_gets(tmp_path, protocol):
    rng = RNG(7)
    names = [f"v{n}" for n in range(60)]
    videos = {name: (1 if n % 7 else 0, "a" if n % 7 else None, [], []) for n, name in enumerate(names)}
    pairs = {
        name: [(f"v{a}", f"v{b}", round(float(g), 1)) for (a, b), g in zip(sides, rng.random(len(sides)), strict=True)]
        for name, sides in (
            ("pairs_train", rng.permutation(40).reshape(-1, 2)),
            ("pairs_val", 40 + rng.permutation(20).reshape(-1, 2)),
        )
    }
    judged = [row for rows in pairs.values() for row in rows]
    source = Source(*corpus_of(tmp_path, videos, judged, sides_of(pairs)), wrap(WORDS))
    pooled = ["pairs_train", "pairs_val"]
    examples = VideoPair(source, texts={"title": 2}, split=pooled, protocol=protocol, validation=None)
    readable = {name for n, name in enumerate(names) if n % 7}
    seen = 0
    for fold in range(3):
        parts = examples.parts((fold, 3))
        expected = fold_pairs(source.corpus, pooled, fold=fold, folds=3, protocol=protocol)
        for part, frame_ in zip(parts, expected, strict=True):
            assert part is not None
            wanted = [row for row in frame_.rows() if set(row[:2]) <= readable]
            batch = part.batch(np.arange(len(part)), RNG(0))
            found = batch["frames"][:, :, 0, 0].int().tolist()
            assert [(f"v{a}", f"v{b}") for a, b in found] == [row[:2] for row in wanted]
            orders = (np.argsort(grades, kind="stable") for grades in (batch["grade"], [row[2] for row in wanted]))
            assert np.array_equal(*orders)
        seen += len(parts[1] or [])
    assert seen


def test_ranks_of_a_fold_are_those_of_all_its_labels(judged):
    options = {"texts": {"title": 2}, "split": ["pairs_train", "pairs_val"], "protocol": "remainder"}
    train, val = VideoPair(judged, **options, validation="nowhere").parts((0, 3))
    assert val is not None
    ranks = rank_normalised(np.array([row[2] for rows in JUDGED.values() for row in rows]))
    expected = dict(zip([(q, r) for rows in JUDGED.values() for q, r, _ in rows], ranks, strict=True))
    # both ids divisible by 3: (v0, v6) and (v6, v3)
    assert val.batch(np.arange(len(val)), RNG(0))["grade"].tolist() == pytest.approx(
        [expected["v0", "v6"], expected["v6", "v3"]]
    )
    assert len(train) == 3
    with pytest.raises(ValueError, match=r"none of the 0 pairs of fold 1 of 3, val"):
        VideoPair(judged, **options).parts((1, 3))


def test_metrics_of_pairs_take_tensors_of_a_whole_pass():
    similarity, grade = torch.tensor([0.1, 0.4, 0.2]), torch.tensor([0.0, 1.0, 0.5])
    assert VideoPair.metrics["Spearman"](similarity, grade) == pytest.approx(1.0)
    assert VideoPair.metrics["MSE"](similarity, grade) == pytest.approx((0.01 + 0.36 + 0.09) / 3)
    assert list(VideoPair.metrics) == ["Spearman", "MSE"] and VideoText.metrics == {}


def test_frames_of_pooled_splits(tmp_path):
    corpus, features = toy(tmp_path)
    source = Source(corpus, Store(features / "frames"))
    train, val = FrameTags(source, split=["train", "val"], validation="test", per_video=2).parts()
    assert val is not None and len(train) == 32 and len(val) == 16
    assert set(train.videos).isdisjoint(val.videos) and train.labels == val.labels
    assert train.usable([*val.videos[:2], "nowhere"]) == val.videos[:2]
    with pytest.raises(ValueError, match="FrameTags knows no folds"):
        train.parts((0, 2))
    with pytest.raises(ValueError, match="the system names no expert"):
        FrameTags(Source(corpus)).on("train")


@pytest.mark.parametrize("name", named.names("examples"))
def test_kinds_are_files_that_keep_the_protocol(name):
    kind = examples_.kind(name)
    assert issubclass(kind, Examples) and not kind.__abstractmethods__
    source, *options = list(inspect.signature(kind.__init__).parameters.values())[1:]
    assert source.name == "source" and {"split", "validation"} <= {option.name for option in options}
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)


def test_a_kind_that_is_no_file_is_refused():
    with pytest.raises(KeyError, match=r"there are .*frame_caption, frame_tags, .*video_pair, video_text"):
        examples_.kind("_videos")


@pytest.mark.parametrize(("job", "layout", "budget"), [(1, "frames_inside", 33), (2, "frames_first", 34)])
def test_videos_equal_the_winners_fixture(tmp_path, job, layout, budget):
    known = np.load(fixtures() / f"aiac_tfrecord_expected_job{job}.npz", allow_pickle=False)
    words = tokenizer(str(fixtures() / "aiac_tfrecord" / "vocab.txt"))
    names = [f"v{n}" for n in range(len(known["n_frames"]))]
    tags = [[str(t) for t in row if t > 0] for row in known["raw_tags_padded"]]
    videos = {
        name: (int(known["n_frames"][n]), str(known["titles"][n]) or None, [], tags[n]) for n, name in enumerate(names)
    }
    source = Source(*corpus_of(tmp_path, videos), words)
    examples = VideoText(source, texts={"title": budget}, layout=layout, num_tags=30, **PLAIN).on("train")
    batch = examples.batch(np.arange(len(names)), RNG(0))
    place = {str(t): n for n, t in enumerate(known["class_order_tag_ids"])}
    for n in range(len(names)):
        for ours, theirs in (("input_ids", "ids"), ("attention_mask", "mask")):  # theirs are padded to all budgets
            width = known[f"v{n}__text_{theirs}"].shape[0] - batch[ours].shape[1]
            np.testing.assert_array_equal(np.pad(batch[ours][n], (0, width)), known[f"v{n}__text_{theirs}"])
        frames = int(known[f"v{n}__frame_mask"].sum())
        assert batch["frame_mask"][n].sum() == frames
        ours = {label for label, is_there in zip(examples.labels, batch["labels"][n], strict=True) if is_there}
        theirs = {label for label, at in place.items() if known[f"v{n}__target"][at]}
        assert ours & set(place) == theirs  # their list leaves tags out, ours are those of the corpus


def test_long_videos_are_subsampled_as_the_winners_fixture_says(tmp_path):
    known = json.loads((fixtures() / "aiac_frame_subsampling.json").read_text())
    lengths = [n for n in sorted(map(int, (k for k in known if k.isdigit()))) if n != 33]  # theirs returns 33 rows
    videos = {f"v{n}": (n, None, [], []) for n in lengths}
    corpus, store = corpus_of(tmp_path, videos)
    examples = VideoText(Source(corpus, store), texts={}, max_frames=32, mask_frames=0.0)
    batch = examples.read_videos(list(videos))
    for n, frames, mask in zip(lengths, batch["frames"], batch["frame_mask"], strict=True):
        index = np.array(known[str(n)]["index"])
        np.testing.assert_array_equal(mask, index >= 0)
        np.testing.assert_array_equal(frames[mask, 1], index[index >= 0])


def test_rank_labels_equal_the_winners_fixture(tmp_path):
    known = np.load(fixtures() / "aiac_rank_labels.npz", allow_pickle=False)
    sides = [[f"v{i}" for i in known[f"grid_id{n}"]] for n in (1, 2)]
    everyone = sorted({*sides[0], *sides[1]})
    videos = {name: (None, "a", [], []) for name in everyone}
    pairs = list(zip(*sides, known["grid_score"].tolist(), strict=True))
    corpus, _ = corpus_of(tmp_path, videos, pairs, sides_of({"pairs_train": pairs}))
    examples = VideoPair(Source(corpus, None, wrap(WORDS)), texts={"title": 1}, max_frames=0, protocol="remainder")
    train, val = examples.parts((0, 5))
    is_val = known["grid_is_val"]
    assert val is not None and (len(train), len(val)) == ((~is_val).sum(), is_val.sum())
    for part, mask in ((train, ~is_val), (val, is_val)):
        grades = part.batch(np.arange(len(part)), RNG(0))["grade"]
        np.testing.assert_allclose(grades, known["grid_rank_normalised"][mask], atol=1e-7)
