"""What code a stage reaches, by imports and by the names in its settings, and its digest.

``objectives.margins:triplet`` is one function of a module, with what it reaches there: another function beside it
changes nothing.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from videomatch.common.digests import cached, digest, dumps, file_digest

PACKAGE = Path(__file__).parents[1]
#: modules that cannot change a result
INERT = {"videomatch.common.progress"}
#: what it reads of the package itself, which only names what programs use: nothing
EMPTY = hashlib.sha256(b'["Module", {}]').hexdigest(), frozenset[str]()
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
def _read_module(path: Path, functions: tuple[str, ...] = ()) -> tuple[str, frozenset[str]]:
    """Digest of a module's syntax tree (comments, layout and docstrings left out) and the names that it imports; of
    some functions, only of the statements that they reach.

    Parsing all that a stage reaches takes half a second, and every job asks twice: so it is remembered by the file's
    content, by this file's, and by the version of Python.
    """
    content = path.read_bytes()
    key = " ".join([platform.python_version(), file_digest(Path(__file__)), hashlib.sha256(content).hexdigest()])
    name = ":".join([f"code of {path.resolve()}", *functions])
    code, imported = cached(name, key, lambda: _parse_module(content, path, functions))
    return code, frozenset(imported)


def _parse_module(content: bytes, path: Path, functions: Sequence[str]) -> tuple[str, list[str]]:
    tree = ast.parse(content, filename=str(path))
    if functions:
        tree.body = _reached_statements(tree.body, functions)
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


def _reached_statements(body: Sequence[ast.stmt], functions: Iterable[str]) -> list[ast.stmt]:
    """The statements of a module that some of its functions reach: those that bind a name which they or other reached
    ones mention, and those that bind none, which run on import."""
    bound = [_bound_names(statement) for statement in body]
    wanted, found = set(functions), set[int]()
    while True:
        new = {n for n, names in enumerate(bound) if n not in found and (not names or names & wanted)}
        if not new:
            return [body[number] for number in sorted(found)]
        found |= new
        wanted |= {node.id for n in new for node in ast.walk(body[n]) if isinstance(node, ast.Name)}


def _bound_names(statement: ast.stmt) -> set[str]:
    """The names that a definition, an import or a plain assignment binds; none of any other statement."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.ImportFrom) and (statement.module == "__future__" or statement.names[0].name == "*"):
        return set()
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if all(isinstance(target, ast.Name | ast.Tuple) for target in targets):
            return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return set()


def _plain(node: Any) -> Any:
    """A syntax tree as JSON values; what is empty is left out, since versions of Python differ in that."""
    if isinstance(node, ast.AST):
        parts = {name: _plain(value) for name, value in ast.iter_fields(node) if value is not None and value != []}
        return [type(node).__name__, parts]
    return [_plain(part) for part in node] if isinstance(node, list) else repr(node)


def _reached(modules: Sequence[str]) -> dict[str, tuple[str, frozenset[str]]]:
    """Module of the package -> what :func:`_read_module` tells of it, of those that the given ones reach by imports,
    themselves included."""
    functions: dict[str, tuple[str, ...]] = {}  # of modules that are named by functions; of others all counts
    for module, _, function in sorted(m.partition(":") for m in modules):
        full = f"{PACKAGE.name}.{module}"
        before = functions.get(full)
        functions[full] = (*(before or ()), function) if function and before != () else ()
    found: dict[str, tuple[str, frozenset[str]]] = {}
    chosen = {m.split(".")[0] for m in modules}
    waiting = list(functions.items())
    while waiting:
        module, named = waiting.pop()
        path = _module_file(module)
        if path is None or module in INERT or (module in found and (named or not functions.get(module))):
            continue
        if not named:
            functions[module] = ()  # who imports it may use all of it
        found[module] = EMPTY if module == PACKAGE.name else _read_module(path, named)
        waiting.extend((name, ()) for name in found[module][1])
        room = module.removeprefix(f"{PACKAGE.name}.")
        if room in BY_NAME - chosen:
            waiting.extend((f"{module}.{p.stem}", ()) for p in path.parent.glob("*.py") if p.stem != "__init__")
    return found


@functools.cache
def code_digest(*modules: str) -> str:
    """Digest of the code of modules like ``experts.image`` or functions like ``objectives.margins:triplet``, of all
    that they import, and of the data files and templates in the folders of these."""
    found = _reached(modules)
    folders = {path.parent for module in found if (path := _module_file(module))}
    data = [file for f in folders for pattern in ("*.yaml", "templates/*") for file in f.glob(pattern)]
    code = {module: code for module, (code, _) in found.items()}
    return digest(code | {file.relative_to(PACKAGE).as_posix(): file_digest(file) for file in data})


def code_needs(package: str, stage: str) -> bool:
    """Whether the code that a stage reaches by imports (not what it loads by name) imports a package."""
    return any(
        name.split(".")[0] == package for _, imported in _reached([f"stages.{stage}"]).values() for name in imported
    )


def forget() -> None:
    """Look at the files again: they may have changed since."""
    _module_file.cache_clear()
    _read_module.cache_clear()
    code_digest.cache_clear()
