"""Annotations of the synthetic corpus: graded pairs, and the tables of the whole corpus. No file is opened.

The pairs follow the AIAC training labels (67,899 pairs, own count of the public label file): 36 % of the grades are 0,
14 % are 1, the mean is 0.36, grades come in steps of 0.05; one giant component has a quarter of the videos and 63 % of
the pairs, most other components are 2 videos. Pairs stay within a split, so each of train, val and test has its giant.

The table ``facts`` says what is true of a video, and when. Besides the factors these are the channel and the words on
the screen, the shape, colour and place of companions, and what several factors tell together: what is done where
(``place_action``), and what comes first (``…_order``). Texts of the web have one more, whose scenes they tell
(``told_of``: own, other, none).
"""

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from videomatch.data import tables
from videomatch.data.corpus import shard_of
from videomatch.synthetic import openings, texts, vocabulary
from videomatch.synthetic.copies import Copy, copy_of
from videomatch.synthetic.edits import EDITS
from videomatch.synthetic.latent import (
    FACTORS,
    FAMILY_SIZE,
    PAIRS,
    Latent,
    family_of,
    library_latent,
    scalar_rng,
    scenes,
    seed_of,
    similarity,
    split_of,
)
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.texts import joined
from videomatch.synthetic.video import distractor_id, distractor_latent, distractor_split, library_id, query_id

#: factor, value, and from when to when (s); both None of the whole video
Fact = tuple[str, str, float | None, float | None]
Row = tuple[Any, ...]
Rows = list[Row]

#: share of the families whose videos join the giant component, and of those that make chains of three
GIANT, CHAINS = 0.26, 0.11
SIBLINGS = 0.85  #: share of the giant's pairs that are siblings
#: standard deviation of the annotators' mean on the grade, before it is rounded to 0.05
LABEL_NOISE = 0.18
#: similarity below which annotators give grade 0, and above which they give 1
ZERO_BELOW, ONE_ABOVE = 0.14, 0.68
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
    families = math.ceil(options.num_library / FAMILY_SIZE)
    result: list[GradedPair] = []
    for number, split in enumerate(SPLIT_NAMES):
        rng = scalar_rng(seed_of(seed, split, options), PAIRS, number)
        chosen = _chosen([f for f in range(families) if split_of(f) == split], rng, options)
        latents = {k: library_latent(seed, k, options) for k in dict.fromkeys(itertools.chain(*chosen))}
        for a, b in chosen:
            stretched = (similarity(latents[a], latents[b]) - ZERO_BELOW) / (ONE_ABOVE - ZERO_BELOW)
            noisy = min(max(rng.gauss(stretched, LABEL_NOISE), 0), 1)
            result.append(GradedPair(a, b, round(round(noisy * 20) / 20, 2), split))
    return result


def _members(family: int) -> range:
    return range(family * FAMILY_SIZE, (family + 1) * FAMILY_SIZE)


def _chosen(families: list[int], rng: random.Random, options: SyntheticOptions) -> list[tuple[int, int]]:
    """Pairs of videos of one split: couples, chains, and the giant that has the rest of the wanted number."""
    shuffled = rng.sample(families, len(families))
    order = [[m for m in _members(family) if m < options.num_library] for family in shuffled]
    num_giant = max(round(GIANT * len(order)), 1)
    num_chains = round(CHAINS * len(order))
    giant = list(itertools.chain(*order[:num_giant]))
    result: list[tuple[int, int]] = []
    for number, family in enumerate(order[num_giant:]):
        members = rng.sample(family, len(family))
        size = 3 if number < num_chains else 2
        for k in range(0, len(members), size):
            result += itertools.pairwise(members[k : k + size])
    wanted = round(options.pairs * sum(map(len, order)))
    return result + _giant(giant, max(wanted - len(result), len(giant) - 1), rng)


