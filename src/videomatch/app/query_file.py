"""The embedding of a file that is not in the corpus, made by the stages themselves on a corpus of this one video.

The file and what is beside it (``NAME.srt``, ``NAME.json``, ``NAME.txt``) are read as the corpus ``folder`` reads
them. So the vector is the one that the video would have in the corpus.
"""

import glob
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from videomatch.app.catalogue import Catalogue
from videomatch.app.query_encoder import base_parts, combine_rows, text_analysis
from videomatch.corpora import folder as folders
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.corpus import whole_texts
from videomatch.data.store import Store
from videomatch.data.walk import EXTENSIONS
from videomatch.pipeline import jobs
from videomatch.pipeline.plan import Plan
from videomatch.specs.data import Expert
from videomatch.stages.add_texts import add_texts
from videomatch.stages.embed import embed
from videomatch.stages.extract import extract
from videomatch.stages.prepare import probed


def embed_file(
    catalogue: Catalogue, dataset: str, system: str, member: str, file: Path, notes: list[str]
) -> np.ndarray:
    """The vector ``(D,)`` of a file by one member of a system, with the experts and options of a data set. What the
    user should know is appended to ``notes``."""
    plan = catalogue.plan
    parts = base_parts(catalogue, system, member)
    if released := _released(catalogue, system, member):
        able = [s for s in catalogue.embedded_by(dataset) if not _released(catalogue, s, plan.members(s)[0])]
        raise ValueError(
            f"system {system!r} reads features that only come with data set {dataset!r} ({', '.join(released)}); "
            f"systems that read files: {', '.join(able) or 'none'}"
        )
    with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
        corpus = _corpus_of(plan, dataset, file, Path(scratch))
        kinds = {kind for s, _ in parts for kind in plan.text_kinds(s)}
        recognisers = plan.recognisers(dataset, kinds)
        experts = {e for s, _ in parts for e in plan.experts_of(s)}
        features = _extract(plan, dataset, experts.union(recognisers), corpus)
        if recognisers:
            given, corpus = corpus, Path(scratch) / "texts"
            add_texts(corpus=given, features=features, output=corpus, kinds=sorted(kinds), experts=recognisers)
        missing = sorted(kinds - set(tables.read("texts", corpus)["kind"]))
        if missing:
            where = "in or beside" if recognisers else "beside"
            notes.append(f"the system reads {', '.join(missing)}, of which there is nothing {where} the file")
        rows = {part: _embed(catalogue, dataset, *part, corpus, features)[None] for part in parts}
        return combine_rows(catalogue, dataset, (system, member), rows)[0]


def _corpus_of(plan: Plan, dataset: str, file: Path, scratch: Path) -> Path:
    """The tables of a corpus of one video."""
    raw, corpus = scratch / "raw", scratch / "corpus"
    raw.mkdir()
    file = Path(os.path.abspath(file))  # noqa: PTH100 (a link is not resolved: what is beside the link counts)
    name = file.name if file.suffix else f"{file.name}.mp4"
    (raw / name).symlink_to(file)
    for other in sorted(file.parent.glob(f"{glob.escape(file.stem)}.*")):
        if other.name != file.name and other.suffix.lower() not in EXTENSIONS and other.is_file():
            (raw / other.name).symlink_to(other)
    entry = plan.datasets[dataset]
    options = {k: v for k, v in entry.options.items() if k != "extensions"}
    found = folders.read(raw=raw, extensions=[Path(name).suffix], **(options if entry.corpus == "folder" else {}))
    videos, rejected = probed(found["videos"], 1, 1)
    if videos.is_empty():
        raise ValueError(f"{file}: {rejected['reason'][0]}")
    corpora.write_videos(videos, corpus, 1)
    corpora.write_transcripts(found["texts"], videos, corpus, 1)
    for table in ("texts", "splits"):
        tables.write(table, found[table], corpus)
    return corpus


def _extract(plan: Plan, dataset: str, experts: set[str], corpus: Path) -> list[Path]:
    """Folders with the features of some experts, and of those whose frames they read."""
    given = {name: entry for name, entry in plan.experts.items() if isinstance(entry, Expert)}
    needed = experts | {source for name in experts & given.keys() if (source := given[name].source) is not None}
    passes = {name: of_pass for name, of_pass in plan.passes(dataset).items() if needed & of_pass.keys()}
    done: list[Path] = []
    # experts that read the frames of others come after these
    for name in sorted(passes, key=lambda p: any(e.source is not None for e in passes[p].values())):
        job = jobs.extract(plan, dataset, name, "0")
        chosen = {e: options for e, options in job.settings["experts"].items() if e in needed}
        settings: dict[str, Any] = {**job.settings, "experts": chosen}
        output = corpus.parent / "features" / name
        runs = [Path(run).parent for run in job.inputs["runs"]]
        extract(corpus=corpus, output=output, features=done, runs=runs, threads=os.cpu_count() or 1, **settings)
        if len(rejected := tables.read("rejected", output)):
            raise ValueError(f"{rejected['path'][0]}: {rejected['reason'][0]}")
        done = [*done, output]
    return done


def _embed(
    catalogue: Catalogue, dataset: str, system: str, member: str, corpus: Path, features: list[Path]
) -> np.ndarray:
    """The vector of the video by a system that combines no others."""
    plan = catalogue.plan
    entry: dict[str, Any] = jobs.embed(plan, dataset, system).settings["system"]
    options = entry.get("embeddings", {})
    if "texts" in options and "features" not in options:
        texts = list(whole_texts(corpus, options["texts"]).values())
        rows = text_analysis(catalogue, dataset, system)(texts) if texts else np.zeros((1, 1))
        if not rows.any():
            kinds = " and ".join(plan.text_kinds(system))
            raise ValueError(f"system {system!r} reads {kinds}, and knows no word in or beside the file")
        return rows[0]
    output = corpus.parent / "embeddings" / system
    features = [f for f in features if any((f / expert).is_dir() for expert in plan.experts_of(system))]
    run = [Path(plan.run(system, member)).parent] if "model" in entry else None
    given = {"corpus": corpus, "features": features, "output": output, "members": [member], "run": run}
    try:
        embed(**given, system=entry, threads=1, queries=[], seed=plan.seed)
    except ValueError as error:
        if "nothing to embed" not in str(error):
            raise
    root = output / member / "videos"
    if not (root / "store.json").exists() or not len(store := Store(root)):
        raise ValueError(f"the file holds nothing that system {system!r} reads")
    return store.gather(store.ids[:1])[0][0]


def _released(catalogue: Catalogue, system: str, member: str) -> list[str]:
    """The parts of a system that read features which only come with a data set."""
    plan, parts = catalogue.plan, base_parts(catalogue, system, member)
    released = {name for name, e in plan.experts.items() if isinstance(e, Expert) and e.extractor == "released"}
    return sorted({part for part, _ in parts if released & set(plan.experts_of(part))})
