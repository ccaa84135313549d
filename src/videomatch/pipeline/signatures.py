"""Names and options of the package's modules, read off their source: nothing is imported, a check costs little."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videomatch.common import named


@functools.cache
def tree(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text(encoding="utf-8"))


def source(*parts: str) -> Path:
    """The file of a module of the package: ``source("experts", "image")``."""
    return named.PACKAGE.joinpath(*parts).with_suffix(".py")


def functions(file: Path) -> dict[str, dict[str, bool]]:
    """Public functions of a file with their keyword-only arguments (name -> has it a default)."""
    return {
        node.name: keyword_arguments(node)
        for node in tree(file).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def constant(file: Path, name: str) -> Any:
    """The value of a module's constant, as it is written there."""
    written = (node for node in tree(file).body if isinstance(node, ast.Assign))
    return next(ast.literal_eval(n.value) for n in written if ast.unparse(n.targets[0]) == name)


def keyword_arguments(node: ast.FunctionDef) -> dict[str, bool]:
    """Keyword-only arguments of a function definition: name -> has it a default."""
    return {a.arg: d is not None for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)}


@functools.cache
def objective_modules() -> dict[str, str]:
    """The objectives there are, public functions of the modules of ``objectives``, with the module that holds each.

    Raises:
        LookupError: two modules have one of the same name.
    """
    found: dict[str, str] = {}
    for module in named.names("objectives"):
        for name in functions(source("objectives", module)):
            if name in found:
                raise LookupError(f"objectives/{found[name]}.py and objectives/{module}.py both have {name!r}")
            found[name] = module
    return found


def objectives() -> dict[str, dict[str, bool]]:
    """The objectives there are, with their options (name -> has it a default)."""
    return {name: functions(source("objectives", module))[name] for name, module in objective_modules().items()}


def fields(file: Path, name: str) -> dict[str, bool]:
    """Options of a class: the keyword arguments of its ``__init__``, else its annotated fields. A class that a file of
    the package imports from another is looked up there."""
    for node in tree(file).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return fields(source(*(node.module or "").split(".")[1:]), alias.name)
        if isinstance(node, ast.ClassDef) and node.name == name:
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                    ordinary = inner.args.args[1:]
                    first = len(ordinary) - len(inner.args.defaults)
                    return {a.arg: i >= first for i, a in enumerate(ordinary)} | keyword_arguments(inner)
            return {
                inner.target.id: inner.value is not None
                for inner in node.body
                if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)
            }
    raise LookupError(f"{file} has no class {name}")


def field_default(file: Path, name: str, field: str) -> object:
    """The default that a class gives a field, where it is written as a literal."""
    found = next(n for n in tree(file).body if isinstance(n, ast.ClassDef) and n.name == name)
    value = next(
        n.value for n in found.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == field and n.value
    )
    return ast.literal_eval(value)


def field_types(file: Path, name: str) -> dict[str, str]:
    """Annotations of a dataclass's fields, as written."""
    node = next(n for n in tree(file).body if isinstance(n, ast.ClassDef) and n.name == name)
    inner = [i for i in node.body if isinstance(i, ast.AnnAssign) and isinstance(i.target, ast.Name)]
    return {i.target.id: ast.unparse(i.annotation) for i in inner if isinstance(i.target, ast.Name)}


def argument_types(file: Path, name: str) -> dict[str, str]:
    """Annotations of the keyword-only arguments of a class's ``__init__``, as written."""
    node = next(n for n in tree(file).body if isinstance(n, ast.ClassDef) and n.name == name)
    made = (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    return {a.arg: ast.unparse(a.annotation) for n in made for a in n.args.kwonlyargs if a.annotation}


#: arguments of a corpus's ``read`` that the workflow fills
FILLED = {"raw", "renders", "seed", "shards"}


def _read_arguments(corpus: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(named.module("corpora", corpus).read).parameters


def corpus_options(corpus: str) -> dict[str, bool]:
    """Options of ``datasets.<name>.options`` for a reader of ``corpora``."""
    arguments = _read_arguments(corpus)
    if "renders" in arguments:  # one set of options for rendering and for reading
        return fields(source("synthetic", "options"), "SyntheticOptions")
    return {name: argument.default is not argument.empty for name, argument in arguments.items() if name not in FILLED}


def corpus_needs_raw(corpus: str) -> bool:
    """Whether a reader starts from files that a person has."""
    return "raw" in _read_arguments(corpus)


def corpus_renders(corpus: str) -> bool:
    """Whether a reader starts from files that the stage ``render`` writes."""
    return "renders" in _read_arguments(corpus)
