"""The check of the parameters: every name, option and plain value, before the first job.

What an entry may hold is its spec (:mod:`videomatch.specs`); the options of a module are the arguments of its function
or class (:mod:`videomatch.pipeline.signatures`).
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from videomatch.common import named
from videomatch.common.messages import unknown
from videomatch.localisation.key_frame_selection import METHODS
from videomatch.pipeline import rules, signatures, yaml_file
from videomatch.pipeline.plan import MEDIA, TABLES
from videomatch.pipeline.signatures import Option
from videomatch.pipeline.yaml_file import Place
from videomatch.specs import OpenSpec, Spec, data, listed, reports, systems

Options = Mapping[str, Option]

#: sections of named entries, in the order in which they are checked
SECTIONS: dict[str, type[Spec]] = {
    "datasets": data.Dataset,
    "backbones": data.Backbone,
    "experts": data.Expert,
    "systems": systems.Trained,
    "pages": reports.Page,
    "submissions": reports.Submission,
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
#: arguments of a corpus's ``read`` that the workflow fills
CORPUS_ARGUMENTS = ("raw", "renders", "seed", "shards")
#: option -> the least value that it may have
LEAST = {"seed": 0, "seeds": 0, "dim": 1, "top": 1, "nprobe": 1, "weights": 0}
#: names of rules and stages that no table may have
RESERVED = {"all", "unknown", "features", "jobs", *(rule.name for rule in rules.RULES)}
#: what an annotation may consist of to be compared with a value -> the name of its type in YAML
TYPES = {"int": "int", "float": "float", "str": "str", "bool": "bool", "None": "None", "NoneType": "None"}
TYPES |= {"Sequence": "list", "list": "list", "Mapping": "mapping", "dict": "mapping"}


def mistakes(params: Mapping[str, Any], has_data: bool) -> list[tuple[Place, str]]:
    """(path, sentence) of everything that is wrong with resolved parameters and, where that must exist, their data."""
    check = Check(params, has_data)
    check.all()
    return check.mistakes


def options_of(callee: str, entry: Mapping[str, Any], filled: Iterable[str] = ()) -> Options | None:
    """The options of the callee of an entry (:class:`videomatch.specs.OpenSpec`); None where it does not exist."""
    module, _, name = callee.format_map(defaultdict(str, entry)).partition(":")
    room, _, file = module.rpartition(".")
    known = signatures.read(module) if file in named.names(room) else {}
    found = known.get(name or file.title().replace("_", ""))
    return None if found is None else {name: o for name, o in found.options.items() if name not in filled}


class Check:
    """Walks over all of the parameters and collects ``mistakes``."""

    def __init__(self, params: Mapping[str, Any], has_data: bool) -> None:
        self.params, self.has_data = params, has_data
        self.mistakes: list[tuple[Place, str]] = []

    def add(self, path: Place, text: str) -> None:
        self.mistakes.append((path, text))

    def all(self) -> None:
        params = self.params
        self.keys((), params, ("scale", "seed", *SECTIONS, "tables"), "section")
        for section in SECTIONS:
            if not isinstance(params[section], Mapping):
                self.add((section,), f"expected a mapping of names, got {params[section]!r}")
        if self.mistakes:
            return  # without what is below a misspelt section, the others name what is missing
        self.text_keys((), params)
        scale = params.get("scale")
        if not isinstance(scale, str) or not NAME.fullmatch(scale):
            self.add(("scale",), f"{scale!r} is no folder name (letters, digits, _)")
        if type(params.get("seed")) is not int or params["seed"] < 0:
            self.add(("seed",), f"{params.get('seed')!r} is not a whole number of at least 0")
        for section, spec in SECTIONS.items():
            for name, entry in params[section].items():
                path = (section, str(name))
                if not NAME.fullmatch(str(name)):
                    self.add(path, f"{name!r} cannot be a name (letters, digits, _; a letter first)")
                elif section == "experts" and name == MEDIA:
                    self.add(path, f"{name!r} is the name of the pass over the videos, which several experts share")
                elif not isinstance(entry, Mapping):
                    self.add(path, f"expected a mapping, got {entry!r}")
                elif section == "systems":
                    self.system(path, entry)
                else:
                    self.entry(path, entry, data.KeyFrames if "key_frames_of" in entry else spec)
                    if section == "datasets":
                        self.dataset(path, entry)
                    elif section == "submissions":
                        self.submission(path, entry)
                    elif "key_frames_of" in entry and "method" in entry:
                        self.member((*path, "method"), "method of key frames", entry["method"], METHODS)
        known = [file.stem for file in TABLES.glob("*.yaml")]
        if not isinstance(params["tables"], list):
            self.add(("tables",), f"expected a list, got {params['tables']!r}")
            return
        for number, table in enumerate(params["tables"]):
            path = ("tables", str(number))
            if table in params["tables"][:number]:
                self.add(path, f"{table!r} stands twice")
            elif table in RESERVED:
                self.add(path, f"{table!r} is the name of a rule: a table's file needs another name")
            elif self.member(path, "table (workflow/tables)", table, known):
                file = Path(os.path.relpath(TABLES / f"{table}.yaml"))
                self.entry((str(file),), yaml_file.read(file)[0], reports.Table)

    def keys(self, path: Place, entry: Mapping[str, Any], known: Iterable[str], what: str = "option") -> None:
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
        if name in list(known):
            return True
        self.add(path, unknown(what, name, known))
        return False

    def options(self, path: Place, entry: Any, known: Options, spec: type[Spec] = Spec) -> None:
        """Options against the arguments of a function or class, and the fields of a spec."""
        if not isinstance(entry, Mapping):
            self.add(path, f"expected a mapping, got {entry!r}")
            return
        fields = {n: f for n, f in spec.fields().items() if f.metadata.get("argument") in (None, *known)}
        self.keys(path, entry, [*fields, *known])
        required = [(n, o.type) for n, o in sorted({**signatures.options_of(spec), **known}.items()) if o.required]
        missing = [n for n, kind in required if entry.get(n) is None and not (n in entry and "None" in kind)]
        for name, value in entry.items():
            if name in missing:
                continue
            if name in fields and (name not in known or fields[name].metadata):
                self.value((*path, name), value, fields[name], entry)
            elif name in known:
                self.type((*path, name), value, known[name].type)
        for name in missing:
            self.add(path, f"option {name!r} is missing")

    def type(self, path: Place, value: Any, annotation: str) -> bool:
        """A value against an annotation, as far as that is a plain one."""
        choices = re.fullmatch(r"Literal\[(.*)\]", annotation)
        if choices:
            return self.member(path, path[-1], value, ast.literal_eval(f"({choices[1]},)"))
        words = [word.strip() for word in re.sub(r"\[[^|]*\]", "", annotation).split("|")]
        if not set(words) <= TYPES.keys():
            return True
        wanted = {TYPES[word] for word in words}
        given = TYPES.get(type(value).__name__, "")
        if given in wanted or (given == "int" and "float" in wanted):
            return True
        hint = "; write 1.0e-3, not 1e-3" if isinstance(value, str) and re.fullmatch(r"\d+e-?\d+", value) else ""
        self.add(path, f"{value!r} is not a value of type {' or '.join(sorted(wanted - {'None'}))}{hint}")
        return False

    def entry(self, path: Place, entry: Any, spec: type[Spec]) -> None:
        """An entry against its spec; where its callee does not exist, only the options that name that."""
        if not isinstance(entry, Mapping):
            self.add(path, f"expected a mapping, got {entry!r}")
            return
        callee, filled = (spec.callee, spec.filled) if issubclass(spec, OpenSpec) else ("", ())
        more = options_of(callee, entry, filled) if callee else {}
        if more is None:
            before = len(self.mistakes)
            for name in re.findall(r"{(\w+)}", callee):
                if name in entry:
                    self.named((*path, name), entry[name], spec.fields()[name].metadata)
                else:
                    self.add(path, f"option {name!r} is missing")
            if len(self.mistakes) == before:
                self.add(path, f"there is no {callee.format_map(entry)}")
            return
        self.options(path, entry, more, spec)
        if not any(place[: len(path)] == path for place, _ in self.mistakes):
            for name, text in spec.read(entry).mistakes():
                self.add((*path, *name.split(".")) if name else path, text)

    def value(self, path: Place, value: Any, field: dataclasses.Field[Any], entry: Mapping[str, Any]) -> None:
        """A value of an entry against what the metadata and the annotation of its field tell."""
        about = field.metadata
        kind = signatures.text(field.type)
        several = value if isinstance(value, list) and "Sequence" in kind else None
        if not {"spec", "callee"} & about.keys() and not self.type(path, value, kind):
            return
        inner = re.search(r"Sequence\[(\w+)\]", kind)
        for number, one in enumerate([value] if several is None else several):
            place = path if several is None else (*path, str(number))
            if several is not None and inner is not None and not self.type(place, one, inner[1]):
                continue
            least = LEAST.get(path[-1])
            if least is not None and type(one) in (int, float) and one < least:
                number_of = "number" if "float" in kind else "whole number"
                self.add(place, f"{one!r} is not a {number_of} of at least {least}")
            if inner is not None and inner[1] == "int" and several is not None and one in several[:number]:
                self.add(place, f"{one!r} stands twice")
            if one is None:
                continue
            if "spec" in about:
                self.entry(place, one, about["spec"])
            elif "callee" in about:
                known = options_of(about["callee"], entry)
                if known is not None:
                    self.options(place, one, known)
                    self.made(place, about["callee"].format_map(defaultdict(str, entry)), one)
            else:
                self.named(place, one, about)
        if "acyclic" in about and path[1] in self.reached(path):
            self.add(path, f"{path[1]!r} {about['acyclic']}")

    def made(self, path: Place, callee: str, options: Any) -> None:
        """What a class, not a function, says when it is made with options that are right one by one."""
        if not any(place[: len(path)] == path for place, _ in self.mistakes):
            for name, text in signatures.refused(callee, options):
                self.add((*path, *name.split(".")) if name else path, text)

    def named(self, path: Place, name: Any, about: Mapping[str, Any]) -> None:
        """One value that names something: a file, a function, a word, or an entry of a section."""
        if "path" in about:
            if self.has_data and about["path"](name) and not Path(name).expanduser().exists():
                self.add(path, f"{name} does not exist")
        elif "room" in about:
            if self.member(path, about["what"], name, named.names(about["room"])):
                for lacking in signatures.lacking(f"{about['room']}.{name}", *about.get("has", ())):
                    self.add(path, f"{about['room']}/{name}.py has no {lacking!r} (see {about['room']}/__init__.py)")
        elif "functions" in about:
            module = about["functions"]
            known = [n for n, f in signatures.read(module).items() if f.module == module and n.islower()]
            self.member(path, about["what"], name, known)
        elif "values" in about:
            self.member(path, about["what"], name, about["values"])
        elif "section" in about:
            known, kind = self.params[about["section"]], about["section"][:-1]
            if not self.member(path, kind, name, known) or not isinstance(known, Mapping):
                return
            entry = known[name] if isinstance(known[name], Mapping) else {}
            if "trained" in about and "model" not in entry:
                self.add(path, f"system {name!r} is not trained (it has no `model:`), so there are no weights of it")
            elif "method" in about:
                model, method = dict(entry["model"] or {}).get("name"), f"Model.{about['method']}"
                if model in named.names("models") and signatures.lacking(f"models.{model}", method):
                    self.add(path, f"system {name!r}: models/{model}.py has no {method} (see models/__init__.py)")
            for key, text in about.get("without", {}).items():
                if key in entry:
                    self.add(path, f"{kind} {name!r} {text}")

    def reached(self, path: Place) -> set[str]:
        """The entries to which the option at a path leads, from one to the next."""
        section, start, *inner = path
        found: set[str] = set()
        waiting = [start]
        while waiting:
            value = self.params[section].get(waiting.pop())
            for name in inner:
                value = value.get(name) if isinstance(value, Mapping) else None
            more = {name for name in listed(value) if isinstance(name, str)} - found
            found |= more
            waiting.extend(more)
        return found

    def dataset(self, path: Place, entry: Mapping[str, Any]) -> None:
        corpus = entry.get("corpus")
        module = f"corpora.{corpus}"
        known = options_of(f"{module}:read", {})
        if known is None:
            return
        if "raw" in known and entry.get("raw") is None:
            self.add(path, f"option 'raw' is missing: where the files of corpus {corpus!r} are")
        if "raw" not in known and entry.get("raw") is not None:
            self.add((*path, "raw"), f"corpus {corpus!r} reads no files; for your own videos: `corpus: folder`")
        if "renders" in known:  # one set of options for rendering and for reading
            known = options_of("synthetic.options:SyntheticOptions", {}) or {}
        own = {name: option for name, option in known.items() if name not in CORPUS_ARGUMENTS}
        if "options" not in entry or isinstance(entry["options"], Mapping):
            self.options((*path, "options"), entry.get("options", {}), own)
            if "renders" in signatures.read(module)["read"].options:
                self.made((*path, "options"), "synthetic.options:SyntheticOptions", entry.get("options", {}))
        for number, expert in enumerate(listed(entry.get("experts"))):
            options = self.params["experts"].get(expert)
            released = isinstance(options, Mapping) and options.get("extractor") == "released"
            if released and "format" not in options and "frame_features" not in signatures.read(module):
                where = (*path, "experts", str(number))
                self.add(where, f"corpus {corpus!r} has no features of its own (it has no `frame_features`)")

    def system(self, path: Place, entry: Mapping[str, Any]) -> None:
        kinds = [kind for kind in systems.KINDS if kind in entry]
        if len(kinds) != 1:
            self.keys(path, entry, (*systems.KINDS, *signatures.options_of(systems.Trained)))
            self.add(path, f"expected exactly one of {', '.join(systems.KINDS)}; there is {kinds or 'none'}")
            return
        kind = kinds[0]
        if kind == "model":
            self.entry(path, entry, systems.Trained)
            self.objectives((*path, "objectives"), entry.get("objectives"))
            self.trained(path, entry)
        else:
            self.keys(path, entry, kinds)
            self.entry((*path, kind), entry[kind], systems.KINDS[kind])
            align = entry[kind] if kind == "align" and isinstance(entry[kind], Mapping) else {}
            if isinstance(align.get("tune"), Mapping):
                self.grid((*path, kind, "tune", "grid"), align)
            if isinstance(align.get("shortlist"), Mapping) and (codec := align["shortlist"].get("codec")) is not None:
                self.member((*path, kind, "shortlist", "codec"), "codec", codec, signatures.codecs())

    def trained(self, path: Place, entry: Mapping[str, Any]) -> None:
        """Values of a trained system that would fail in its job alone."""
        training, tokenizer = ({} if entry.get(n) is None else entry[n] for n in ("training", "tokenizer"))
        scale = training.get("lr_scale") if isinstance(training, Mapping) else None
        for pattern in scale if isinstance(scale, Mapping) else ():
            try:
                re.compile(pattern)
            except re.error as error:
                self.add((*path, "training", "lr_scale"), f"{pattern!r} is no regular expression: {error}")
        pretrained = tokenizer.get("pretrained") if isinstance(tokenizer, Mapping) else None
        if isinstance(pretrained, str):
            self.named((*path, "tokenizer", "pretrained"), pretrained, {"path": data.is_path})

    def grid(self, path: Place, align: Mapping[str, Any]) -> None:
        """The values that an aligner's options are tuned over: a name of its ``GRIDS``, or a mapping."""
        known, grid = options_of("aligners.{aligner}:align", align), align["tune"].get("grid")
        grid = "ours" if grid is None else grid
        if isinstance(grid, Mapping) and known is not None:
            known = {**known, "min_score": Option(False, "float")}  # of all segments, whatever finds them
            self.keys(path, grid, known)
            for name, values in grid.items():
                if not isinstance(values, list) or not values:
                    self.add((*path, name), f"expected a list of values to try, got {values!r}")
                for value in values if isinstance(values, list) and name in known else ():
                    self.type((*path, name), value, known[name].type)
        elif known is not None and not any(place[:2] == path[:2] for place, _ in self.mistakes):
            grids = signatures.grids(f"aligners.{align['aligner']}")
            if self.member(path, "grid", grid, grids):
                for name in set(grids[str(grid)]) - known.keys():
                    self.add(path, f"the grid's {unknown('option', name, known)}")

    def objectives(self, path: Place, entry: Any) -> None:
        known = signatures.objectives()
        for name, options in entry.items() if isinstance(entry, Mapping) else ():
            if self.member((*path, name), "objective", name, known):
                own = known[name].options | {"weight": Option(False, "float")}
                self.options((*path, name), {} if options is None else options, own)

    def submission(self, path: Place, entry: Mapping[str, Any]) -> None:
        """Segments have formats of their own."""
        aligns = "align" in (self.params["systems"].get(entry.get("system")) or {})
        if aligns != str(entry.get("format")).startswith("vsc2022"):
            self.add(path, "segments are submitted in a format vsc2022_…, and only they: it takes a system that aligns")
