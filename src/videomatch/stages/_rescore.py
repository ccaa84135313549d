"""What a rescoring reads beside two embeddings: frames of videos, other queries; see :mod:`retrieval.rescoring`.

Which side is a text's follows from the kind of search; frames are those of the other side's videos.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from videomatch.data.store import Store
from videomatch.examples import pooled_ids, split_texts
from videomatch.retrieval import rescoring

log = logging.getLogger(__name__)

#: method -> what it reads beside the embeddings
READS = {"frame_max": "frames", "frame_softmax": "frames", "qb_norm": "bank", "dual_softmax": None}
#: kinds of texts that are queries
QUERIES = ("caption", "query")


@dataclass
class Rescoring:
    """One method with its options, and where its inputs are.

    Args:
        corpus: result of ``prepare``.
        kind: of the search.
        options: ``{method, …}`` of the parameters.
        features: results of ``extract``.
        embeddings: folders a member, where the texts lie in the space of the frames.
        member: whose.

    Raises:
        ValueError: an unknown method or option, or one that is missing.
    """

    corpus: Path
    kind: str
    options: Mapping[str, Any]
    features: Sequence[Path]
    embeddings: Sequence[Path]
    member: str = ""
    method: str = field(init=False)
    given: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.method = str(self.options.get("method"))
        if self.method not in READS:
            raise ValueError(f"rescore.method {self.method!r}, expected one of {', '.join(READS)}")
        reads = {"frames": ["expert"], "bank": ["bank"], None: []}[READS[self.method]]
        arguments = inspect.signature(getattr(rescoring, self.method)).parameters.values()
        known = [a.name for a in arguments if a.kind is a.KEYWORD_ONLY]
        self.given = {name: value for name, value in self.options.items() if name not in ("method", *reads)}
        odd = [name for name in self.given if name not in known] + [name for name in reads if name not in self.options]
        if odd:
            raise ValueError(f"rescore {dict(self.options)}: see {odd[0]!r}; expected {reads}, and may be {known}")
        if reads == ["expert"] and self.kind == "video_video":
            raise ValueError(f"rescore.method {self.method!r} holds texts against frames; here videos meet videos")

    def of(self, member: str) -> Rescoring:
        """The same of one member."""
        return replace(self, member=member)

    @property
    def about(self) -> dict[str, Any]:
        """What a result says about it."""
        return {**self.options, "transductive": self.method in rescoring.TRANSDUCTIVE}

    def bank(self, store: Store, queries: Sequence[str]) -> list[str]:
        """Ids of the bank's queries, of the same side as the protocol's; none for a method without one.

        Raises:
            ValueError: one of them is a query of the protocol, or none has an embedding.
        """
        if READS[self.method] != "bank":
            return []
        split = self.options["bank"]
        if self.kind == "text_video":
            wanted = split_texts(self.corpus, split, QUERIES)["text_id"].to_list()
        else:
            wanted = pooled_ids(self.corpus, split)
        shared = set(wanted) & set(queries)
        if shared:
            raise ValueError(f"rescore.bank {split!r} holds {len(shared)} of the queries that are searched for")
        found = [i for i in wanted if i in store and store.lengths[store.index([i])[0]]]
        if not found:
            raise ValueError(f"rescore.bank {split!r}: none of its {len(wanted)} queries has an embedding")
        log.info("a bank of %d queries", len(found))
        return found

    def found(
        self,
        embedded: Sequence[np.ndarray],
        ids: Sequence[Sequence[str]],
        asked: rescoring.Asked,
    ) -> rescoring.Found:
        """The result.

        Args:
            embedded: rows of the queries, the references and the bank.
            ids: of the first two.
            asked: what for.
        """
        queries, references, bank = embedded
        if READS[self.method] == "bank":
            return rescoring.qb_norm(queries, references, bank, asked, **self.given)
        if READS[self.method] is None:
            return rescoring.dual_softmax(queries, references, asked, **self.given)
        texts, videos = ids if self.kind == "text_video" else ids[::-1]
        said = self._texts(texts)
        frames = self._frames(videos)
        return getattr(rescoring, self.method)(queries, references, said, frames, asked, **self.given)

    def _texts(self, ids: Sequence[str]) -> np.ndarray:
        folders = [folder / self.member for folder in self.embeddings]
        if not all(folder.is_dir() for folder in folders):  # another system, whose members have other names
            members = [sorted(p.parent.name for p in folder.glob("*/texts")) for folder in self.embeddings]
            folders = [folder / names[0] for folder, names in zip(self.embeddings, members, strict=True) if names]
        store = Store.open(*(folder / "texts" for folder in folders))
        rows, lengths = store.gather(list(ids))
        if (lengths != 1).any():
            raise ValueError(f"{store.roots[0]}: {ids[int((lengths != 1).argmax())]!r} has no single embedding")
        return rows.reshape(len(ids), -1)

    def _frames(self, ids: Sequence[str]) -> rescoring.Frames:
        expert = self.options["expert"]
        folders = [folder / expert for folder in self.features if (folder / expert).is_dir()]
        if not folders:
            raise ValueError(f"rescore.expert {expert!r}: no features of it in {list(map(str, self.features))}")
        store = Store.open(*folders)
        at = store.index(ids)
        lengths = store.lengths[at]
        if (lengths < 1).any():
            raise ValueError(f"{store.roots[0]}: {ids[int((lengths < 1).argmax())]!r} has an embedding but no frame")

        def read(first: int, last: int) -> np.ndarray:
            rows, _ = store.gather(at[first:last])
            return rows.reshape(len(rows), -1)

        return rescoring.Frames(lengths, read)
