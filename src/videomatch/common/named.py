"""A name in ``params.yaml`` is that of a file: ``module("experts", "image")`` is ``videomatch/experts/image.py``."""

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from videomatch.common import digests

PACKAGE = Path(__file__).parents[1]


def names(room: str) -> list[str]:
    """The names that exist in a room of the package, as ``experts``."""
    return sorted(p.stem for p in (PACKAGE / room).glob("*.py") if not p.stem.startswith("_"))


def module(room: str, name: str) -> ModuleType:
    """Import the module ``name`` of a room; of an unknown name the ``KeyError`` lists those that exist."""
    if name not in names(room):
        raise KeyError(f"no {room[:-1]} named {name!r}; there are {', '.join(names(room))}")
    return importlib.import_module(f"videomatch.{room}.{name}")


def import_libraries(*names: str) -> None:
    """Import other packages by name, to have them in memory."""
    for name in names:
        importlib.import_module(name)


def require(package: str, extra: str) -> None:
    """A ValueError unless an optional package is installed: it names the extra that brings it."""
    if find_spec(package) is None:
        raise ValueError(f"{extra} needs the package {package.replace('_', '-')}: pip install 'videomatch[{extra}]'")


def packaged(package: str, file: str, digest: str) -> Path:
    """A file of an installed package, checked by its sha256."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"the package {package.replace('_', '-')} is missing: install videomatch again")
    path = Path(spec.origin).parent / file
    if not path.is_file() or digests.file_digest(path) != digest:
        raise ValueError(f"{path} is not the file that was measured: install {package.replace('_', '-')} again")
    return path