def _giant(members: list[int], count: int, rng: random.Random) -> list[tuple[int, int]]:
    """``count`` pairs that connect all ``members``: a random tree that prefers videos with many pairs, then more."""
    count = min(count, math.comb(len(members), 2))
    ends: list[int] = members[:1]  # every video as often as it has pairs
    seen: dict[tuple[int, int], None] = {}
    inside = set(members)

    def add(a: int, b: int) -> bool:
        """Whether the pair is a new one."""
        key = (min(a, b), max(a, b))
        if a == b or key in seen:
            return False
        seen[key] = None
        ends.extend((a, b))
        return True

    for position in range(1, len(members)):
        a = members[position]
        siblings = [m for m in members[max(position - FAMILY_SIZE, 0) : position] if family_of(m) == family_of(a)]
        near = bool(siblings) and rng.random() < SIBLINGS
        add(a, rng.choice(siblings if near else ends))
    while len(seen) < count:
        a, near, far = rng.choice(ends), rng.randrange(FAMILY_SIZE), rng.choice(members)
        b = _members(family_of(a))[near] if rng.random() < SIBLINGS else far
        if b in inside and not add(a, b):  # no pair of this family is left
            add(far, rng.choice(members))
    return [(a, b) if rng.random() < 0.5 else (b, a) for a, b in seen]


def annotate(*, seed: int, shards: int, options: SyntheticOptions) -> dict[str, pl.DataFrame]:
    """Tables ``videos`` (``path`` null), ``texts``, ``splits``, ``relevance``, ``segments``, ``facts`` of the whole
    corpus, ``edits`` of the segments where there are copies, and ``strata`` where there are topics.

    Splits: ``train``, ``val``, ``test`` partition all videos by family. In each, captions (``captions_<split>``),
    library videos (``pairs_…``) and query videos (``copies_…``) are queries and its library videos references;
    ``captions_topics`` has ad-hoc topics as queries and the library videos of ``test`` as references.
    """
    rows: dict[str, Rows] = {name: [] for name in ("videos", "texts", "splits", "relevance", "segments", "facts")}
    rows |= {name: [] for name, there in (("edits", options.num_queries), ("strata", options.topics)) if there}
    test_latents: dict[str, Latent] = {}
    channels: dict[tuple[str, int | None], list[str]] = {}  # the references of a split that open and close alike
    splits: dict[tuple[str, str, str], None] = {}  # in the order in which they are found, without repetition
    for index in range(options.num_library):
        latent, video, split = library_latent(seed, index, options), library_id(index), split_of(family_of(index))
        rows["videos"].append(_video(video, latent, latent.duration, shards))
        if options.narrated:
            stranger = _stranger(seed, index, options)
            for number, told in enumerate(texts.narrated(latent, stranger, options.told_of)):
                kind = "title" if told.start is None else "asr"
                text_id = f"{video}-{kind}{number}"
                rows["texts"].append((text_id, video, kind, told.language, told.start, told.end, told.text))
                rows["facts"] += [(text_id, *fact, None, None) for fact in (("told_of", told.told_of), *told.facts)]
        else:
            rows["texts"] += _texts(video, latent)
        if split == "test":
            test_latents[video] = latent
        rows["facts"] += [(video, *fact) for fact in facts_of_video(latent)]
        if options.families:
            rows["facts"].append((video, "family", str(latent.family), None, None))
        for number, caption in enumerate(texts.captions(latent, options.captions)):
            text_id = f"{video}-caption{number}"
            rows["texts"].append((text_id, video, "caption", caption.language, None, None, caption.text))
            rows["facts"] += [(text_id, *fact, None, None) for fact in caption.facts]
            rows["relevance"].append((text_id, video, 1.0))
            splits[f"captions_{split}", "query", text_id] = None
        for name in (split, f"captions_{split}", f"copies_{split}"):
            splits[name, "reference", video] = None
        channels.setdefault((split, latent.channel), []).append(video)
    for index in range(options.distractors):
        latent, video = distractor_latent(seed, index, options), distractor_id(index)
        split = distractor_split(index)
        rows["videos"].append(_video(video, latent, latent.duration, shards))
        rows["texts"] += _texts(video, latent)
        rows["facts"] += [(video, *fact) for fact in facts_of_video(latent)]
        splits |= dict.fromkeys((name, "reference", video) for name in (split, f"copies_{split}"))
        channels.setdefault((split, latent.channel), []).append(video)
    for index in range(options.num_queries):
        copy, video = copy_of(seed, index, options), query_id(index)
        rows["videos"].append(_video(video, copy.host, copy.duration, shards))
        rows["texts"] += [_moved(row, copy) for row in _texts(video, copy.host)]
        sources = {s.source: library_latent(seed, s.source, options) for s in copy.segments}
        rows["facts"] += [(video, *fact) for fact in facts_of_copy(copy, sources)]
        for s in copy.segments:
            pair, times = (video, library_id(s.source)), (s.query_end, s.reference_start, s.reference_end)
            rows["edits"] += [(*pair, s.query_start, edit.name, EDITS[edit.name][0]) for edit in s.edits]
            rows["segments"].append((*pair, s.query_start, *times, None))
        alike = channels.get((copy.split, copy.host.channel), []) if copy.host.channel is not None else []
        rows["relevance"] += [(video, *judged) for judged in _judged(copy, options, alike, index)]
        splits[copy.split, "reference", video] = None
        splits[f"copies_{copy.split}", "query", video] = None
    for pair in graded_pairs(seed, options):
        query, reference = library_id(pair.query), library_id(pair.reference)
        rows["relevance"].append((query, reference, pair.grade))
        splits[f"pairs_{pair.split}", "query", query] = None
        splits[f"pairs_{pair.split}", "reference", reference] = None
    if options.topics:
        splits |= dict.fromkeys(("captions_topics", "reference", video) for video in test_latents)
    for number, topic in enumerate(texts.topics(test_latents, options.topics, seed_of(seed, "test", options)), start=1):
        query = f"topic{number}"
        rows["texts"].append((query, None, "query", "en", None, None, topic.text))
        rows["facts"] += [(query, *fact, None, None) for fact in topic.facts]
        rows["relevance"] += [(query, video, 1.0) for video in topic.relevant]
        rows["strata"] += [(query, video, *judged) for video, judged in topic.strata.items()]
        splits["captions_topics", "query", query] = None
    rows["splits"] = list(splits)
    return {name: tables.check(name, tables.frame(name, table)) for name, table in rows.items()}


