"""Mistakes in the parameters, as they are found: unknown names, missing options, values of another type."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(known)) or 'none'}"


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """A sentence for a name that does not exist."""
    return f"no {what} named {name!r}{_nearest(str(name), known)}"


class Mistakes:
    """The ``params``, and what is wrong with them: ``mistakes``, (path, sentence)."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.mistakes: list[tuple[tuple[str, ...], str]] = []

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
