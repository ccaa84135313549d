"""The card of the synthetic corpus: its size, the distribution of its labels, and what each modality alone can reach.

An oracle knows the factors exactly as far as one modality shows them. Its Spearman correlation with the grades bounds
what a model of that modality can reach; the oracles must differ clearly for a comparison to mean anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Set
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from videomatch.synthetic import pictures, texts
from videomatch.synthetic.annotations import SPLIT_NAMES, GradedPair, graded_pairs
from videomatch.synthetic.copies import Copy, copy_of, query_frame
from videomatch.synthetic.latent import FACTORS, Latent, library_latent, similarity
from videomatch.synthetic.options import SyntheticOptions

#: width and height of a tile of the contact sheet, px
TILE = (160, 90)
#: of the AIAC training labels, beside ours
AIAC = {"zeros": 0.364, "ones": 0.139, "mean": 0.3586, "sd": 0.3788, "giant": 0.633, "couples": 0.906}


def write_card(*, output: Path, tables: Mapping[str, pl.DataFrame], seed: int, options: SyntheticOptions) -> None:
    """Write ``card.md`` and ``contact_sheet.jpg`` to ``output``; pictures are drawn again from the latents."""
    labelled = graded_pairs(seed, options)
    copies = [copy_of(seed, k, options) for k in range(options.num_queries)]
    labels = {name: f"{value:.3f} ({AIAC[name]:.3f})" for name, value in label_statistics(labelled).items()}
    scores = {name: f"{value:.3f}" for name, value in oracles(labelled, seed, options).items()}
    edits: Counter[str] = Counter(edit.name for c in copies for s in c.segments for edit in s.edits)
    edits["none"] = sum(not s.edits for c in copies for s in c.segments)
    by_count = sorted(edits.items(), key=lambda item: (-item[1], item[0]))
    sections = [
        "# Generated corpus",
        _sizes(tables),
        "## Labels",
        _table(("quantity", "here (AIAC training labels)"), labels),
        "## What each modality gives away",
        "Spearman correlation with the grades of oracles that know the latents as "
        f"far as the modality tells them ({len(labelled)} pairs). Captions are for text-to-video search only: "
        "they tell of every modality.",
        _table(("oracle", "Spearman"), scores),
        "## Same-source copies",
        _table(("quantity", "value"), copy_statistics(copies, seed, options)),
        _table(("edit", "segments"), dict(by_count)),
    ]
    output.mkdir(parents=True, exist_ok=True)
    (output / "card.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    contact_sheet(output / "contact_sheet.jpg", seed, options)


def label_statistics(labelled: list[GradedPair]) -> dict[str, float]:
    """Shares of grade 0 and 1, mean and standard deviation; share of the pairs that are in a split's largest component
    (mean over splits), and share of the components that are two videos."""
    grades = np.array([p.grade for p in labelled])
    giants, couples = [], []
    for split in SPLIT_NAMES:
        edges = np.array([(p.query, p.reference) for p in labelled if p.split == split], np.int64)
        if len(edges):
            graph = coo_array((np.ones(len(edges)), edges.T), shape=(edges.max() + 1,) * 2)
            _, component = connected_components(graph)
            sizes = np.bincount(component)  # 1: a video without a pair
            giants.append(np.bincount(component[edges[:, 0]]).max() / len(edges))
            couples.append(np.mean(sizes[sizes > 1] == 2))
    values = {"zeros": (grades == 0).mean(), "ones": (grades == 1).mean(), "mean": grades.mean(), "sd": grades.std()}
    values |= {"giant": np.mean(giants), "couples": np.mean(couples)}
    return {name: float(value) for name, value in values.items()}


def oracles(labelled: list[GradedPair], seed: int, options: SyntheticOptions) -> dict[str, float]:
    """Spearman correlation with the grades of the similarity by the factors that a modality (or several) tells."""
    latents = {k: library_latent(seed, k, options) for p in labelled for k in (p.query, p.reference)}
    visual, text, sound = (frozenset(factors) for factors in FACTORS.values())
    told: dict[str, Callable[[Latent], Set[str]]] = {
        "full information": lambda _: visual | text | sound,
        "visual and text": lambda _: visual | text,
        "visual only": lambda _: visual,
        "text factors only": lambda _: text,
        "sound only": lambda _: sound,
        "title only": lambda latent: texts.title(latent)[1],
        "tags only": lambda latent: texts.tags(latent)[1],
        "speech only": lambda latent: texts.speech(latent)[1],
    }
    ranks = rankdata([p.grade for p in labelled])

    def spearman(scores: list[float]) -> float:
        return float(np.corrcoef(rankdata(scores), ranks)[0, 1]) if len(set(scores)) > 1 else 0.0

    result = {}
    for name, tells in told.items():
        known = {k: tells(latent) for k, latent in latents.items()}
        both = [(latents[p.query], latents[p.reference], known[p.query] & known[p.reference]) for p in labelled]
        result[name] = spearman([similarity(*pair) for pair in both])
    return result | {"chance": spearman(np.random.default_rng([seed, len(labelled)]).random(len(labelled)).tolist())}


def copy_statistics(copies: list[Copy], seed: int, options: SyntheticOptions) -> dict[str, float]:
    """The quantities of the Video Similarity Challenge's table, for these query videos."""
    positive = [c for c in copies if c.segments]
    segments = [s for c in positive for s in c.segments]
    counts: dict[str, float] = {"queries": len(copies), "queries with a copy": len(positive)}
    if not segments:
        return counts
    lengths = np.array([s.query_end - s.query_start for s in segments])
    in_pair = [Counter(s.source for s in c.segments) for c in positive]
    sources, copied = [s.source for s in segments], np.array([s.reference_end - s.reference_start for s in segments])
    speeds = np.array([s.speed for s in segments])
    values = {
        "one reference per query, %": 100 * np.mean([len(pairs) == 1 for pairs in in_pair]),
        "one segment per pair, %": 100 * np.mean([n == 1 for pairs in in_pair for n in pairs.values()]),
        "length, median s": np.median(lengths),
        "length, 5 % s": np.quantile(lengths, 0.05),
        "length, 95 % s": np.quantile(lengths, 0.95),
        "share of query, median": np.median(lengths / [c.duration for c in positive for _ in c.segments]),
        "share of reference, median": np.median(copied / [library_latent(seed, k, options).duration for k in sources]),
        "speed within 2 % of 1, %": 100 * np.mean(np.abs(speeds - 1) < 0.02),
        "slowest": speeds.min(),
        "fastest": speeds.max(),
    }
    return counts | {name: float(value) for name, value in values.items()}


