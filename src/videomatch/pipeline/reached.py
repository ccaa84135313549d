"""What code a stage reaches, by imports and by the names in its settings, and its digest."""

from __future__ import annotations

import ast
import functools
import hashlib
import platform
from pathlib import Path
from typing import Any

from videomatch.common.digests import cached, digest, dumps, file_digest

PACKAGE = Path(__file__).parents[1]
#: modules that cannot change a result
INERT = {"videomatch.common.progress"}
#: packages that load their modules by name: who imports one reaches those that the job names, or else all
BY_NAME = {"objectives"}


@functools.cache
def _module_file(module: str) -> Path | None:
    """The file of ``videomatch.x.y``, or None if the name is a package's attribute or lies outside the package."""
    parts = module.split(".")
    if parts[0] != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*parts[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


@functools.cache
def _read_module(path: Path) -> tuple[str, frozenset[str]]:
    """Digest of a module's syntax tree (comments, layout and docstrings left out) and the names that it imports.

    Parsing all that a stage reaches takes half a second, and every job asks twice: so it is remembered by the file's
    content, by this file's, and by the version of Python.
    """
    content = path.read_bytes()
    key = " ".join([platform.python_version(), file_digest(Path(__file__)), hashlib.sha256(content).hexdigest()])
    code, imported = cached(f"code of {path.resolve()}", key, lambda: _parse_module(content, path))
    return code, frozenset(imported)


def _parse_module(content: bytes, path: Path) -> tuple[str, list[str]]:
    tree = ast.parse(content, filename=str(path))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[ast.get_docstring(node, clean=False) is not None :]
    code = dumps(_plain(tree))
    return hashlib.sha256(code.encode("utf-8", "backslashreplace")).hexdigest(), sorted(imported)


def _plain(node: Any) -> Any:
    """A syntax tree as JSON values; what is empty is left out, since versions of Python differ in that."""
    if isinstance(node, ast.AST):
        parts = {name: _plain(value) for name, value in ast.iter_fields(node) if value is not None and value != []}
        return [type(node).__name__, parts]
    return [_plain(part) for part in node] if isinstance(node, list) else repr(node)


def code_modules(*modules: str) -> list[str]:
    """The package's modules that the given ones reach by imports, themselves included, sorted."""
    found: set[str] = set()
    waiting = [f"{PACKAGE.name}.{m}" for m in modules]
    chosen = {m.split(".")[0] for m in modules}
    while waiting:
        module = waiting.pop()
        path = _module_file(module)
        if path is None or module in found or module in INERT:
            continue
        found.add(module)
        waiting.extend(_read_module(path)[1])
        room = module.removeprefix(f"{PACKAGE.name}.")
        if room in BY_NAME - chosen:
            waiting.extend(f"{module}.{p.stem}" for p in path.parent.glob("*.py") if p.stem != "__init__")
    return sorted(found)


def code_digest(*modules: str) -> str:
    """Digest of the code of some modules, like ``experts.image``, of all that they import, and of the data files and
    templates in the folders of these."""
    files = {module: path for module in code_modules(*modules) if (path := _module_file(module))}
    folders = {path.parent for path in files.values()}
    data = [file for f in folders for pattern in ("*.yaml", "templates/*") for file in f.glob(pattern)]
    code = {module: _read_module(path)[0] for module, path in files.items()}
    return digest(code | {file.relative_to(PACKAGE).as_posix(): file_digest(file) for file in data})


def code_needs(package: str, stage: str) -> bool:
    """Whether the code that a stage reaches by imports (not what it loads by name) imports a package."""
    files = filter(None, map(_module_file, code_modules(f"stages.{stage}")))
    return any(name.split(".")[0] == package for file in files for name in _read_module(file)[1])


def forget() -> None:
    """Look at the files again: they may have changed since."""
    _module_file.cache_clear()
    _read_module.cache_clear()
