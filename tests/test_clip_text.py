"""Windows of speech and their frames: against a slow twin, and a corpus small enough to count."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.data.tokenize import wrap
from videomatch.examples import Source
from videomatch.examples.clip_text import ClipText, chosen_words, windows

LETTERS = [*"abcdefghijklmnopqrstuvwxyz"]
WORDS = wrap(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS])
RNG = np.random.default_rng
#: video -> lines of speech: start, end, text; frames are one a second
SPEECH = {
    "v0": [(0, 2, "a b"), (2, 3, "c"), (3, 9, "d e f g h i"), (9, 10, "j")],
    "v1": [(0, 6, "k l m n o")],
    "v2": [(None, None, "p q")],
}
SECONDS = {"v0": 12, "v1": 6, "v2": 3}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    folder = tmp_path_factory.mktemp("clips")
    with StoreWriter(folder / "eye", shape=(2,), times=True) as store:
        for number, (video, seconds) in enumerate(SECONDS.items()):
            start = np.arange(seconds) * 1.0
            store.add(video, np.c_[np.full(seconds, number), start], times=np.c_[start, start + 1])
    lines = [(v, n, *line) for v, lines in SPEECH.items() for n, line in enumerate(lines)]
    rows = [(f"{v}-{n}", v, "asr", "en", start, end, text) for v, n, start, end, text in lines]
    titles = [
        ("v1-t", "v1", "title", "en", None, None, "x y z"),
        ("v9-t", "v9", "title", "en", None, None, "no frames"),
    ]
    tables.write("texts", tables.frame("texts", [*rows, *titles]), folder / "corpus")
    listed = [("train", "reference", v) for v in [*SECONDS, "v9"]] + [("val", "reference", v) for v in ("v0", "v1")]
    tables.write("splits", tables.frame("splits", listed), folder / "corpus")
    store = Store(folder / "eye")
    return Source(folder / "corpus", store, WORDS, {"eye": store})


def twin(starts, ends, words, video, min_words, min_seconds):
    """Line by line, as the published code grows a window."""
    found = set()
    for n in range(len(starts)):
        first = last = n
        while sum(words[first : last + 1]) < min_words or ends[last] - starts[first] < min_seconds:
            ways = []
            if first > 0 and video[first - 1] == video[n]:
                ways.append((ends[last] - starts[first - 1], first - 1, last))
            if last + 1 < len(starts) and video[last + 1] == video[n]:
                ways.append((ends[last + 1] - starts[first], first, last + 1))
            if not ways:
                break
            _, first, last = min(ways, key=lambda way: way[0])
        found.add((first, last))
    return sorted(found)


LINE = st.tuples(st.integers(0, 2), st.integers(0, 8), st.integers(0, 4))  # video, seconds before it, words


@settings(max_examples=80, deadline=None)
@given(st.lists(LINE, min_size=1, max_size=14), st.integers(1, 9), st.integers(0, 12))
def test_lines_grow_as_published(lines, min_words, min_seconds):
    video, gaps, words = (np.array(column) for column in zip(*sorted(lines, key=lambda line: line[0]), strict=True))
    starts = np.cumsum(gaps).astype(float)
    ends = starts + 1 + words
    found = windows(starts, ends, words, video, min_words=min_words, min_seconds=min_seconds)
    assert list(map(tuple, found.tolist())) == twin(starts, ends, words, video, min_words, min_seconds)


def read(batch, name="input") -> list[str]:
    """The texts of a batch, without special tokens."""
    return [WORDS.decode(ids, skip_special_tokens=True) for ids in batch[f"{name}_ids"]]


def examples(source: Source, split: str = "train", **options) -> ClipText:
    return ClipText(source, expert="eye", **options).on(split)


#: the windows of the corpus and their videos; the first line and the second grow to the same one
FOUND = {
    "a b c d e f g h i": 0, "d e f g h i": 0, "d e f g h i j": 0, "k l m n o": 1, "x y z": 1, "p q": 2,
}  # fmt: skip


def test_each_window_is_what_is_said_and_seen_in_its_time(source):
    found = examples(source, clips=3, mask_tokens=0.0, false_texts=False)
    assert len(found) == len(FOUND)
    batch = found.batch(np.arange(len(found)), RNG(0))
    assert set(batch) == {"frames", "video", "input_ids", "attention_mask"}
    assert dict(zip(read(batch), batch["video"].tolist(), strict=True)) == FOUND
    assert batch["attention_mask"].sum(1).tolist() == [len(text.split()) + 2 for text in read(batch)]
    frames = dict(zip(read(batch), batch["frames"], strict=True))
    assert batch["frames"].shape == (6, 3, 1, 2) and batch["frames"].dtype == torch.float32
    assert frames["d e f g h i"][:, 0].tolist() == [[0, 4], [0, 6], [0, 8]]  # the frames from 3 to 9 s
    assert frames["p q"][:, 0].tolist() == [[2, 0], [2, 1], [2, 2]]  # no times: all
    whole = found.read_videos(["v2", "v0"])["frames"][:, :, 0]
    assert whole.tolist() == [[[2, 0], [2, 1], [2, 2]], [[0, 2], [0, 6], [0, 10]]]


def test_clips_are_equal_parts_of_the_time(source):
    frames = examples(source, clips=2, clip_frames=3).read_videos(["v0"])["frames"][0, ..., 1]
    assert frames.tolist() == [[1, 3, 5], [7, 9, 11]]
    short = examples(source, clips=2, clip_frames=3).read_videos(["v2"])["frames"][0, ..., 1]
    assert short.tolist() == [[0, 0, 1], [1, 2, 2]]  # again where there are fewer


def test_an_epoch_has_a_few_windows_of_each_video_other_ones_each_time(source):
    found = examples(source, per_video=2)
    texts = list(FOUND)
    epochs = [[texts[n] for n in found.epoch(RNG(seed))] for seed in range(20)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == len(found) == 5
        assert sorted(FOUND[text] for text in epoch[:3]) == [0, 1, 2]  # in rounds
    assert {text for epoch in epochs for text in epoch} == set(texts)
    train, val = ClipText(source, expert="eye").parts()
    assert len(train) == 6 and len(val) == 2


def test_a_long_text_is_read_at_a_random_place_in_training(source):
    options = {"expert": "eye", "max_length": 6, "mask_tokens": 0.0, "false_texts": False}
    train, val = ClipText(source, **options).parts()
    long = list(FOUND).index("a b c d e f g h i")
    found = {read(train.batch(np.array([long]), RNG(seed)))[0] for seed in range(60)}
    assert found == {" ".join(LETTERS[n : n + 4]) for n in range(6)}
    assert {read(val.batch(np.array([0]), RNG(seed)))[0] for seed in range(9)} == {"a b c d"}


def test_a_false_text_is_of_another_video_and_masks_are_drawn(source):
    found, seen = examples(source, mask_tokens=0.4), set()
    for seed in range(60):
        batch = found.batch(np.arange(6), RNG(seed))
        seen |= {(v, text) for v, text in zip(batch["video"].tolist(), read(batch, "false"), strict=True)}
        hidden = batch["token_labels"] != -100
        assert torch.equal(batch["token_labels"][hidden], batch["input_ids"][hidden])
        assert torch.equal(batch["masked_ids"][~hidden], batch["input_ids"][~hidden])
    assert seen == {(video, text) for text, own in FOUND.items() for video in range(3) if video != own}


def test_content_words_are_chosen(source, monkeypatch):
    monkeypatch.setattr(
        "videomatch.examples.clip_text.content_tokens",
        lambda texts, words: np.array(words.convert_tokens_to_ids(["d", "g", "k", "x"])),
    )
    found, seen = examples(source, content_words=3, mask_content=True, mask_tokens=0.3), {}
    texts = list(FOUND)
    for seed in range(40):
        batch = found.batch(np.arange(6), RNG(seed))
        tokens = batch["input_ids"].gather(1, batch["content_words"])
        for text, chosen in zip(texts, tokens, strict=True):
            seen.setdefault(text, set()).update(WORDS.convert_ids_to_tokens(chosen.tolist()))
        hidden = (batch["token_labels"] != -100).sum(1)
        assert hidden.tolist() == [round(0.3 * len(text.split())) for text in texts]
    assert seen["d e f g h i"] == {"d", "g"} and seen["k l m n o"] == {"k"}
    assert seen["p q"] == {"p", "q"}  # without a content word
    none = np.zeros((1, 4), bool)
    assert chosen_words(none, none, 3, RNG(0)).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"per_video": 0}, "per_video 0, expected at least 1"),
        ({"clips": 0}, "clips 0, expected at least 1"),
        ({"max_length": 2}, "max_length 2"),
        ({"mask_tokens": 1.5}, "mask_tokens 1.5"),
        ({"content_words": -1}, "content_words -1"),
        ({"mask_content": True, "mask_tokens": 0.0}, "only with mask_tokens"),
    ],
)
def test_bad_options_are_named(source, options, told):
    with pytest.raises(ValueError, match=told):
        examples(source, **options)
