"""Approximate search: faiss's inverted files (Sivic and Zisserman 2003, "Video Google"; Douze et al. 2024,
arXiv:2401.08281), written as folders and mapped into memory.

A vector belongs to the list of its nearest centre and is kept in few bytes; a query is compared with the vectors of the
``nprobe`` lists nearest to it. Scores are inner products, of the vectors as their codes have them. A folder's
``about.json`` holds the digest of every file, as faiss does not check the sizes that a file states.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from videomatch.common import digests, files

FORMAT = 3
#: how a vector of ``dim`` numbers is kept: 16, 8, 6 or 4 bits a dimension, or 64 or 32 bytes of a product quantiser
CODECS = ("SQfp16", "SQ8", "SQ6", "SQ4", "PQ64", "PQ32")
#: vectors per list that an inverted file is trained on, and bytes of them at most
SAMPLE, SAMPLE_BYTES = 48, 1 << 28
#: rounds of the k-means
ROUNDS = 8
#: how files are opened
MAPPED = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY


def lists_for(vectors: int) -> int:
    """How many lists suit a number of vectors: some 2 sqrt(n), a power of 2."""
    return 2 ** round(np.log2(2 * np.sqrt(max(1, vectors))))


def sample_size(nlist: int, dim: int) -> int:
    """How many vectors of ``dim`` float32 numbers an inverted file is trained on."""
    return min(SAMPLE * nlist, SAMPLE_BYTES // (4 * dim))


def train(rows: np.ndarray, nlist: int, codec: str = "SQ8", seed: int = 0) -> Any:
    """An empty inverted file that has learned its centres and codes from unit rows ``(n, D)`` float32."""
    if codec not in CODECS:
        raise ValueError(f"no codec {codec!r}; there are {', '.join(CODECS)}")
    index: Any = faiss.index_factory(rows.shape[1], f"IVF{nlist},{codec}", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.spherical, index.cp.seed = ROUNDS, True, seed
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, SAMPLE
    index.train(rows)
    return index


def write_index(index: Any, path: Path) -> None:
    """Write an index with all that it holds."""
    with _writer(path) as writer:
        faiss.write_index(index, writer)


def write_lists(index: Any, path: Path) -> None:
    """Write the inverted lists of an index without its centres."""
    with _writer(path) as writer:
        faiss.write_InvertedLists(index.invlists, writer)


@contextlib.contextmanager
def _writer(path: Path) -> Iterator[Any]:
    """What faiss writes to. Its own files take no notice if the disk is full when they are closed."""
    with path.open("wb") as file:
        yield faiss.PyCallbackIOWriter(file.write)  # pyright: ignore[reportAttributeAccessIssue]


def read_lists(empty: Any, path: Path, vectors: int) -> Any:
    """An index with the centres of ``empty`` and the lists in a file, mapped into memory."""
    lists: Any = faiss.read_InvertedLists(faiss.FileIOReader(str(path)), MAPPED)
    index: Any = faiss.clone_index(empty)
    index.replace_invlists(lists, True)
    lists.this.disown()  # the index frees them
    index.ntotal = vectors
    return index


@contextlib.contextmanager
def written(folder: Path, about: dict[str, Any]) -> Iterator[Path]:
    """A new folder to write files into; at the end it takes the place of ``folder``, with ``about.json``."""
    with files.replacing(folder) as new:
        new.mkdir()
        yield new
        made = {path.name: digests.file_digest(path) for path in sorted(new.iterdir())}
        content = {"format": FORMAT, **about, "files": made}
        files.write_json(new / "about.json", {**content, "digest": digests.digest(content)})


def checked(folder: Path) -> dict[str, Any]:
    """``about.json`` of a folder; a ValueError if it or a file is damaged, or was written by another version."""
    path = folder / "about.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{path} is damaged or of another version: expected format {FORMAT}")
    if about.pop("digest", None) != digests.digest(about):
        raise ValueError(f"{path} is damaged: it is not what was written")
    for name, digest in about["files"].items():
        path = folder / Path(name).name
        if not path.is_file() or digests.file_digest(path) != digest:
            raise ValueError(f"{path} is damaged or missing: it is not the file that was written")
    return about
