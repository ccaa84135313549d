"""What can be asked of the embeddings that lie there, and the answers.

A system's vectors of a corpus are those that ``embed`` or ``combine`` wrote; what is asked is embedded by the same
checkpoint, text encoder or analysis. Everything loaded is kept until the result that it came from is another one.
"""

from __future__ import annotations

import difflib
import importlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.app.answers import Answered
from videomatch.common import digests
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.pipeline.plan import Plan
from videomatch.pipeline.signatures import source
from videomatch.retrieval.index import Index

#: results of one answer at most
MOST = 1000
#: longest question in characters
LONGEST = 2000


class Refused(ValueError):
    """A question that cannot be answered; the message says why, and what would help."""


@dataclass(frozen=True)
class Hit:
    """A video that was found: its id, the cosine, its file, title and duration in seconds, where known."""

    id: str
    score: float
    path: str | None
    title: str
    duration: float | None


@dataclass
class Answer(Answered):
    """What was found, best first.

    Attributes:
        asked: the text, id or file.
        dataset, system, member: where and by whom it was found.
        hits: the videos.
        notes: what the person who asked should know.
        seconds: where the time went; ``total`` is all of it.
    """

    asked: str
    dataset: str
    system: str
    member: str
    hits: list[Hit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Library:
    """All embeddings of one set of parameters.

    Args:
        plan: where results lie, relative to the working folder.
        options: ``--configfile …`` as it was typed, for what messages advise.
    """

    def __init__(self, plan: Plan, options: str = "") -> None:
        self.plan, self.options = plan, options
        self._kept: dict[tuple[str, ...], tuple[str, Any]] = {}

    # -------------------------------------------------------------------------------------------------- what there is

    def datasets(self) -> list[str]:
        """Data sets of which something is embedded."""
        return [d for d in self.plan.datasets if self.built(d)]

    def built(self, dataset: str) -> list[str]:
        """Systems that have embedded a data set, in the order of the parameters."""
        return [s for s in self.plan.systems if Path(self.plan.embedding(dataset, s)).exists()]

    def askable(self, dataset: str) -> list[str]:
        """Systems that can be asked in words: those that compare whole texts with pictures first."""
        able = [s for s in self.plan.systems if self._reads_texts(s) and self._holder(dataset, s)]
        return sorted(able, key=lambda s: "texts" in self._embeddings(s) and "features" not in self._embeddings(s))

    def _embeddings(self, system: str) -> dict[str, Any]:
        return self.plan.systems[system].get("embeddings", {})

    def _reads_texts(self, system: str) -> bool:
        """Whether a system has vectors of texts, which needs no library to be loaded."""
        entry = self.plan.systems[system]
        if {"rescore", "align"} & entry.keys():
            return (
                False  # it has no embeddings: its scores hang on a whole protocol's frames or queries, or on segments
            )
        if "combine" in entry:
            return all(map(self._reads_texts, entry["combine"]["systems"]))
        if "model" in entry:
            return "def embed_texts" in source("models", entry["model"]["name"]).read_text(encoding="utf-8")
        return "text_encoder" in entry["embeddings"] or "features" not in entry["embeddings"]

    def _holder(self, dataset: str, system: str) -> str | None:
        """The system whose videos those of ``system`` are: itself, or one that pools the same features and only lacks
        the text encoder; None if neither is built."""
        if Path(self.plan.embedding(dataset, system)).exists():
            return system
        mine = self._embeddings(system)
        if "text_encoder" in mine:
            pooled = {"features": mine["features"], "pool": mine.get("pool", "mean")}
            for other in self.built(dataset):
                entry = {"pool": "mean"} | self._embeddings(other)
                if {k: entry.get(k) for k in pooled} == pooled:
                    return other
        return None

    def dataset(self, name: str | None) -> str:
        """A data set by name, or the one that a page shows, or the first that is embedded.

        Raises:
            Refused: there is none.
        """
        if name is not None:
            if name not in self.plan.datasets:
                raise Refused(unknown("data set", name, self.plan.datasets))
            return name
        found = self.datasets()
        shown = [p.get("dataset") for p in self.plan.params["pages"].values()]
        if not found:
            raise Refused(f"nothing is embedded below {self.plan.root}: run `{self._snakemake()}` first")
        return next((d for d in shown if d is not None and d in found), found[0])

    def system(self, dataset: str, name: str | None, *, for_text: bool) -> str:
        """A system by name, or one that fits the question.

        Raises:
            Refused: it does not exist, is not built, or reads no texts.
        """
        able = self.askable(dataset) if for_text else self.built(dataset)
        if name is None:
            pages = (p["system"] for p in self.plan.params["pages"].values() if p.get("dataset", dataset) == dataset)
            chosen = next((s for s in pages if s in able), able[0] if able else None)
            if chosen is None:
                what = "no system that reads texts has" if for_text else "no system has"
                raise Refused(f"{what} embedded data set {dataset!r}{self._advice(dataset, for_text)}")
            return chosen
        if name not in self.plan.systems:
            raise Refused(unknown("system", name, self.plan.systems))
        if for_text and not self._reads_texts(name):
            raise Refused(f"system {name!r} embeds videos alone and cannot be asked in words; {_can(able)}")
        if self._holder(dataset, name) is None:
            raise Refused(
                f"system {name!r} has not embedded data set {dataset!r}: {self._build(dataset, name)}; "
                f"there {'are' if able else 'is'}: {', '.join(able) or 'nothing'}"
            )
        return name

    def _advice(self, dataset: str, for_text: bool) -> str:
        reading = [s for s in self.plan.systems if not for_text or self._reads_texts(s)]
        return f": {self._build(dataset, reading[0])}" if reading else ": the parameters list none"

    def _build(self, dataset: str, system: str) -> str:
        """What to type to have a system's embeddings, or why that cannot be."""
        try:
            self._check_inputs(dataset, system)
        except ValueError as error:
            return f"it cannot ({error})"
        return f"run `{self._snakemake(self.plan.embedding(dataset, system))}`"

    def _check_inputs(self, dataset: str, system: str) -> None:
        if "align" in self.plan.systems[system]:
            raise ValueError("it finds the segments that two videos share: ask `videomatch copies`")
        for part in self.plan.systems[system].get("combine", {}).get("systems", []):
            self._check_inputs(dataset, part)
        if "combine" not in self.plan.systems[system]:
            self.plan.embed_features(dataset, system)

    def _snakemake(self, target: str = "") -> str:
        # the options come last: snakemake's --configfile and --config take any number of values
        return " ".join(filter(None, ["snakemake", target, self.options]))

    def member(self, system: str, name: str | None) -> str:
        """A member of a system by name, or its first."""
        members = self.plan.members(system)
        if name is not None and name not in members:
            raise Refused(unknown(f"member of {system!r}", name, members))
        return name or members[0]

    # ------------------------------------------------------------------------------------------------- what is loaded

    def kept(self, made_from: Iterable[str], key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """What ``make`` gives, kept as long as the results (manifests) that it is made from stay as they are."""
        state = digests.digest([[path, _stamp(Path(path))] for path in made_from])
        found = self._kept.get(key)
        if found is None or found[0] != state:
            self._kept[key] = found = (state, make())
        return found[1]

    def index(self, dataset: str, system: str, member: str) -> Index:
        """The index over a system's videos.

        Raises:
            Refused: that member has none.
        """
        holder = self._holder(dataset, system)
        assert holder is not None
        manifest = self.plan.embedding(dataset, holder)
        root = Path(manifest).parent / self.member(holder, member if holder == system else None) / "videos"
        if not (root / "store.json").exists():
            raise Refused(f"{root} is not there: run `{self._snakemake(manifest)}`")
        return self.kept([manifest], ("index", str(root)), lambda: opened(root))

    def videos(self, dataset: str) -> pl.DataFrame:
        """video_id, path, duration, sha256 and title of all videos of a data set."""
        manifest = self.plan.corpus(dataset)
        if not Path(manifest).exists():
            raise Refused(f"the corpus of data set {dataset!r} is not there: run `{self._snakemake(manifest)}`")

        def read() -> pl.DataFrame:
            folder = Path(manifest).parent
            titles = tables.read("texts", folder).filter(pl.col("kind") == "title").unique("video_id", keep="first")
            known = corpora.videos(folder).select("video_id", "path", "duration", "sha256")
            return known.join(titles.select("video_id", title="text"), on="video_id", how="left")

        return self.kept([manifest], ("videos", dataset), read)

    def video(self, dataset: str, video_id: str) -> dict[str, Any] | None:
        """One row of :meth:`videos`."""
        return next(self.videos(dataset).filter(pl.col("video_id") == video_id).iter_rows(named=True), None)

    # ------------------------------------------------------------------------------------------------------- questions

    def find(
        self,
        text: str,
        *,
        dataset: str | None = None,
        system: str | None = None,
        member: str | None = None,
        top: int = 10,
    ) -> Answer:
        """The videos that a text says best.

        Raises:
            Refused: the question, the system or the number does not do.
        """
        started = time.perf_counter()
        text = _question(text)
        dataset = self.dataset(dataset)
        system = self.system(dataset, system, for_text=True)
        answer = Answer(text, dataset, system, self.member(system, member))
        with answer.timed("libraries"):
            asking = importlib.import_module("videomatch.app.query_encoder")
        with answer.timed("models"):
            encode = asking.texts_of(self, dataset, system, answer.member)
        with answer.timed("question"):
            vector = encode([text])[0]
        if not vector.any():
            answer.notes.append("no word of the question is known to this system")
        return self._finished(answer, vector if vector.any() else None, None, top, started, "texts")

    def similar(
        self,
        video: str,
        *,
        dataset: str | None = None,
        system: str | None = None,
        member: str | None = None,
        top: int = 10,
        file: str | None = None,
    ) -> Answer:
        """The videos that are like one: an id of the corpus, or a file.

        Args:
            video: as it was asked for.
            file: a path to read if ``video`` is no id; only ids are looked for if None.

        Raises:
            Refused: there is no such video, or the system cannot embed a file.
        """
        started = time.perf_counter()
        dataset = self.dataset(dataset)
        system = self.system(dataset, system, for_text=False)
        answer = Answer(video, dataset, system, self.member(system, member))
        with answer.timed("index"):
            index = self.index(dataset, system, answer.member)
        video_id: str | None = video
        if video not in index.store:
            if self.video(dataset, video) is not None:
                raise Refused(f"video {video!r} of data set {dataset!r} has no embedding by system {system!r}")
            if file is None or not Path(file).is_file():
                near = difflib.get_close_matches(video, index.ids[:100_000], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise Refused(f"{video!r} is neither a video of data set {dataset!r} nor a file{hint}")
            video_id = self._same_file(dataset, Path(file), answer)
        if video_id is not None and video_id in index.store:
            at = int(index.store.index([video_id])[0])
            return self._finished(answer, index.store[video_id][0], at, top, started)
        assert file is not None
        with answer.timed("libraries"):
            newcomer = importlib.import_module("videomatch.app.query_file")
        with answer.timed("question"):
            vector = newcomer.embedded(self, dataset, system, answer.member, Path(file), answer.notes)
        return self._finished(answer, vector, None, top, started)

    def _same_file(self, dataset: str, file: Path, answer: Answer) -> str | None:
        """The id of the video whose file has the same content."""
        digest = digests.file_digest(file)
        same = self.videos(dataset).filter(pl.col("sha256") == digest)["video_id"]
        if same.is_empty():
            return None
        answer.notes.append(f"this very file is in the corpus, as {same[0]}")
        return same[0]

    def _finished(
        self,
        answer: Answer,
        vector: np.ndarray | None,
        exclude: int | None,
        top: int,
        started: float,
        kind: str = "rows",
    ) -> Answer:
        if not 1 <= top <= MOST:
            raise Refused(f"top = {top}, expected 1 to {MOST}")
        with answer.timed("index"):
            index = self.index(answer.dataset, answer.system, answer.member)
        with answer.timed("search"):
            at, scores = (np.zeros(0, int), np.zeros(0)) if vector is None else index.search(vector, top, exclude, kind)
        with answer.timed("titles"):
            ids = [index.ids[n] for n in at]
            rows = self.videos(answer.dataset).filter(pl.col("video_id").is_in(ids))
            about = {row["video_id"]: row for row in rows.iter_rows(named=True)}
            for video_id, score in zip(ids, scores.tolist(), strict=True):
                row = about.get(video_id, {})
                answer.hits.append(Hit(video_id, score, row.get("path"), row.get("title") or "", row.get("duration")))
        answer.seconds["total"] = round(time.perf_counter() - started, 4)
        return answer


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence about a name that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"no {what} named {name!r}" + (
        f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known) or 'none'}"
    )


def opened(root: Path) -> Index:
    """The index over one member's videos, compared as ``embed.json`` says. Its lists lie below ``.scratch/``: beside
    the embeddings, in a result's own folder, they would be a change of the result."""
    return Index(root, digests.SCRATCH / "index" / root, cosine=score_of(root.parent) == "cosine")


def score_of(folder: Path) -> str:
    """How a member's embeddings are compared: ``cosine`` or ``dot``."""
    about = folder / "embed.json"
    said = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
    return said.get("score", "cosine")


def _can(able: list[str]) -> str:
    return f"systems that can: {', '.join(able)}" if able else "no system that can is built"


def _question(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise Refused("the question is empty")
    if len(text) > LONGEST:
        raise Refused(f"the question has {len(text)} characters, expected at most {LONGEST}")
    return text


def _stamp(path: Path) -> list[int] | None:
    """What tells a file from the one that takes its place."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]
