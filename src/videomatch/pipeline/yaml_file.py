"""YAML files that people write: their content, the line of every key, and errors with file and line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

#: the keys from the top of a file to a value
Place = tuple[str, ...]
#: values that a file may hold; an alias counts as many as what it repeats
LARGEST = 200_000


class ParamsError(ValueError):
    """What is wrong with the parameters, one line per mistake.

    Attributes:
        found: (place, sentence) of each mistake.
    """

    def __init__(self, found: Sequence[tuple[Place, str]], lines: Mapping[Place, str] | None = None) -> None:
        """Build the message; ``lines`` has ``file:line`` of places."""
        self.found = list(found)
        listed = "\n".join(f"  {_located(place, lines or {})}: {text}" for place, text in found)
        super().__init__(f"{len(found)} mistake{'s' * (len(found) > 1)} in the parameters:\n{listed}")


def _located(place: Place, lines: Mapping[Place, str]) -> str:
    """``params.yaml:12 systems.tiny_clip.model``: the line of the key, or of the nearest key above it."""
    above = [lines[place[:length]] for length in range(1, len(place) + 1) if place[:length] in lines]
    inner = place[1:] if above and place[0].endswith(".yaml") else place
    return " ".join([*above[-1:], ".".join(inner)])


def read(file: Path) -> tuple[dict[str, Any], dict[Place, str]]:
    """The mapping in a file, and ``file:line`` of each of its keys.

    Raises:
        ParamsError: the file cannot be read, is not YAML, holds no mapping, has a key twice, or its aliases repeat too
            much.
    """
    try:
        loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if _size(node, {}) > LARGEST:
            raise ParamsError([((str(file),), f"with its aliases (*) it holds over {LARGEST} values")])
        content = {} if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ParamsError([((f"{file}{line}",), f"not YAML: {error.problem}")]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError([((str(file),), f"not YAML: {error}")]) from error
    except OSError as error:
        raise ParamsError([((str(file),), str(error.strerror))]) from error
    except RecursionError as error:
        raise ParamsError([((str(file),), "an alias (*) leads back to itself, or it is nested too deeply")]) from error
    if not isinstance(content, dict):
        raise ParamsError([((str(file),), f"expected a mapping, got {content!r}")])
    lines: dict[Place, str] = {}
    for place, line in _keys(node, ()):
        if place in lines:
            raise ParamsError([(place, f"the key stands twice, first in {lines[place]}")], {place: f"{file}:{line}"})
        lines[place] = f"{file}:{line}"
    return content, lines


def _size(node: Any, known: dict[int, int]) -> int:
    """How many values a node holds, what aliases repeat counted each time; ``known`` has the sizes of nodes so far."""
    if id(node) not in known:
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _keys(node: Any, above: Place) -> Iterator[tuple[Place, int]]:
    """(place, line) of each key and each item of a list below a node."""
    if isinstance(node, yaml.MappingNode):
        inner = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        inner = [(str(number), value, value) for number, value in enumerate(node.value)]
    else:
        return
    for name, first, value in inner:
        yield (*above, name), first.start_mark.line + 1
        yield from _keys(value, (*above, name))
