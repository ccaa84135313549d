"""A file that is not in the corpus, on its way to an embedding: the stages themselves, on a corpus of this one video.

The file and what lies beside it (``NAME.srt``, ``NAME.json``, ``NAME.txt``) are read as the corpus ``folder`` reads
them; then come the passes over the media that the system needs, and ``embed``. So the vector is the one that the video
would have had in the corpus.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from videomatch.app.query_encoder import analysis, combined_parts, joiner
from videomatch.corpora import folder as folders
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.joined import whole_texts
from videomatch.data.store import Store
from videomatch.stages.embed import embed
from videomatch.stages.extract import extract
from videomatch.stages.prepare import probed

if TYPE_CHECKING:
    from videomatch.app.library import Library

log = logging.getLogger(__name__)


def embedded(library: Library, dataset: str, system: str, member: str, file: Path, notes: list[str]) -> np.ndarray:
    """The vector ``(D,)`` of a file by one member of a system.

    Args:
        library: where the system lies.
        dataset: whose experts and options are used.
        file: a video.
        notes: what the person who asked should know is added.

    Raises:
        Refused: the file cannot be read, holds nothing that the system reads, or the system reads what only the data
            set brings.
    """
    from videomatch.app.library import Refused

    plan = library.plan
    parts = leaves(library, system, member)
    bound = sorted({s for s, _ in parts if any(_released(plan, e) for e in plan._experts_of(s))})
    if bound:
        able = [s for s in library.built(dataset) if not _bound(library, s)]
        raise Refused(
            f"system {system!r} reads features that only come with data set {dataset!r} ({', '.join(bound)}); "
            f"systems that read files: {', '.join(able) or 'none'}"
        )
    with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
        corpus = _corpus(Path(scratch), library, dataset, file)
        texts = tables.read("texts", corpus)
        wanted = {kind for s, _ in parts for kind in _kinds(plan, s)}
        missing = sorted(wanted - set(texts["kind"]))
        if missing:
            notes.append(f"the system reads {', '.join(missing)}, of which nothing lies beside the file")
        features = _features(library, dataset, sorted({e for s, _ in parts for e in plan._experts_of(s)}), corpus)
        made: dict[tuple[str, str], np.ndarray] = {}
        for part, name in parts:
            made[part, name] = _embedded(library, dataset, part, name, corpus, features)
        return _joined(library, dataset, system, member, made)


def leaves(library: Library, system: str, member: str) -> list[tuple[str, str]]:
    """(system, member) of all that a system is made of in the end, none twice."""
    if "combine" not in library.plan.systems[system]:
        return [(system, member)]
    parts = combined_parts(library, system, member)
    return list(dict.fromkeys(leaf for part, name, _ in parts for leaf in leaves(library, part, name)))


def _joined(
    library: Library, dataset: str, system: str, member: str, made: dict[tuple[str, str], np.ndarray]
) -> np.ndarray:
    if (system, member) in made:
        return made[system, member]
    parts = combined_parts(library, system, member)
    rows = [_joined(library, dataset, part, name, made)[None] for part, name, _ in parts]
    return joiner(library, dataset, system, member)(rows)[0]


def _corpus(scratch: Path, library: Library, dataset: str, file: Path) -> Path:
    """The tables of a corpus of one video."""
    from videomatch.app.library import Refused

    raw, corpus = scratch / "raw", scratch / "corpus"
    raw.mkdir()
    corpus.mkdir()
    file = Path(os.path.abspath(file))  # noqa: PTH100 (a link stays one: what lies beside it counts)
    name = file.name if file.suffix else f"{file.name}.mp4"
    (raw / name).symlink_to(file)
    for other in sorted(file.parent.glob(f"{_literal(file.stem)}.*")):
        if other.name != file.name and other.suffix.lower() not in folders.EXTENSIONS and other.is_file():
            (raw / other.name).symlink_to(other)
    entry = library.plan.dataset(dataset)
    options = {k: v for k, v in entry.get("options", {}).items() if k != "extensions"}
    found = folders.read(raw=raw, extensions=[Path(name).suffix], **(options if entry["corpus"] == "folder" else {}))
    videos, bad = probed(found["videos"].with_columns(pl.col("tags").fill_null([])), 1, 1)
    if videos.is_empty():
        raise Refused(f"{file}: {bad['reason'][0]}")
    corpora.write_videos(tables.check("videos", videos), corpus, 1)
    tables.write("texts", found["texts"], corpus)
    tables.write("splits", found["splits"], corpus)
    return corpus


def _literal(stem: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in stem)


def _features(library: Library, dataset: str, experts: list[str], corpus: Path) -> list[Path]:
    """Folders with the features of some experts, and of those whose frames they read."""
    from videomatch.app.library import Refused

    plan = library.plan
    needed = set(experts) | {plan.experts[e]["source"] for e in experts if "source" in plan.experts[e]}
    done: list[Path] = []
    passes = {p: e for p, e in plan.passes(dataset).items() if needed & set(e)}
    # those that read another's frames come after it
    for passage in sorted(passes, key=lambda p: any("source" in plan.experts[e] for e in passes[p])):
        output = corpus.parent / "features" / passage
        output.mkdir(parents=True)
        settings = plan.extract_settings(dataset, passage, "0")
        settings["experts"] = {e: o for e, o in settings["experts"].items() if e in needed}
        used = {o.get("backbone") for o in settings["experts"].values()}
        settings["backbones"] = {b: path for b, path in settings["backbones"].items() if b in used}
        runs = [Path(run).parent for run in plan.pass_runs(dataset, passage)]
        extract(corpus=corpus, output=output, features=done, runs=runs, threads=os.cpu_count() or 1, **settings)
        rejected = tables.read("rejected", output)
        if len(rejected):
            raise Refused(f"{rejected['path'][0]}: {rejected['reason'][0]}")
        done = [*done, output]
    return done


def _embedded(
    library: Library, dataset: str, system: str, member: str, corpus: Path, features: list[Path]
) -> np.ndarray:
    """What ``embed`` makes of the video."""
    from videomatch.app.library import Refused

    plan = library.plan
    entry: dict[str, Any] = plan.embed_settings(dataset, system)["system"]
    if "texts" in entry.get("embeddings", {}) and "features" not in entry["embeddings"]:
        said = whole_texts(corpus, entry["embeddings"]["texts"])
        found = analysis(library, dataset, system).embed(list(said.values())) if said else np.zeros((1, 1))
        if not found.any():
            raise Refused(
                f"system {system!r} reads {' and '.join(_kinds(plan, system))}, and knows no word beside the file"
            )
        return found[0]
    run = None
    if "model" in entry:
        run = [Path(plan.run(system, member)).parent]
        texts = tables.read("texts", corpus)
        if not texts["kind"].is_in(["caption", "query"]).any():
            # a model of texts embeds those of the corpus, too, and `embed` takes it for a mistake if there are none
            row = dict.fromkeys(tables.SCHEMAS["texts"]) | {"text_id": "-", "kind": "query", "text": "-"}
            texts = pl.concat([texts, pl.DataFrame([row], schema=tables.SCHEMAS["texts"])])
            tables.write("texts", texts, corpus)
    else:  # the pictures' side alone: nothing is asked in words
        entry = {"embeddings": {k: v for k, v in entry["embeddings"].items() if k not in ("text_encoder", "texts")}}
    output = corpus.parent / "embeddings" / system
    wanted = [f for f in features if any((f / expert).is_dir() for expert in plan._experts_of(system))]
    try:
        embed(
            corpus=corpus, features=wanted, output=output, system=entry, threads=1, members=[member], run=run,
            seed=plan.seed,
        )  # fmt: skip
    except ValueError as error:
        if "nothing to embed" in str(error):
            raise Refused(f"the file holds nothing that system {system!r} reads") from error
        raise
    store = Store.open(output / member / "videos")
    if not len(store):
        raise Refused(f"the file holds nothing that system {system!r} reads")
    return store.gather(store.ids[:1])[0][0]


def _kinds(plan: Any, system: str) -> list[str]:
    """Kinds of texts of a video that a system reads."""
    entry = plan.systems[system]
    if "features" in entry.get("embeddings", {}):
        return []
    return list((entry.get("embeddings") or entry.get("examples", {})).get("texts") or [])


def _released(plan: Any, expert: str) -> bool:
    return plan.experts[expert].get("extractor") == "released"


def _bound(library: Library, system: str) -> bool:
    """Whether some part of a system reads features that only come with a data set."""
    members = leaves(library, system, library.plan.members(system)[0])
    return any(_released(library.plan, e) for s, _ in members for e in library.plan._experts_of(s))
