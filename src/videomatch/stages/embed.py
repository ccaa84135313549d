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
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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

Vectors = Iterable[tuple[Sequence[str], np.ndarray]]
#: ``videos`` or ``texts`` -> all ids of it, and the vectors of those that can be embedded
Embeddings = dict[str, tuple[Sequence[str], Vectors]]


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
) -> None:
    """Write the embeddings of a corpus by every member of a system, each into a folder of its name.

    Args:
        run: the checkpoints of a trained system, one per member, or that of the text encoder if it was trained here.
        splits: whose videos are embedded, queries and references; all videos of the corpus by default.
        queries: protocols whose captions and queries are embedded; all texts of these kinds by default.
        seed: of the randomised SVD.
    """
    ids = corpora.videos(corpus)["video_id"].to_list()
    if splits is not None:
        chosen = set(corpora.pooled_ids(corpus, splits, ("query", "reference")))
        ids = [i for i in ids if i in chosen]
    comparison = "cosine"
    with reproducible(threads), torch.inference_mode():
        if "model" in system:
            for member, checkpoint in zip(members, run or [], strict=True):
                vectors, comparison = _by_model(corpus, features, ids, checkpoint, queries)
                _write_member(output / member, vectors, system, comparison)
            return
        options = system["embeddings"]
        if "facts" in options:
            vectors, comparison = _by_facts(corpus, ids, options["facts"], queries), "dot"
        elif "features" in options:
            vectors = _by_features(corpus, features, ids, options, queries)
        else:
            from videomatch.data import lsa as analysis  # scikit-learn takes a second to import, and only this needs it

            texts = corpora.whole_texts(corpus, options["texts"], ids)
            lsa = analysis.fitted_on_train(corpus, texts, options.get("dim", 256), seed)
            log.info("latent semantic analysis in %d dimensions", lsa.dim)
            rows = ((some, lsa.embed([texts[i] for i in some])) for some in _chunks(list(texts), TEXTS))
            vectors = {"videos": (ids, rows)}
        (member,) = members  # a system without training has one
        _write_member(output / member, vectors, system, comparison)


def _by_facts(corpus: Path, ids: Sequence[str], factors: facts.Factors, queries: Sequence[str] | None) -> Embeddings:
    texts = [] if queries == [] else _queries(corpus, queries)["text_id"].to_list()
    of_videos, of_texts = facts.vectors(facts.read(corpus, factors), ids, texts)
    found: Embeddings = {"videos": (ids, _dense(ids, of_videos))}
    return found | ({"texts": (texts, _dense(texts, of_texts))} if texts else {})


def _dense(ids: Sequence[str], rows: csr_array) -> Vectors:
    for first in range(0, len(ids), TEXTS):
        yield ids[first : first + TEXTS], rows[first : first + TEXTS].toarray()


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
    found: Embeddings = {"videos": (ids, _pooled(store, store.present(ids), conse))}
    if (conse is not None or "text_encoder" in options) and queries != []:
        texts = _queries(corpus, queries, options.get("texts", QUERIES))
        encode, dim = (
            (conse.encode, None) if conse is not None else (text_tower(options["text_encoder"]), store.shape[-1])
        )
        found["texts"] = (texts["text_id"].to_list(), _encoded(encode, texts, dim))
    return found


def _pooled(store: Store, ids: Sequence[str], conse: Any = None) -> Vectors:
    """The mean of the unit vectors of a video's frames, of unit length again."""
    for chunk in _chunks(ids, VIDEOS):
        values, lengths = store.gather(chunk)
        if conse is not None:
            values = conse.frames(values)
        rows = F.normalize(torch.from_numpy(values).reshape(len(values), -1).float(), dim=-1)
        owner = torch.from_numpy(np.repeat(np.arange(len(chunk)), lengths))
        total = torch.zeros(len(chunk), rows.shape[1]).index_add_(0, owner, rows)
        yield chunk, F.normalize(total, dim=-1).numpy()


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


def _encoded(encode: Callable[[Sequence[str]], np.ndarray], texts: pl.DataFrame, dim: int | None) -> Vectors:
    """Texts by an encoder; an error where its space is not that of features of ``dim`` dimensions."""
    for rows in track(list(texts.iter_slices(TEXTS)), label="texts"):
        vectors = encode(rows["text"].to_list())
        if dim not in (None, vectors.shape[1]):
            raise ValueError(f"the text encoder embeds texts in {vectors.shape[1]} dimensions, the features have {dim}")
        yield rows["text_id"].to_list(), vectors


def _by_model(
    corpus: Path, features: Sequence[Path], ids: Sequence[str], checkpoint: Path, queries: Sequence[str] | None
) -> tuple[Embeddings, str]:
    """Videos and queries by the model of a checkpoint, and the model's ``comparison``."""
    device = default_device()
    model, reader = trained(checkpoint, corpus, features, device)

    def vectors(embed_batch: Any, chunks: Sequence[Any], read: Any) -> Vectors:
        for chunk, inputs in track(chunks, label="embed"):
            batch = {name: value.to(device) for name, value in read(inputs).items()}
            yield chunk, embed_batch(**batch).float().cpu().numpy()

    found: Embeddings = {}
    if model.embeds_videos:
        chunks = [(c, c) for c in _chunks(reader.usable(ids), VIDEOS)]
        found["videos"] = (ids, vectors(model.embed_videos, chunks, reader.read_videos))
    if model.embeds_texts and queries != []:
        texts = _queries(corpus, queries)
        chunks = [(t["text_id"].to_list(), t["text"].to_list()) for t in texts.iter_slices(TEXTS)]
        found["texts"] = (texts["text_id"].to_list(), vectors(model.embed_texts, chunks, reader.read_texts))
    if not found:
        raise ValueError(f"{checkpoint}: its model embeds neither videos nor texts")
    return found, model.comparison


def _queries(corpus: Path, splits: Sequence[str] | None, kinds: Sequence[str] = QUERIES) -> pl.DataFrame:
    texts = tables.read("texts", corpus).filter(pl.col("kind").is_in(list(kinds)))
    if splits is not None:
        texts = texts.filter(pl.col("text_id").is_in(corpora.pooled_ids(corpus, splits, ("query",))))
    return texts.sort("text_id")


def _write_member(
    folder: Path, found: Mapping[str, tuple[Sequence[str], Vectors]], system: dict[str, Any], comparison: str = "cosine"
) -> None:
    about: dict[str, Any] = {n: _write(folder / n, ids, vectors, system) for n, (ids, vectors) in found.items()}
    log.info("%s: embedded %s", folder.name, about)
    if comparison != "cosine":
        about["score"] = comparison
    files.write_json(folder / "embed.json", about)


def _write(root: Path, ids: Sequence[str], vectors: Vectors, system: dict[str, Any]) -> dict[str, int]:
    """Write all vectors but zero ones; returns how many there are and how many of ``ids`` are absent."""
    vectors = iter(vectors)
    first = next(vectors, None)
    if first is None:
        raise ValueError(f"{root.name}: nothing to embed among {len(ids)} items")
    dim, count = first[1].shape[1], 0
    with StoreWriter(root, shape=(dim,), dtype="float32", made_by={"system": system}) as writer:
        for some, rows in itertools.chain([first], vectors):
            finite = np.isfinite(rows).all(1)
            if not finite.all():
                raise FloatingPointError(f"{root.name}: the embedding of {some[int(finite.argmin())]!r} is not finite")
            for n in np.flatnonzero(rows.any(1)).tolist():
                writer.add(some[n], rows[n : n + 1])
                count += 1
    return {"embedded": count, "absent": len(ids) - count, "dim": dim}


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
