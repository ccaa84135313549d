"""The tables of the generated corpus, from the stories alone: no file is opened."""

from __future__ import annotations

from typing import Any

import polars as pl

from videomatch.data import tables
from videomatch.data.corpus import shard_of
from videomatch.synthetic import language, words
from videomatch.synthetic.copies import Copy, copy_of
from videomatch.synthetic.edits import KIND_OF
from videomatch.synthetic.film import library_id, query_id
from videomatch.synthetic.options import WorldOptions
from videomatch.synthetic.pairs import pairs
from videomatch.synthetic.story import FAMILY_SIZE, Story, family_of, library_story, side_of
from videomatch.synthetic.topics import topics

Rows = list[dict[str, Any]]
SIDES = ("train", "val", "test")


def annotate(*, seed: int, shards: int, options: WorldOptions) -> dict[str, pl.DataFrame]:
    """Tables ``videos`` (``path`` null), ``texts``, ``splits``, ``relevance``, ``segments`` of the whole corpus,
    ``edits`` of the segments where there are copies, and ``strata`` where there are topics.

    Splits: ``train``, ``val``, ``test`` part all videos, no family being parted (role reference); and for each side
    ``captions_<side>`` (query: captions; reference: library videos), ``pairs_<side>`` (both: library videos) and
    ``copies_<side>`` (query: query videos, with and without copies; reference: library videos); ``captions_topics``
    (query: ad-hoc topics; reference: library videos of the test side).
    """
    rows: dict[str, Rows] = {name: [] for name in ("videos", "texts", "splits", "relevance", "segments")}
    if options.num_queries:
        rows["edits"] = []
    tested: dict[str, Story] = {}
    splits: dict[tuple[str, str, str], None] = {}
    for index in range(options.num_library):
        story, video, side = library_story(seed, index, options), library_id(index), side_of(family_of(index))
        rows["videos"].append(_video(video, story, story.duration, shards))
        rows["texts"] += _texts(video, story)
        if side == "test":
            tested[video] = story
        for number, (spoken, sentence) in enumerate(language.captions(story, options.captions)):
            text_id = f"{video}-caption{number}"
            rows["texts"].append(_text(text_id, video, "caption", spoken, sentence))
            rows["relevance"].append({"query_id": text_id, "reference_id": video, "grade": 1.0})
            splits[f"captions_{side}", "query", text_id] = None
        for name in (side, f"captions_{side}", f"copies_{side}"):
            splits[name, "reference", video] = None
    for index in range(options.num_queries):
        copy, video = copy_of(seed, index, options), query_id(index)
        rows["videos"].append(_video(video, copy.host, copy.duration, shards))
        rows["texts"] += [_moved(row, copy) for row in _texts(video, copy.host)]
        rows["segments"] += _segments(video, copy)
        rows["edits"] += _edits(video, copy)
        rows["relevance"] += _judged(video, copy, options)
        splits[copy.side, "reference", video] = None
        splits[f"copies_{copy.side}", "query", video] = None
    for pair in pairs(seed, options):
        query, reference = library_id(pair.query), library_id(pair.reference)
        rows["relevance"].append({"query_id": query, "reference_id": reference, "grade": pair.grade})
        splits[f"pairs_{pair.side}", "query", query] = None
        splits[f"pairs_{pair.side}", "reference", reference] = None
    if options.topics:
        rows["strata"] = []
        splits |= dict.fromkeys(("captions_topics", "reference", video) for video in tested)
    for number, topic in enumerate(topics(tested, options.topics, seed), start=1):
        query = f"topic{number}"
        rows["texts"].append(_text(query, None, "query", "en", topic.text))
        rows["relevance"] += [{"query_id": query, "reference_id": v, "grade": 1.0} for v in topic.relevant]
        rows["strata"] += [
            {"query_id": query, "reference_id": v, "stratum": stratum, "judgement": judgement}
            for v, (stratum, judgement) in topic.strata.items()
        ]
        splits["captions_topics", "query", query] = None
    rows["splits"] = [{"split": s, "role": role, "id": i} for s, role, i in splits]
    return {name: tables.check(name, table) for name, table in rows.items()}


def _video(video_id: str, story: Story, duration: float, shards: int) -> dict[str, Any]:
    shot = story.shot
    return {
        "video_id": video_id,
        "path": None,
        "duration": duration,
        "fps": float(shot.fps),
        "width": shot.width,
        "height": shot.height,
        "has_audio": shot.audio_rate is not None,
        "sha256": None,
        "category": words.CATEGORIES[story.category][0][0],
        "tags": language.tags(story)[0],
        "shard": shard_of(video_id, shards),
    }


def _text(
    text_id: str,
    video: str | None,
    kind: str,
    spoken: str,
    text: str,
    start: float | None = None,
    end: float | None = None,
) -> dict[str, Any]:
    return {
        "text_id": text_id,
        "video_id": video,
        "kind": kind,
        "language": spoken,
        "start": start,
        "end": end,
        "text": text,
    }


def _texts(video: str, story: Story) -> Rows:
    """Title, recognised speech and screen words."""
    rows = [_text(f"{video}-title", video, "title", story.language, language.title(story).text)]
    for number, said in enumerate(language.speech(story)[0]):
        if said.heard:
            rows.append(_text(f"{video}-asr{number}", video, "asr", story.language, said.heard, said.start, said.end))
    for number, (start, end, written) in enumerate(language.screen_words(story)):
        rows.append(_text(f"{video}-ocr{number}", video, "ocr", story.language, written, start, end))
    return rows


def _moved(row: dict[str, Any], copy: Copy) -> dict[str, Any]:
    """The host's text at its time in the query: what comes after an inserted segment is later by its length.

    A text across a cut is cut short there; what the copied segment itself says or shows is not listed, as the query's
    uploader would not have told.
    """
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


def _segments(video: str, copy: Copy) -> Rows:
    return [
        {
            "query_id": video,
            "reference_id": library_id(s.source),
            "query_start": s.query_start,
            "query_end": s.query_end,
            "reference_start": s.reference_start,
            "reference_end": s.reference_end,
            "score": None,
        }
        for s in copy.segments
    ]


def _edits(video: str, copy: Copy) -> Rows:
    return [
        {
            "query_id": video,
            "reference_id": library_id(s.source),
            "query_start": s.query_start,
            "edit": edit.name,
            "kind": KIND_OF[edit.name],
        }
        for s in copy.segments
        for edit in s.edits
    ]


def _judged(video: str, copy: Copy, options: WorldOptions) -> Rows:
    """Grade 1 for the sources, 0 for one sibling of each: alike, but not the same footage."""
    sources = sorted({s.source for s in copy.segments})
    siblings: set[int] = set()
    for source in sources:
        first = family_of(source) * FAMILY_SIZE
        sibling = first + (source - first + 1) % FAMILY_SIZE
        if sibling < options.num_library and sibling not in sources:
            siblings.add(sibling)
    grades = [(source, 1.0) for source in sources] + [(sibling, 0.0) for sibling in sorted(siblings)]
    return [{"query_id": video, "reference_id": library_id(k), "grade": g} for k, g in grades]
