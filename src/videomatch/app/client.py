"""Ask a running ``videomatch serve``, which has all libraries in memory. Only the standard library is imported here.

A server writes a file below ``.scratch/`` of the project, which only the user can read: its port, the token with which
all its addresses begin, the files of its parameters, and the state of these and of the source when it was started.
"""

import contextlib
import http.client
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from videomatch.common import files
from videomatch.common.digests import SCRATCH, digest, own

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PACKAGE = Path(__file__).parents[1]
#: seconds until a server must refuse a request without a token (one that is suspended does not), and answer a question
ALIVE, ANSWERED = 10, 600


def server_file(configfiles: Sequence[Path], values: Sequence[str]) -> Path:
    """The file of a server of some parameters (``--configfile`` and ``--config``), relative to the project's folder."""
    return SCRATCH / "servers" / f"{digest([[str(f) for f in configfiles], list(values)])[:16]}.json"


def current_state(parameters: Sequence[str]) -> str:
    """A digest of the files of the parameters and of the source as they are now."""
    found = [Path(file).read_text(encoding="utf-8") for file in parameters]
    for path in sorted(PACKAGE.rglob("*.py")):
        stat = path.stat()
        found.append(f"{path.relative_to(PACKAGE)} {stat.st_size} {stat.st_mtime_ns}")
    return digest(found)


@contextlib.contextmanager
def announced(path: Path, **server: Any) -> Iterator[None]:
    """The file of a server with its ``port``, ``token``, ``parameters`` and ``state``, as long as it runs."""
    content = json.dumps(server)
    with files.replacing(path) as new:
        new.touch(mode=0o600)
        new.write_text(content, encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8") == content:  # another server of the same parameters may have come since
                path.unlink()


def ask(request: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """The reply of the running server with this file; None if there is none, or if the parameters, the source or the
    server changed since it was started. An OSError if the server failed."""
    try:
        if not own(path) or not own(path.parent):
            return None  # another user's server: its answers are not ours
        server = json.loads(path.read_text(encoding="utf-8"))
        if server["state"] != current_state(server["parameters"]):
            log.warning("the server on port %d has older parameters or source and is not asked", server["port"])
            return None
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    question = json.dumps(request)
    try:
        _sent(server["port"], "HEAD", "/", ALIVE)
        status, content = _sent(server["port"], "POST", f"/{server['token']}/reply", ANSWERED, question)
    except TimeoutError:
        log.warning("the server on port %d does not answer and is not asked", server["port"])
        return None
    except (ConnectionError, http.client.HTTPException):
        return None  # it was killed, or is ending
    if status >= 500:
        raise OSError(f"the server on port {server['port']} failed; its terminal says why")
    if status not in (200, 400):
        return None  # another program has this port now
    return json.loads(content)


def _sent(port: int, method: str, path: str, timeout: float, body: str | None = None) -> tuple[int, bytes]:
    """The status and content of the answer to a request."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=timeout)) as link:
        link.request(method, path, body, {"Content-Type": "application/json"})
        response = link.getresponse()
        return response.status, response.read()
