"""``params.yaml``: merging of recipes (``from:``, ``null``) and the check of every name before the first job.

All mistakes (:mod:`videomatch.pipeline.check`) are listed at once, each with its file, its line and the nearest name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from videomatch.common.messages import unknown
from videomatch.pipeline import yaml_file
from videomatch.pipeline.check import SECTIONS, mistakes
from videomatch.pipeline.yaml_file import ParamsError

#: read where no other file is named
PARAMS = Path("params.yaml")


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


def values_of(given: Sequence[str]) -> dict[str, Any]:
    """The values ``KEY=VALUE`` of ``--config``, with the types that a file would give them. (Snakemake's own reading
    takes all inside of mappings and lists for texts, and does not tell what was in quotes.)"""
    found: dict[str, Any] = {}
    for one in given:
        key, _, text = one.partition("=")
        try:
            found = overlay(found, {key: yaml.safe_load(text)})
        except yaml.YAMLError as error:
            raise ValueError(f"--config {one}: not YAML: {' '.join(str(error).split())}") from error
    return found


def load(files: Sequence[str | Path], values: Sequence[str] = ()) -> tuple[dict[str, Any], list[Path]]:
    """The parameters of some files, one laid over the other, then ``values`` (``KEY=VALUE`` of ``--config``); and
    all files that they are from.

    A file with ``base: params.yaml`` (or a list of files, relative to the project's folder) is laid over that.
    """
    read: list[Path] = []

    def content(file: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
        if file in above:
            raise ParamsError([((str(above[0]),), f"a circle of `base:`: {' → '.join(map(str, (*above, file)))}")])
        own, _ = yaml_file.read(file)
        below = own.pop("base", None) or []
        bases = below if isinstance(below, list) else [below]
        if not all(isinstance(base, str) for base in bases):
            raise ParamsError([((str(file),), f"`base:` is {below!r}, expected a file or a list of files")])
        result: dict[str, Any] = {}
        for base in map(Path, bases):
            result = overlay(result, content(base, (*above, file)))
        read.append(file)
        return overlay(result, own)

    result: dict[str, Any] = {}
    for name in files:
        file = Path(name)
        if file.is_absolute() and file.is_relative_to(Path.cwd()):
            file = file.relative_to(Path.cwd())
        result = overlay(result, content(file))
    return overlay(result, values_of(values)), list(dict.fromkeys(read))


def resolve(systems: Mapping[str, Any]) -> dict[str, Any]:
    """Systems with their ``from:`` filled in.

    Raises:
        ParamsError: a ``from:`` names no system, or leads back to itself.
    """

    def one(name: str, path: tuple[str, ...]) -> Any:
        system = systems[name]
        if not isinstance(system, Mapping):
            return system  # the check tells what is no mapping
        if "init" in system and not isinstance(system["init"], Mapping | None):
            system = {**system, "init": {"from": system["init"]}}
        if "from" not in system:
            return system
        parent = system["from"]
        if parent in path:
            raise ParamsError([(("systems", name, "from"), f"a circle: {' → '.join((*path, parent))}")])
        if not isinstance(parent, str) or parent not in systems:
            raise ParamsError([(("systems", name, "from"), unknown("system", parent, systems))])
        # the parent is finished first, so that a null removes what the parent had and not what it would get
        own = {k: v for k, v in system.items() if k != "from"}
        return overlay(one(parent, (*path, parent)), own, null_removes=True)

    return {name: _without_parts(one(name, (name,))) for name in systems}


def _without_parts(system: Any) -> Any:
    """A system without the parts, and without the options of its model and tokenizer, that a further file emptied
    (elsewhere a null may be the value of an option)."""
    if not isinstance(system, Mapping):
        return system
    kept = _without_nulls(system)
    parts = [part for part in ("model", "tokenizer", "align") if isinstance(kept.get(part), Mapping)]
    return kept | {part: _without_nulls(kept[part]) for part in parts}


def resolved(
    config: Mapping[str, Any], files: Iterable[Path] = (), *, has_data: bool = True, checked: bool = False
) -> dict[str, Any]:
    """The checked parameters with every system resolved and every emptied (``null``) entry gone.

    Args:
        files: the YAML files that they are from, for the lines of mistakes.
        has_data: whether the files and folders that they name must be on this machine.
        checked: whether they were checked before.

    Raises:
        ParamsError: listing every mistake.
    """
    given = {
        # in a system a null may be the value of an option
        section: _without_nulls(value, deep=section in ("datasets", "backbones", "experts"))
        for section, value in config.items()
        if value is not None
    }
    params: dict[str, Any] = {**{section: {} for section in SECTIONS}, "tables": [], **given}
    try:
        if isinstance(params["systems"], Mapping):  # the check tells what is no mapping
            params["systems"] = resolve(params["systems"])
    except ParamsError as error:
        found = error.found
    else:
        found = [] if checked else mistakes(params, has_data)
    if not found:
        return params
    lines = {place: line for file in files for place, line in yaml_file.read(file)[1].items()}
    for table in {place[0] for place, _ in found if place[0].endswith(".yaml")}:
        lines |= {(table, *place): line for place, line in yaml_file.read(Path(table))[1].items()}
    raise ParamsError(found, lines)


def _without_nulls(value: Any, deep: bool = False) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {k: _without_nulls(v, deep) if deep else v for k, v in value.items() if v is not None}
