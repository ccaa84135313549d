"""What may stand in ``systems``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from videomatch.common import named
from videomatch.data.tables import VALUES
from videomatch.pipeline.checks.mistakes import Mistakes
from videomatch.pipeline.signatures import argument_types, field_types, fields, functions, objectives, source

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


def _listed(value: Any) -> list[Any]:
    """One or several, or None, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


class SystemsCheck(Mistakes):
    """Walks over systems: trained, features as they are, or made of others."""

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
        methods = functions(source("retrieval", "rescoring"))
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
            self.trained_system((*path, "detector"), entry["detector"])
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
        self.keys((*path, "training"), entry.get("training") or {}, fields(source("training", "loop"), "Training"))
        self.types(
            (*path, "training"), entry.get("training") or {}, field_types(source("training", "loop"), "Training")
        )
        if not entry.get("objectives"):
            self.add(path, "expected `objectives:`, at least one: nothing would be learned")
        seeds = entry.get("seeds", [0])
        if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
            self.add((*path, "seeds"), f"{seeds!r} is not a list of whole numbers")
        self._folds((*path, "folds"), entry.get("folds"))
        if "init" in entry:
            for init in _listed(entry["init"]):
                self.trained_system((*path, "init"), init)
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
        """``examples: {kind: frame_caption, …}`` names the class ``FrameCaption`` of examples/frame_caption.py."""
        if self.one_of((*path, "kind"), "kind of examples", entry.get("kind"), named.names("examples")):
            file = source("examples", entry["kind"])
            made = entry["kind"].title().replace("_", "")
            known = fields(file, made)
            given = {k: v for k, v in entry.items() if k != "kind"}
            self.options(path, given, {k: v for k, v in known.items() if k != "source"})
            self.types(path, given, argument_types(file, made))
        if "expert" in entry:
            self.one_of((*path, "expert"), "expert", entry["expert"], self.params["experts"])
        for number, expert in enumerate(entry.get("experts", [])):
            self.one_of((*path, "experts", str(number)), "expert", expert, self.params["experts"])

    def trained_system(self, path: tuple[str, ...], system: object) -> None:
        """A value must name a system that is trained."""
        if (
            self.one_of(path, "system", system, self.params["systems"])
            and "model" not in self.params["systems"][system]
        ):
            self.add(path, f"system {system!r} is not trained (it has no `model:`), so there are no weights of it")
