"""The check of the parameters: every name, option and plain value, before the first job; all mistakes are collected.

What an entry may hold is a spec (:mod:`videomatch.specs`). The options of a module are the arguments of its function or
class (:mod:`videomatch.pipeline.signatures`).
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from videomatch.common import named
from videomatch.localisation.key_frame_selection import METHODS
from videomatch.pipeline import signatures
from videomatch.pipeline.plan import TABLES
from videomatch.pipeline.signatures import Option
from videomatch.specs import data, reports, systems

Place = tuple[str, ...]

#: sections of named entries, in the order in which they are checked
SECTIONS = ("datasets", "backbones", "experts", "systems", "pages", "submissions")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
#: arguments of a corpus's ``read`` that the workflow fills
CORPUS_ARGUMENTS = {"raw", "renders", "seed", "shards"}
#: arguments of stages that the workflow fills
STAGE_ARGUMENTS = {
    *("corpus", "features", "embeddings", "rankings", "segments", "run", "output", "threads", "scratch"),
    *("member", "name", "expert", "noise"),
}
#: kinds of systems that have no embeddings
WITHOUT_EMBEDDINGS = {"rescore", "align"}


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """A sentence for a name that does not exist, with the nearest one or all."""
    known = [str(one) for one in known]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
    return f"no {what} named {name!r}; {hint}"


def mistakes(params: Mapping[str, Any]) -> list[tuple[Place, str]]:
    """(path, sentence) of everything that is wrong with resolved parameters."""
    check = Check(params)
    check.all()
    return check.mistakes


class Check:
    """Walks over all of the parameters and collects ``mistakes``."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.mistakes: list[tuple[Place, str]] = []

    def add(self, path: Place, text: str) -> None:
        """Note one mistake."""
        self.mistakes.append((path, text))

    def all(self) -> None:
        """Check every section."""
        params = self.params
        self.keys((), params, ("scale", "seed", *SECTIONS, "tables"), "section")
        self.text_keys((), params)
        if not NAME.fullmatch(str(params.get("scale"))):
            self.add(("scale",), f"{params.get('scale')!r} is no folder name (letters, digits, _)")
        if type(params.get("seed")) is not int:
            self.add(("seed",), f"{params.get('seed')!r} is not a whole number")
        for section in SECTIONS:
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
        known = [file.stem for file in TABLES.glob("*.yaml")]
        for number, table in enumerate(params["tables"] or []):
            path = ("tables", str(number))
            if self.member(path, "table (workflow/tables)", table, known):
                self.table(
                    (*path, f"{table}.yaml"), yaml.safe_load((TABLES / f"{table}.yaml").read_text(encoding="utf-8"))
                )

    # ------------------------------------------------------------------------------------- what holds of all entries

    def keys(self, path: Place, entry: Mapping[str, Any], known: Iterable[str], what: str = "option") -> None:
        """Every key must be known."""
        for key in entry:
            if key not in known:
                self.add((*path, str(key)), unknown(what, key, known))

    def text_keys(self, path: Place, value: Any) -> None:
        """Every key must be a text: YAML reads ``on`` and ``1`` as something else."""
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if not isinstance(key, str):
                    self.add((*path, str(key)), f"the key {key!r} is not a text; put it in quotes")
                self.text_keys((*path, str(key)), inner)

    def member(self, path: Place, what: str, name: object, known: Iterable[str]) -> bool:
        """A value must be one of some names."""
        if name in list(known):
            return True
        self.add(path, unknown(what, name, known))
        return False

    def options(self, path: Place, entry: Mapping[str, Any], known: Mapping[str, Option]) -> None:
        """Options against the arguments of a function or class: none unknown, none of another type."""
        self.keys(path, entry, known)
        for name in entry.keys() & known.keys():
            self.type((*path, name), entry[name], known[name].type)

    def type(self, path: Place, value: Any, annotation: str) -> None:
        """A value against an annotation, as far as that is a plain one."""
        choices = re.fullmatch(r"Literal\[(.*)\]", annotation)
        if choices:
            self.member(path, path[-1], value, ast.literal_eval(f"({choices[1]},)"))
            return
        wanted = {word.strip() for word in annotation.split("|")}
        if not wanted <= {"int", "float", "str", "bool", "None"}:
            return
        given = "None" if value is None else type(value).__name__
        if given not in wanted and not (given == "int" and "float" in wanted):
            hint = "; write 1.0e-3, not 1e-3" if isinstance(value, str) and re.fullmatch(r"\d+e-?\d+", value) else ""
            self.add(path, f"{value!r} is not a value of type {' or '.join(sorted(wanted - {'None'}))}{hint}")

    def entry(
        self,
        path: Place,
        entry: Any,
        spec: type,
        more: Mapping[str, Option] | None = None,
        *,
        complete: bool = False,
        own: Iterable[str] | None = None,
    ) -> None:
        """An entry against its spec.

        Args:
            more: options of the module that the entry names.
            complete: none of ``more`` without a default may be missing.
            own: the fields of the spec that may be given, the others only where they are among ``more``; default: all.
        """
        if not isinstance(entry, Mapping):
            self.add(path, f"expected a mapping, got {entry!r}")
            return
        fields = {field.name: field for field in dataclasses.fields(spec)}
        more = more or {}
        self.keys(path, entry, [*(fields if own is None else own), *more])
        for name, value in entry.items():
            if name in fields and not (name in more and not fields[name].metadata):
                self.value((*path, name), value, fields[name])
            elif name in more:
                self.type((*path, name), value, more[name].type)
        required = {n for n, o in signatures.options_of(spec).items() if o.required}
        required |= {n for n, o in more.items() if o.required and complete}
        for name in sorted(required - entry.keys()):
            self.add(path, f"option {name!r} is missing")

    def value(self, path: Place, value: Any, field: dataclasses.Field[Any]) -> None:
        """A value against what the metadata and the annotation of its field say."""
        about = field.metadata
        if "spec" in about:
            if value is not None:
                self.entry(path, value, about["spec"])
            return
        if "room" in about:
            self.member(path, about["what"], value, named.names(about["room"]))
            return
        several = isinstance(value, list)
        places = [((*path, str(n)), one) for n, one in enumerate(value)] if several else [(path, value)]
        for place, one in places if value is not None else []:
            if "values" in about:
                self.member(place, about["what"], one, about["values"])
            elif about.get("trained"):
                self.trained_system(place, one)
            elif "section" in about:
                self.member(place, about["section"][:-1], one, self.params[about["section"]])
            elif "path" in about and not Path(one).expanduser().exists():
                self.add(place, f"{one} does not exist")
        if not about:
            self.type(path, value, str(field.type))

    def trained_system(self, path: Place, system: object) -> None:
        """A value must name a system that is trained."""
        known = self.params["systems"]
        if self.member(path, "system", system, known) and "model" not in known[system]:
            self.add(path, f"system {system!r} is not trained (it has no `model:`), so there are no weights of it")

    def has_embeddings(self, path: Place, system: object) -> None:
        """A value must not name a system that rescores or aligns."""
        found = self.params["systems"].get(system)
        if isinstance(found, Mapping) and WITHOUT_EMBEDDINGS & found.keys():
            self.add(path, f"system {system!r} has no embeddings: it rescores another, or aligns")

    def either(self, path: Place, entry: Mapping[str, Any], **what: str) -> bool:
        """Exactly one of two options must be given; ``what`` has what each of them is."""
        if sum(name in entry for name in what) == 1:
            return True
        self.add(path, "expected either " + " or ".join(f"`{name}:`{text}" for name, text in what.items()))
        return False

    def module(self, name: str, callee: str) -> Mapping[str, Option]:
        """The options of a function or class of a module."""
        return signatures.read(name)[callee].options

    # ---------------------------------------------------------------------------------------------- kinds of entries

    def dataset(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``datasets.<name>``."""
        self.entry(path, entry, data.Dataset)
        shards, corpus = entry.get("shards", 1), entry.get("corpus")
        if type(shards) is int and shards < 1:
            self.add((*path, "shards"), f"{shards!r} is not a whole number of at least 1")
        if corpus not in named.names("corpora"):
            return
        reader = signatures.read(f"corpora.{corpus}")
        known = reader["read"].options
        if "raw" in known and entry.get("raw") is None:
            self.add(path, f"option 'raw' is missing: where the files of corpus {corpus!r} are")
        own = {name: option for name, option in known.items() if name not in CORPUS_ARGUMENTS}
        if "renders" in known:  # one set of options for rendering and for reading
            own = self.module("synthetic.options", "SyntheticOptions")
        options = entry.get("options") or {}
        self.options((*path, "options"), options, own)
        for name in sorted({n for n, option in own.items() if option.required} - options.keys()):
            self.add((*path, "options"), f"option {name!r} is missing")
        for number, expert in enumerate(entry.get("experts", [])):
            options = self.params["experts"].get(expert) or {}
            released = options.get("extractor") == "released" and "format" not in options
            if released and "frame_features" not in reader:
                where = (*path, "experts", str(number))
                self.add(where, f"corpus {corpus!r} has no features of its own (it has no `frame_features`)")

    def backbone(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``backbones.<name>``."""
        self.entry(path, entry, data.Backbone)
        self.either(path, entry, pretrained=" (a hub id or a folder)", system=" (trained here)")
        pretrained = str(entry.get("pretrained", ""))
        is_path = pretrained.startswith((".", "/", "~")) or pretrained.count("/") > 1
        if is_path and not Path(pretrained).expanduser().is_dir():
            self.add((*path, "pretrained"), f"there is no folder {pretrained}")

    def expert(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``experts.<name>``: features of an extractor, or key frames."""
        if "key_frames_of" in entry:
            self.key_frames(path, entry)
            return
        extractor = entry.get("extractor")
        if extractor not in named.names("experts"):
            self.entry(path, {k: v for k, v in entry.items() if k in data.Expert.OWN}, data.Expert)
            return
        own = self.module(f"experts.{extractor}", "Expert")
        self.entry(path, entry, data.Expert, own, complete=True, own=data.Expert.OWN)
        source = self.params["experts"].get(entry.get("source")) or {}
        if {"source", "key_frames_of"} & source.keys():
            self.add((*path, "source"), f"expert {entry['source']!r} reads another's frames itself")
        every = entry.get("every", 1)
        if isinstance(every, int | float) and every <= 0:
            self.add((*path, "every"), f"{every!r} is not a number of seconds above 0")

    def key_frames(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``experts.<name>: {key_frames_of: clip, method: uniform}``."""
        stage = self.module("stages.select_key_frames", "select_key_frames")
        more = {name: option for name, option in stage.items() if name not in STAGE_ARGUMENTS}
        self.entry(path, entry, data.KeyFrames, more)
        if "key_frames_of" in (self.params["experts"].get(entry["key_frames_of"]) or {}):
            self.add((*path, "key_frames_of"), f"expert {entry['key_frames_of']!r} is key frames itself")
        self.either(path, entry, method="", backbone=" (a trained scorer of frames)")
        if "method" in entry:
            self.member((*path, "method"), "method of key frames", entry["method"], METHODS)

    def system(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``systems.<name>``: one of the kinds of systems."""
        kinds = [kind for kind in systems.KINDS if kind in entry]
        if len(kinds) != 1:
            self.keys(path, entry, (*systems.KINDS, *signatures.options_of(systems.Trained)))
            self.add(path, f"expected exactly one of {', '.join(systems.KINDS)}; there is {kinds or 'none'}")
            return
        kind = kinds[0]
        if kind == "model":
            self.trained(path, entry)
            return
        self.keys(path, entry, [kind])
        inner = (*path, kind)
        if isinstance(entry[kind], Mapping):
            getattr(self, kind)(inner, entry[kind])
        else:
            self.add(inner, f"expected a mapping, got {entry[kind]!r}")

    def trained(self, path: Place, entry: Mapping[str, Any]) -> None:
        """A system with weights of its own, and its parts."""
        self.entry(path, entry, systems.Trained)
        model, examples = entry["model"], entry.get("examples") or {}
        if not isinstance(model, Mapping) or not isinstance(examples, Mapping):
            self.add(path, "expected mappings below `model:` and `examples:`")
            return
        name, kind = model.get("name"), examples.get("kind")
        if name in named.names("models"):
            options = self.module(f"models.{name}", "Config")
            own = systems.Model.OWN if "pretrained" in options else ("name",)
            self.entry((*path, "model"), model, systems.Model, options, own=own)
        else:
            self.member((*path, "model", "name"), "model", name, named.names("models"))
        if kind in named.names("examples"):
            options = self.module(f"examples.{kind}", str(kind).title().replace("_", ""))
            options = {n: option for n, option in options.items() if n != "source"}
            self.entry((*path, "examples"), examples, systems.Examples, options, complete=True, own=["kind"])
        else:
            self.member((*path, "examples", "kind"), "kind of examples", kind, named.names("examples"))
        options = {n: option for n, option in self.module("data.tokenize", "tokenizer").items() if n != "folder"}
        self.entry((*path, "tokenizer"), entry.get("tokenizer") or {}, systems.Tokenizer, options)
        self.options((*path, "training"), entry.get("training") or {}, self.module("training.loop", "Training"))
        self.objectives((*path, "objectives"), entry.get("objectives") or {})
        seeds = entry.get("seeds", [0])
        if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
            self.add((*path, "seeds"), f"{seeds!r} is not a list of whole numbers")
        self.folds((*path, "folds"), entry.get("folds"))
        if path[-1] in self.reached(path[-1], lambda system: _listed(system.get("init"))):
            self.add((*path, "init"), f"{path[-1]!r} starts from itself")

    def objectives(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``objectives:`` of a trained system."""
        known = signatures.objectives()
        for name, options in entry.items():
            if self.member((*path, name), "objective", name, known):
                self.options((*path, name), options or {}, known[name].options | {"weight": Option(False, "float")})
        if not entry:
            self.add(path[:-1], "expected `objectives:`, at least one: nothing would be learned")

    def folds(self, path: Place, folds: Any) -> None:
        """``folds: 5``, or ``{count: 5, only: [0]}``."""
        if folds is None:
            return
        given = folds if isinstance(folds, Mapping) else {"count": folds}
        self.entry(path, given, systems.Folds)
        count, only = given.get("count"), given.get("only")
        if type(count) is not int or count < 2:
            self.add(path, f"{count!r} is not a number of folds of at least 2")
        elif only is not None and not (isinstance(only, list) and only and set(only) <= set(range(count))):
            self.add((*path, "only"), f"{only!r} is not a list of folds from 0 to {count - 1}")

    def reached(self, name: str, following: Callable[[Mapping[str, Any]], Iterable[str]]) -> set[str]:
        """The systems that one leads to; itself is among them only if that is a circle."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            system = self.params["systems"].get(waiting.pop())
            more = set(following(system)) - found if isinstance(system, Mapping) else set()
            found |= more
            waiting.extend(more)
        return found

    def embeddings(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``embeddings:`` of a system."""
        self.entry(path, entry, systems.Embeddings)
        if not {"features", "texts"} & entry.keys():
            self.add(path, "expected `features:` (an expert), `texts:` (kinds of texts), or both with a text_encoder")
        if "text_encoder" in entry and "features" not in entry:
            self.add((*path, "text_encoder"), "a text encoder needs `features:` of its own space")

    def combine(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``combine:`` of a system."""
        self.entry(path, entry, systems.Combine)
        parts = entry.get("systems") or []
        if not parts:
            self.add(path, "expected `systems:`, a list of at least one")
        for number, part in enumerate(parts):
            self.has_embeddings((*path, "systems", str(number)), part)
        if len(entry.get("weights") or parts) != len(parts):
            self.add((*path, "weights"), f"{len(entry['weights'])} weights for {len(parts)} systems")
        if path[-2] in self.reached(path[-2], lambda system: (system.get("combine") or {}).get("systems") or []):
            self.add((*path, "systems"), f"{path[-2]!r} is made of itself")

    def rescore(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``rescore:`` of a system."""
        found = signatures.read("retrieval.rescoring").items()
        methods = {n: f.options for n, f in found if f.module == "retrieval.rescoring" and n.islower()}
        known = self.member((*path, "method"), "method", entry.get("method"), methods)
        options = methods[entry["method"]] if known else dict.fromkeys(entry, Option(False))
        self.entry(path, entry, systems.Rescore, options)
        for key in ("system", "frame_texts"):
            self.has_embeddings((*path, key), entry.get(key))

    def align(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``align:`` of a system."""
        self.entry(path, entry, systems.Align)
        if not self.either(path, entry, aligner=" (a file of aligners/)", detector=" (a trained system)"):
            return
        if "options" in entry and "tune" in entry:
            self.add((*path, "options"), "options are either given or tuned (`tune:`)")
        if "options" not in entry and "tune" not in entry and "aligner" in entry:
            self.add(path, "expected `options:` of the aligner (`{}`: its own defaults), or `tune: {split: …}`")
        if entry.get("aligner") in named.names("aligners"):
            known = self.module(f"aligners.{entry['aligner']}", "align")
            self.options((*path, "options"), entry.get("options") or {}, known)
            grid = (entry.get("tune") or {}).get("grid")
            if isinstance(grid, Mapping):
                self.keys((*path, "tune", "grid"), grid, known)

    def table(self, path: Place, entry: Mapping[str, Any]) -> None:
        """A file of workflow/tables."""
        self.entry(path, entry, reports.Table)
        self.either(path, entry, split=" (a protocol)", splits=" (protocol -> heading)")
        for number, row in enumerate(entry.get("rows", [])):
            self.member((*path, "rows", str(number)), "system", row.get("system"), self.params["systems"])

    def page(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``pages.<name>``."""
        self.entry(path, entry, reports.Page)
        if entry.get("scatter") and "judged" not in entry:
            self.add((*path, "scatter"), "option 'judged' is missing: the protocol whose pairs are drawn")

    def submission(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``submissions.<name>``."""
        stage = self.module("stages.submit", "submit")
        self.entry(
            path, entry, reports.Submission, {n: o for n, o in stage.items() if n not in STAGE_ARGUMENTS or n == "run"}
        )
        aligns = "align" in (self.params["systems"].get(entry.get("system")) or {})
        if aligns != str(entry.get("format")).startswith("vsc2022"):
            self.add(path, "segments are submitted in a format vsc2022_…, and only they: it takes a system that aligns")


def _listed(value: Any) -> list[Any]:
    """One or several, or None, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]
