"""The features of a library's videos by one expert, batch by batch, and the index of them.

On the disk, in a folder that the library chooses::

    features/<batch>/   the store of a batch, as long as the index may be made again
    index/              the inverted file over the features of all batches, where one is wanted

Every folder holds the digests of its files. The index is made again from the features whenever there are ``growth``
times as many rows as it has learned from. Once it has learned from ``settled`` rows it only grows, and the features are
deleted.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.common import files
from videomatch.data.store import Store, StoreWriter
from videomatch.retrieval import ann
from videomatch.retrieval.frame_index import FrameIndex

#: dimensions of the index
DIM = 256


@dataclass(frozen=True, eq=False)
class Features:
    """What the expert ``source`` (its options, with ``backbones``) and then ``make`` make of videos. ``model`` names a
    network: what another one made is made again. The index, if any, is searched in ``nprobe`` lists."""

    folder: Path
    source: str = ""
    expert: dict[str, Any] = field(default_factory=dict)
    backbones: dict[str, str] = field(default_factory=dict)
    model: str = ""
    make: Callable[[np.ndarray], np.ndarray] = np.asarray
    is_indexed: bool = True
    growth: int = 4
    settled: int = 1 << 17
    nprobe: int | None = None

    @property
    def place(self) -> Path:
        """The folder of the index."""
        return self.folder / "index"

    def batches(self) -> list[Path]:
        """The folders of all batches whose features are on the disk."""
        return sorted(self.folder.glob("features/[!.]*"))

    def index(self) -> FrameIndex | None:
        """The index, None where there is none; raises as :class:`FrameIndex`."""
        return FrameIndex(self.place, nprobe=self.nprobe) if self.place.exists() else None

    def write(
        self, batch: str, ids: Iterable[str], rows: Store, make: Callable[[np.ndarray], np.ndarray] = np.asarray
    ) -> int:
        """Write what ``make`` makes of the rows of videos as the features of a batch; returns how many there are.
        Without a video the batch goes away."""
        place, found, count = self.folder / "features" / batch, [i for i in ids if i in rows], 0
        if not found:
            discard(place)
            return 0
        shape = make(rows[found[0]]).shape[1:]
        with (
            ann.written(place, {"model": self.model}) as new,
            StoreWriter(new, shape=shape, dtype="float16", times=True) as writer,
        ):
            for video_id in found:
                writer.add(video_id, values := make(rows[video_id]), times=rows.times(video_id))
                count += len(values)
        return count

    def drop_damaged(self) -> list[str]:
        """Remove what is damaged or by another model; returns what was damaged."""
        notes = []
        for place, problem in damaged(self.batches()):
            notes.append(problem)
            discard(place)
        for place in self.batches():
            if ann.checked(place).get("model", "") != self.model:
                discard(place)
        return notes + (FrameIndex.drop_damaged(self.place) if self.place.exists() else [])

    def missing(self, batches: Mapping[str, pl.DataFrame]) -> set[str]:
        """The batches whose features are not on the disk, and not in an index that has settled."""
        missing = batches.keys() - {place.name for place in self.batches()}
        index = self.index() if missing else None
        settled = set(index.ids) if index is not None and index.learned >= self.settled else set[str]()
        return {batch for batch in missing if not settled.issuperset(batches[batch]["video_id"])}

    def forget(self, batches: Mapping[str, pl.DataFrame]) -> None:
        """Remove the videos that are in no batch."""
        held = {batch: set(rows["video_id"]) for batch, rows in batches.items()}
        for place in self.batches():
            store, wanted = Store(place), held.get(place.name, set())
            if not wanted.issuperset(store.ids):
                self.write(place.name, [i for i in store.ids if i in wanted], store)
        if (index := self.index()) is not None and (stale := set(index.ids).difference(*held.values())):
            FrameIndex.remove(self.place, stale)

    def update(self) -> None:
        """Add to the index what it lacks, or make it again; delete what a settled one needs no more."""
        if not self.is_indexed:
            return
        roots, index = self.batches(), self.index()
        store = Store(*roots) if roots else None
        rows = int(store.lengths.sum()) if store is not None else 0
        learned, indexed = (index.learned, set(index.ids)) if index is not None else (0, set[str]())
        missing = [root for root in roots if not indexed.issuperset(Store(root).ids)]
        if store is None and not indexed:
            discard(self.place)
        if store is not None and missing:
            grown = learned < self.settled and rows >= self.growth * learned and indexed.issubset(store.ids)
            if index is None or grown:
                with files.replacing(self.place) as new:
                    FrameIndex.create(new, roots, expected=self.growth * rows, dim=DIM)
                    FrameIndex.add(new, *roots)
                learned = rows
            else:
                if twice := indexed & {video_id for root in missing for video_id in Store(root).ids}:
                    FrameIndex.remove(self.place, twice)
                FrameIndex.add(self.place, *missing)
        if learned >= self.settled:
            for root in roots:
                discard(root)

    def sweep(self) -> None:
        """Remove what killed processes left unfinished, where no other process writes."""
        for kind in ("", "features", "index", "index/parts"):
            files.sweep(self.folder / kind, locked=True)


def damaged(folders: Collection[Path]) -> Iterator[tuple[Path, str]]:
    """Those of some folders (:func:`videomatch.retrieval.ann.written`) that are damaged, and how."""
    for folder in folders:
        try:
            ann.checked(folder)
        except (ValueError, OSError) as error:
            yield folder, str(error)


def discard(folder: Path) -> None:
    """Remove a folder, if there is one, at once: what a kill leaves of it has a hidden name."""
    if folder.exists():
        folder.rename(hidden := files.unfinished(folder))
        files.remove(hidden)
