"""The systems that can be searched: which have embedded which data set, and what a search loads of them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.app.requests import Cache, load_plan
from videomatch.common import digests, named
from videomatch.common.messages import unknown
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.retrieval.index import Index
from videomatch.specs.systems import Align, Combine, Embeddings, Rescore, Trained


class Catalogue(Cache):
    """All embeddings of some parameters; arguments as of :func:`load_plan`."""

    #: of hits: here each system has one
    kinds: Sequence[str] = ()

    def __init__(self, files: Sequence[Path] = (), values: Sequence[str] = ()) -> None:
        super().__init__()
        self.plan = load_plan(files, values)

    def embedded_by(self, dataset: str) -> list[str]:
        """Systems that have embedded a data set, in the order of the parameters."""
        return [s for s in self.plan.systems if Path(self.plan.result("embeddings", dataset, s)).exists()]

    def searchable(self, dataset: str, *, for_text: bool) -> Iterator[str]:
        """Systems that can search a data set: those of pages first; those that compare a text with texts last."""
        pages = [page.system for page in self.plan.pages.values() if page.dataset == dataset]
        if for_text:
            own_texts = {s for s, e in self.plan.of_kind(Embeddings).items() if e.features is None}
            systems = sorted(self.plan.systems, key=own_texts.__contains__)
        else:
            systems = self.embedded_by(dataset)
        for system in dict.fromkeys([*pages, *systems]):
            if not self._missing(dataset, system, for_text) and (not for_text or self.reads_texts(system)):
                yield system

    def ranks_again(self, system: str) -> Rescore | None:
        """The entry of a system by which another one's pairs replace what is found for a text by vectors."""
        entry = self.plan.systems[system]
        return entry if isinstance(entry, Rescore) and entry.reranker is not None else None

    def in_words(self, system: str) -> str:
        """A system by its name and what it does, for people who choose one."""
        entry = self.plan.systems[system]
        if isinstance(entry, Trained):
            does = f"trained {entry.model.name}"
        elif isinstance(entry, Combine):
            does = f"{' and '.join(entry.systems)} together"
        elif isinstance(entry, Rescore):
            does = f"{entry.system}, its best ranked again" if entry.reranker else f"{entry.system} by {entry.method}"
        elif isinstance(entry, Embeddings):
            does = " and ".join(
                filter(None, [entry.features and f"frames by {entry.features}", ", ".join(entry.texts)])
            )
        else:
            does = ""
        return ": ".join(filter(None, [system, does]))

    def _missing(self, dataset: str, system: str, for_text: bool) -> list[str]:
        """The results that do not exist, of those by which a system searches."""
        again = self.ranks_again(system) if for_text else None
        base, run = (system, None) if again is None else (again.system, self.reranker(system, None))
        embeddings = [] if self._embedded_as(dataset, base) else [self.plan.result("embeddings", dataset, base)]
        return embeddings + ([run] if run is not None and not Path(run).exists() else [])

    def reranker(self, system: str, member: str | None) -> str:
        """The run that ranks again what a member of a system finds, by default the first."""
        return self.plan.run(*self.plan.reranker(system, self.member(system, member)))

    def reads_texts(self, system: str) -> bool:
        """Whether a system has vectors of texts."""
        entry = self.plan.systems[system]
        if self.ranks_again(system) is not None:
            return self.reads_texts(self.plan.base(system))
        if isinstance(entry, Combine):
            return all(map(self.reads_texts, entry.systems))
        if isinstance(entry, Trained):
            return named.module("models", entry.model.name).Model.embeds_texts
        if not isinstance(entry, Embeddings):
            return False
        return bool(entry.text_encoder or entry.bridge or (entry.texts and not entry.features))

    def _embedded_as(self, dataset: str, system: str) -> str | None:
        """The system whose video embeddings ``system`` uses: itself, or another that pools the same features."""
        own = self.plan.systems[system]
        if isinstance(own, Embeddings) and own.facts:
            return None
        if Path(self.plan.result("embeddings", dataset, system)).exists():
            return system
        if isinstance(own, Embeddings) and own.text_encoder is not None:
            for other in self.embedded_by(dataset):
                entry = self.plan.systems[other]
                if isinstance(entry, Embeddings) and (entry.features, entry.pool) == (own.features, own.pool):
                    return other
        return None

    def dataset(self, name: str | None) -> str:
        """A data set by name; without one that of a page, or the first that is embedded."""
        if name is not None:
            if name not in self.plan.datasets:
                raise ValueError(unknown("data set", name, self.plan.datasets))
            return name
        embedded = [d for d in self.plan.datasets if self.embedded_by(d)]
        if not embedded:
            raise ValueError(f"nothing is embedded below {self.plan.root}: run `{self.plan.command()}` first")
        pages = [page.dataset for page in self.plan.pages.values()]
        return next((d for d in pages if d in embedded), embedded[0])

    def system(self, dataset: str, name: str | None, *, for_text: bool) -> str:
        """A system by name; without one that of a page, or the first that can answer."""
        able = self.searchable(dataset, for_text=for_text)
        if name is None:
            if (first := next(able, None)) is not None:
                return first
            kind = "no system that reads texts has" if for_text else "no system has"
            others = [s for s in self.plan.systems if not for_text or self.reads_texts(s)]
            others.sort(key=lambda s: self._obstacle(dataset, s) is not None)
            advice = self._advice(dataset, others[0]) if others else "the parameters list none"
            raise ValueError(f"{kind} embedded data set {dataset!r}: {advice}")
        if name not in self.plan.systems:
            raise ValueError(unknown("system", name, self.plan.systems))
        if for_text and not self.reads_texts(name):
            others = f"systems that can: {', '.join(able) or 'none'}"
            raise ValueError(f"system {name!r} embeds videos alone and cannot be asked in words; {others}")
        if missing := self._missing(dataset, name, for_text):
            is_base = for_text and self.ranks_again(name) is not None
            advice = f"run `{self.plan.command(' '.join(missing))}`" if is_base else self._advice(dataset, name)
            advice = f"{advice}; systems that have: {', '.join(able) or 'none'}"
            raise ValueError(f"system {name!r} has not embedded data set {dataset!r}: {advice}")
        return name

    def member(self, system: str, name: str | None) -> str:
        """A member of a system by name, or its first."""
        members = self.plan.members(system)
        if name is not None and name not in members:
            raise ValueError(unknown(f"member of {system!r}", name, members))
        return name or members[0]

    def _advice(self, dataset: str, system: str) -> str:
        """The command that makes a system's embeddings, or why there is none."""
        obstacle = self._obstacle(dataset, system)
        command = self.plan.command(self.plan.result("embeddings", dataset, system))
        return f"run `{command}`" if obstacle is None else f"it cannot ({obstacle})"

    def _obstacle(self, dataset: str, system: str) -> str | None:
        """Why a system cannot embed a data set, as far as that is known before it is tried."""
        entry = self.plan.systems[system]
        if isinstance(entry, Align):
            return "it finds the segments that two videos share: ask `videomatch copies`"
        if isinstance(entry, Embeddings) and entry.facts:
            return "it is an oracle, which knows facts of the data set and reads nothing"
        if isinstance(entry, Rescore):
            what = "all queries at once" if entry.reranker is None else "a text"
            return f"it rescores what {entry.system!r} finds for {what}: ask that"
        if isinstance(entry, Trained) and not named.module("models", entry.model.name).Model.embeds_videos:
            return f"model {entry.model.name!r} embeds no videos"
        if isinstance(entry, Combine):
            return next(filter(None, (self._obstacle(dataset, each) for each in entry.systems)), None)
        try:
            self.plan.features_of(dataset, self.plan.experts_of(system))
        except ValueError as error:
            return str(error)
        if not isinstance(entry, Embeddings) or entry.features or not Path(self.plan.corpus(dataset, system)).exists():
            return None
        kinds, learned_from = ", ".join(entry.texts), corpora.whole_texts(self.corpus(dataset, system), entry.texts)
        few = f"it learns from texts ({kinds}) that fewer than two videos of {dataset!r} have"
        return few if len(learned_from) < 2 else None

    def index(self, dataset: str, system: str, member: str) -> Index:
        """The index of a system's videos; in the folder of the result its inverted lists would change the result."""
        source = self._embedded_as(dataset, system)
        assert source is not None
        manifest = self.plan.result("embeddings", dataset, source)
        root = Path(manifest).parent / self.member(source, member if source == system else None) / "videos"
        if not (root / "store.json").exists():
            raise ValueError(f"{root} does not exist: run `{self.plan.command(manifest)}`")

        def load() -> Index:
            about = root.parent / "embed.json"
            embed = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
            return Index(root, digests.SCRATCH / "index" / root, cosine=embed.get("score", "cosine") == "cosine")

        return self.cached([manifest], ("index", str(root)), load)

    def corpus(self, dataset: str, system: str | None = None) -> Path:
        """The folder of a data set's corpus, as a system reads it."""
        manifest = self.plan.corpus(dataset, system)
        if not Path(manifest).exists():
            raise ValueError(f"the corpus of data set {dataset!r} does not exist: run `{self.plan.command(manifest)}`")
        return Path(manifest).parent

    def videos(self, dataset: str) -> pl.DataFrame:
        """video_id, path, start, end, duration, sha256 and title of all videos of a data set."""
        folder = self.corpus(dataset)

        def read() -> pl.DataFrame:
            titles = tables.read("texts", folder).filter(pl.col("kind") == "title").unique("video_id", keep="first")
            rows = corpora.videos(folder).select("video_id", "path", "start", "end", "duration", "sha256")
            return rows.join(titles.select("video_id", title="text"), on="video_id", how="left")

        return self.cached([self.plan.result("corpora", dataset)], ("videos", dataset), read)

    def video(self, dataset: str, video_id: str) -> dict[str, Any] | None:
        """One row of :meth:`videos`."""
        return next(self.videos(dataset).filter(pl.col("video_id") == video_id).iter_rows(named=True), None)
