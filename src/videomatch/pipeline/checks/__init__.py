"""What may stand in the parameters: every name and option against the source, all mistakes collected.

A name in the parameters is the name of a file or a function of the package, so what is allowed is read off the source
(by syntax tree: nothing is imported, a check costs milliseconds).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from videomatch.common import named
from videomatch.pipeline.checks.mistakes import unknown
from videomatch.pipeline.checks.systems import SystemsCheck
from videomatch.pipeline.signatures import (
    constant,
    corpus_needs_raw,
    corpus_options,
    corpus_renders,
    field_types,
    fields,
    functions,
    source,
)

#: what may stand at the top
SECTIONS = ("scale", "seed", "datasets", "backbones", "experts", "systems", "tables", "pages", "submissions")
PAGE = ("dataset", "split", "system", "top", "title", "judged", "scatter", "tables", "curves")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Check(SystemsCheck):
    """Walks over all of the parameters and collects ``mistakes``: (path, sentence)."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.keys((), params, SECTIONS, "section")
        self._text_keys((), params)
        scale = params.get("scale")
        if not isinstance(scale, str) or not NAME.fullmatch(scale):
            self.add(("scale",), f"{scale!r} is no folder name (letters, digits, _)")
        if type(params.get("seed")) is not int:
            self.add(("seed",), f"{params.get('seed')!r} is not a whole number")
        for section in ("datasets", "backbones", "experts", "systems", "pages", "submissions"):
            if not isinstance(params[section], Mapping):
                self.add((section,), f"expected a mapping of names, got {params[section]!r}")
                continue
            for name, entry in params[section].items():
                path = (section, str(name))
                if not NAME.fullmatch(str(name)):
                    self.add(path, f"{name!r} cannot be a name (letters, digits, _; a letter first)")
                elif not isinstance(entry, Mapping):
                    self.add(path, f"expected a mapping, got {entry!r}")
                else:
                    getattr(self, section[:-1])(path, entry)
        tables = named.PACKAGE.parents[1] / "workflow" / "tables"
        for number, table in enumerate(params["tables"] or []):
            known = [p.stem for p in tables.glob("*.yaml")]
            if table not in known:
                self.add(("tables", str(number)), unknown("table (workflow/tables)", table, known))
            else:
                self.table(("tables", str(number)), tables / f"{table}.yaml")

    def _text_keys(self, path: tuple[str, ...], value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if not isinstance(key, str):
                    self.add((*path, str(key)), f"the key {key!r} is not a text; put it in quotes")
                self._text_keys((*path, str(key)), inner)

    def dataset(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``datasets.<name>``."""
        self.keys(path, entry, ("corpus", "raw", "seed", "shards", "experts", "options", "unlabelled", "embed"))
        if self.one_of((*path, "corpus"), "corpus", entry.get("corpus"), named.names("corpora")):
            corpus = entry["corpus"]
            self.options((*path, "options"), entry.get("options") or {}, corpus_options(corpus))
            if corpus_renders(corpus):
                known = field_types(source("synthetic", "options"), "SyntheticOptions")
                self.types((*path, "options"), entry.get("options") or {}, known)
            if corpus_needs_raw(corpus):
                raw = entry.get("raw")
                if raw is None:
                    self.add(path, f"option 'raw' is missing: where the files of corpus {corpus!r} lie")
                elif not Path(raw).expanduser().exists():
                    self.add((*path, "raw"), f"{raw} does not exist")
        self.types(path, entry, {"seed": "int"})
        shards = entry.get("shards", 1)
        if not isinstance(shards, int) or shards < 1:
            self.add((*path, "shards"), f"{shards!r} is not a whole number of at least 1")
        for number, expert in enumerate(entry.get("experts", [])):
            where = (*path, "experts", str(number))
            self.one_of(where, "expert", expert, self.params["experts"])
            options = self.params["experts"].get(expert) or {}
            released = options.get("extractor") == "released" and "format" not in options
            corpus = entry.get("corpus")
            readers = named.names("corpora") if released else []
            if corpus in readers and "frame_features" not in functions(source("corpora", corpus)):
                self.add(where, f"corpus {corpus!r} brings no features of its own (it has no `frame_features`)")

    def backbone(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``backbones.<name>``: a hub id or folder, or a system trained here."""
        self.keys(path, entry, ("pretrained", "system"))
        if len(entry) != 1:
            self.add(path, "expected either `pretrained:` (a hub id or a folder) or `system:` (trained here)")
        pretrained = str(entry.get("pretrained", ""))
        is_path = pretrained.startswith((".", "/", "~")) or pretrained.count("/") > 1
        if is_path and not Path(pretrained).expanduser().is_dir():
            self.add((*path, "pretrained"), f"there is no folder {pretrained}")
        if "system" in entry:
            self.trained_system((*path, "system"), entry["system"])

    def expert(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``experts.<name>``: the options of its extractor."""
        if "key_frames_of" in entry:
            self._key_frames(path, entry)
            return
        if not self.one_of((*path, "extractor"), "extractor", entry.get("extractor"), named.names("experts")):
            return
        known = fields(source("experts", entry["extractor"]), "Expert")
        given = {k: v for k, v in entry.items() if k not in ("extractor", "extraction_pass", "source")}
        self.options(path, given, known)
        for key in ("backbone", "encoder"):
            if key in entry:
                self.one_of((*path, key), "backbone", entry[key], self.params["backbones"])
        if "source" in entry:
            self.one_of((*path, "source"), "expert", entry["source"], self.params["experts"])
            if {"source", "key_frames_of"} & (self.params["experts"].get(entry["source"]) or {}).keys():
                self.add((*path, "source"), f"expert {entry['source']!r} reads another's frames itself")
        for key in ("folder", "detector"):
            if key in entry and not Path(entry[key]).expanduser().exists():
                self.add((*path, key), f"{entry[key]} does not exist")
        if not float(entry.get("every", 1) or 0) > 0:
            self.add((*path, "every"), f"{entry.get('every')!r} is not a number of seconds above 0")

    def _key_frames(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``experts.<name>: {key_frames_of: clip, method: uniform}``: the key frames of another expert."""
        known = functions(source("stages", "select_key_frames"))["select_key_frames"].keys() - {
            "features",
            "output",
            "name",
            "run",
        }
        self.keys(path, entry, ("key_frames_of", "backbone", *sorted(known - {"expert", "threads"})))
        known = self.one_of((*path, "key_frames_of"), "expert", entry["key_frames_of"], self.params["experts"])
        if known and "key_frames_of" in (self.params["experts"][entry["key_frames_of"]] or {}):
            self.add((*path, "key_frames_of"), f"expert {entry['key_frames_of']!r} is key frames itself")
        if ("method" in entry) == ("backbone" in entry):
            self.add(path, "expected either `method:` or `backbone:` (a trained scorer of frames) to choose key frames")
        if "method" in entry:
            self.one_of(
                (*path, "method"),
                "method of key frames",
                entry["method"],
                constant(source("localisation", "key_frame_selection"), "METHODS"),
            )
        if "backbone" in entry:
            self.one_of((*path, "backbone"), "backbone", entry["backbone"], self.params["backbones"])

    def table(self, path: tuple[str, ...], file: Path) -> None:
        """A file of workflow/tables: its data set and the systems of its rows."""
        entry = yaml.safe_load(file.read_text(encoding="utf-8"))
        place = (*path, file.name)
        for key in ("title", "dataset", "metrics", "rows"):
            if key not in entry:
                self.add(place, f"the table has no {key!r}")
        if ("split" in entry) == ("splits" in entry):
            self.add(place, "expected either `split: NAME` or `splits: {NAME: heading}`")
        self.one_of((*place, "dataset"), "dataset", entry.get("dataset"), self.params["datasets"])
        for number, row in enumerate(entry.get("rows", [])):
            self.one_of((*place, "rows", str(number)), "system", row.get("system"), self.params["systems"])

    def page(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``pages.<name>``: nearest neighbours to look at, with scores over grades, tables and learning curves."""
        self.keys(path, entry, PAGE)
        if "split" not in entry:
            self.add(path, "option 'split' is missing: which videos to show")
        self.one_of((*path, "dataset"), "dataset", entry.get("dataset"), self.params["datasets"])
        self.one_of((*path, "system"), "system", entry.get("system"), self.params["systems"])
        for number, table in enumerate(entry.get("tables", [])):
            self.one_of((*path, "tables", str(number)), "table", table, self.params["tables"])
        for number, system in enumerate(entry.get("scatter", [])):
            self.one_of((*path, "scatter", str(number)), "system", system, self.params["systems"])
        if entry.get("scatter") and "judged" not in entry:
            self.add((*path, "scatter"), "option 'judged' is missing: the protocol whose pairs are drawn")
        for number, system in enumerate(entry.get("curves", [])):
            self.trained_system((*path, "curves", str(number)), system)

    def submission(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``submissions.<name>``: a challenge's own file of one system's results on one split."""
        known = functions(source("stages", "submit"))["submit"].keys() - {
            "corpus",
            *("embeddings", "rankings", "segments", "features", "expert", "noise"),
            *("output", "threads"),
        }
        self.keys(path, entry, ("dataset", "system", *known))
        self.one_of((*path, "dataset"), "dataset", entry.get("dataset"), self.params["datasets"])
        self.one_of((*path, "system"), "system", entry.get("system"), self.params["systems"])
        if "split" not in entry:
            self.add(path, "option 'split' is missing: which videos to submit")
        aligns = "align" in (self.params["systems"].get(entry.get("system")) or {})
        if aligns != str(entry.get("format")).startswith("vsc2022"):
            self.add(path, "segments are submitted in a format vsc2022_…, and only they: it takes a system that aligns")
