"""What may stand in the parameters: every name and option against the source, all mistakes collected.

A name in the parameters is the name of a file or a function of the package, so what is allowed is read off the source
(by syntax tree: nothing is imported, a check costs milliseconds).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from videomatch import named
from videomatch.data.tables import VALUES
from videomatch.signatures import (
    constant,
    corpus_needs_raw,
    corpus_options,
    field_types,
    fields,
    functions,
    objectives,
    source,
)

#: what may stand at the top
SECTIONS = ("scale", "seed", "datasets", "backbones", "experts", "systems", "tables", "pages", "submissions")
#: the keys of a system; exactly one of KINDS says what it is
KINDS = ("model", "embeddings", "combine", "rescore", "align")
SHORTLIST = ("top", "codec", "dim")
SYSTEM = (*KINDS, "dataset", "tokenizer", "examples", "objectives", "training", "seeds", "folds", "init")
EMBEDDINGS = ("features", "pool", "texts", "dim", "text_encoder")
ALIGN = (
    "expert",
    "aligner",
    "detector",
    "options",
    "tune",
    "similarity",
    "bias",
    "every",
    "query_expert",
    "noise",
    "score",
    "shortlist",
)
COMBINE = ("systems", "weights", "dim", "by_member")
PAGE = ("dataset", "split", "system", "top", "title", "judged", "scatter", "tables", "curves")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(known)) or 'none'}"


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """A sentence for a name that does not exist."""
    return f"no {what} named {name!r}{_nearest(str(name), known)}"


def _listed(value: Any) -> list[Any]:
    """One or several, or None, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


