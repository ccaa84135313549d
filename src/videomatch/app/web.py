"""``videomatch serve``: a page on this machine alone, by the standard library's server.

``/`` the page (``?q=`` a question, ``?like=`` an id), ``/find?q=…&top=…`` and ``/similar?id=…&top=…`` the answers as
JSON, ``/thumbnail?id=…`` a picture. Requests name ids, never files: a path always comes from the corpus's own table.
The server listens on 127.0.0.1, and answers only requests that were sent to that name: a page elsewhere on the network
cannot reach it by another (DNS rebinding). It never changes anything.
"""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from PIL import Image

from videomatch.app.library import LONGEST, Library, Refused
from videomatch.app.service import Desk
from videomatch.media.thumbnail import thumbnail
from videomatch.reports import pages

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
#: pictures kept in memory, some 5 kB each
PICTURES = 4096
#: videos of one answer
TOP = 24
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
Query = Mapping[str, str]


class Pictures:
    """Thumbnails, cut when they are asked for first."""

    def __init__(self, library: Library, dataset: str, most: int = PICTURES) -> None:
        self.library, self.dataset, self.most = library, dataset, most
        self._kept: OrderedDict[tuple[str, str | None], bytes | None] = OrderedDict()
        self._lock = threading.Lock()
        self._decoders = threading.Semaphore(os.cpu_count() or 1)

    def get(self, video_id: str) -> bytes | None:
        """A JPEG; None for what is no video of the corpus, or has no picture."""
        with self._lock:
            row = self.library.video(self.dataset, video_id)
            if row is None or row["path"] is None:
                return None
            key = video_id, row["sha256"]
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._decoders:
            still = thumbnail(Path(row["path"]), row["duration"])
        found = None
        if still is not None:
            file = io.BytesIO()
            Image.fromarray(still).save(file, "JPEG", quality=80)
            found = file.getvalue()
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return found


class Site:
    """What the addresses of the server give: (status, type, content).

    Args:
        desk: who answers.
        dataset: the data set that is searched; the library's choice if None.
        top: results of one answer.
    """

    def __init__(self, desk: Desk, dataset: str | None = None, top: int = TOP) -> None:
        if isinstance(desk.library, str):
            raise Refused(desk.library)
        self.desk, self.library, self.top = desk, desk.library, top
        self.dataset = self.library.dataset(dataset)
        self.pictures = Pictures(self.library, self.dataset)

    def get(self, path: str, query: Query) -> tuple[HTTPStatus, str, bytes]:
        """One address."""
        if path == "/":
            return self._page(query)
        if path in ("/find", "/similar"):
            return self._json(path[1:], query)
        if path == "/thumbnail":
            picture = self.pictures.get(query.get("id", ""))
            if picture is not None:
                return HTTPStatus.OK, "image/jpeg", picture
        return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"nothing here\n"

    def _reply(self, command: str, asked: str, query: Query) -> dict[str, Any]:
        top = query.get("top") or str(self.top)
        if not top.isdecimal() or len(top) > 6:
            return {"error": f"top = {top!r}, expected a whole number"}
        system = query.get("system") or None
        return self.desk.reply(
            {"command": command, "asked": asked, "dataset": self.dataset, "system": system, "top": int(top)}
        )

    def _json(self, command: str, query: Query) -> tuple[HTTPStatus, str, bytes]:
        reply = self._reply(command, query.get("q" if command == "find" else "id", ""), query)
        status = HTTPStatus.BAD_REQUEST if "error" in reply else HTTPStatus.OK
        return status, "application/json", json.dumps(reply, ensure_ascii=False).encode() + b"\n"

    def _page(self, query: Query) -> tuple[HTTPStatus, str, bytes]:
        question, like_id = query.get("q", ""), query.get("like", "")
        reply: dict[str, Any] = {}
        like = None
        if like_id:
            reply = self._reply("similar", like_id, query)
            row = self.library.video(self.dataset, like_id)
            like = row and {"id": like_id, "title": row["title"] or "", "picture": _picture(like_id)}
        elif question.strip():
            reply = self._reply("find", question, query)
        error = reply.get("error")
        hits = [
            hit | {"picture": _picture(hit["id"]), "more": "/?" + urlencode({"like": hit["id"]})}
            for hit in reply.get("hits", [])
        ]
        chosen = reply.get("system", query.get("system"))
        html = pages.render(
            "search.html",
            title=f"Search in {self.dataset}",
            question="" if like_id else question,
            longest=LONGEST,
            askable=self.library.askable(self.dataset),
            built=self.library.built(self.dataset),
            asked_system=None if like_id else chosen,
            like_system=chosen,
            top=query.get("top") or self.top,
            like=like,
            answer=None if error or not reply else reply,
            hits=hits,
            error=error,
        )
        status = HTTPStatus.BAD_REQUEST if error else HTTPStatus.OK
        return status, "text/html; charset=utf-8", html.encode("utf-8", "replace")


def _picture(video_id: str) -> str:
    return "/thumbnail?" + urlencode({"id": video_id})


class Handler(BaseHTTPRequestHandler):
    """One request; ``server`` is a :class:`Server`."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    server_version, sys_version = "videomatch", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer a request."""
        port = self.server.server_address[1]
        if self.headers.get("Host") not in {f"{name}:{port}" for name in (HOST, "localhost")}:
            self._send(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", b"only for this machine\n")
            return
        parts = urlsplit(self.path)
        try:
            fields = parse_qs(parts.query, keep_blank_values=True, max_num_fields=16)
            query = {name: values[-1] for name, values in fields.items()}
            status, kind, content = self.server.site.get(parts.path, query)
        except ValueError as error:
            status, kind, content = HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", f"{error}\n".encode()
        except Exception:
            log.exception("%s failed", self.path)
            status, kind = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8"
            content = b"no answer; the server's terminal says why\n"
        self._send(status, kind, content)

    do_HEAD = do_GET

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "private, max-age=300" if kind == "image/jpeg" else "no-store")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""
        log.debug(format, *args)


class Server(ThreadingHTTPServer):
    """The server of one site, on 127.0.0.1.

    Args:
        site: what it serves.
        port: 0 for any that is free.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        super().__init__((HOST, port), Handler)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.server_address[1]}/"
