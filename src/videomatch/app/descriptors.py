"""How the frames of a library's videos are described: by which expert, and which of them are kept.

A descriptor is stored with its library; files are described by the stages themselves on a corpus of these files.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from videomatch.common import digests
from videomatch.common.messages import unknown
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.localisation import key_frame_selection
from videomatch.pipeline.params import PARAMS
from videomatch.pipeline.plan import Plan
from videomatch.specs.data import KeyFrames
from videomatch.specs.systems import Trained
from videomatch.stages.prepare import probed

#: the expert that needs no training
GREY = "grey"
#: files of a checkpoint that decide what it makes of frames
WEIGHTS = ("*.safetensors", "config.json", "preprocessor_config.json")
#: seconds between frames, of a checkpoint that is not an expert of the parameters
EVERY = 0.5
#: size in pixels of the frames that views are cut from, where the descriptor reads no stored frames
VIEW_SIZE = 128
#: names of stores on the way: the frames that an expert reads, and its rows
SOURCE, ROWS = "source", "rows"

#: a line is blurred if so large a share of its pixels bends so little (second difference, of 255)
BLUR_SHARE, BLUR_FLAT = 0.99, 6.0
#: frames that are looked at at once
FRAMES = 256
#: shares of a side that a blurred bar takes at least, and that are left between two of them
BAR, INNER = 0.08, 0.2


def extract(**options: Any) -> None:
    """The stage :func:`videomatch.stages.extract.extract`. It imports torch, which a search of words does without."""
    from videomatch.stages import extract as stage

    stage.extract(**options)


def blurred_bars(parts: Iterable[np.ndarray]) -> tuple[int, int]:
    """Pixels to cut above and below, and on both sides, to be rid of blurred bars on opposite sides that are as wide in
    half of the frames ``(n, h, w, 3)`` of some parts; 0 without such bars."""
    blurred: tuple[list[int], list[int]] = [], []
    sides: tuple[int, ...] = ()
    for frames in itertools.chain.from_iterable(_pieces(part) for part in parts):
        grey = frames.mean(axis=3, dtype=np.float32)
        sides = grey.shape[1:]
        for counts, lines in zip(blurred, (grey, grey.transpose(0, 2, 1)), strict=True):
            is_sharp = (np.abs(np.diff(lines, 2)) > BLUR_FLAT).mean(axis=2) > 1 - BLUR_SHARE
            counts += np.minimum(is_sharp.argmax(axis=1), is_sharp[:, ::-1].argmax(axis=1)).tolist()
    cut = [0, 0]
    for number, (counts, side) in enumerate(zip(blurred, sides, strict=False)):
        count = int(np.median(counts))
        if BAR * side <= count <= (1 - INNER) / 2 * side:
            cut[number] = count + 1  # one more, which may show some of both
    return cut[0], cut[1]


def _pieces(frames: np.ndarray) -> Iterator[np.ndarray]:
    return (frames[start : start + FRAMES] for start in range(0, len(frames), FRAMES))


def _between(frames: np.ndarray, bars: tuple[int, int]) -> np.ndarray:
    """The part between bars."""
    (down, across), (_, height, width, _) = bars, frames.shape
    return frames[:, down : height - down, across : width - across]


BETWEEN = "between blurred bars"
#: parts of the picture that may be a copy: frames ``(n, h, w, 3)``, and blurred bars to be cut off -> the part
VIEWS: dict[str, Callable[[np.ndarray, tuple[int, int]], np.ndarray]] = {
    BETWEEN: _between,
    "mirrored": lambda f, _: f[:, :, ::-1],
    "turned left": lambda f, _: np.rot90(f, 1, (1, 2)),
    "turned right": lambda f, _: np.rot90(f, 3, (1, 2)),
    "upside down": lambda f, _: f[:, ::-1, ::-1],
}


def in_parts(videos: pl.DataFrame, seconds: float) -> pl.DataFrame:
    """The rows of ``videos`` (:mod:`videomatch.data.tables`) with parts of ``seconds``, of which the last one has the
    rest, too, in place of each that lasts twice as long or longer; their ids are in the order of their times."""
    rows = list[dict[str, Any]]()
    for row in videos.iter_rows(named=True):
        count = int((row["duration"] or 0.0) // seconds)
        if count < 2:
            rows.append(row)
            continue
        edges = [*(seconds * np.arange(count)).tolist(), row["duration"]]
        for number, (start, end) in enumerate(itertools.pairwise(edges)):
            part = {"video_id": f"{row['video_id']}/{number:06d}", "start": start, "end": end, "duration": end - start}
            rows.append({**row, **part})
    return pl.DataFrame(rows, schema=videos.schema)


def joined(store: Store, videos: pl.DataFrame, prefix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """The rows of a file, whose parts are ``videos`` and have ids that begin with ``prefix`` in the store, and their
    times, s, in the whole file."""
    ids = [prefix + video_id for video_id in videos["video_id"]]
    times = [
        np.minimum(store.times(i) + (start or 0.0), np.inf if end is None else end)
        for i, start, end in zip(ids, videos["start"], videos["end"], strict=True)
    ]
    return store.gather(ids)[0], np.concatenate(times)


@dataclass(frozen=True)
class Descriptor:
    """An expert with the options of its extractor and of the frames that it reads (``source``), and what keeps a share
    of its frames: a method of :mod:`videomatch.localisation.key_frame_selection`, the checkpoint of a trained scorer,
    or neither. ``backbones`` maps names to paths or hub ids, ``digests`` local checkpoints to digests of weights."""

    name: str
    options: dict[str, Any]
    source: dict[str, Any] | None = None
    backbones: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    method: str | None = None
    scorer: str | None = None
    share: float = 1.0

    def __str__(self) -> str:
        every = (self.source or self.options).get("every")
        rate = f" every {every:g} s" if every else ""
        chosen_by = self.scorer or self.method
        return f"{self.name}{rate}, " + (f"{self.share:.0%} key frames by {chosen_by}" if chosen_by else "all frames")

    def check(self) -> None:
        """Check that all checkpoints are those that the descriptor was chosen with."""
        for path, digest in self.digests.items():
            if not Path(path).exists():
                raise ValueError(f"{path} is missing: {self.name!r} cannot describe frames without it")
            if weights_digest(Path(path)) != digest:
                raise ValueError(
                    f"{path} holds other weights than those that described this library: bring them back, or make a "
                    "new library"
                )

    def describe(
        self,
        files: Mapping[str, Path],
        folder: Path,
        threads: int,
        beside: Mapping[str, dict[str, Any]] | None = None,
        backbones: Mapping[str, str] | None = None,
        part: float | None = None,
    ) -> tuple[Store | None, pl.DataFrame, pl.DataFrame]:
        """The kept frames of some files (video id -> file), None without a video, and the tables ``videos`` and
        ``rejected``. ``folder`` is for results of the stages. Experts ``beside`` the descriptor (name -> options, with
        ``backbones``) read the files in the same pass; their stores are in :meth:`passed` of the folder. Files of more
        than ``part`` s are described in parts (:func:`in_parts`), so that the memory does not grow with them."""
        rows = tables.videos({"video_id": video_id, "path": str(path)} for video_id, path in files.items())
        videos, rejected = probed(rows, 1, threads)
        videos = videos if part is None else in_parts(videos, part)
        corpora.write_videos(videos, folder / "corpus", 1)
        if not len(videos):
            return None, videos, rejected
        options, features = self.options, []
        more: dict[str, Any] = {"beside": beside or {}, "backbones": backbones or {}}
        if self.source is not None:
            rejected = pl.concat([rejected, self._extract(folder, SOURCE, self.source, [], threads, **more)])
            options, features, more = {**options, "source": SOURCE}, [folder / SOURCE], {}
        rejected = pl.concat([rejected, self._extract(folder, ROWS, options, features, threads, **more)])
        rejected = rejected.unique(["video_id", "path"], keep="first", maintain_order=True)
        videos = videos.filter(~pl.col("video_id").is_in(rejected["video_id"].implode()))
        return self._key_frames(folder), videos, rejected

    def passed(self, folder: Path) -> Path:
        """Where :meth:`describe` left the stores of the experts beside it."""
        return folder / (ROWS if self.source is None else SOURCE)

    def describe_views(self, videos: pl.DataFrame, folder: Path, threads: int) -> Store:
        """The frames of :data:`VIEWS` of a file, whose parts are ``videos`` (or the one that it is); ids are
        ``VIEW/ID``. Without blurred bars there is no view between them."""
        every = float((self.source or self.options).get("every", EVERY))
        frames = self.source or {"extractor": "frames", "every": every, "size": VIEW_SIZE}
        corpora.write_videos(videos, folder / "corpus", 1)
        rejected = self._extract(folder, SOURCE, frames, [], threads)
        if len(rejected):
            raise ValueError(f"{rejected['path'][0]}: {rejected['reason'][0]}")
        store = Store(folder / SOURCE / SOURCE)
        bars = blurred_bars(store[video_id] for video_id in store.ids)
        views = {name: view for name, view in VIEWS.items() if name != BETWEEN or any(bars)}
        cut, ids = folder / "cut" / SOURCE, list[str]()
        with StoreWriter(cut, shape=store.shape, dtype="uint8", times=True) as writer:
            for video_id in store.ids:
                whole = store[video_id]
                for name, view in views.items():
                    resized = np.empty_like(whole)
                    for number, part in enumerate(map(np.ascontiguousarray, view(whole, bars))):
                        resized[number] = cv2.resize(part, whole.shape[2:0:-1], interpolation=cv2.INTER_AREA)
                    ids.append(f"{name}/{video_id}")
                    writer.add(ids[-1], resized, times=store.times(video_id))
        corpora.write_videos(tables.videos({"video_id": video_id} for video_id in ids), folder / "corpus", 1)
        self._extract(folder, ROWS, {**self.options, "source": SOURCE}, [cut.parent], threads)
        return self._key_frames(folder)

    def _extract(
        self,
        folder: Path,
        name: str,
        options: dict[str, Any],
        features: list[Path],
        threads: int,
        beside: Mapping[str, dict[str, Any]] | None = None,
        backbones: Mapping[str, str] | None = None,
    ) -> pl.DataFrame:
        """Extract ``folder/name/name`` of the corpus in a folder; the table ``rejected``."""
        given = {"corpus": folder / "corpus", "output": folder / name, "features": features, "threads": threads}
        experts, weights = {name: options, **(beside or {})}, {**self.backbones, **(backbones or {})}
        extract(shard=0, experts=experts, backbones=weights, **given)
        return tables.read("rejected", folder / name)

    def _key_frames(self, folder: Path) -> Store:
        """The key frames of the rows in a folder, or all frames."""
        root = folder / ROWS / ROWS
        shape = Store(root).shape
        if len(shape) != 1:
            raise ValueError(f"expert {self.name!r} gives rows of shape {shape}, expected one vector per frame")
        if self.method is None and self.scorer is None:
            return Store(root)
        from videomatch.stages.select_key_frames import select_key_frames  # with torch

        how = {"method": self.method, "run": self.scorer and Path(self.scorer), "share": self.share}
        select_key_frames(features=[root.parent], output=folder / "kept", expert=ROWS, **how)
        return Store(folder / "kept" / ROWS)


#: corners, which a library by grey pixels has beside them; a query has more of them
POINTS = Descriptor("points", {"extractor": "points", "counts": [60, 60, 60], "every": 1.0})
QUERY_POINTS = replace(POINTS, options={**POINTS.options, "counts": [1000, 600, 300, 100], "size": 480})


def grey() -> Descriptor:
    """All of four frames a second by grey pixels, which need no training."""
    return Descriptor(GREY, {"extractor": GREY, "every": 0.25})


def choose(
    plan: Callable[[], Plan],
    *,
    expert: str | None = None,
    system: str | None = None,
    run: Path | None = None,
    every: float | None = None,
    key_frames: str | None = None,
    share: float | None = None,
) -> Descriptor:
    """The descriptor of some options; ``expert``, ``system`` and ``run`` (a checkpoint) exclude each other. ``plan``
    loads the parameters, only for names in them; ``key_frames``: a method, a trained system, or its folder."""
    chosen = grey()
    if system is not None:
        run = checkpoint_of(plan(), system)
    if run is not None:
        if not (run / "preprocessor_config.json").is_file():
            raise ValueError(f"{run} is no image network: expected a checkpoint with a preprocessor_config.json")
        options = {"extractor": "image", "backbone": "run", "every": EVERY}
        chosen = Descriptor(system or str(run), options, backbones={"run": str(run)})
    elif expert is not None and (expert != GREY or (PARAMS.exists() and GREY in plan().experts)):
        chosen = _expert(plan(), expert)
    if every is not None:
        if not 0.02 <= every <= 60:
            raise ValueError(f"every = {every:g}, expected 0.02 to 60 seconds between frames")
        (chosen.source or chosen.options)["every"] = every
    method = key_frames if key_frames in key_frame_selection.METHODS else None
    scorer = None if key_frames is None or method is not None else str(_scorer(plan, key_frames))
    kept = 1.0 if key_frames is None else key_frame_selection.SHARE if share is None else share
    if not 0 < kept <= 1 or (key_frames is None and share is not None):
        raise ValueError(f"share = {share}, expected more than 0 and at most 1, with a way to choose key frames")
    paths = [path for path in (*chosen.backbones.values(), scorer) if path is not None]
    weights = {path: weights_digest(Path(path)) for path in paths if Path(path).exists()}
    return replace(chosen, digests=weights, method=method, scorer=scorer, share=kept)


def checkpoint_of(plan: Plan, system: str) -> Path:
    """The checkpoint of a system's first member."""
    if system not in plan.systems:
        raise ValueError(unknown("system", system, plan.systems))
    if system not in plan.of_kind(Trained):
        able = ", ".join(plan.of_kind(Trained))
        raise ValueError(f"system {system!r} has no weights of its own; systems that do: {able}")
    run = Path(plan.run(system))
    if not run.exists():
        raise ValueError(f"system {system!r} is not trained yet: run `{plan.command(str(run))}`")
    return run.parent


