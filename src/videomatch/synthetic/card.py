"""The card of a generated corpus: what is in it, the shape of its labels, and how far each modality alone would get.

The oracles know the latents exactly as far as one modality shows them; their Spearman correlation with the grades
bounds what a model of that modality can be expected to reach, and they must lie well apart for a comparison to mean
anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from scipy.stats import rankdata

from videomatch.synthetic import draw, language
from videomatch.synthetic.copies import Copy, copy_of
from videomatch.synthetic.copies import frame as copy_frame
from videomatch.synthetic.options import WorldOptions
from videomatch.synthetic.pairs import SIDE_NUMBERS, Pair, pairs
from videomatch.synthetic.story import FACTORS, Story, library_story, likeness, modality

#: width and height of a tile of the contact sheet, px
TILE = (160, 90)


def card(*, output: Path, tables: Mapping[str, pl.DataFrame], seed: int, options: WorldOptions) -> None:
    """Write ``card.md`` and ``contact_sheet.jpg`` to ``output`` for the corpus with these ``tables``.

    The pictures are redrawn from the stories, so no file is opened.
    """
    labelled = pairs(seed, options)
    copies = [copy_of(seed, k, options) for k in range(options.num_queries)]
    sections = ["# Generated corpus", _counts(tables), _labels(labelled), _oracles(labelled, seed, options)]
    sections.append(_copies(copies, seed, options))
    output.mkdir(parents=True, exist_ok=True)
    (output / "card.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    contact_sheet(output / "contact_sheet.jpg", seed, options)


def label_shape(labelled: list[Pair]) -> dict[str, float]:
    """Shares of grade 0 and 1, mean and standard deviation; share of the pairs that lie in a side's largest component
    (mean over sides), and share of the components that are two videos."""
    grades = np.array([p.grade for p in labelled])
    giants, couples = [], []
    for side in SIDE_NUMBERS:
        sizes, inside = _components([(p.query, p.reference) for p in labelled if p.side == side])
        if inside:
            giants.append(max(inside.values()) / sum(inside.values()))
            couples.append(sum(size == 2 for size in sizes.values()) / len(sizes))
    return {
        "zeros": float((grades == 0).mean()),
        "ones": float((grades == 1).mean()),
        "mean": float(grades.mean()),
        "sd": float(grades.std()),
        "giant": float(np.mean(giants)),
        "couples": float(np.mean(couples)),
    }


def oracles(labelled: list[Pair], seed: int, options: WorldOptions) -> dict[str, float]:
    """Spearman correlation with the grades of what an all-knowing reader of one modality (or several) would say."""
    stories = {k: library_story(seed, k, options) for p in labelled for k in (p.query, p.reference)}
    everything = set(FACTORS)
    told: dict[str, dict[int, set[str]]] = {
        "full information": dict.fromkeys(stories, everything),
        "visual and text": {k: modality("visual", "text") for k in stories},
        "visual only": {k: modality("visual") for k in stories},
        "text factors only": {k: modality("text") for k in stories},
        "sound only": {k: modality("sound") for k in stories},
        "title only": {k: set(language.title(s).known) for k, s in stories.items()},
        "tags only": {k: set(language.tags(s)[1]) for k, s in stories.items()},
        "speech only": {k: set(language.speech(s)[1]) for k, s in stories.items()},
    }
    grades = [p.grade for p in labelled]
    result = {}
    for name, known in told.items():
        scores = [_seen(stories, known, p) for p in labelled]
        result[name] = _spearman(scores, grades)
    result["chance"] = _spearman(np.random.default_rng([seed, len(labelled)]).random(len(labelled)).tolist(), grades)
    return result


def copy_statistics(copies: list[Copy], seed: int, options: WorldOptions) -> dict[str, float]:
    """The quantities of the Video Similarity Challenge's table, for these query videos."""
    positive = [c for c in copies if c.segments]
    segments = [s for c in positive for s in c.segments]
    if not segments:
        return {"queries": len(copies), "queries with a copy": 0}
    lengths = np.array([s.query_end - s.query_start for s in segments])
    query = [(s.query_end - s.query_start) / c.duration for c in positive for s in c.segments]
    reference = [
        (s.reference_end - s.reference_start) / library_story(seed, s.source, options).duration for s in segments
    ]
    sources = [len({s.source for s in c.segments}) for c in positive]
    numbers = Counter((id(c), s.source) for c in positive for s in c.segments)
    return {
        "queries": len(copies),
        "queries with a copy": len(positive),
        "one reference per query, %": 100 * float(np.mean(np.array(sources) == 1)),
        "one segment per pair, %": 100 * float(np.mean(np.array(list(numbers.values())) == 1)),
        "length, median s": float(np.median(lengths)),
        "length, 5 % s": float(np.quantile(lengths, 0.05)),
        "length, 95 % s": float(np.quantile(lengths, 0.95)),
        "share of query, median": float(np.median(query)),
        "share of reference, median": float(np.median(reference)),
        "speed within 2 % of 1, %": 100 * float(np.mean([abs(s.speed - 1) < 0.02 for s in segments])),
        "slowest": min(s.speed for s in segments),
        "fastest": max(s.speed for s in segments),
    }


