"""Find videos of a data set by a text or by a video: the vector of what is asked, and its nearest neighbours.

What embeds a file (:mod:`videomatch.app.query_file`) is imported when it is needed: with torch it takes seconds, and a
search by an id takes less than one.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.app.catalogue import Catalogue, open_catalogue
from videomatch.app.query_encoder import text_encoder
from videomatch.app.requests import MAX_CHARACTERS, Answer, check_top
from videomatch.common import digests

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hit:
    """A video that was found: its id, the cosine, its file, title and duration in seconds, where known."""

    id: str
    score: float
    path: str | None
    title: str
    duration: float | None


@dataclass
class SearchAnswer(Answer):
    """The videos that were found, best first, for a text, id or file (``asked``)."""

    asked: str
    dataset: str
    system: str
    member: str
    hits: list[Hit] = field(default_factory=list)


def find(
    catalogue: Catalogue,
    text: str,
    *,
    dataset: str | None = None,
    system: str | None = None,
    member: str | None = None,
    top: int = 10,
) -> SearchAnswer:
    """The videos that match a text best."""
    text = " ".join(text.split())
    if not text:
        raise ValueError("the question is empty")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the question has {len(text)} characters, expected at most {MAX_CHARACTERS}")
    check_top(top)
    dataset = catalogue.dataset(dataset)
    system = catalogue.system(dataset, system, for_text=True)
    answer = SearchAnswer(text, dataset, system, catalogue.member(system, member))
    with answer.timed("models"):
        encode = text_encoder(catalogue, dataset, system, answer.member)
    with answer.timed("question"):
        vector = encode([text])[0]
    if vector.any():
        _add_hits(catalogue, answer, vector, top, kind="texts")
    else:
        answer.notes.append("no word of the question is known to this system")
    return answer


def similar(
    catalogue: Catalogue,
    video: str,
    *,
    dataset: str | None = None,
    system: str | None = None,
    member: str | None = None,
    top: int = 10,
    file: str | None = None,
) -> SearchAnswer:
    """The videos that are most similar to one: an id of the corpus, or, where ``video`` is no id, a ``file``."""
    check_top(top)
    dataset = catalogue.dataset(dataset)
    system = catalogue.system(dataset, system, for_text=False)
    answer = SearchAnswer(video, dataset, system, catalogue.member(system, member))
    with answer.timed("index"):
        index = catalogue.index(dataset, system, answer.member)
    if video not in index.store:
        if catalogue.video(dataset, video) is not None:
            raise ValueError(f"video {video!r} of data set {dataset!r} has no embedding by system {system!r}")
        if file is None or not Path(file).is_file():
            near = difflib.get_close_matches(video, index.store.ids[:100_000], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{video!r} is neither a video of data set {dataset!r} nor a file{hint}")
        digest = digests.file_digest(Path(file))
        same = catalogue.videos(dataset).filter(pl.col("sha256") == digest)["video_id"].to_list()
        if same:
            answer.notes.append(f"this very file is in the corpus, as {same[0]}")
            video = same[0]
    if video in index.store:
        at = int(index.store.index([video])[0])
        _add_hits(catalogue, answer, index.store[video][0], top, exclude=at)
        return answer
    assert file is not None
    with answer.timed("question"):
        from videomatch.app.query_file import embed_file

        vector = embed_file(catalogue, dataset, system, answer.member, Path(file), answer.notes)
    _add_hits(catalogue, answer, vector, top)
    return answer


def _add_hits(catalogue: Catalogue, answer: SearchAnswer, vector: np.ndarray, top: int, **options: Any) -> None:
    """Add the nearest videos of a vector ``(D,)``; options as of :meth:`Index.search`."""
    with answer.timed("index"):
        index = catalogue.index(answer.dataset, answer.system, answer.member)
    with answer.timed("search"):
        at, scores = index.search(vector, top, **options)
    with answer.timed("titles"):
        found = pl.DataFrame({"video_id": index.store.ids.gather(at), "score": scores})
        found = found.join(catalogue.videos(answer.dataset), on="video_id", how="left", maintain_order="left")
        rows = found.select("video_id", "score", "path", pl.col("title").fill_null(""), "duration")
        answer.hits += [Hit(*row) for row in rows.iter_rows()]


def reply(catalogue: Catalogue, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request as plain values, or ``{"error": …}``. A request has ``command`` (``find`` or
    ``similar``), ``asked``, and any of ``dataset``, ``system``, ``member``, ``top`` and ``file`` (of ``similar``)."""
    options = {k: v for k, v in request.items() if k not in ("command", "asked") and v is not None}
    search = {"find": find, "similar": similar}[request["command"]]
    try:
        return asdict(search(catalogue, request["asked"], **options))
    except (ValueError, OSError) as error:
        log.info("refused: %s", error)
        return {"error": str(error) or type(error).__name__}


def reply_once(request: dict[str, Any], files: Sequence[Path], values: Sequence[str]) -> dict[str, Any]:
    """As :func:`reply`, of the catalogue of some parameters."""
    try:
        return reply(open_catalogue(files, values), request)
    except (ValueError, OSError) as error:
        return {"error": str(error)}
