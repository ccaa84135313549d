"""Find videos of a data set by a text or by a video: the vector of what is asked, and its nearest neighbours."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.app.catalogue import Catalogue
from videomatch.app.query_encoder import text_encoder
from videomatch.app.requests import MAX_CHARACTERS, Answer, check_top
from videomatch.common import digests
from videomatch.common.messages import did_you_mean, text_of, unknown
from videomatch.specs.systems import Rescore

COMMANDS = ("find", "similar")
#: what command lines and addresses make of bytes that are no UTF-8
UNDECODED = re.compile(r"[\ud800-\udfff\ufffd]")


@dataclass
class SearchAnswer(Answer):
    """The videos that were found, best first, for a text, id or file (``asked``); of each its ``id`` and ``score``, and
    ``path``, ``title`` and ``duration`` (s), where known, and ``start`` and ``end`` (s) of a part of that file. Where a
    system compares words with frames, ``matches`` are the ``word``, the ``score``, and the ``start`` and ``end`` (s) of
    the frame that it matches best."""

    asked: str
    dataset: str
    system: str
    member: str
    hits: list[dict[str, Any]] = field(default_factory=list)


def search(
    catalogue: Catalogue | Any,
    command: str,
    asked: str,
    *,
    dataset: str | None = None,
    system: str | None = None,
    member: str | None = None,
    top: int = 10,
    file: str | None = None,
    within: str | None = None,
) -> SearchAnswer:
    """The videos that match a text best (``find``), or that are most similar to one (``similar``): an id of the corpus,
    or, where ``asked`` is no id, a ``file``.

    Args:
        catalogue: that of the parameters, or a :class:`videomatch.folders.folder_search.FolderCatalogue` (with torch).
        within: kinds of hits in an index, with commas between them.
    """
    if command not in COMMANDS:
        raise ValueError(unknown("command", command, COMMANDS))
    for_text = command == "find"
    if for_text:
        if UNDECODED.search(asked):
            raise ValueError("the question has bytes that are no UTF-8")
        asked = " ".join(asked.split())
        if not asked:
            raise ValueError("the question is empty")
        if len(asked) > MAX_CHARACTERS:
            raise ValueError(f"the question has {len(asked)} characters, expected at most {MAX_CHARACTERS}")
    check_top(top)
    if not isinstance(catalogue, Catalogue):
        answer = SearchAnswer(asked, catalogue.dataset(dataset), catalogue.index.eyes.name, "")
        kinds = within.split(",") if within else None
        found = catalogue.find(answer, asked, top, kinds) if for_text else catalogue.similar(answer, asked, top, file)
        answer.hits += found
        return answer
    if within is not None:
        raise ValueError("kinds of hits (--in) are those of an index: name one by --index")
    dataset = catalogue.dataset(dataset)
    system = catalogue.system(dataset, system, for_text=for_text)
    answer = SearchAnswer(asked, dataset, system, catalogue.member(system, member))
    if not for_text:
        _add_similar(catalogue, answer, top, file)
        return answer
    base, again = catalogue.plan.base(system), catalogue.ranks_again(system)
    with answer.timed("models"):
        encode = text_encoder(catalogue, dataset, base, answer.member)
    with answer.timed("question"):
        vector = encode([asked])[0]
    if vector.any() and again is not None:
        _add_ranked_again(catalogue, answer, vector, top, again)
    elif vector.any():
        _add_hits(catalogue, answer, vector, top, kind="texts")
    else:
        answer.notes.append("no word of the question is known to this system")
    return answer


def _add_similar(catalogue: Catalogue, answer: SearchAnswer, top: int, file: str | None) -> None:
    video, dataset, system = answer.asked, answer.dataset, answer.system
    with answer.timed("index"):
        store = catalogue.index(dataset, system, answer.member).store
    if video not in store:
        if catalogue.video(dataset, video) is not None:
            raise ValueError(f"video {video!r} of data set {dataset!r} has no embedding by system {system!r}")
        if file is None or not Path(file).is_file():
            message = f"{video!r} is neither a video of data set {dataset!r} nor a file"
            raise ValueError(did_you_mean(message, video, store.ids[:100_000]))
        digest = digests.file_digest(Path(file))
        whole = catalogue.videos(dataset).filter(pl.col("start").is_null())
        same = whole.filter(pl.col("sha256") == digest)["video_id"].to_list()
        if same:
            answer.notes.append(f"this very file is in the corpus, as {same[0]}")
            video = same[0]
    if video in store:
        _add_hits(catalogue, answer, store[video][0], top, exclude=int(store.index([video])[0]))
        return
    assert file is not None
    with answer.timed("question"):
        from videomatch.app.query_file import embed_file  # with torch this takes seconds

        vector = embed_file(catalogue, dataset, system, answer.member, Path(file), answer.notes)
    _add_hits(catalogue, answer, vector, top)


def _add_ranked_again(catalogue: Catalogue, answer: SearchAnswer, vector: np.ndarray, top: int, again: Rescore) -> None:
    """Add the nearest videos of the vector of a text in the order of another system's scores, and the frames that its
    words match."""
    from videomatch.retrieval.rescoring import TOP, mixed  # with torch this takes seconds
    from videomatch.stages._trained import PairScorer

    dataset, plan, asked = answer.dataset, catalogue.plan, answer.asked
    with answer.timed("index"):
        index = catalogue.index(dataset, again.system, answer.member)
        count = again.further.get("top", TOP)
    with answer.timed("search"):
        at, own = index.search(vector, len(index.store) if count is None else max(top, count), kind="texts")
        nearest = dict(zip(index.store.ids.gather(at).to_list(), own, strict=True))
    with answer.timed("models"):
        run, corpus = catalogue.reranker(answer.system, answer.member), catalogue.corpus(dataset, again.reranker)
        features = [Path(m).parent for m in plan.features_of(dataset, plan.experts_of(str(again.reranker)))]
        key = ("pairs", run, dataset)
        scorer = catalogue.cached([run], key, lambda: PairScorer(Path(run).parent, corpus, features))
    with answer.timed("pairs"):
        ids = scorer.reader.usable(nearest)
        scores = scorer.of_pairs([asked], ids)(np.zeros(1, np.int64), np.arange(len(ids)))[0]
        scores = mixed(scores, np.array([nearest[i] for i in ids]), again.further.get("weight", 1.0))
        best = np.argsort(-scores, kind="stable")[:top]
    with answer.timed("titles"):
        answer.hits += hits_of(catalogue.videos(dataset), [ids[n] for n in best], scores[best])
    with answer.timed("pairs"):
        for hit in answer.hits:
            hit["matches"] = scorer.matches(asked, hit["id"])


def _add_hits(catalogue: Catalogue, answer: SearchAnswer, vector: np.ndarray, top: int, **options: Any) -> None:
    """Add the nearest videos of a vector ``(D,)``; options as of :meth:`Index.search`."""
    with answer.timed("index"):
        index = catalogue.index(answer.dataset, answer.system, answer.member)
    with answer.timed("search"):
        at, scores = index.search(vector, top, **options)
    with answer.timed("titles"):
        answer.hits += hits_of(catalogue.videos(answer.dataset), index.store.ids.gather(at).to_list(), scores)


def hits_of(videos: pl.DataFrame, ids: Sequence[str], scores: Sequence[float] | np.ndarray) -> list[dict[str, Any]]:
    """Videos that were found, with what a catalogue's table says of them."""
    if not len(ids):
        return []
    found = pl.DataFrame({"id": ids, "score": scores})
    found = found.join(videos, left_on="id", right_on="video_id", how="left", maintain_order="left")
    return found.select("id", "score", "path", pl.col("title").fill_null(""), "duration", "start", "end").to_dicts()


def reply(open_catalogue: Callable[[], Catalogue | Any], request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request (arguments of :func:`search`) as plain values, or ``{"error": …}``."""
    given = {name: value for name, value in request.items() if value is not None}
    try:
        inspect.signature(search).bind(None, **given)
        for name, value in given.items():
            expected = int if name == "top" else str
            if type(value) is not expected:
                raise ValueError(f"{name} = {value!r}, expected {expected.__name__}")
    except (TypeError, ValueError) as error:
        return {"error": f"this is no question: {error}"}
    try:
        return asdict(search(open_catalogue(), **given))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return {"error": text_of(error)}
