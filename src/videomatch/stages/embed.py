"""Embed the videos and texts of a corpus: vectors in which a larger inner product means a better match.

They are unit vectors, unless a model says that its own are to be compared as they are (``score = "dot"``); then
``embed.json`` says it, too.

Everything learned is applied here, so that what follows (search, ensembles, alignment) is plain maths. Four ways lead
to the same two stores a member, ``videos/`` (ids are video ids) and ``texts/`` (text ids), one float32 row an item:

* ``embeddings: {features, pool: mean}``: the mean of a video's frame features.
* ``embeddings: {texts, dim}``: latent semantic analysis of a video's own texts, fitted on the train split and
  unsupervised: no judged pair is seen.
* ``embeddings: {features, text_encoder, texts}``: zero-shot; features are image embeddings of the encoder's own space,
  the texts go through its text tower.
* a trained system: what its model's ``embed_videos`` and ``embed_texts`` say.

A video or text without what it takes (no title, not decodable) is absent from the store; ``embed.json`` counts them.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel, AutoTokenizer

from videomatch import examples as examples_
from videomatch.common.checkpoint import load_checkpoint
from videomatch.common.precision import default_device, reproducible
from videomatch.common.progress import track
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.joined import whole_texts
from videomatch.data.store import Store, StoreWriter

if TYPE_CHECKING:
    from videomatch.data.lsa import Lsa

log = logging.getLogger(__name__)

#: items that are embedded at once
VIDEOS, TEXTS = 32, 256
#: kinds of texts that search for videos
QUERIES = ("caption", "query")

#: how embeddings are compared unless a model says otherwise
COSINE = "cosine"

Vectors = Iterable[tuple[Sequence[str], np.ndarray]]


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
    """Write the embeddings of one corpus by every member of one system, each into a folder of its name.

    Args:
        corpus: folder of ``prepare``.
        features: folders of ``extract`` that hold the system's experts; none for texts.
        output: empty folder for the members' stores and ``embed.json``.
        system: the resolved system.
        threads: of torch.
        members: names of the members.
        run: the checkpoints of a trained system, one a member, or that of the text encoder if it was trained here.
        splits: whose videos are embedded, in whichever role; all videos of the corpus by default.
        queries: protocols whose captions and queries are embedded; all texts of these kinds by default.
        seed: of the randomised SVD.
    """
    options = system.get("embeddings", {})
    ids = corpora.videos(corpus)["video_id"].to_list()
    if splits is not None:
        asked = set(examples_.pooled_ids(corpus, splits, ("query", "reference")))
        ids = [i for i in ids if i in asked]
    with reproducible(threads), torch.inference_mode():
        if "model" in system:
            if len(run or []) != len(members):
                raise ValueError(f"embed: {len(run or [])} checkpoints for the members {members}")
            for member, checkpoint in zip(members, run or [], strict=True):
                written, score = _trained(corpus, features, ids, checkpoint, queries)
                _write_all(output / member, written, system, score)
            return
        if "features" not in options:
            said = whole_texts(corpus, options["texts"], ids)
            lsa = analysis(corpus, said, options.get("dim", 256), seed)
            log.info("latent semantic analysis in %d dimensions", lsa.dim)
            vectors = ((some, lsa.embed([said[i] for i in some])) for some in _chunks(list(said), TEXTS))
            written = {"videos": (ids, vectors)}
        else:
            if options.get("pool", "mean") != "mean":
                raise ValueError(f"embeddings.pool {options['pool']!r}, expected mean")
            store = Store.open(*[folder / options["features"] for folder in features])
            present = [i for i, rows in zip(ids, store.rows(ids), strict=True) if rows]
            written = {"videos": (ids, _pooled(store, present))}
            if "text_encoder" in options and queries != []:
                texts = _queries(corpus, queries, options.get("texts", QUERIES))
                encoder = str(run[0] if run else options["text_encoder"])
                written["texts"] = (texts["text_id"].to_list(), _encoded(encoder, texts, store.shape[-1]))
        for member in members:
            _write_all(output / member, written, system)


def analysis(corpus: Path, said: Mapping[str, str], dim: int, seed: int) -> Lsa:
    """Latent semantic analysis fitted on the texts (video_id -> text) of the train split."""
    from videomatch.data.lsa import Lsa  # scikit-learn takes a second, which others need not wait

    train = corpora.split_ids(tables.read("splits", corpus), "train", "reference")
    return Lsa([said[i] for i in train if i in said], dim=dim, seed=seed)


def _pooled(store: Store, ids: Sequence[str]) -> Vectors:
    """Mean of the unit vectors of a video's frames, as a unit vector again."""
    for chunk in _chunks(ids, VIDEOS):
        values, lengths = store.gather(chunk)
        rows = F.normalize(torch.from_numpy(values).reshape(len(values), -1).float(), dim=-1)
        owner = torch.from_numpy(np.repeat(np.arange(len(chunk)), lengths))
        total = torch.zeros(len(chunk), rows.shape[1]).index_add_(0, owner, rows)
        yield chunk, F.normalize(total, dim=-1).numpy()


