"""What an entry of ``params.yaml`` holds: one frozen dataclass per kind of entry.

A field without a default is an option that must be given. The check of the parameters, the plan, the settings of jobs
and the arguments of stages read these classes, so a new option is one new field. Nothing here imports torch.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self


def option(*, default: Any = dataclasses.MISSING, **about: Any) -> Any:
    """A field, with what else the check of the parameters and the settings of jobs need to know of it.

    Args:
        about: ``section``, ``room``, ``functions``, ``values``: the value, or each of them, names an entry of a section
            of the parameters, a file of a folder of the package, a function of a module, or one of these words;
            ``what`` is the word for such a name, ``has`` what such a file must have.
            ``trained``: that entry is a system with weights of its own, whose model has a ``method`` if that is given.
            ``without``: keys that it must not have, and what to tell where it has one. ``acyclic``: what to tell where
            it leads back to this one.
            ``spec``: the value is a mapping with a spec of its own. ``callee``: it is a mapping of options, as in
            :class:`OpenSpec`. ``path``: of which values it is the path of an existing file or folder.
            ``argument``: it may be given only where the callee of the entry has this argument.
            ``workflow``: the stage does not get it.
    """
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True)
class Spec:
    """An entry, or a part of one."""

    @classmethod
    def fields(cls) -> dict[str, dataclasses.Field[Any]]:
        """Option -> its field; that of an option which is a word of Python ends with ``_``."""
        return {field.name.rstrip("_"): field for field in dataclasses.fields(cls) if field.name != "further"}

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Self:
        """The spec of a checked entry; what else an entry of an :class:`OpenSpec` has is in ``further``."""
        fields = cls.fields()
        values, further = {}, {}
        for name, value in entry.items():
            part = fields[name].metadata.get("spec") if name in fields else None
            own = values if name in fields else further
            key = fields[name].name if name in fields else name
            own[key] = part.read(value) if part and isinstance(value, Mapping) else value
        return cls(**values, **({"further": further} if issubclass(cls, OpenSpec) else {}))

    def settings(self) -> dict[str, Any]:
        """What the stage gets, as JSON values: all that differs from the defaults, and what is ``further`` given."""
        found = {}
        for name, field in self.fields().items():
            value = getattr(self, field.name)
            if not field.metadata.get("workflow") and value != field.default:
                found[name] = value.settings() if isinstance(value, Spec) else value
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
    """A spec with the options of a function or class, too.

    Attributes:
        callee: that function or class, as ``module:name`` with options of the entry in braces; without a name the class
            that is called as the file.
        filled: arguments that the workflow fills.
        further: the options, as they are.
    """

    callee: ClassVar[str]
    filled: ClassVar[tuple[str, ...]] = ()
    further: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def listed(value: Any) -> list[Any]:
    """One or several values, or None, as a list."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
