"""How frames of people's own files are described: by which expert, and which of them are kept.

A descriptor is said once, when a library is made, and lies in the library; whatever is added or asked later is
described in the same way, by the stages themselves (``prepare``'s probing, ``extract``, ``select_key_frames``) on a
corpus of these files. Where nothing is trained, ``grey`` (:mod:`videomatch.experts.grey`) does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from videomatch.app.library import Refused, unknown
from videomatch.common import digests
from videomatch.common.checkpoint import model_class
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.localisation import keyframes
from videomatch.pipeline.plan import Plan
from videomatch.stages.extract import extract
from videomatch.stages.prepare import probed

#: the expert that needs nothing
GREY = "grey"
#: what a checkpoint is, for whoever loads it
WEIGHTS = ("*.safetensors", "config.json", "preprocessor_config.json")
#: pixels of the frames of which views are cut, where the descriptor's own frames are not stored
VIEW_SIZE = 128
#: seconds between frames of a checkpoint that is no expert of the parameters
EVERY = 0.5
#: what stores are called on the way, whatever experts are called
SOURCE, ROWS = "source", "rows"

Frames = np.ndarray
#: what else than the whole picture may be a copy: frames ``(n, h, w, 3)`` -> what is looked at of them
VIEWS: dict[str, Callable[[Frames], Frames]] = {
    "mirrored": lambda f: f[:, :, ::-1],
    "left half": lambda f: f[:, :, : f.shape[2] // 2],
    "right half": lambda f: f[:, :, f.shape[2] // 2 :],
    "upper half": lambda f: f[:, : f.shape[1] // 2],
    "lower half": lambda f: f[:, f.shape[1] // 2 :],
}


@dataclass(frozen=True)
class Descriptor:
    """An expert with all its options, and how key frames are chosen.

    Attributes:
        name: of the expert.
        options: of its extractor.
        source: options of the frames that it reads, or None.
        backbones: name -> folder or hub id.
        digests: path of a local checkpoint -> digest of its weights.
        method: of :data:`videomatch.localisation.keyframes.METHODS`, or None.
        scorer: checkpoint of a trained scorer of frames, or None; where both are, all frames are kept.
        share: of frames that are kept.
    """

    name: str
    options: dict[str, Any]
    source: dict[str, Any] | None = None
    backbones: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    method: str | None = None
    scorer: str | None = None
    share: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def __str__(self) -> str:
        kept = self.scorer or self.method
        every = (self.source or self.options).get("every")
        rate = f" every {every:g} s" if every else ""
        return f"{self.name}{rate}, " + (f"{self.share:.0%} key frames by {kept}" if kept else "all frames")

    def check(self) -> None:
        """Raise what is no longer as it was.

        Raises:
            Refused: a checkpoint is gone, or another one lies there.
        """
        for path, digest in self.digests.items():
            if not Path(path).is_dir():
                raise Refused(f"{path} is not there: {self.name!r} cannot describe frames without it")
            if weights(Path(path)) != digest:
                raise Refused(
                    f"{path} holds other weights than those that described this library: bring them back, or make a "
                    "new library"
                )

    # ------------------------------------------------------------------------------------------------- describing

    def described(self, files: Mapping[str, Path], folder: Path, threads: int) -> Described:
        """The kept frames of some files.

        Args:
            files: video id -> file.
            folder: for what is made; it must be empty.
            threads: that decode.
        """
        rows = pl.DataFrame({"video_id": list(files), "path": [str(p) for p in files.values()]})
        schema = tables.SCHEMAS["videos"]
        rows = rows.with_columns(pl.lit(None, schema[c]).alias(c) for c in schema if c not in rows.columns)
        videos, rejected = probed(rows.with_columns(pl.col("tags").fill_null([])), 1, threads)
        corpora.write_videos(tables.check("videos", videos), _made(folder / "corpus"), 1)
        features = []
        if self.source is not None and len(videos):
            rejected = pl.concat([rejected, self._extract(folder, SOURCE, self.source, [], threads)])
            features = [folder / SOURCE]
        store = None
        if len(videos):
            rejected = pl.concat([rejected, self._extract(folder, ROWS, self._options(), features, threads)])
            store = self._kept(folder)
        rejected = rejected.unique(["video_id", "path"], keep="first", maintain_order=True)
        return Described(store, videos.filter(~pl.col("video_id").is_in(rejected["video_id"].implode())), rejected)

    def views(self, file: Path, folder: Path, threads: int) -> Store:
        """The kept frames of every one of :data:`VIEWS` of a file; ids are their names."""
        every = float((self.source or self.options).get("every", EVERY))
        frames = self.source or {"extractor": "frames", "every": every, "size": VIEW_SIZE}
        corpora.write_videos(_rows(["file"], str(file)), _made(folder / "corpus"), 1)
        found = self._extract(folder, SOURCE, frames, [], threads)
        if len(found):
            raise Refused(f"{file}: {found['reason'][0]}")
        store = Store.open(folder / SOURCE / SOURCE)
        whole, times = store["file"], store.times("file")
        cut = folder / "cut" / SOURCE
        with StoreWriter(cut, shape=store.shape, dtype="uint8", times=True) as writer:
            for name, view in VIEWS.items():
                parts = map(np.ascontiguousarray, view(whole))
                parts = [cv2.resize(f, whole.shape[2:0:-1], interpolation=cv2.INTER_AREA) for f in parts]
                writer.add(name, np.stack(parts) if parts else whole, times=times)
        corpora.write_videos(_rows(list(VIEWS), None), folder / "corpus", 1)
        self._extract(folder, ROWS, {**self.options, "source": SOURCE}, [cut.parent], threads)
        kept = self._kept(folder)
        assert kept is not None
        return kept

    def _options(self) -> dict[str, Any]:
        return self.options if self.source is None else {**self.options, "source": SOURCE}

    def _extract(
        self, folder: Path, name: str, options: dict[str, Any], features: list[Path], threads: int
    ) -> pl.DataFrame:
        used = {options[key] for key in ("backbone", "encoder") if key in options}
        extract(
            corpus=folder / "corpus", shard=0, experts={name: options}, output=_made(folder / name), threads=threads,
            backbones={b: p for b, p in self.backbones.items() if b in used}, features=features,
        )  # fmt: skip
        return tables.read("rejected", folder / name)

    def _kept(self, folder: Path) -> Store | None:
        root = folder / ROWS / ROWS
        if len(Store.open(root).shape) != 1:
            shape = Store.open(root).shape
            raise Refused(f"expert {self.name!r} gives rows of shape {shape}, expected one vector a frame")
        if self.method is not None or self.scorer is not None:
            from videomatch.stages.select_key_frames import select_key_frames  # the training loop comes with it

            run = None if self.scorer is None else Path(self.scorer)
            kept = _made(folder / "kept")
            select_key_frames(
                features=[root.parent], output=kept, expert=ROWS, method=self.method, run=run, share=self.share
            )
            root = kept / ROWS
        return Store.open(root)


@dataclass(frozen=True)
class Described:
    """Videos and their frames: ``store`` (None without a video), ``videos`` and ``rejected`` (the tables)."""

    store: Store | None
    videos: pl.DataFrame
    rejected: pl.DataFrame


def chosen(
    plan: Callable[[], Plan],
    *,
    expert: str | None = None,
    system: str | None = None,
    run: Path | None = None,
    every: float | None = None,
    key_frames: str | None = None,
    share: float | None = None,
) -> Descriptor:
    """The descriptor that somebody asks for.

    Args:
        plan: the parameters; asked only for what they name.
        expert: of the parameters, or :data:`GREY`, which is the default.
        system: one that is trained, whose network describes frames.
        run: folder of a checkpoint. At most one of the three is given.
        every: seconds between frames, instead of the expert's own.
        key_frames: one of :data:`localisation.keyframes.METHODS`, a trained system, or its folder; all frames are
            kept if None.
        share: of frames that are key frames.

    Raises:
        Refused: a name that does not exist, is not trained, or describes no frames.
    """
    if sum(x is not None for x in (expert, system, run)) > 1:
        raise Refused("expert, system and run all say what describes frames: expected one of them")
    name, options, source, backbones = GREY, {"extractor": GREY, "every": 0.25}, None, {}
    if run is not None:
        name, options, backbones = str(run), _image("run"), {"run": str(_network(run))}
    elif system is not None:
        path = trained(_known(plan, f"system {system!r}"), system)
        name, options, backbones = system, _image(system), {system: str(_network(path))}
    elif expert is not None and (expert != GREY or (_has_parameters() and GREY in plan().experts)):
        name = expert
        options, source, backbones = _expert(_known(plan, f"expert {expert!r}"), name)
    if every is not None:
        if not 0.02 <= every <= 60:
            raise Refused(f"every = {every:g}, expected 0.02 to 60 seconds between frames")
        if source is None:
            options = {**options, "every": every}
        else:
            source = {**source, "every": every}
    method, scorer = (key_frames, None) if key_frames in keyframes.METHODS else (None, _scorer(plan, key_frames))
    kept = 1.0 if key_frames is None else keyframes.SHARE if share is None else share
    if not 0 < kept <= 1 or (key_frames is None and share is not None):
        raise Refused(f"share = {share}, expected more than 0 and at most 1, with a way to choose key frames")
    paths = [*backbones.values(), *([scorer] if scorer else [])]
    made_by = {path: weights(Path(path)) for path in paths if Path(path).is_dir()}
    return Descriptor(name, options, source, backbones, made_by, method, scorer, kept)


def trained(plan: Plan, system: str) -> Path:
    """The checkpoint of a system's first member.

    Raises:
        Refused: there is no such system, it is not trained, or was not yet.
    """
    if system not in plan.systems:
        raise Refused(unknown("system", system, plan.systems))
    if not plan.is_trained(system):
        raise Refused(f"system {system!r} has no weights of its own; systems that do: {', '.join(_trained(plan))}")
    run = Path(plan.run(system))
    if not run.exists():
        raise Refused(f"system {system!r} is not trained yet: run `snakemake {run}`")
    return run.parent


def weights(folder: Path) -> str:
    """Digest of what a checkpoint makes of frames."""
    found = sorted(p for pattern in WEIGHTS for p in folder.glob(pattern))
    return digests.digest([[p.name, digests.file_digest(p)] for p in found])


def _trained(plan: Plan) -> list[str]:
    return [s for s in plan.systems if plan.is_trained(s)]


def _has_parameters() -> bool:
    return Path("params.yaml").exists()


def _known(plan: Callable[[], Plan], what: str) -> Plan:
    if not _has_parameters():
        raise Refused(f"{what} is of the parameters, and there is no params.yaml here: go to the project's folder")
    return plan()


def _image(backbone: str) -> dict[str, Any]:
    return {"extractor": "image", "backbone": backbone, "every": EVERY}


def _expert(plan: Plan, name: str) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, str]]:
    """Options of an expert of the parameters, of the frames that it reads, and the folders of its backbones."""
    if name not in plan.experts:
        raise Refused(unknown("expert", name, [*plan.experts, GREY]))
    options = {k: v for k, v in plan.experts[name].items() if k not in ("extraction_pass", "source")}
    if options["extractor"] == "released":
        raise Refused(f"expert {name!r} reads features that come with a data set, and describes no file")
    reads = plan.experts[name].get("source")
    source = None if reads is None else {k: v for k, v in plan.experts[reads].items() if k != "extraction_pass"}
    backbones = {}
    for key in ("backbone", "encoder"):
        if (backbone := options.get(key)) is not None:
            entry = plan.backbones[backbone]
            path = trained(plan, entry["system"]) if "system" in entry else plan.backbone_path(backbone)
            backbones[backbone] = str(path)
    return options, source, backbones


def _scorer(plan: Callable[[], Plan], key_frames: str | None) -> str | None:
    """Folder of a trained scorer of key frames."""
    if key_frames is None:
        return None
    if (Path(key_frames) / "system.yaml").exists():
        return str(_scores(Path(key_frames)))
    if not _has_parameters() or key_frames not in plan().systems:
        known = [*keyframes.METHODS, *(_trained(plan()) if _has_parameters() else [])]
        raise Refused(unknown("way to choose key frames", key_frames, known))
    return str(_scores(trained(plan(), key_frames)))


def _scores(run: Path) -> Path:
    """A checkpoint that scores frames; looked at here, before a library is made with it."""
    found, system = model_class(run)
    if not found.scores_frames:
        name = system["model"]["name"]
        raise Refused(f"{run} holds a {name}, which scores no frames: expected a model like key_frames")
    return run


def _network(run: Path) -> Path:
    """A checkpoint that reads images."""
    if not (run / "preprocessor_config.json").is_file():
        raise Refused(f"{run} is no image network: expected a checkpoint with a preprocessor_config.json")
    return run


def _rows(ids: Sequence[str], path: str | None) -> pl.DataFrame:
    schema = tables.SCHEMAS["videos"]
    rows = [{**dict.fromkeys(schema), "video_id": i, "path": path, "tags": [], "shard": 0} for i in ids]
    return pl.DataFrame(rows, schema=schema)


def _made(folder: Path) -> Path:
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    return folder
