"""Annotations of the synthetic corpus: graded pairs, and the tables of the whole corpus. No file is opened.

The pairs follow the AIAC training labels (67,899 pairs, own count of the public label file): 36 % of the grades are 0,
14 % are 1, the mean is 0.36, grades come in steps of 0.05; one giant component has a quarter of the videos and 63 % of
the pairs, most other components are 2 videos. Pairs stay within a split, so each of train, val and test has its giant.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from videomatch.data import tables
from videomatch.data.corpus import shard_of
from videomatch.synthetic import texts, vocabulary
from videomatch.synthetic.copies import Copy, copy_of
from videomatch.synthetic.edits import EDITS
from videomatch.synthetic.latent import FAMILY_SIZE, PAIRS, Latent, family_of, library_latent, similarity, split_of
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.video import library_id, query_id

Rows = list[dict[str, Any]]

#: share of the families whose videos join the giant component, and of those that make chains of three
GIANT, CHAINS = 0.26, 0.11
#: share of the giant's pairs that are siblings
SIBLINGS = 0.85
#: similarity below which annotators give grade 0, and above which they give 1
ZERO_BELOW, ONE_ABOVE = 0.14, 0.72
SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class GradedPair:
    """Two library videos (by index), their grade and their split."""

    query: int
    reference: int
    grade: float
    split: str


def graded_pairs(seed: int, options: SyntheticOptions) -> list[GradedPair]:
    """All labelled pairs of the corpus; an unordered pair occurs once."""
    rng = np.random.default_rng([seed, PAIRS])
    families = math.ceil(options.num_library / FAMILY_SIZE)
    result: list[GradedPair] = []
    for split in SPLIT_NAMES:
        chosen = _chosen([f for f in range(families) if split_of(f) == split], rng, options)
        latents = {k: library_latent(seed, k, options) for k in dict.fromkeys(itertools.chain(*chosen))}
        for a, b in chosen:
            stretched = (similarity(latents[a], latents[b]) - ZERO_BELOW) / (ONE_ABOVE - ZERO_BELOW)
            noisy = float(np.clip(stretched + options.label_noise * rng.normal(), 0, 1))
            result.append(GradedPair(a, b, round(round(noisy * 20) / 20, 2), split))
    return result


def _members(family: int, options: SyntheticOptions) -> list[int]:
    first = family * FAMILY_SIZE
    return list(range(first, min(first + FAMILY_SIZE, options.num_library)))


def _chosen(families: list[int], rng: np.random.Generator, options: SyntheticOptions) -> list[tuple[int, int]]:
    """Pairs of videos of one split: couples, chains, and the giant that has the rest of the wanted number."""
    order = [families[k] for k in rng.permutation(len(families))]
    num_giant = max(round(GIANT * len(order)), 1)
    num_chains = round(CHAINS * len(order))
    giant = [m for f in order[:num_giant] for m in _members(f, options)]
    result: list[tuple[int, int]] = []
    for number, family in enumerate(order[num_giant:]):
        members = _members(family, options)
        members = [members[k] for k in rng.permutation(len(members))]
        size = 3 if number < num_chains else 2
        for k in range(0, len(members), size):
            result += itertools.pairwise(members[k : k + size])
    num_videos = sum(len(_members(f, options)) for f in order)
    return result + _giant(giant, max(round(options.pairs * num_videos) - len(result), len(giant) - 1), rng)


def _giant(members: list[int], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """``count`` pairs that connect all ``members``: a random tree that prefers videos with many pairs, then more."""
    count = min(count, len(members) * (len(members) - 1) // 2)
    ends: list[int] = members[:1]  # every video as often as it has pairs
    seen: dict[tuple[int, int], None] = {}
    inside = set(members)

    def add(a: int, b: int) -> None:
        key = (min(a, b), max(a, b))
        if a != b and key not in seen:
            seen[key] = None
            ends.extend((a, b))

    for position in range(1, len(members)):
        a = members[position]
        siblings = [m for m in members[max(position - FAMILY_SIZE, 0) : position] if family_of(m) == family_of(a)]
        near = bool(siblings) and rng.random() < SIBLINGS
        add(a, siblings[rng.integers(len(siblings))] if near else ends[rng.integers(len(ends))])
    while len(seen) < count:
        a = ends[rng.integers(len(ends))]
        near = family_of(a) * FAMILY_SIZE + int(rng.integers(FAMILY_SIZE))
        far = members[rng.integers(len(members))]
        b = near if rng.random() < SIBLINGS else far
        if b in inside:
            before = len(seen)
            add(a, b)
            if len(seen) == before:  # no pair of this family is left
                add(far, members[rng.integers(len(members))])
    return [(a, b) if rng.random() < 0.5 else (b, a) for a, b in seen]


# ---------------------------------------------------------------------------------------------------------- tables


def annotate(*, seed: int, shards: int, options: SyntheticOptions) -> dict[str, pl.DataFrame]:
    """Tables ``videos`` (``path`` null), ``texts``, ``splits``, ``relevance``, ``segments`` of the whole corpus,
    ``edits`` of the segments where there are copies, and ``strata`` where there are topics.

    Splits: ``train``, ``val``, ``test`` partition all videos by family (role reference). For each of them there are
    ``captions_<split>`` (query: captions; reference: library videos), ``pairs_<split>`` (both: library videos) and
    ``copies_<split>`` (query: query videos, with and without copies; reference: library videos). The split
    ``captions_topics`` has ad-hoc topics as queries and the library videos of ``test`` as references.
    """
    rows: dict[str, Rows] = {name: [] for name in ("videos", "texts", "splits", "relevance", "segments")}
    test_latents: dict[str, Latent] = {}
    splits: dict[tuple[str, str, str], None] = {}  # in the order in which they are found, without repetition
    for index in range(options.num_library):
        latent, video, split = library_latent(seed, index, options), library_id(index), split_of(family_of(index))
        rows["videos"].append(_video(video, latent, latent.duration, shards))
        rows["texts"] += _texts(video, latent)
        if split == "test":
            test_latents[video] = latent
        for number, (language, sentence) in enumerate(texts.captions(latent, options.captions)):
            text_id = f"{video}-caption{number}"
            rows["texts"].append(_text(text_id, video, "caption", language, sentence))
            rows["relevance"].append(_relevance(text_id, video, 1.0))
            splits[f"captions_{split}", "query", text_id] = None
        for name in (split, f"captions_{split}", f"copies_{split}"):
            splits[name, "reference", video] = None
    if options.num_queries:
        rows["edits"] = []
    for index in range(options.num_queries):
        copy, video = copy_of(seed, index, options), query_id(index)
        rows["videos"].append(_video(video, copy.host, copy.duration, shards))
        rows["texts"] += [_moved(row, copy) for row in _texts(video, copy.host)]
        for s in copy.segments:
            segment = {"query_id": video, "reference_id": library_id(s.source), "query_start": s.query_start}
            rows["edits"] += [segment | {"edit": edit.name, "kind": EDITS[edit.name][0]} for edit in s.edits]
            reference = {"reference_start": s.reference_start, "reference_end": s.reference_end}
            rows["segments"].append(segment | {"query_end": s.query_end} | reference | {"score": None})
        rows["relevance"] += [_relevance(video, library_id(k), grade) for k, grade in _judged(copy, options)]
        splits[copy.split, "reference", video] = None
        splits[f"copies_{copy.split}", "query", video] = None
    for pair in graded_pairs(seed, options):
        query, reference = library_id(pair.query), library_id(pair.reference)
        rows["relevance"].append(_relevance(query, reference, pair.grade))
        splits[f"pairs_{pair.split}", "query", query] = None
        splits[f"pairs_{pair.split}", "reference", reference] = None
    if options.topics:
        rows["strata"] = []
        splits |= dict.fromkeys(("captions_topics", "reference", video) for video in test_latents)
    for number, topic in enumerate(texts.topics(test_latents, options.topics, seed), start=1):
        query = f"topic{number}"
        rows["texts"].append(_text(query, None, "query", "en", topic.text))
        rows["relevance"] += [_relevance(query, video, 1.0) for video in topic.relevant]
        rows["strata"] += [
            {"query_id": query, "reference_id": video, "stratum": stratum, "judgement": judgement}
            for video, (stratum, judgement) in topic.strata.items()
        ]
        splits["captions_topics", "query", query] = None
    rows["splits"] = [{"split": split, "role": role, "id": i} for split, role, i in splits]
    return {name: tables.check(name, table) for name, table in rows.items()}


def _relevance(query: str, reference: str, grade: float) -> dict[str, Any]:
    return {"query_id": query, "reference_id": reference, "grade": grade}


def _video(video_id: str, latent: Latent, duration: float, shards: int) -> dict[str, Any]:
    return {
        "video_id": video_id,
        "path": None,
        "duration": duration,
        "fps": float(latent.format.fps),
        "width": latent.format.width,
        "height": latent.format.height,
        "has_audio": latent.format.audio_rate is not None,
        "sha256": None,
        "category": vocabulary.CATEGORIES[latent.category][0],
        "tags": texts.tags(latent)[0],
        "shard": shard_of(video_id, shards),
    }


def _text(
    text_id: str, video: str | None, kind: str, language: str, text: str, time: tuple[float | None, ...] = (None, None)
) -> dict[str, Any]:
    ids = {"text_id": text_id, "video_id": video}
    return ids | {"kind": kind, "language": language, "start": time[0], "end": time[1], "text": text}


def _texts(video: str, latent: Latent) -> Rows:
    """Title, recognised speech and screen words."""
    language = latent.language
    rows = [_text(f"{video}-title", video, "title", language, texts.title(latent)[0])]
    for number, s in enumerate(texts.speech(latent)[0]):
        if s.recognised:
            rows.append(_text(f"{video}-asr{number}", video, "asr", language, s.recognised, (s.start, s.end)))
    for number, (start, end, words) in enumerate(texts.screen_words(latent)):
        rows.append(_text(f"{video}-ocr{number}", video, "ocr", language, words, (start, end)))
    return rows


def _moved(row: dict[str, Any], copy: Copy) -> dict[str, Any]:
    """The host's text at its time in the query: after an inserted segment it is later by the segment's length, and a
    text across a cut ends there. Speech and words of the copied segments have no texts."""
    if row["start"] is None:
        return row
    start, end = row["start"], row["end"]
    for segment in copy.segments:
        length = segment.query_end - segment.query_start
        if start >= segment.query_start:
            start, end = start + length, end + length
        elif end > segment.query_start:
            end = segment.query_start
    return {**row, "start": start, "end": end}


def _judged(copy: Copy, options: SyntheticOptions) -> list[tuple[int, float]]:
    """Grade 1 for the sources, 0 for a sibling of each, which is similar, but of another source."""
    sources = sorted({s.source for s in copy.segments})
    siblings: set[int] = set()
    for source in sources:
        first = family_of(source) * FAMILY_SIZE
        sibling = first + (source - first + 1) % FAMILY_SIZE
        if sibling < options.num_library and sibling not in sources:
            siblings.add(sibling)
    return [(source, 1.0) for source in sources] + [(sibling, 0.0) for sibling in sorted(siblings)]