def contact_sheet(path: Path, seed: int, options: WorldOptions) -> None:
    """A picture of 36 library videos and, below, 12 query videos in the middle of their first copied segment."""
    step = max(options.num_library // 36, 1)
    tiles = []
    for k in range(min(36, options.num_library)):
        story = library_story(seed, k * step, options)
        tiles.append(_tile(draw.frame(story, 0.4 * story.duration, story.shot.width, story.shot.height)))
    for k in range(min(12, options.num_queries)):
        copy = copy_of(seed, k, options)
        sources = {s.source: library_story(seed, s.source, options) for s in copy.segments}
        first = copy.segments[0] if copy.segments else None
        time = (first.query_start + first.query_end) / 2 if first else copy.duration / 2
        tiles.append(_tile(copy_frame(copy, sources, time, copy.host.shot.width, copy.host.shot.height)))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 6)
    sheet = np.concatenate([np.concatenate(tiles[k : k + 6], 1) for k in range(0, len(tiles), 6)])
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


def _tile(picture: np.ndarray) -> np.ndarray:
    width, height = TILE
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    tile = np.zeros((height, width, 3), np.uint8)
    y, x = (height - size[1]) // 2, (width - size[0]) // 2
    tile[y : y + size[1], x : x + size[0]] = small
    return tile


def _spearman(scores: list[float], grades: list[float]) -> float:
    """Rank correlation; 0 for scores that are all equal, which tell nothing."""
    return float(np.corrcoef(rankdata(scores), rankdata(grades))[0, 1]) if len(set(scores)) > 1 else 0.0


def _seen(stories: dict[int, Story], known: dict[int, set[str]], pair: Pair) -> float:
    both = known[pair.query] & known[pair.reference]
    return likeness(stories[pair.query], stories[pair.reference], both)


def _components(edges: list[tuple[int, int]]) -> tuple[Counter[int], Counter[int]]:
    """Number of nodes and of edges of each connected component, by any node of it."""
    parent: dict[int, int] = {}

    def root(k: int) -> int:
        parent.setdefault(k, k)
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for a, b in edges:
        parent[root(a)] = root(b)
    return Counter(root(k) for k in list(parent)), Counter(root(a) for a, _ in edges)


def _table(head: tuple[str, str], rows: Mapping[str, object]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | ---: |"]
    return "\n".join(
        lines + [f"| {k} | {v:.3g} |" if isinstance(v, float) else f"| {k} | {v} |" for k, v in rows.items()]
    )


def _counts(tables: Mapping[str, pl.DataFrame]) -> str:
    videos, texts = tables["videos"], tables["texts"]
    rows: dict[str, object] = {name: len(table) for name, table in tables.items()}
    rows |= {f"texts: {kind}": n for kind, n in texts["kind"].value_counts().sort("kind").rows()}
    rows |= {f"language: {language}": n for language, n in texts["language"].value_counts().sort("language").rows()}
    seconds = videos["duration"].drop_nulls()
    rows["different tags"] = videos["tags"].explode().n_unique()
    text = _table(("what", "how many"), rows)
    if len(seconds):
        low, middle, high = (seconds.quantile(q) for q in (0.05, 0.5, 0.95))
        text += f"\n\nA video lasts {middle:.1f} s (90 % of them {low:.1f} to {high:.1f} s), "
        text += f"all together {seconds.sum() / 60:.0f} min."
    splits = tables["splits"].group_by("split", "role").len().sort("split", "role")
    return text + "\n\n" + _table(("split", "ids"), {f"{s} ({role})": n for s, role, n in splits.rows()})


def _labels(labelled: list[Pair]) -> str:
    real = {"zeros": 0.364, "ones": 0.139, "mean": 0.3586, "sd": 0.3788, "giant": 0.633, "couples": 0.906}
    shape = label_shape(labelled)
    rows = {name: f"{value:.3f} ({real[name]:.3f})" for name, value in shape.items()}
    return "## Labels\n\n" + _table(("quantity", "here (AIAC training labels)"), rows)


def _oracles(labelled: list[Pair], seed: int, options: WorldOptions) -> str:
    rows = {k: f"{v:.3f}" for k, v in oracles(labelled, seed, options).items()}
    return (
        "## What each modality gives away\n\nSpearman correlation with the grades of oracles that know the latents as "
        f"far as the modality tells them ({len(labelled)} pairs). Captions are for text-to-video search only: "
        "they tell of every modality.\n\n" + _table(("oracle", "Spearman"), rows)
    )


def _copies(copies: list[Copy], seed: int, options: WorldOptions) -> str:
    edits = Counter(e.name for c in copies for s in c.segments for e in s.edits)
    untouched = sum(not s.edits for c in copies for s in c.segments)
    edit_rows = dict(sorted({**edits, "none": untouched}.items(), key=lambda item: (-item[1], item[0])))
    statistics = _table(("quantity", "value"), copy_statistics(copies, seed, options))
    return f"## Same-source copies\n\n{statistics}\n\n{_table(('edit', 'segments'), edit_rows)}"
