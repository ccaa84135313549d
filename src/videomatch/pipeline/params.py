"""``params.yaml``: merging of recipes (``from:``, ``null``) and the check of every name before the first job.

All mistakes (:mod:`videomatch.pipeline.check`) are listed at once, each with its file, its line and the nearest name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from videomatch.pipeline.check import SECTIONS, mistakes, unknown


class ParamsError(ValueError):
    """Everything that is wrong with the parameters, one line each."""


# ---------------------------------------------------------------------------------------------------------- merging


def overlay(base: Mapping[str, Any], change: Mapping[str, Any], *, null_removes: bool = False) -> dict[str, Any]:
    """``change`` laid over ``base``: mappings merge, everything else replaces.

    Args:
        null_removes: a null removes what ``base`` has, as below ``from:``; otherwise it is a value, as Snakemake lays
            one file over another.
    """
    result = copy.deepcopy(dict(base))
    for key, value in change.items():
        if null_removes and value is None and key in result:
            del result[key]
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = overlay(result[key], value, null_removes=null_removes)
        else:
            result[key] = copy.deepcopy(value)
    return result


def typed(value: Any) -> Any:
    """Values of ``--config`` with the types that a file would give them: inside of mappings and lists Snakemake takes
    every number, ``true`` and ``null`` for a text."""
    if isinstance(value, Mapping):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:  # a plain text, as `@home`
        return value
    return value if isinstance(read, Mapping | list) else read


def load(files: Sequence[str | Path], config: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], list[Path]]:
    """The parameters of some files, one laid over the other, and all files that they are from.

    A file with ``base: params.yaml`` (or a list of files, relative to the project's folder) is laid over that.

    Args:
        files: as on the command line.
        config: what Snakemake made of the files and of ``--config``; where it differs from the files, its values win.
    """
    read: list[Path] = []

    def content(file: Path) -> dict[str, Any]:
        own = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        below = own.pop("base", None) or []
        result: dict[str, Any] = {}
        for base in [below] if isinstance(below, str) else below:
            result = overlay(result, content(Path(base)))
        read.append(file)
        return overlay(result, own)

    result: dict[str, Any] = {}
    as_written: dict[str, Any] = {}
    for name in files:
        file = Path(name)
        if file.is_absolute() and file.is_relative_to(Path.cwd()):
            file = file.relative_to(Path.cwd())
        result = overlay(result, content(file))
        as_written = overlay(as_written, yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    for key, value in _changed(as_written, config or {}).items():
        result = overlay(result, {key: value})
    result.pop("base", None)
    return result, list(dict.fromkeys(read))


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``--config``, with types: those in which ``after`` differs from the files."""
    found = {}
    for key, value in after.items():
        if key not in before or (value != before[key] and not isinstance(before[key], Mapping)):
            found[key] = typed(value)
        elif value != before[key]:
            found[key] = _changed(before[key], value) if isinstance(value, Mapping) else typed(value)
    return found


def resolve(systems: Mapping[str, Any]) -> dict[str, Any]:
    """Systems with their ``from:`` filled in.

    Raises:
        ParamsError: a ``from:`` names no system, or leads back to itself.
    """

    def one(name: str, path: tuple[str, ...]) -> Any:
        system = systems[name]
        if not isinstance(system, Mapping) or "from" not in system:
            return system  # the check tells what is no mapping
        parent = system["from"]
        if parent in path:
            raise ParamsError(f"systems.{name}: `from` leads in a circle: {' → '.join((*path, parent))}")
        if parent not in systems:
            raise ParamsError(f"systems.{name}.from: {unknown('system', parent, systems)}")
        # the parent is finished first, so that a null removes what the parent had and not what it would get
        own = {k: v for k, v in system.items() if k != "from"}
        return overlay(one(parent, (*path, parent)), own, null_removes=True)

    return {name: _without_parts(one(name, (name,))) for name in systems}


def _without_parts(system: Any) -> Any:
    """A system without the parts, and without the options of its model and tokenizer, that a further file emptied
    (elsewhere a null may be the value of an option)."""
    if not isinstance(system, Mapping):
        return system
    kept = {k: v for k, v in system.items() if v is not None}
    for part in ("model", "tokenizer", "align"):
        if isinstance(kept.get(part), Mapping):
            kept[part] = _without_nulls(kept[part])
    return kept


def resolved(config: Mapping[str, Any], files: Iterable[Path] = ()) -> dict[str, Any]:
    """The checked parameters with every system resolved and every emptied (``null``) entry gone.

    Args:
        config: the merged parameters.
        files: the YAML files that they are from, for the lines of mistakes.

    Raises:
        ParamsError: listing every mistake.
    """
    config = {k: _without_nulls(v) if isinstance(v, Mapping) else v for k, v in config.items() if v is not None}
    for section in ("datasets", "backbones", "experts"):
        entries = config.get(section)
        if isinstance(entries, Mapping):  # in a system a null may be the value of an option
            config[section] = {
                k: _without_nulls(v, deep=True) if isinstance(v, Mapping) else v for k, v in entries.items()
            }
    params: dict[str, Any] = {**{section: {} for section in SECTIONS}, "tables": [], **config}
    params["systems"] = resolve(params["systems"])
    found = mistakes(params)
    if found:
        lines = Lines(files)
        listed = "\n".join(f"  {lines.place(path)}: {text}" for path, text in found)
        raise ParamsError(f"{len(found)} mistake{'s' * (len(found) > 1)} in the parameters:\n{listed}")
    return params


def _without_nulls(section: Mapping[str, Any], deep: bool = False) -> dict[str, Any]:
    inner = {k: _without_nulls(v, deep) if deep and isinstance(v, Mapping) else v for k, v in section.items()}
    return {k: v for k, v in inner.items() if v is not None}


# -------------------------------------------------------------------------------------------------- lines of mistakes


class Lines:
    """File and line of each key of some YAML files."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._lines: dict[tuple[str, ...], str] = {}
        for file in files:
            node = yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
            self._walk(node, (), str(file))

    def _walk(self, node: Any, path: tuple[str, ...], file: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*path, str(key.value))
                self._lines[inner] = f"{file}:{key.start_mark.line + 1}"
                self._walk(value, inner, file)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._walk(value, (*path, str(number)), file)

    def place(self, path: tuple[str, ...]) -> str:
        """``params.yaml:12 systems.tiny_clip.model``: the line of the key, or of the nearest key above it."""
        dotted = ".".join(path)
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return f"{self._lines[path[:length]]} {dotted}"
        return dotted
