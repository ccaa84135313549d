"""Texts as a system's vectors, by the very weights that embedded its corpus.

A CLIP-like encoder's text tower, a trained system's ``embed_texts``, latent semantic analysis fitted again on the texts
it was fitted on (held against the vectors that lie there), or the combination of several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from videomatch.common.vectors import unit_rows
from videomatch.data.joined import whole_texts
from videomatch.data.store import Store
from videomatch.stages import embed

if TYPE_CHECKING:
    from videomatch.app.library import Library
    from videomatch.data.lsa import Lsa

#: texts -> (N, D) rows, float32, of unit length unless the system compares by ``dot``; zeros for unknown texts
Texts = Callable[[Sequence[str]], np.ndarray]
#: how far a row that is made again may be from the one that lies there
TOLERANCE = 2e-3
#: rows that are made again to see whether they are
PROBES = 16


def texts_of(library: Library, dataset: str, system: str, member: str) -> Texts:
    """How a system reads texts.

    Raises:
        ValueError: what it is made from is not what embedded the corpus.
    """
    entry = library.plan.systems[system]
    if "combine" in entry:
        parts = combined_parts(library, system, member)
        encoders = [texts_of(library, dataset, part, name) for part, name, _ in parts]
        join = joiner(library, dataset, system, member)
        return lambda texts: join([encode(texts) for encode in encoders])
    plan = library.plan
    if "model" in entry:
        run = plan.run(system, member)
        features = [Path(m).parent for m in plan.embed_features(dataset, system)]
        corpus = Path(plan.corpus(dataset)).parent
        return library.kept([run], ("texts", run, dataset), lambda: trained(Path(run).parent, corpus, features))
    if "text_encoder" in entry["embeddings"]:
        encoder = plan.backbone_path(entry["embeddings"]["text_encoder"])
        return library.kept(plan.embed_runs(system) or [encoder], ("texts", encoder), lambda: embed.text_tower(encoder))
    return analysis(library, dataset, system).embed


def trained(checkpoint: Path, corpus: Path, features: Sequence[Path]) -> Texts:
    """``embed_texts`` of a trained system."""
    model, reader = embed.trained(checkpoint, corpus, features)

    def encode(texts: Sequence[str]) -> np.ndarray:
        with torch.inference_mode():
            rows = model.embed_texts(**reader.read_texts(list(texts))).float().numpy()
        return unit_rows(rows) if model.comparison == "cosine" else rows

    return encode


def analysis(library: Library, dataset: str, system: str) -> Lsa:
    """The latent semantic analysis of a system, fitted again as ``embed`` did.

    Raises:
        ValueError: it does not give the vectors that lie there.
    """
    plan = library.plan
    options = plan.systems[system]["embeddings"]
    corpus, result = Path(plan.corpus(dataset)).parent, plan.embedding(dataset, system)

    def fit() -> Lsa:
        said = whole_texts(corpus, options["texts"])
        lsa = embed.analysis(corpus, said, options.get("dim", 256), plan.seed)
        store = Store.open(Path(result).parent / plan.members(system)[0] / "videos")
        some = [i for i in store.ids[:: max(1, len(store) // PROBES)] if i in said]
        compare(lsa.embed([said[i] for i in some]), store, some)
        return lsa

    return library.kept([plan.corpus(dataset), result], ("analysis", dataset, system), fit)


# ------------------------------------------------------------------------------------------------------------ combined


def combined_parts(library: Library, system: str, member: str) -> list[tuple[str, str, float]]:
    """(system, member, weight) of what a combined system is made of."""
    names = library.plan.systems[system]["combine"]["systems"]
    made = library.plan.combine_settings(system)["members"][member]
    return [(names[number], name, weight) for number, name, weight in made]


def joiner(library: Library, dataset: str, system: str, member: str) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """What makes one row of the parts' rows, as ``combine`` did. The directions of its singular value decomposition are
    not stored: they are found again from the parts, and held against the rows that lie there.

    Raises:
        ValueError: a part is not built, or the rows that lie there were made of others.
    """
    from videomatch.stages.combine import ROWS, components, concatenate, project, shares_of

    plan, parts = library.plan, combined_parts(library, system, member)
    result, dim = plan.embedding(dataset, system), plan.systems[system]["combine"].get("dim")
    shares = shares_of([weight for _, _, weight in parts])
    manifests = [plan.embedding(dataset, part) for part, _, _ in parts]

    def find() -> np.ndarray | None:
        absent = [m for m in manifests if not Path(m).exists()]
        if absent:
            raise ValueError(f"system {system!r} is made of others, and {absent[0]} is not there")
        folders = [Path(m).parent / name for m, (_, name, _) in zip(manifests, parts, strict=True)]
        stores = [Store.open(folder / "videos") for folder in folders]
        there = set.intersection(*(set(store.ids) for store in stores))
        ids = [i for i in stores[0].ids if i in there]
        width = sum(store.shape[0] for store in stores)

        def rows(some: Sequence[str]) -> np.ndarray:
            return concatenate([store.gather(some)[0] for store in stores], shares, "float32")

        def chunks() -> Iterator[np.ndarray]:
            for start in range(0, len(ids), ROWS):
                yield rows(ids[start : start + ROWS])

        directions = components(chunks(), (len(ids), width), dim)[0] if dim is not None and dim < width else None
        own = Store.open(Path(result).parent / member / "videos")
        some = own.ids[:: max(1, len(own) // PROBES)]
        again = rows(some)
        compare(unit_rows(again if directions is None else project(again, directions)), own, some)
        return directions

    directions = library.kept([*manifests, result], ("directions", dataset, system, member), find)

    def join(rows: Sequence[np.ndarray]) -> np.ndarray:
        whole = concatenate(rows, shares, "float32")
        return unit_rows(whole if directions is None else project(whole, directions)).astype(np.float32)

    return join


def compare(again: np.ndarray, store: Store, ids: Sequence[str]) -> None:
    """Rows made again against those that lie there.

    Raises:
        ValueError: they differ by more than rounding.
    """
    there = store.gather(ids)[0]
    if again.shape != there.shape or np.abs(again - there).max(initial=0) > TOLERANCE:
        raise ValueError(
            f"{store.roots[0]} was not made of what lies there now (parts, texts or code changed): run `snakemake`"
        )
