"""The options of the package's modules, read off their functions and classes.

To import a model takes seconds (torch, transformers). So what was read is remembered by the digest of all code that the
module reaches.
"""

from __future__ import annotations

import functools
import inspect
import re
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from videomatch.common import digests, named
from videomatch.pipeline import compiled
from videomatch.pipeline.reached import code_digest

#: what a signature is remembered with; a change of this module's output needs another number
FORMAT = 3


@dataclass(frozen=True)
class Option:
    """One argument: whether it must be given, and its annotation as text."""

    required: bool
    type: str


@dataclass(frozen=True)
class Callee:
    """A public function (its keyword-only arguments) or class, and the ``module`` that defines it (``models.clip``)."""

    module: str
    options: dict[str, Option]


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The options of a function or a class."""
    made = inspect.isclass(function)
    wanted = {inspect.Parameter.KEYWORD_ONLY} | ({inspect.Parameter.POSITIONAL_OR_KEYWORD} if made else set())
    arguments = inspect.signature(function).parameters
    if made and hasattr(function.__init__, "__wrapped__"):  # a configuration's fields, without those of transformers
        bases = [base for base in inspect.getmro(function) if base.__module__.startswith(named.PACKAGE.name)]
        arguments = {name: arguments[name] for base in bases for name in inspect.get_annotations(base)}
    return {a.name: Option(a.default is a.empty, text(a.annotation)) for a in arguments.values() if a.kind in wanted}


def text(annotation: Any) -> str:
    """An annotation as it is written, names without their modules."""
    if annotation is inspect.Parameter.empty:
        return ""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", written)


def _found(question: str, module: str, find: Callable[[ModuleType], Any]) -> Any:
    """A JSON value found in a module; a ``ValueError`` has the line of the package for which it cannot be imported."""
    try:
        key = f"{FORMAT} {code_digest(module)}"
        return digests.cached(f"{question} of {module}", key, lambda: find(named.module(*module.split("."))))
    except SyntaxError as error:
        raise ValueError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        mended = compiled.mend(error)
        if mended is not None:
            raise ValueError(mended) from error
        frames = traceback.extract_tb(error.__traceback__)
        last = [frame for frame in frames if Path(frame.filename).is_relative_to(named.PACKAGE)][-1]
        where = f"{last.filename}:{last.lineno}"
        raise ValueError(f"{where}: {type(error).__name__}: {error} (on import of {module})") from error


@functools.cache
def read(module: str) -> dict[str, Callee]:
    """The public functions and classes of this package that a module (as ``models.clip``) has, imported ones too."""
    return {
        name: Callee(home, {option: Option(*values) for option, values in options.items()})
        for name, (home, options) in _found("signatures", module, _signatures).items()
    }


def _signatures(module: ModuleType) -> dict[str, Any]:
    package = named.PACKAGE.name + "."
    found = {}
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None) or ""
        is_ours = home.startswith(package) and (inspect.isfunction(value) or inspect.isclass(value))
        if not is_ours or name.startswith("_") or (inspect.isclass(value) and issubclass(value, Exception)):
            continue
        options = {o: [a.required, a.type] for o, a in options_of(value).items()}
        found[name] = [home.removeprefix(package), options]
    return found


def lacking(module: str, *names: str) -> list[str]:
    """Those of some names, as ``Model`` or ``Model.match``, that a module does not have."""

    def find(imported: ModuleType) -> list[str]:
        found = {name: functools.reduce(lambda x, n: getattr(x, n, None), name.split("."), imported) for name in names}
        return [name for name, value in found.items() if value is None]

    return _found(f"names {names}", module, find)


def grids(aligner: str) -> dict[str, list[str]]:
    """The options in each of an aligner's ``GRIDS``."""
    return _found("grids", aligner, lambda imported: {name: list(grid) for name, grid in imported.GRIDS.items()})


def codecs() -> list[str]:
    """How an index can keep a vector."""
    return _found("codecs", "retrieval.ann", lambda imported: list(imported.CODECS))


def refused(callee: str, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(option, sentence) of what a class, as ``training.loop:Training``, says of its options; ``""`` for all together.
    Nothing of a function."""
    module, _, name = callee.partition(":")

    def find(imported: ModuleType) -> list[tuple[str, str]]:
        from pydantic import ValidationError  # here: what was found once is remembered

        try:
            if inspect.isclass(made := getattr(imported, name)):
                made(**options)
        except ValidationError as error:
            found = error.errors()
            return [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in found]
        except (TypeError, ValueError) as error:
            return [("", str(error))]
        return []

    return [(option, text) for option, text in _found(f"refusal of {callee} {dict(options)}", module, find)]


@functools.cache
def objectives() -> dict[str, Callee]:
    """All objectives: the public functions of the modules of ``objectives``; a ``ValueError`` if two have one name."""
    found: dict[str, Callee] = {}
    for module in (f"objectives.{file}" for file in named.names("objectives")):
        for name, function in read(module).items():
            if function.module == module:
                if name in found:
                    raise ValueError(f"{found[name].module} and {module} both have {name!r}")
                found[name] = function
    return found