def _video(video_id: str, latent: Latent, duration: float, shards: int) -> Row:
    form, category = latent.format, vocabulary.CATEGORIES[latent.category][0][0]
    shape = (duration, float(form.fps), form.width, form.height, form.audio_rate is not None)
    return (video_id, None, None, None, *shape, None, category, texts.tags(latent)[0], shard_of(video_id, shards))


def _stranger(seed: int, index: int, options: SyntheticOptions) -> Latent:
    """A library video of another family; of the same split, unless that has one family alone."""
    rng, family, other = scalar_rng(seed, texts.NARRATED, index), family_of(index), index
    for _ in range(100):
        other = rng.randrange(options.num_library)
        if family_of(other) != family and split_of(family_of(other)) == split_of(family):
            break
    return library_latent(seed, other, options)


def _texts(video: str, latent: Latent) -> Rows:
    """Title, recognised speech and screen words."""
    language = latent.language
    rows: Rows = [(f"{video}-title", video, "title", language, None, None, texts.title(latent)[0])]
    for number, s in enumerate(texts.speech(latent)[0]):
        if s.recognised:
            rows.append((f"{video}-asr{number}", video, "asr", language, s.start, s.end, s.recognised))
    for number, scene in enumerate(scene for scene in scenes(latent) if scene.words):
        rows.append((f"{video}-ocr{number}", video, "ocr", language, scene.start, scene.end, scene.words))
    return rows