def text_tower(encoder: str) -> Callable[[Sequence[str]], np.ndarray]:
    """The text side of a CLIP-like checkpoint (anything with ``get_text_features``), without its pictures' side: texts
    -> unit rows (N, D), float32."""
    config: Any = AutoConfig.from_pretrained(encoder)
    model: Any = AutoModel.from_pretrained(encoder).eval()
    model.vision_model = None
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    longest = config.text_config.max_position_embeddings

    def encode(texts: Sequence[str]) -> np.ndarray:
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            found = model.get_text_features(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).pooler_output
            return F.normalize(found.float(), dim=-1).numpy()

    return encode


def _encoded(encoder: str, texts: pl.DataFrame, dim: int) -> Vectors:
    """Texts by the text tower of a checkpoint, in the space of the features."""
    encode = text_tower(encoder)
    for rows in track(list(texts.iter_slices(TEXTS)), label="texts"):
        vectors = encode(rows["text"].to_list())
        if vectors.shape[1] != dim:
            raise ValueError(f"{encoder} embeds texts in {vectors.shape[1]} dimensions, the features have {dim}")
        yield rows["text_id"].to_list(), vectors


def trained(
    checkpoint: Path, corpus: Path, features: Sequence[Path], device: torch.device | str = "cpu"
) -> tuple[Any, examples_.Examples]:
    """The model of a checkpoint, and the examples that read its inputs from a corpus and its features."""
    model, system = load_checkpoint(checkpoint, device)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint) if "tokenizer" in system else None
    options = {name: value for name, value in system["examples"].items() if name != "kind"}
    source = examples_.source(corpus, features, options, tokenizer)
    return model, examples_.kind(system["examples"]["kind"])(source, **options)


def _trained(
    corpus: Path, features: Sequence[Path], ids: Sequence[str], checkpoint: Path, queries: Sequence[str] | None
) -> tuple[dict[str, tuple[Sequence[str], Vectors]], str]:
    """What the model of a checkpoint makes of videos, and of queries if it reads texts; and how they are compared."""
    device = default_device()
    model, reader = trained(checkpoint, corpus, features, device)

    def vectors(embed_batch: Any, chunks: Sequence[Any], read: Any) -> Vectors:
        for chunk, inputs in track(chunks, label="embed"):
            batch = {name: value.to(device) for name, value in read(inputs).items()}
            yield chunk, embed_batch(**batch).float().cpu().numpy()

    found: dict[str, tuple[Sequence[str], Vectors]] = {}
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
        texts = texts.filter(pl.col("text_id").is_in(examples_.pooled_ids(corpus, splits, ("query",))))
    return texts.sort("text_id")


def _write_all(
    folder: Path, written: Mapping[str, tuple[Sequence[str], Vectors]], system: dict[str, Any], score: str = COSINE
) -> None:
    """One member's stores, and ``embed.json`` that counts what is in them."""
    folder.mkdir(parents=True)
    counts = {side: _write(folder / side, wanted, vectors, system) for side, (wanted, vectors) in written.items()}
    about = counts if score == COSINE else {**counts, "score": score}
    (folder / "embed.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    log.info("%s: embedded %s", folder.name, counts)


def _write(root: Path, wanted: Sequence[str], vectors: Vectors, system: dict[str, Any]) -> dict[str, int]:
    """Write vectors, leaving out zero ones; returns how many there are and how many are absent."""
    vectors = iter(vectors)
    first = next(vectors, None)
    if first is None:
        raise ValueError(f"{root.name}: nothing to embed among {len(wanted)} items")
    dim, count = first[1].shape[1], 0
    with StoreWriter(root, shape=(dim,), dtype="float32", made_by={"system": system}) as writer:
        for ids, rows in itertools.chain([first], vectors):
            finite = np.isfinite(rows).all(1)
            if not finite.all():
                raise FloatingPointError(f"{root.name}: the embedding of {ids[int(finite.argmin())]!r} is not finite")
            for n in np.flatnonzero(rows.any(1)).tolist():
                writer.add(ids[n], rows[n : n + 1])
                count += 1
    return {"embedded": count, "absent": len(wanted) - count, "dim": dim}


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
