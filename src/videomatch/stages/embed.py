"""Embed the videos and texts of a corpus: vectors in which a larger inner product means a better match.

They are unit vectors, unless they are an oracle's or the model's ``comparison`` is ``dot``; then ``embed.json`` has
``score: dot``. Each member has the stores ``videos/`` (by video id) and ``texts/`` (by text id), of one float32 row per
id, by one of:

* ``embeddings: {features, pool: mean}``: the mean of a video's frame features.
* ``embeddings: {texts, dim}``: latent semantic analysis of a video's own texts, fitted on the train split.
* ``embeddings: {features, text_encoder, texts}``: zero-shot; features are image embeddings of the encoder's own space,
  the texts go through its text tower.
* ``embeddings: {features, bridge: conse, texts}``: both by way of class names
  (:class:`videomatch.experts._conse.Conse`).
* ``embeddings: {facts}``: an oracle, which knows these facts of generated videos and texts
  (:func:`videomatch.data.facts.vectors`).
* a trained system: ``embed_videos`` and ``embed_texts`` of its model.

What lacks input (a title, a decodable frame) is absent from the store; ``embed.json`` counts these.

:data:`UNIT` items are a unit: what a kill loses at most (and a fit on texts, which is made again). Finished units wait
in ``scratch``; when a member has all, they are joined. Batches are cut from all items, so a kill changes nothing.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from transformers import AutoConfig, AutoModel, AutoTokenizer

from videomatch.common import files
from videomatch.common.precision import default_device, reproducible
from videomatch.common.progress import track
from videomatch.data import corpus as corpora
from videomatch.data import facts, tables
from videomatch.data.store import Store, StoreWriter
from videomatch.stages._trained import TEXTS, VIDEOS, trained

log = logging.getLogger(__name__)

#: kinds of texts that search for videos
QUERIES = ("caption", "query")

#: items after which a unit ends
UNIT = 4096
#: folder of the finished units where no other is given
UNITS = ".units"


@dataclass(frozen=True)
class _Side:
    """Videos or texts: all their ``ids``, and the batches of those that can be embedded: (ids, what ``vectors`` makes
    rows (n, D) of)."""

    ids: Sequence[str]
    batches: Sequence[tuple[Sequence[str], Any]]
    vectors: Callable[[Any], np.ndarray]

    @classmethod
    def of_ids(cls, ids: Sequence[str], usable: Sequence[str], size: int, vectors: Callable[[Any], np.ndarray]) -> Self:
        """Vectors of ids themselves."""
        return cls(ids, [(part, part) for part in _parts(usable, size)], vectors)

    @classmethod
    def of_texts(cls, texts: pl.DataFrame, vectors: Callable[[list[str]], np.ndarray]) -> Self:
        """Vectors of texts."""
        batches = [(part["text_id"].to_list(), part["text"].to_list()) for part in texts.iter_slices(TEXTS)]
        return cls(texts["text_id"].to_list(), batches, vectors)


#: ``videos`` or ``texts`` -> what is embedded of it
Embeddings = dict[str, _Side]


def embed(
    *,
    corpus: Path,
    features: list[Path],
    output: Path,
    system: dict[str, Any],
    threads: int,
    members: list[str],
    run: list[Path] | None = None,
    splits: list[str] | None = None,
    queries: list[str] | None = None,
    seed: int = 0,
    scratch: Path | None = None,
) -> None:
    """Write the embeddings of a corpus by every member of a system, each into a folder of its name.

    Args:
        run: the checkpoints of a trained system, one per member, or that of the text encoder if it was trained here.
        splits: whose videos are embedded, queries and references; all videos of the corpus by default.
        queries: protocols whose captions and queries are embedded; all texts of these kinds by default.
        seed: of the randomised SVD.
        scratch: folder that survives a kill; finished units in it are not made again.
    """
    units = scratch or output / UNITS
    ids = corpora.videos(corpus)["video_id"].to_list()
    if splits is not None:
        chosen = set(corpora.pooled_ids(corpus, splits, ("query", "reference")))
        ids = [i for i in ids if i in chosen]
    comparison = "cosine"
    with reproducible(threads), torch.inference_mode():
        if "model" in system:
            for member, checkpoint in zip(members, run or [], strict=True):
                found, comparison = _by_model(corpus, features, ids, checkpoint, queries)
                _write_member(output / member, units / member, found, system, comparison)
            files.remove(output / UNITS)
            return
        options = system["embeddings"]
        if "facts" in options:
            found, comparison = _by_facts(corpus, ids, options["facts"], queries), "dot"
        elif "features" in options:
            found = _by_features(corpus, features, ids, options, queries)
        else:
            from videomatch.data import lsa as analysis  # scikit-learn takes a second to import, and only this needs it

            texts = corpora.whole_texts(corpus, options["texts"], ids)
            lsa = analysis.fitted_on_train(corpus, texts, options.get("dim", 256), seed)
            log.info("latent semantic analysis in %d dimensions", lsa.dim)
            of_ids = _Side.of_ids(ids, list(texts), TEXTS, lambda some: lsa.embed([texts[i] for i in some]))
            found = {"videos": of_ids}
        (member,) = members  # a system without training has one
        _write_member(output / member, units / member, found, system, comparison)
        files.remove(output / UNITS)


def _by_facts(corpus: Path, ids: Sequence[str], factors: facts.Factors, queries: Sequence[str] | None) -> Embeddings:
    texts = [] if queries == [] else _queries(corpus, queries)["text_id"].to_list()
    of_videos, of_texts = facts.vectors(facts.read(corpus, factors), ids, texts)
    return {"videos": _dense(ids, of_videos)} | ({"texts": _dense(texts, of_texts)} if texts else {})


def _dense(ids: Sequence[str], rows: csr_array) -> _Side:
    at = [slice(first, first + TEXTS) for first in range(0, len(ids), TEXTS)]
    return _Side(ids, [(ids[some], some) for some in at], lambda some: rows[some].toarray())


def _by_features(
    corpus: Path,
    features: Sequence[Path],
    ids: Sequence[str],
    options: Mapping[str, Any],
    queries: Sequence[str] | None,
) -> Embeddings:
    """The mean of the frame features, and texts by the text tower of the encoder that they come from; or both by a
    bridge."""
    store = Store(*[folder / options["features"] for folder in features])
    conse = None
    if "bridge" in options:
        from videomatch.experts._conse import Conse  # with what reads frames, which others do not need

        conse = Conse()
    videos = _Side.of_ids(ids, store.present(ids), VIDEOS, lambda some: _pooled(store, some, conse))
    found: Embeddings = {"videos": videos}
    if (conse is not None or "text_encoder" in options) and queries != []:
        texts = _queries(corpus, queries, options.get("texts", QUERIES))
        if conse is not None:
            found["texts"] = _Side.of_texts(texts, conse.encode)
        else:
            encode = text_tower(options["text_encoder"])
            found["texts"] = _Side.of_texts(texts, lambda some: _in_space(encode(some), store.shape[-1]))
    return found


def _pooled(store: Store, ids: Sequence[str], conse: Any = None) -> np.ndarray:
    """The mean of the unit vectors of a video's frames, of unit length again."""
    values, lengths = store.gather(ids)
    if conse is not None:
        values = conse.frames(values)
    rows = F.normalize(torch.from_numpy(values).reshape(len(values), -1).float(), dim=-1)
    owner = torch.from_numpy(np.repeat(np.arange(len(ids)), lengths))
    total = torch.zeros(len(ids), rows.shape[1]).index_add_(0, owner, rows)
    return F.normalize(total, dim=-1).numpy()