def _moved(row: Row, copy: Copy) -> Row:
    """The host's text at its time in the query: later by the segments inserted before; a text across a cut ends there.
    Speech and words of the copied segments have no texts."""
    *ids, start, end, text = row
    if start is None:
        return row
    for segment in copy.segments:
        length = segment.query_end - segment.query_start
        if start >= segment.query_start:
            start, end = start + length, end + length
        elif end > segment.query_start:
            end = segment.query_start
    return (*ids, start, end, text)


def _judged(copy: Copy, options: SyntheticOptions, alike: list[str], index: int) -> list[tuple[str, float]]:
    """Grade 1 for the sources, 0 for a sibling of each, which is similar, but of another source, and for one video of
    those that open and close ``alike``."""
    sources = {s.source for s in copy.segments}
    siblings = {_members(family_of(source))[(source + 1) % FAMILY_SIZE] for source in sources} - sources
    siblings = {sibling for sibling in siblings if sibling < options.num_library}
    others = set(map(library_id, siblings))
    if alike:
        others.add(alike[index % len(alike)])
    copied = set(map(library_id, sources))
    return [(source, 1.0) for source in sorted(copied)] + [(other, 0.0) for other in sorted(others - copied)]


def facts_of_video(latent: Latent) -> list[Fact]:
    """All facts of a library video."""
    order: list[Fact] = []
    for k, (scene, after) in enumerate(itertools.pairwise(scenes(latent))):
        for name in ("place", "action"):
            order.append((f"{name}_order", joined(latent, k, [f"{name}1", f"{name}2"]), scene.start, after.end))
    return _told(latent) + _visible(latent) + order


def facts_of_copy(copy: Copy, sources: Mapping[int, Latent]) -> list[Fact]:
    """Facts of a query video: what pictures show at the times at which they show it, of the host and of the segments;
    what is told and heard is the host's, as its title is."""
    found = _told(copy.host)
    cuts = [0.0, *(time for s in copy.segments for time in (s.query_start, s.query_end)), copy.duration]
    pieces = [
        (copy.host, start, end, copy.host_time(start), 1.0)
        for start, end in zip(cuts[::2], cuts[1::2], strict=True)
        if end > start
    ]
    pieces += [(sources[s.source], s.query_start, s.query_end, s.reference_start, s.speed) for s in copy.segments]
    for latent, start, end, source_start, speed in sorted(pieces, key=lambda piece: piece[1]):
        source_end = source_start + (end - start) * speed
        for factor, value, first, last in _visible(latent):
            first, last = max(first or 0.0, source_start), source_end if last is None else min(last, source_end)
            if last > first:
                first, last = (start + (time - source_start) / speed for time in (first, last))
                found.append((factor, value, first, last))
    return found


def _told(latent: Latent) -> list[Fact]:
    names = [*FACTORS["text"], *FACTORS["sound"]]
    category = vocabulary.CATEGORIES[latent.category][0][0]
    told = {name: vocabulary.NAMES[name][latent.factors[name]] for name in names} | {"category": category}
    return [(name, value, None, None) for name, value in told.items()]


def _visible(latent: Latent) -> list[Fact]:
    found: list[Fact] = [(n, vocabulary.NAMES[n][latent.factors[n]], None, None) for n in ("shape", "colour", "count")]
    for k, scene in enumerate(scenes(latent)):
        step = scene.step
        shown = {"place": vocabulary.NAMES["place"][step.place], "action": vocabulary.NAMES["action"][step.action]}
        shown["place_action"] = joined(latent, k, ["place", "action"])
        if step.companion:
            shown |= {
                f"companion_{name}": vocabulary.NAMES[name][getattr(step.companion, name)]
                for name in ("shape", "colour")
            }
            shown["relation"] = vocabulary.NAMES["relation"][step.companion.relation]
        if scene.words:
            shown["words"] = scene.words
        found += [(factor, value, scene.start, scene.end) for factor, value in shown.items()]
    opened = [cover for cover in openings.covers(latent) if cover.since is not None]
    return found + [("channel", str(latent.channel), cover.start, cover.end) for cover in opened]