class Check:
    """Walks over the parameters and collects ``mistakes``: (path, sentence)."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.mistakes: list[tuple[tuple[str, ...], str]] = []
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

    def add(self, path: tuple[str, ...], text: str) -> None:
        """Note one mistake."""
        self.mistakes.append((path, text))

    def keys(self, path: tuple[str, ...], entry: Mapping[str, Any], known: Iterable[str], what: str = "option") -> None:
        """Every key must be known."""
        for key in entry:
            if key not in known:
                self.add((*path, str(key)), unknown(what, key, known))

    def one_of(self, path: tuple[str, ...], what: str, name: object, known: Iterable[str]) -> bool:
        """A value must be one of the names that exist."""
        if name in set(known):
            return True
        self.add(path, unknown(what, name, known))
        return False

    def options(self, path: tuple[str, ...], entry: Mapping[str, Any], known: Mapping[str, bool]) -> None:
        """Options against a signature: none unknown, none of those without a default left out."""
        self.keys(path, entry, known)
        for name, has_default in known.items():
            if not has_default and name not in entry:
                self.add(path, f"option {name!r} is missing")

    def types(self, path: tuple[str, ...], entry: Mapping[str, Any], known: Mapping[str, str]) -> None:
        """Values against the annotations of a dataclass, as far as those are plain ones."""
        for name, value in entry.items():
            wanted = {word.strip() for word in known.get(name, "").split("|")}
            if not wanted or not wanted <= {"int", "float", "str", "bool", "None"}:
                continue
            given = "None" if value is None else type(value).__name__
            if given not in wanted and not (given == "int" and "float" in wanted):
                hint = "; write 1.0e-3, not 1e-3" if given == "str" and re.fullmatch(r"\d+e-?\d+", str(value)) else ""
                self.add((*path, name), f"{value!r} is not a value of type {' or '.join(sorted(wanted))}{hint}")

    def dataset(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``datasets.<name>``."""
        self.keys(path, entry, ("corpus", "raw", "seed", "shards", "experts", "options", "unlabelled", "embed"))
        if self.one_of((*path, "corpus"), "corpus", entry.get("corpus"), named.names("corpora")):
            corpus = entry["corpus"]
            self.options((*path, "options"), entry.get("options") or {}, corpus_options(corpus))
            if corpus == "generated":
                known = field_types(source("world", "options"), "WorldOptions")
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
            self._trained_system((*path, "system"), entry["system"])

    def _trained_system(self, path: tuple[str, ...], system: object) -> None:
        if (
            self.one_of(path, "system", system, self.params["systems"])
            and "model" not in self.params["systems"][system]
        ):
            self.add(path, f"system {system!r} is not trained (it has no `model:`), so there are no weights of it")

    def expert(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``experts.<name>``: the options of its extractor."""
        if "condense" in entry:
            self._condense(path, entry)
            return
        if not self.one_of((*path, "extractor"), "extractor", entry.get("extractor"), named.names("experts")):
            return
        known = fields(source("experts", entry["extractor"]), "Expert")
        given = {k: v for k, v in entry.items() if k not in ("extractor", "pass", "reads")}
        self.options(path, given, known)
        for key in ("backbone", "encoder"):
            if key in entry:
                self.one_of((*path, key), "backbone", entry[key], self.params["backbones"])
        if "reads" in entry:
            self.one_of((*path, "reads"), "expert", entry["reads"], self.params["experts"])
            if {"reads", "condense"} & (self.params["experts"].get(entry["reads"]) or {}).keys():
                self.add((*path, "reads"), f"expert {entry['reads']!r} reads another's frames itself")
        for key in ("folder", "detector"):
            if key in entry and not Path(entry[key]).expanduser().exists():
                self.add((*path, key), f"{entry[key]} does not exist")
        if not float(entry.get("every", 1) or 0) > 0:
            self.add((*path, "every"), f"{entry.get('every')!r} is not a number of seconds above 0")

    def _condense(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``experts.<name>: {condense: clip, method: uniform}``: the key frames of another expert."""
        known = functions(source("stages", "condense"))["condense"].keys() - {"features", "output", "name", "run"}
        self.keys(path, entry, ("condense", "backbone", *sorted(known - {"expert", "threads"})))
        known = self.one_of((*path, "condense"), "expert", entry["condense"], self.params["experts"])
        if known and "condense" in (self.params["experts"][entry["condense"]] or {}):
            self.add((*path, "condense"), f"expert {entry['condense']!r} is key frames itself")
        if ("method" in entry) == ("backbone" in entry):
            self.add(path, "expected either `method:` or `backbone:` (a trained scorer of frames) to choose key frames")
        if "method" in entry:
            self.one_of(
                (*path, "method"), "method of key frames", entry["method"], constant(source("keyframes"), "METHODS")
            )
        if "backbone" in entry:
            self.one_of((*path, "backbone"), "backbone", entry["backbone"], self.params["backbones"])

    def system(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``systems.<name>``: trained, features as they are, or made of others."""
        self.keys(path, entry, SYSTEM)
        kinds = [kind for kind in KINDS if kind in entry]
        if len(kinds) != 1:
            self.add(path, f"expected exactly one of {', '.join(KINDS)}; there is {kinds or 'none'}")
            return
        kind = kinds[0]
        if not isinstance(entry[kind], Mapping):
            self.add((*path, kind), f"expected a mapping, got {entry[kind]!r}")
            return
        if kind == "model":
            self._trained(path, entry)
        elif kind == "embeddings":
            self._embeddings((*path, kind), entry[kind])
        elif kind == "combine":
            self._combine((*path, kind), entry[kind], path[-1])
        elif kind == "align":
            self._align((*path, kind), entry[kind])
        else:
            self._rescore((*path, kind), entry[kind])

    def _embeddings(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        self.keys(path, entry, EMBEDDINGS)
        if not {"features", "texts"} & entry.keys():
            self.add(path, "expected `features:` (an expert), `texts:` (kinds of texts), or both with a text_encoder")
        if "features" in entry:
            self.one_of((*path, "features"), "expert", entry["features"], self.params["experts"])
        if "pool" in entry:
            self.one_of((*path, "pool"), "pooling", entry["pool"], ["mean"])
        for number, kind in enumerate(entry.get("texts", [])):
            self.one_of((*path, "texts", str(number)), "kind of texts", kind, VALUES["texts", "kind"])
        if "text_encoder" in entry:
            self.one_of((*path, "text_encoder"), "backbone", entry["text_encoder"], self.params["backbones"])
            if "features" not in entry:
                self.add((*path, "text_encoder"), "a text encoder needs `features:` of its own space beside it")

    def _combine(self, path: tuple[str, ...], entry: Mapping[str, Any], name: str) -> None:
        self.keys(path, entry, COMBINE)
        parts = entry.get("systems") or []
        if not parts:
            self.add(path, "expected `systems:`, a list of at least one")
        for number, system in enumerate(parts):
            where = (*path, "systems", str(number))
            known = self.one_of(where, "system", system, self.params["systems"])
            if known and {"rescore", "align"} & self._entry(system).keys():
                self.add(where, f"system {system!r} has no embeddings: it rescores another, or aligns")
        if len(entry.get("weights") or parts) != len(parts):
            self.add((*path, "weights"), f"{len(entry['weights'])} weights for {len(parts)} systems")
        if name in self._reached(name, lambda s: (s.get("combine") or {}).get("systems") or []):
            self.add((*path, "systems"), f"{name!r} is made of itself")

    def _rescore(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``rescore: {system, method, …}``: another system's scores, changed by a function of ``rescoring``."""
        for key in ("system", *(["frame_texts"] if "frame_texts" in entry else [])):
            known = self.one_of((*path, key), "system", entry.get(key), self.params["systems"])
            if known and {"rescore", "align"} & self._entry(entry[key]).keys():
                self.add(
                    (*path, key), f"system {entry[key]!r} has no embeddings: it rescores another itself, or aligns"
                )
        methods = functions(source("rescoring"))
        if self.one_of((*path, "method"), "method", entry.get("method"), methods):
            self.keys(path, entry, ("system", "frame_texts", "method", "expert", "bank", *methods[entry["method"]]))
        if "expert" in entry:
            self.one_of((*path, "expert"), "expert", entry["expert"], self.params["experts"])

    def _align(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``align: {expert, aligner | detector, …}``: the segments that two videos share, from their frames."""
        self.keys(path, entry, ALIGN)
        for key in ("expert", *(["query_expert"] if "query_expert" in entry else [])):
            self.one_of((*path, key), "expert", entry.get(key), self.params["experts"])
        if ("aligner" in entry) == ("detector" in entry):
            self.add(path, "expected either `aligner:` (a file of aligners/) or `detector:` (a trained system)")
            return
        options: Mapping[str, bool] | None = None
        if "detector" in entry:
            self._trained_system((*path, "detector"), entry["detector"])
        elif self.one_of((*path, "aligner"), "aligner", entry["aligner"], named.names("aligners")):
            options = functions(source("aligners", entry["aligner"]))["align"]
        if "options" in entry and "tune" in entry:
            self.add((*path, "options"), "options are either given or tuned (`tune:`)")
        if "options" not in entry and "tune" not in entry and "aligner" in entry:
            self.add(path, "expected `options:` of the aligner (`{}`: its own defaults), or `tune: {split: …}`")
        if options is not None:
            self.keys((*path, "options"), entry.get("options") or {}, options.keys() - {"similarity"})
        tune = entry.get("tune", {"split": ""})
        self.keys((*path, "tune"), tune, ("split", "grid"))
        if "split" not in tune:
            self.add((*path, "tune"), "option 'split' is missing: on which judged pairs to tune")
        grid = tune.get("grid")
        if options is not None and isinstance(grid, Mapping):
            self.keys((*path, "tune", "grid"), grid, options.keys() - {"similarity"})
        self.keys((*path, "shortlist"), entry.get("shortlist") or {}, SHORTLIST)
        noise = entry.get("noise", {"split": ""})
        self.keys((*path, "noise"), noise, ("split", "beta", "drop"))
        if "split" not in noise:
            self.add((*path, "noise"), "option 'split' is missing: whose references are the noise")

    def _entry(self, system: str) -> Mapping[str, Any]:
        found = self.params["systems"][system]
        return found if isinstance(found, Mapping) else {}

    def _reached(self, name: str, following: Callable[[Mapping[str, Any]], Iterable[str]]) -> set[str]:
        """Systems that one leads to by ``combine`` or ``init``, itself among them only where that is a circle."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            system = self.params["systems"].get(waiting.pop())
            more = set(following(system)) - found if isinstance(system, Mapping) else set()
            found |= more
            waiting.extend(more)
        return found

    def _trained(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        self.one_of((*path, "dataset"), "dataset", entry.get("dataset"), self.params["datasets"])
        model = dict(entry["model"])
        if self.one_of((*path, "model", "name"), "model", model.pop("name", None), named.names("models")):
            known = fields(source("models", entry["model"]["name"]), "Config")
            known |= {"backbone": True} if "pretrained" in known else {}
            self.keys((*path, "model"), model, known)
        if "backbone" in model:
            where = (*path, "model", "backbone")
            self.one_of(where, "backbone", model["backbone"], self.params["backbones"])
        known = objectives()
        for objective, options in (entry.get("objectives") or {}).items():
            where = (*path, "objectives", objective)
            if self.one_of(where, "objective", objective, known):
                self.keys(where, options or {}, (*known[objective], "weight"))
        known = {"pretrained", "backbone", *functions(source("data", "tokenize"))["tokenizer"]} - {"folder"}
        tokenizer = entry.get("tokenizer") or {}
        self.keys((*path, "tokenizer"), tokenizer, known)
        if "backbone" in tokenizer:
            self.one_of((*path, "tokenizer", "backbone"), "backbone", tokenizer["backbone"], self.params["backbones"])
        self.keys((*path, "training"), entry.get("training") or {}, fields(source("training"), "Training"))
        self.types((*path, "training"), entry.get("training") or {}, field_types(source("training"), "Training"))
        if not entry.get("objectives"):
            self.add(path, "expected `objectives:`, at least one: nothing would be learned")
        seeds = entry.get("seeds", [0])
        if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
            self.add((*path, "seeds"), f"{seeds!r} is not a list of whole numbers")
        self._folds((*path, "folds"), entry.get("folds"))
        if "init" in entry:
            for init in _listed(entry["init"]):
                self._trained_system((*path, "init"), init)
            if path[-1] in self._reached(path[-1], lambda s: _listed(s.get("init"))):
                self.add((*path, "init"), f"{path[-1]!r} starts from itself")
        self._examples((*path, "examples"), entry.get("examples") or {})

    def _folds(self, path: tuple[str, ...], folds: Any) -> None:
        """``folds: 5``, or ``{count: 5, only: [0]}``."""
        if folds is None:
            return
        count, only = (folds.get("count"), folds.get("only")) if isinstance(folds, Mapping) else (folds, None)
        if isinstance(folds, Mapping):
            self.keys(path, folds, ("count", "only"))
        if type(count) is not int or count < 2:
            self.add(path, f"{count!r} is not a number of folds of at least 2")
        elif only is not None and not (isinstance(only, list) and only and set(only) <= set(range(count))):
            self.add((*path, "only"), f"{only!r} is not a list of folds from 0 to {count - 1}")

    def _examples(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        """``examples: {kind: frame_caption, …}`` names the class ``FrameCaption`` of data/examples/frame_caption.py."""
        if self.one_of((*path, "kind"), "kind of examples", entry.get("kind"), named.names("data/examples")):
            file = source("data", "examples", entry["kind"])
            known = fields(file, entry["kind"].title().replace("_", ""))
            given = {k: v for k, v in entry.items() if k != "kind"}
            self.options(path, given, {k: v for k, v in known.items() if k != "source"})
        if "expert" in entry:
            self.one_of((*path, "expert"), "expert", entry["expert"], self.params["experts"])
        for number, expert in enumerate(entry.get("experts", [])):
            self.one_of((*path, "experts", str(number)), "expert", expert, self.params["experts"])

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
            self._trained_system((*path, "curves", str(number)), system)

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
