"""The distribution of the synthetic corpus's labels, and what each modality alone can reach.

An oracle knows the factors exactly as far as one modality shows them: its Spearman correlation with the grades bounds
what a model of that modality can reach.
"""

from collections import Counter
from collections.abc import Callable, Set
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from videomatch.synthetic import texts
from videomatch.synthetic.annotations import SPLIT_NAMES, GradedPair, graded_pairs
from videomatch.synthetic.copies import Copy, copy_of
from videomatch.synthetic.latent import FACTORS, Latent, library_latent, similarity
from videomatch.synthetic.options import SyntheticOptions

#: of the AIAC training labels, beside ours
AIAC = {"zeros": 0.364, "ones": 0.139, "mean": 0.3586, "sd": 0.3788, "giant": 0.633, "couples": 0.906}


def card(seed: int, options: SyntheticOptions) -> dict[str, dict[str, Any]]:
    """Numbers for the overview of the corpus, by group."""
    labelled = graded_pairs(seed, options)
    copies = [copy_of(seed, k, options) for k in range(options.num_queries)]
    segments = [s for c in copies for s in c.segments]
    edits: Counter[str] = Counter(edit.name for s in segments for edit in s.edits)
    edits["none"] = sum(not s.edits for s in segments)
    labels = label_statistics(labelled)
    return {
        "Labels: here (AIAC training labels)": {n: f"{value:.3f} ({AIAC[n]:.3f})" for n, value in labels.items()},
        "What each modality gives away: Spearman correlation of an oracle with the grades": {
            name: round(value, 3) for name, value in oracles(labelled, seed, options).items()
        },
        "Same-source copies": {name: round(value, 3) for name, value in copy_statistics(copies, seed, options).items()},
        "Edits of copied segments": dict(edits.most_common()),
    }


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
        "transcript only (a simulated recogniser's)": lambda latent: texts.speech(latent)[1],
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
