"""Texts as vectors of a system, made by the weights that embedded the corpus.

Latent semantic analyses are not stored: they are fitted again on the same rows, and compared with the embeddings of the
corpus. torch, transformers and scikit-learn take seconds to import: each is imported for the systems that need it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from videomatch.app.catalogue import Catalogue
from videomatch.common.vectors import unit_rows
from videomatch.data.corpus import whole_texts
from videomatch.data.store import Store
from videomatch.specs.systems import Combine, Embeddings, Trained

#: texts -> (N, D) rows, float32, of unit length unless the system compares by ``dot``; zeros for unknown texts
TextEncoder = Callable[[Sequence[str]], np.ndarray]
#: (system, member)
Part = tuple[str, str]
#: largest difference between an embedding and the same one computed again
TOLERANCE = 2e-3
#: embeddings that are computed again to see whether they are the same
PROBES = 16


def text_encoder(catalogue: Catalogue, dataset: str, system: str, member: str) -> TextEncoder:
    """The encoder of a system's texts; a ValueError if the embeddings of the corpus were made from something else."""
    plan, entry = catalogue.plan, catalogue.plan.systems[system]
    if isinstance(entry, Combine):
        encoders = {part: text_encoder(catalogue, dataset, *part) for part in base_parts(catalogue, system, member)}
        return lambda texts: combine_rows(
            catalogue, dataset, (system, member), {part: encode(texts) for part, encode in encoders.items()}
        )
    if isinstance(entry, Trained):
        run = plan.run(system, member)
        features = [Path(m).parent for m in plan.features_of(dataset, plan.experts_of(system))]
        corpus = catalogue.corpus(dataset, system)
        return catalogue.cached([run], ("texts", run, dataset), lambda: _trained(Path(run).parent, corpus, features))
    if isinstance(entry, Embeddings) and entry.text_encoder is not None:
        from videomatch.stages.embed import text_tower

        encoder = entry.text_encoder
        tower = plan.backbone_path(encoder)
        return catalogue.cached(plan.backbone_runs([encoder]) or [tower], ("texts", tower), lambda: text_tower(tower))
    if isinstance(entry, Embeddings) and entry.bridge is not None:
        from videomatch.experts._conse import Conse

        return catalogue.cached([], ("texts", entry.bridge), lambda: Conse().encode)
    return text_analysis(catalogue, dataset, system)


def _trained(checkpoint: Path, corpus: Path, features: Sequence[Path]) -> TextEncoder:
    """``embed_texts`` of a trained system."""
    import torch

    from videomatch.stages._trained import trained

    model, reader = trained(checkpoint, corpus, features)

    def encode(texts: Sequence[str]) -> np.ndarray:
        with torch.inference_mode():
            rows = model.embed_texts(**reader.read_texts(list(texts))).float().numpy()
        return unit_rows(rows) if model.comparison == "cosine" else rows

    return encode


def text_analysis(catalogue: Catalogue, dataset: str, system: str) -> TextEncoder:
    """The latent semantic analysis of a system, fitted as ``embed`` did."""
    plan = catalogue.plan
    options, result = plan.system_of_kind(system, Embeddings), plan.result("embeddings", dataset, system)
    corpus = catalogue.corpus(dataset, system)

    def fit() -> TextEncoder:
        from videomatch.data.lsa import fitted_on_train

        texts = whole_texts(corpus, options.texts)
        lsa = fitted_on_train(corpus, texts, options.dim or 256, plan.seed)
        store = Store(Path(result).parent / plan.members(system)[0] / "videos")
        some = [i for i in store.ids[:: max(1, len(store) // PROBES)] if i in texts]
        _compare(lsa.embed([texts[i] for i in some]), store, some)
        return lsa.embed

    return catalogue.cached([plan.corpus(dataset, system), result], ("analysis", dataset, system), fit)


def base_parts(catalogue: Catalogue, system: str, member: str) -> list[Part]:
    """The systems that a system combines in the end, each once; itself if it combines none."""
    if not isinstance(catalogue.plan.systems[system], Combine):
        return [(system, member)]
    parts = _parts(catalogue, system, member)
    return list(dict.fromkeys(base for part, name, _ in parts for base in base_parts(catalogue, part, name)))


def combine_rows(catalogue: Catalogue, dataset: str, part: Part, rows: dict[Part, np.ndarray]) -> np.ndarray:
    """The rows ``(N, D)`` of a system from those of its :func:`base_parts`, joined as ``combine`` did."""
    if part in rows:
        return rows[part]
    from videomatch.stages import combine

    plan, (system, member), parts = catalogue.plan, part, _parts(catalogue, *part)
    folder = Path(plan.result("embeddings", dataset, system)).parent / member
    shares = combine.shares_of([weight for _, _, weight in parts])
    manifests = [plan.result("embeddings", dataset, name) for name, _, _ in parts]

    def load_directions() -> np.ndarray | None:
        missing = [m for m in manifests if not Path(m).exists()]
        if missing:
            raise ValueError(
                f"system {system!r} combines others, and {missing[0]} does not exist: run `{plan.command()}`"
            )
        directions, store = combine.directions_of(folder), Store(folder / "videos")
        some = store.ids[:: max(1, len(store) // PROBES)]
        folders = [Path(m).parent / name for m, (_, name, _) in zip(manifests, parts, strict=True)]
        known = [Store(folder / "videos").gather(some)[0] for folder in folders]
        width = sum(part.shape[1] for part in known)
        fits = directions is None or len(directions) == width
        _compare(combine.combined(known, shares, directions) if fits else np.zeros((0, width)), store, some)
        return directions

    each = [combine_rows(catalogue, dataset, (name, of), rows) for name, of, _ in parts]
    key = ("directions", dataset, system, member)
    directions = catalogue.cached([*manifests, plan.result("embeddings", dataset, system)], key, load_directions)
    return combine.combined(each, shares, directions)


def _parts(catalogue: Catalogue, system: str, member: str) -> list[tuple[str, str, float]]:
    """(system, member, weight) of all parts of a combined system."""
    names = catalogue.plan.system_of_kind(system, Combine).systems
    parts = catalogue.plan.combined_members(system)[member]
    return [(str(names[number]), name, weight) for number, name, weight in parts]


def _compare(rows: np.ndarray, store: Store, ids: Sequence[str]) -> None:
    """Raise a ValueError where rows computed again differ from the embeddings by more than rounding."""
    embedded = store.gather(ids)[0]
    if rows.shape != embedded.shape or np.abs(rows - embedded).max(initial=0) > TOLERANCE:
        raise ValueError(
            f"{store.roots[0]} was made from other parts, texts or code than those of now: run `snakemake`"
        )
