"""Fields of specs, with what their values refer to: the check of the parameters reads that."""

from __future__ import annotations

import dataclasses
from typing import Any


def section(name: str, *, trained: bool = False, **options: Any) -> Any:
    """A field whose value, or each of whose values, names an entry of a section of the parameters.

    Args:
        name: ``datasets``, ``backbones``, ``experts``, ``systems`` or ``tables``.
        trained: the system must have weights of its own.
        options: of :func:`dataclasses.field`.
    """
    return dataclasses.field(metadata={"section": name, "trained": trained}, **options)


def file(room: str, what: str, **options: Any) -> Any:
    """A field whose value names a file of a folder of the package; ``what`` is the word for one."""
    return dataclasses.field(metadata={"room": room, "what": what}, **options)


def one_of(what: str, *values: str, **options: Any) -> Any:
    """A field whose value, or each of whose values, is one of a few words."""
    return dataclasses.field(metadata={"what": what, "values": values}, **options)


def part(spec: type, **options: Any) -> Any:
    """A field that is a mapping with a spec of its own; it may be left out."""
    return dataclasses.field(metadata={"spec": spec}, **{"default": None, **options})


def existing(**options: Any) -> Any:
    """A field that is the path of an existing file or folder."""
    return dataclasses.field(metadata={"path": True}, **options)