def weights_digest(checkpoint: Path) -> str:
    """Digest of a TorchScript file, or of the files of a folder that decide what it makes of frames."""
    if checkpoint.is_file():
        return digests.file_digest(checkpoint)
    found = sorted(p for pattern in WEIGHTS for p in checkpoint.glob(pattern))
    return digests.digest([[p.name, digests.file_digest(p)] for p in found])


def _expert(plan: Plan, name: str) -> Descriptor:
    """All frames, by an expert of the parameters."""
    if name not in plan.experts:
        raise ValueError(unknown("expert", name, [*plan.experts, GREY]))
    entry = plan.experts[name]
    if isinstance(entry, KeyFrames):
        raise ValueError(f"expert {name!r} selects key frames of {entry.key_frames_of!r}, and describes no file")
    if entry.extractor == "released":
        raise ValueError(f"expert {name!r} reads features that come with a data set, and describes no file")
    options = {option: value for option, value in entry.settings().items() if option != "source"}
    source = plan.experts[entry.source].settings() if entry.source is not None else None
    trained = {backbone: plan.backbones[backbone].system for backbone in entry.backbones}
    backbones = {b: str(checkpoint_of(plan, s)) if s else plan.backbone_path(b) for b, s in trained.items()}
    return Descriptor(name, options, source, backbones)


def _scorer(plan: Callable[[], Plan], key_frames: str) -> Path:
    """The checkpoint of a trained scorer of frames: a folder, or that of a system."""
    run = Path(key_frames)
    if not (run / "system.yaml").exists():
        trained = list(plan().of_kind(Trained)) if PARAMS.exists() else []
        if key_frames not in trained:
            raise ValueError(unknown("way to choose key frames", key_frames, [*key_frame_selection.METHODS, *trained]))
        run = checkpoint_of(plan(), key_frames)
    from videomatch.common.checkpoint import model_class  # with torch

    model, entry = model_class(run)
    if not model.scores_frames:
        raise ValueError(f"{run}: model {entry['model']['name']!r} scores no frames, expected one like key_frames")
    return run
