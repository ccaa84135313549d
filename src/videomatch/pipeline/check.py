"""The check of the parameters: every name, option and plain value, before the first job; all mistakes are collected.

What an entry may hold, and which of its options belong together, is its spec (:mod:`videomatch.specs`). The options of
a module are the arguments of its function or class (:mod:`videomatch.pipeline.signatures`).
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from videomatch.common import named
from videomatch.corpora import FeatureReader
from videomatch.localisation.key_frame_selection import METHODS
from videomatch.pipeline import signatures
from videomatch.pipeline.plan import TABLES
from videomatch.pipeline.signatures import Option
from videomatch.specs import OpenSpec, Spec, data, listed, reports, systems

Place = tuple[str, ...]
Options = Mapping[str, Option]

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
#: what an annotation may consist of to be compared with a value -> the name of its type in YAML
TYPES = {"int": "int", "float": "float", "str": "str", "bool": "bool", "None": "None", "NoneType": "None"}
TYPES |= {"Sequence": "list", "list": "list", "Mapping": "mapping", "dict": "mapping"}


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


def _options(module: str, callee: str, *, without: Iterable[str] = ()) -> Options:
    """The options of a function or class of a module."""
    return {name: o for name, o in signatures.read(module)[callee].options.items() if name not in without}


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
        checks = (self.dataset, self.backbone, self.expert, self.system, self.page, self.submission)
        for section, check in zip(SECTIONS, checks, strict=True):
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
                    check(path, entry)
        known = [file.stem for file in TABLES.glob("*.yaml")]
        for number, table in enumerate(params["tables"] or []):
            if self.member(("tables", str(number)), "table (workflow/tables)", table, known):
                file = f"{table}.yaml"
                entry = yaml.safe_load((TABLES / file).read_text(encoding="utf-8"))
                self.table(("tables", str(number), file), entry)

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

    def options(self, path: Place, entry: Mapping[str, Any], known: Options, *, complete: bool = False) -> None:
        """Options against the arguments of a function or class: none unknown, none of another type, and, where they
        are to be complete, none missing."""
        self.keys(path, entry, known)
        for name in entry.keys() & known.keys():
            self.type((*path, name), entry[name], known[name].type)
        for name in sorted(n for n, o in known.items() if complete and o.required and n not in entry):
            self.add(path, f"option {name!r} is missing")

    def type(self, path: Place, value: Any, annotation: str) -> None:
        """A value against an annotation, as far as that is a plain one."""
        choices = re.fullmatch(r"Literal\[(.*)\]", annotation)
        if choices:
            self.member(path, path[-1], value, ast.literal_eval(f"({choices[1]},)"))
            return
        words = [word.strip() for word in re.sub(r"\[[^|]*\]", "", annotation).split("|")]
        if not set(words) <= TYPES.keys():
            return
        wanted = {TYPES[word] for word in words}
        if value is None and wanted & {"list", "mapping"}:
            return  # it takes a list or a mapping of another file away
        given = TYPES.get(type(value).__name__, "")
        if given not in wanted and not (given == "int" and "float" in wanted):
            hint = "; write 1.0e-3, not 1e-3" if isinstance(value, str) and re.fullmatch(r"\d+e-?\d+", value) else ""
            self.add(path, f"{value!r} is not a value of type {' or '.join(sorted(wanted - {'None'}))}{hint}")

    def entry(
        self, path: Place, entry: Any, spec: type[Spec], more: Options | None = None, *, complete: bool = False
    ) -> None:
        """An entry against its spec.

        Args:
            more: options of the module that the entry names.
            complete: none of ``more`` without a default may be missing.
        """
        if not isinstance(entry, Mapping):
            self.add(path, f"expected a mapping, got {entry!r}")
            return
        more = more or {}
        fields = {
            field.name: field
            for field in dataclasses.fields(spec)
            if field.name != "further" and field.metadata.get("argument") in (None, *more)
        }
        self.keys(path, entry, [*fields, *more])
        for name, value in entry.items():
            if name in fields and (name not in more or fields[name].metadata):
                self.value((*path, name), value, fields[name])
            elif name in more:
                self.type((*path, name), value, more[name].type)
        required = {n for n, o in signatures.options_of(spec).items() if o.required}
        required |= {n for n, o in more.items() if o.required and complete}
        for name in sorted(required - entry.keys()):
            self.add(path, f"option {name!r} is missing")
        if not any(place[: len(path)] == path for place, _ in self.mistakes):
            for name, text in spec.read(entry).mistakes():
                self.add((*path, name) if name else path, text)

    def value(self, path: Place, value: Any, field: dataclasses.Field[Any]) -> None:
        """A value against what the metadata and the annotation of its field tell."""
        about = field.metadata
        if "spec" in about:
            if value is not None and not issubclass(about["spec"], OpenSpec):
                self.entry(path, value, about["spec"])
        elif "room" in about:
            self.member(path, about["what"], value, named.names(about["room"]))
        elif about.keys() <= {"workflow"}:
            self.type(path, value, str(field.type))
        else:
            several = isinstance(value, list)
            for number, one in enumerate(listed(value)):
                self.named((*path, str(number)) if several else path, one, about)
        if "acyclic" in about and path[1] in self.reached(path):
            self.add(path, f"{path[1]!r} {about['acyclic']}")

    def named(self, path: Place, name: Any, about: Mapping[str, Any]) -> None:
        """One value that names something: a word, an entry of a section, or a file."""
        if "values" in about:
            self.member(path, about["what"], name, about["values"])
        if "path" in about and not Path(name).expanduser().exists():
            self.add(path, f"{name} does not exist")
        if "section" not in about:
            return
        known, kind = self.params[about["section"]], about["section"][:-1]
        if not self.member(path, kind, name, known) or not isinstance(known, Mapping):
            return
        entry = known[name] if isinstance(known[name], Mapping) else {}
        if "trained" in about and "model" not in entry:
            self.add(path, f"system {name!r} is not trained (it has no `model:`), so there are no weights of it")
        for key, text in about.get("without", {}).items():
            if key in entry:
                self.add(path, f"{kind} {name!r} {text}")

    def reached(self, path: Place) -> set[str]:
        """The entries to which the option at a path leads, from one to the next; its own is among them only if that is
        a circle."""
        section, start, *inner = path
        found: set[str] = set()
        waiting = [start]
        while waiting:
            value = self.params[section].get(waiting.pop())
            for name in inner:
                value = value.get(name) if isinstance(value, Mapping) else None
            more = set(listed(value)) - found
            found |= more
            waiting.extend(more)
        return found

    # ---------------------------------------------------------------------------------------------- kinds of entries

    def dataset(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``datasets.<name>``."""
        self.entry(path, entry, data.Dataset)
        corpus = entry.get("corpus")
        if corpus not in named.names("corpora"):
            return
        module = f"corpora.{corpus}"
        known = _options(module, "read")
        if "raw" in known and entry.get("raw") is None:
            self.add(path, f"option 'raw' is missing: where the files of corpus {corpus!r} are")
        if "renders" in known:  # one set of options for rendering and for reading
            own = _options("synthetic.options", "SyntheticOptions")
        else:
            own = _options(module, "read", without=CORPUS_ARGUMENTS)
        self.options((*path, "options"), entry.get("options") or {}, own, complete=True)
        for number, expert in enumerate(entry.get("experts", [])):
            options = self.params["experts"].get(expert) or {}
            released = options.get("extractor") == "released" and "format" not in options
            if released and not signatures.fulfils(module, FeatureReader):
                where = (*path, "experts", str(number))
                self.add(where, f"corpus {corpus!r} has no features of its own (it has no `frame_features`)")

    def backbone(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``backbones.<name>``."""
        self.entry(path, entry, data.Backbone)

    def expert(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``experts.<name>``: features of an extractor, or key frames."""
        if "key_frames_of" in entry:
            self.key_frames(path, entry)
        elif entry.get("extractor") in named.names("experts"):
            own = _options(f"experts.{entry['extractor']}", "Expert")
            self.entry(path, entry, data.Expert, own, complete=True)
        else:
            self.member((*path, "extractor"), "extractor", entry.get("extractor"), named.names("experts"))

    def key_frames(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``experts.<name>: {key_frames_of: clip, method: uniform}``."""
        more = _options("stages.select_key_frames", "select_key_frames", without=STAGE_ARGUMENTS)
        self.entry(path, entry, data.KeyFrames, more)
        if "method" in entry:
            self.member((*path, "method"), "method of key frames", entry["method"], METHODS)

    def system(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``systems.<name>``: one of the kinds of systems."""
        kinds = [kind for kind in systems.KINDS if kind in entry]
        if len(kinds) != 1:
            self.keys(path, entry, (*systems.KINDS, *signatures.options_of(systems.Trained)))
            self.add(path, f"expected exactly one of {', '.join(systems.KINDS)}; there is {kinds or 'none'}")
        elif kinds == ["model"]:
            self.trained(path, entry)
        else:
            kind = kinds[0]
            self.keys(path, entry, kinds)
            more = self.rescoring((*path, kind), entry[kind]) if kind == "rescore" else {}
            self.entry((*path, kind), entry[kind], systems.KINDS[kind], more)
            if kind == "align":
                self.aligner((*path, kind), entry[kind])

    def trained(self, path: Place, entry: Mapping[str, Any]) -> None:
        """A system with weights of its own, and its parts."""
        parts = {name: entry.get(name) or {} for name in ("model", "examples", "tokenizer", "training", "objectives")}
        wrong = [name for name, part in parts.items() if not isinstance(part, Mapping)]
        for name in wrong:
            self.add((*path, name), f"expected a mapping, got {parts[name]!r}")
        if wrong:
            return
        self.part((*path, "model"), parts["model"], systems.Model, "name", "models", "Config")
        kind = str(parts["examples"].get("kind"))
        self.part(
            (*path, "examples"), parts["examples"], systems.Examples, "kind", "examples", kind.title().replace("_", "")
        )
        tokenizer = _options("data.tokenize", "tokenizer", without={"folder"})
        self.entry((*path, "tokenizer"), parts["tokenizer"], systems.Tokenizer, tokenizer)
        self.options((*path, "training"), parts["training"], _options("training.loop", "Training"))
        known = signatures.objectives()
        for name, options in parts["objectives"].items():
            where = (*path, "objectives", name)
            if self.member(where, "objective", name, known):
                self.options(where, options or {}, known[name].options | {"weight": Option(False, "float")})
        self.entry(path, systems.Trained.expanded(entry), systems.Trained)

    def part(
        self, path: Place, entry: Mapping[str, Any], spec: type[OpenSpec], key: str, room: str, callee: str
    ) -> None:
        """A part of a trained system that names a file of a folder: its options are those of a class in that."""
        names = named.names(room)
        what = next(f.metadata["what"] for f in dataclasses.fields(spec) if f.name == key)
        if self.member((*path, key), what, entry.get(key), names):
            options = _options(f"{room}.{entry[key]}", callee, without={"source"})
            self.entry(path, entry, spec, options, complete=room == "examples")

    def rescoring(self, path: Place, entry: Any) -> Options:
        """The options of the method of a system that rescores."""
        module = "retrieval.rescoring"
        methods = {n: f.options for n, f in signatures.read(module).items() if f.module == module and n.islower()}
        given = entry if isinstance(entry, Mapping) else {}
        if self.member((*path, "method"), "method", given.get("method"), methods):
            return methods[given["method"]]
        return dict.fromkeys(given, Option(False))

    def aligner(self, path: Place, entry: Any) -> None:
        """The options of a system's aligner, or their names in the grid of values to try."""
        if not isinstance(entry, Mapping) or entry.get("aligner") not in named.names("aligners"):
            return
        known = _options(f"aligners.{entry['aligner']}", "align")
        self.options((*path, "options"), entry.get("options") or {}, known)
        tune = entry.get("tune")
        grid = tune.get("grid") if isinstance(tune, Mapping) else None
        if isinstance(grid, Mapping):
            self.keys((*path, "tune", "grid"), grid, known)

    def table(self, path: Place, entry: Mapping[str, Any]) -> None:
        """A file of workflow/tables."""
        self.entry(path, entry, reports.Table)
        for number, row in enumerate(entry.get("rows", [])):
            self.member((*path, "rows", str(number)), "system", row.get("system"), self.params["systems"])

    def page(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``pages.<name>``."""
        self.entry(path, entry, reports.Page)

    def submission(self, path: Place, entry: Mapping[str, Any]) -> None:
        """``submissions.<name>``."""
        more = _options("stages.submit", "submit", without=STAGE_ARGUMENTS - {"run"})
        self.entry(path, entry, reports.Submission, more)
        aligns = "align" in (self.params["systems"].get(entry.get("system")) or {})
        if aligns != str(entry.get("format")).startswith("vsc2022"):
            self.add(path, "segments are submitted in a format vsc2022_…, and only they: it takes a system that aligns")
