"""What a trained model of words and frames (``token_match``) learned to be important, against what is true:

    python benchmarks/importance.py RUN CORPUS FEATURES… --split captions_test

On generated videos it is known which words of a caption tell a fact, and which frames show what it tells. Prints, as
means over the split's captions with their standard errors over videos: the share of the importance that lies on those
words and frames, beside the share of words and frames that they are; and of the videos that are mined as hard negatives
for a caption, among all of the split, how many are siblings of its own (a family shares most of its facts), beside the
share of siblings among all. RUN is a result of ``train``, CORPUS and FEATURES (a folder for each shard) are those of
the data set.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import polars as pl
import torch

from videomatch.data import tables
from videomatch.data.corpus import pooled_ids
from videomatch.models.video_text import hard_negatives
from videomatch.stages._trained import PairScorer
from videomatch.synthetic.latent import family_of
from videomatch.synthetic.vocabulary import WORDS, inflected

#: mined videos of a caption, as many as in the published groups of eight
MINED = 7


def spans(text: str, facts: list[tuple[str, str]]) -> list[tuple[int, int]]:
    """Where a text tells some facts, by any of their words."""
    found = []
    for factor, value in facts:
        for english, chinese in WORDS.get(factor, ()):
            if inflected(english[0], False) == value or english[0] == value:
                words = [inflected(word, ending) for word in english for ending in (False, True)]
                patterns = [rf"\b{re.escape(word)}\b" for word in words] + [re.escape(word) for word in chinese]
                found += [m.span() for m in re.finditer("|".join(patterns), text, re.IGNORECASE)]
    return found


def shown(times: np.ndarray, facts: list[tuple[str, str]], of_video: pl.DataFrame) -> np.ndarray:
    """Which frames show most of the facts; all where a fact is of the whole video."""
    count = np.zeros(len(times), int)
    middles = times.mean(1)
    named = pl.DataFrame(facts, schema=["factor", "value"], orient="row")
    for start, end in of_video.join(named, on=["factor", "value"], how="semi").select("start", "end").iter_rows():
        count += (middles >= (start or 0.0)) & (middles < (np.inf if end is None else end))
    return count == count.max(initial=0)


def told(name: str, rows: list[tuple[str, float, float]]) -> None:
    """A line: mean of both shares of (video, share, share expected), and the standard error of their difference."""
    table = pl.DataFrame(rows, schema=["video", "share", "expected"], orient="row")
    each = table.group_by("video").agg(pl.all().mean())
    error = (each["share"] - each["expected"]).to_numpy().std() / len(each) ** 0.5
    mean = table.select("share", "expected").mean().row(0)
    print(f"{name}: {100 * mean[0]:.1f} %, by chance {100 * mean[1]:.1f} % (± {100 * error:.1f}; {len(rows)} captions)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("features", type=Path, nargs="+")
    parser.add_argument("--split", default="captions_test")
    options = parser.parse_args()
    scorer = PairScorer(options.run, options.corpus, options.features)
    tokenizer = scorer.reader.source.tokenizer
    assert tokenizer is not None
    ids = scorer.reader.usable(pooled_ids(options.corpus, options.split))
    captions = tables.read("texts", options.corpus).filter(pl.col("kind") == "caption", pl.col("video_id").is_in(ids))
    captions = captions.sort("video_id", "text_id")
    facts = tables.read("facts", options.corpus)
    texts, videos = scorer.texts(captions["text"].to_list()), scorer.videos(ids)
    own = np.searchsorted(ids, captions["video_id"].to_numpy()) if ids == sorted(ids) else np.array(
        [ids.index(video) for video in captions["video_id"]]
    )  # fmt: skip
    of_text = dict(facts.group_by("id").agg(pl.struct("factor", "value")).rows())
    if hasattr(scorer.model, "word_importance"):
        words = (texts["word_tokens"], texts["word_weights"] > 0)
        frames = (videos["frame_tokens"][own], videos["frame_weights"][own] > 0)
        with torch.inference_mode():
            importance = [x.numpy() for x in scorer.model.importance(texts["text_embeds"], words, frames)]
        of_words, of_frames = [], []
        for number, (text_id, video, text) in enumerate(captions.select("text_id", "video_id", "text").iter_rows()):
            named = [(f["factor"], f["value"]) for f in of_text.get(text_id, [])]
            found, count = spans(text, named), int(words[1][number].sum())
            offsets = tokenizer(text, truncation=True, max_length=count, return_offsets_mapping=True)["offset_mapping"]
            is_telling = np.array([any(a < end and start < b for start, end in found) for a, b in offsets])
            if is_telling.any():
                of_words.append((video, importance[0][number, :count][is_telling].sum(), is_telling.mean()))
            times = scorer.reader.frame_times(video)
            is_shown = shown(times, named, facts.filter(pl.col("id") == video))
            if not is_shown.all():
                of_frames.append((video, importance[1][number, : len(times)][is_shown].sum(), is_shown.mean()))
        told("importance on words that tell a fact", of_words)
        told("importance on frames that show what the caption tells", of_frames)
    similarity = texts["text_embeds"] @ videos["video_embeds"].T
    positive = torch.from_numpy(own)
    families = np.array([family_of(int(re.sub(r"\D", "", video))) for video in ids])
    is_sibling = (families[own][:, None] == families) & (np.arange(len(ids)) != own[:, None])
    is_negative = torch.arange(len(ids)) != positive[:, None]
    for how in ("nearest", "top_k"):
        mined = hard_negatives(similarity, positive, is_negative, MINED, how).numpy()
        shares = np.take_along_axis(is_sibling, mined, axis=1).mean(1)
        expected = is_sibling.sum(1) / (len(ids) - 1)
        told(f"siblings among mined videos ({how})", list(zip(captions["video_id"], shares, expected, strict=True)))


if __name__ == "__main__":
    main()