def _in_space(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Vectors of texts; an error where their space is not that of features of ``dim`` dimensions."""
    if vectors.shape[1] != dim:
        raise ValueError(f"the text encoder embeds texts in {vectors.shape[1]} dimensions, the features have {dim}")
    return vectors


def text_tower(encoder: str) -> Callable[[Sequence[str]], np.ndarray]:
    """The text tower of a CLIP-like checkpoint (with ``get_text_features``): texts -> unit rows (N, D), float32."""
    config: Any = AutoConfig.from_pretrained(encoder)
    model: Any = AutoModel.from_pretrained(encoder).eval()
    model.vision_model = None
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    longest = config.text_config.max_position_embeddings

    def encode(texts: Sequence[str]) -> np.ndarray:
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            found = model.get_text_features(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            return F.normalize(found.pooler_output.float(), dim=-1).numpy()

    return encode


def _by_model(
    corpus: Path, features: Sequence[Path], ids: Sequence[str], checkpoint: Path, queries: Sequence[str] | None
) -> tuple[Embeddings, str]:
    """Videos and queries by the model of a checkpoint, and the model's ``comparison``."""
    device = default_device()
    model, reader = trained(checkpoint, corpus, features, device)

    def vectors(embed_batch: Any, read: Any) -> Callable[[Any], np.ndarray]:
        def of_batch(inputs: Any) -> np.ndarray:
            batch = {name: value.to(device) for name, value in read(inputs).items()}
            return embed_batch(**batch).float().cpu().numpy()

        return of_batch

    found: Embeddings = {}
    if model.embeds_videos:
        of_videos = vectors(model.embed_videos, reader.read_videos)
        found["videos"] = _Side.of_ids(ids, reader.usable(ids), VIDEOS, of_videos)
    if model.embeds_texts and queries != []:
        found["texts"] = _Side.of_texts(_queries(corpus, queries), vectors(model.embed_texts, reader.read_texts))
    if not found:
        raise ValueError(f"{checkpoint}: its model embeds neither videos nor texts")
    return found, model.comparison


def _queries(corpus: Path, splits: Sequence[str] | None, kinds: Sequence[str] = QUERIES) -> pl.DataFrame:
    texts = tables.read("texts", corpus).filter(pl.col("kind").is_in(list(kinds)))
    if splits is not None:
        texts = texts.filter(pl.col("text_id").is_in(corpora.pooled_ids(corpus, splits, ("query",))))
    return texts.sort("text_id")


def _write_member(
    folder: Path, units: Path, found: Embeddings, system: dict[str, Any], comparison: str = "cosine"
) -> None:
    about: dict[str, Any] = {name: _write(folder / name, units / name, side, system) for name, side in found.items()}
    log.info("%s: embedded %s", folder.name, about)
    if comparison != "cosine":
        about["score"] = comparison
    files.write_json(folder / "embed.json", about)


def _write(root: Path, units: Path, side: _Side, system: dict[str, Any]) -> dict[str, int]:
    """Make the units that are missing and join all; returns how many vectors there are and how many of the ids are
    absent."""
    if not side.batches:
        raise ValueError(f"{root.name}: nothing to embed among {len(side.ids)} items")
    parts = _parts(side.batches, math.ceil(UNIT / len(side.batches[0][0])))
    places = [units / f"{number:06d}" for number in range(len(parts))]
    missing = [unit for unit in zip(places, parts, strict=True) if not unit[0].exists()]
    batches = track([(place, *batch) for place, part in missing for batch in part], label=root.name)
    for place, of_unit in itertools.groupby(batches, key=lambda batch: batch[0]):
        with files.replacing(place) as new:
            _write_unit(new, root.name, [(ids, side.vectors(inputs)) for _, ids, inputs in of_unit])
    dim, count = Store(places[0]).shape[0], 0
    with StoreWriter(root, shape=(dim,), dtype="float32", made_by={"system": system}) as writer:
        for place in places:
            store = Store(place)
            writer.add_rows(store.ids.to_list(), store.gather(np.arange(len(store)))[0])
            count += len(store)
    return {"embedded": count, "absent": len(side.ids) - count, "dim": dim}


def _write_unit(place: Path, name: str, batches: Sequence[tuple[Sequence[str], np.ndarray]]) -> None:
    """Write all vectors of some batches but zero ones."""
    with StoreWriter(place, shape=batches[0][1].shape[1:], dtype="float32") as writer:
        for ids, rows in batches:
            finite = np.isfinite(rows).all(1)
            if not finite.all():
                raise FloatingPointError(f"{name}: the embedding of {ids[int(finite.argmin())]!r} is not finite")
            kept = np.flatnonzero(rows.any(1))
            writer.add_rows([ids[n] for n in kept.tolist()], rows[kept])


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[first : first + size] for first in range(0, len(items), size)]
