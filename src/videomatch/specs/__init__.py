"""What an entry of ``params.yaml`` holds: one frozen dataclass per kind of entry.

A field without a default is an option that must be given. The check of the parameters, the plan, the settings of jobs
and the arguments of stages read these classes, so a new option is one new field. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self


def option(
    *,
    default: Any = dataclasses.MISSING,
    section: str | None = None,
    trained: bool = False,
    without: Mapping[str, str] | None = None,
    acyclic: str | None = None,
    values: tuple[str, ...] = (),
    room: str | None = None,
    what: str | None = None,
    spec: type[Spec] | None = None,
    path: bool = False,
    argument: str | None = None,
    workflow: bool = False,
) -> Any:
    """A field, with what else the check of the parameters and the settings of jobs need to know of it.

    Args:
        section: its value, or each of them, names an entry of ``datasets``, ``backbones``, ``experts``, ``systems`` or
            ``tables``.
        trained: that system must have weights of its own.
        without: keys that the named entry must not have, and what to tell where it has one.
        acyclic: what to tell where the named entry leads back to this one.
        values: its value, or each of them, is one of these.
        room: its value names a file of this folder of the package.
        what: the word for one of ``values`` or of the files of ``room``.
        spec: it is a mapping with a spec of its own.
        path: its value is the path of an existing file or folder.
        argument: it may be given only where the module that the entry names has this argument.
        workflow: the stage does not get it.
    """
    about = {
        "section": section,
        "trained": trained,
        "without": without,
        "acyclic": acyclic,
        "values": values,
        "room": room,
        "what": what,
        "spec": spec,
        "path": path,
        "argument": argument,
        "workflow": workflow,
    }
    metadata = {name: value for name, value in about.items() if value}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Spec:
    """An entry, or a part of one."""

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Self:
        """The spec of a checked entry; what else the entry has is in ``further``, where the class has that."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        values, further = {}, {}
        for name, value in entry.items():
            if name not in fields or name == "further":
                further[name] = value
            else:
                part = fields[name].metadata.get("spec")
                values[name] = part.read(value) if part and isinstance(value, Mapping) else value
        return cls(**values, **({"further": further} if "further" in fields else {}))

    def settings(self) -> dict[str, Any]:
        """What the stage gets, as JSON values: all that differs from the defaults, and what is ``further`` given."""
        found = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not field.metadata.get("workflow") and field.name != "further" and value != field.default:
                found[field.name] = value.settings() if isinstance(value, Spec) else value
        return found | dict(getattr(self, "further", {}))

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """(option, sentence) of what is wrong with several options together; ``""`` for the entry as a whole."""
        yield from ()

    def either(self, **what: str) -> Iterator[tuple[str, str]]:
        """A mistake unless exactly one of some options is given; ``what`` has what each of them is."""
        if sum(getattr(self, name) is not None for name in what) != 1:
            yield "", "expected either " + " or ".join(f"`{name}:`{text}" for name, text in what.items())


@dataclass(frozen=True, kw_only=True)
class OpenSpec(Spec):
    """A spec with the options of a module, too.

    Attributes:
        further: these options, as they are.
    """

    further: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def listed(value: Any) -> list[Any]:
    """One or several values, or None, as a list."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