def contact_sheet(path: Path, seed: int, options: SyntheticOptions) -> None:
    """A picture of 36 library videos and, below, 12 query videos in the middle of their first copied segment."""
    step = max(options.num_library // 36, 1)
    tiles = []
    for k in range(min(36, options.num_library)):
        latent = library_latent(seed, k * step, options)
        tiles.append(_tile(pictures.frame(latent, 0.4 * latent.duration, latent.format.width, latent.format.height)))
    for k in range(min(12, options.num_queries)):
        copy = copy_of(seed, k, options)
        sources = {s.source: library_latent(seed, s.source, options) for s in copy.segments}
        first = copy.segments[0] if copy.segments else None
        time = (first.query_start + first.query_end) / 2 if first else copy.duration / 2
        tiles.append(_tile(query_frame(copy, sources, time, copy.host.format.width, copy.host.format.height)))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 6)
    sheet = np.concatenate([np.concatenate(tiles[k : k + 6], 1) for k in range(0, len(tiles), 6)])
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


def _tile(picture: np.ndarray) -> np.ndarray:
    scale = min(TILE[0] / picture.shape[1], TILE[1] / picture.shape[0])
    width, height = (max(round(side * scale), 1) for side in picture.shape[1::-1])
    tile = np.zeros((TILE[1], TILE[0], 3), np.uint8)
    y, x = (TILE[1] - height) // 2, (TILE[0] - width) // 2
    tile[y : y + height, x : x + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return tile


def _table(head: tuple[str, str], rows: Mapping[str, object]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | ---: |"]
    lines += [f"| {k} | {v:.3g} |" if isinstance(v, float) else f"| {k} | {v} |" for k, v in rows.items()]
    return "\n".join(lines)


def _sizes(tables: Mapping[str, pl.DataFrame]) -> str:
    videos = tables["videos"]
    rows = {name: len(table) for name, table in tables.items()}
    for column, label in (("kind", "texts"), ("language", "language")):
        rows |= {f"{label}: {value}": n for value, n in tables["texts"][column].value_counts().sort(column).rows()}
    rows["different tags"] = videos["tags"].explode().n_unique()
    text = _table(("what", "how many"), rows)
    seconds = videos["duration"].drop_nulls()
    if len(seconds):
        low, middle, high = (seconds.quantile(q) for q in (0.05, 0.5, 0.95))
        text += f"\n\nA video lasts {middle:.1f} s (90 % of them {low:.1f} to {high:.1f} s), "
        text += f"all together {seconds.sum() / 60:.0f} min."
    splits = tables["splits"].group_by("split", "role").len().sort("split", "role")
    return text + "\n\n" + _table(("split", "ids"), {f"{s} ({role})": n for s, role, n in splits.rows()})
