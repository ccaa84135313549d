"""``videomatch serve``: a page to search on, and the answers as JSON, for this user of this machine alone.

All addresses begin with a token that is printed, and that :mod:`videomatch.app.client` reads, so that other users of
the machine read nothing. Below it ``/`` is the page (``?q=`` a text, ``?like=`` an id), ``/find?q=…&top=…`` and
``/similar?id=…&top=…`` give JSON, ``/thumbnail?id=…`` gives a picture and ``/video?id=…`` the file; these name ids and
never files. ``POST /reply``
answers the command line, which may name files. Only requests to 127.0.0.1 or ``localhost`` are answered, so that a page
elsewhere cannot reach the server by a name of its own (DNS rebinding), and none that a page elsewhere makes.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import secrets
import socket
import threading
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Body, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from videomatch.app import client, indexes, search
from videomatch.app.catalogue import Catalogue
from videomatch.app.requests import MAX_CHARACTERS, check_project, check_top
from videomatch.common import named
from videomatch.media.thumbnail import jpeg, thumbnail
from videomatch.pipeline import params
from videomatch.reports import pages

HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
DECODERS = threading.Semaphore(os.cpu_count() or 1)
#: bytes of the line and headers of a request, at most
MAX_REQUEST = 1 << 20
#: connections at most, of which so many may wait: a process can have 1,024 files open on most machines
MAX_CONNECTIONS, WAITING = 512, 256
#: seconds until a connection must have asked
SILENCE = 5
#: seconds that requests have left after Ctrl-C
GRACE = 2


@functools.lru_cache(4096)
def cached_jpeg(path: str, duration: float | None, start: float | None, sha256: str | None) -> bytes | None:
    """The picture of a video as a JPEG, some 5 kB, None without one; it is cut again where the digest is another."""
    with DECODERS:
        picture = thumbnail(Path(path), duration, start)
    return None if picture is None else jpeg(picture)


def serve(options: argparse.Namespace) -> int:
    """Serve until interrupted, with the options of the command line."""
    check_top(options.top)
    place = indexes.chosen(options)
    if place is not None:
        parameters, file = [str(place / indexes.ABOUT)], indexes.server_file(place)
    else:
        check_project()
        parameters = [str(file) for file in params.load(options.configfile or [params.PARAMS])[1]]
        file = client.server_file(options.configfile, options.config)
    state = client.current_state(parameters)  # before the catalogue reads them
    if place is not None:
        catalogue: Any = options.opened(place)
        catalogue.warm()
    else:
        catalogue = Catalogue(options.configfile, options.config)
    dataset, token = catalogue.dataset(options.dataset), secrets.token_urlsafe(32)
    app = create_app(catalogue, dataset, token, options.top)
    try:
        listener = socket.create_server((client.HOST, options.port))
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "expected 0 to 65535"
        raise ValueError(f"port {options.port}: {reason}; choose another with --port") from error
    named.module("app", "query_file")  # torch and transformers are loaded before the first request
    port = listener.getsockname()[1]
    server = http_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    with client.announced(file, port=port, token=token, parameters=parameters, state=state):
        print(f"http://{client.HOST}:{port}/{token}/  (data set {dataset}; Ctrl-C ends it)", flush=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)  # not without limit: polars handles Ctrl-C so that it interrupts no wait
        except KeyboardInterrupt:
            server.should_exit = True
            thread.join(GRACE)
    if thread.is_alive():  # a video is being decoded, say, and threads cannot be ended
        os._exit(130)
    return 130


class Protocol(H11Protocol):
    """uvicorn's HTTP, where the refusal of what is no HTTP has the headers of all answers, and where connections are
    limited in number and in time to ask: other users of the machine can make them too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.loop.call_later(SILENCE, self.end_if_silent)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def end_if_silent(self) -> None:
        """Close a connection without a request."""
        if self.cycle is None:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is None or not self.cycle.response_started:
            fields = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
            text = f"this is no HTTP request, or one of more than {MAX_REQUEST} bytes\n"
            start = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
            self.transport.write(f"{start}{fields}\r\n{text}".encode())
        self.transport.close()


def http_server(app: FastAPI) -> uvicorn.Server:
    """The HTTP server of an application."""
    config = uvicorn.Config(
        app, http=Protocol, ws="none", log_level="warning", access_log=False, server_header=False,
        h11_max_incomplete_event_size=MAX_REQUEST, backlog=WAITING,
    )  # fmt: skip
    return uvicorn.Server(config)


def create_app(catalogue: Catalogue | Any, dataset: str, token: str, default_top: int = 24) -> FastAPI:
    """The server's application, to search ``dataset``; all addresses begin with ``/token``."""
    one_at_a_time = threading.Lock()
    app, router = FastAPI(docs_url=None, redoc_url=None, openapi_url=None), APIRouter()
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[client.HOST, "localhost"], www_redirect=False)

    @app.middleware("http")
    async def guard(request: Request, proceed: Any) -> Response:
        given = request.scope["path"][1:].partition("/")[0]
        if secrets.compare_digest(given.encode(), token.encode()) and not _from_elsewhere(request):
            response = await proceed(request)
        else:  # nothing else of the request is read
            response = PlainTextResponse("open the address that `videomatch serve` printed\n", 403)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> Response:
        return PlainTextResponse("no answer; the server's terminal says why\n", 500, HEADERS)

    def reply(request: dict[str, Any]) -> dict[str, Any]:
        with one_at_a_time:
            return search.reply(lambda: catalogue, request)

    def reply_to(command: str, asked: str, system: str, top: str) -> dict[str, Any]:
        if top and (not top.isdecimal() or len(top) > 6):
            return {"error": f"top = {top!r}, expected a whole number"}
        request = {"command": command, "asked": asked, "dataset": dataset, "system": system or None}
        return reply(request | {"top": int(top or default_top)})

    @router.api_route("/find", methods=["GET", "HEAD"])
    def find(q: str = "", system: str = "", top: str = "") -> Response:
        return _json(reply_to("find", q, system, top))

    @router.api_route("/similar", methods=["GET", "HEAD"])
    def similar(id: str = "", system: str = "", top: str = "") -> Response:
        return _json(reply_to("similar", id, system, top))

    @router.post("/reply")
    def reply_to_client(request: Annotated[dict[str, Any], Body()]) -> Response:
        return _json(reply(request))

    @router.api_route("/thumbnail", methods=["GET", "HEAD"])
    def picture(id: str = "") -> Response:
        row = catalogue.video(dataset, id)
        about = [row[name] for name in ("path", "duration", "start", "sha256")] if row else [None]
        content = about[0] and cached_jpeg(*about)
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})

    @router.api_route("/video", methods=["GET", "HEAD"])
    def video(id: str = "") -> Response:
        row = catalogue.video(dataset, id)
        if row is None or row["path"] is None or not Path(row["path"]).is_file():
            raise HTTPException(404)
        # a browser shows it in a page of its own, which may load it
        policy = {"Content-Security-Policy": "default-src 'none'; media-src 'self'"}
        return FileResponse(row["path"], headers=policy)

    @router.api_route("/", methods=["GET", "HEAD"])
    def index(q: str = "", like: str = "", system: str = "", top: str = "") -> Response:
        is_asked = like or q.strip()
        answer = reply_to("similar" if like else "find", like or q, system, top) if is_asked else {}
        row = catalogue.video(dataset, like) if like else None
        error, chosen = answer.get("error"), answer.get("system", system)
        html = pages.render(
            "search.html",
            title=f"Search in {dataset}",
            question="" if like else q,
            max_characters=MAX_CHARACTERS,
            text_systems=list(catalogue.searchable(dataset, for_text=True)),
            systems=catalogue.embedded_by(dataset),
            text_system=None if like else chosen,
            system=chosen,
            top=top or default_top,
            like=row,
            answer=None if error else answer,
            error=error,
        )
        return HTMLResponse(html.encode("utf-8", "replace"), 400 if error else 200)

    app.include_router(router, prefix=f"/{token}")
    return app


def _from_elsewhere(request: Request) -> bool:
    """Whether a page of another origin asks; a link on it, which shows the answer in place of it, may."""
    site, *how = (request.headers.get(f"Sec-Fetch-{name}", "none") for name in ("Site", "Mode", "Dest"))
    return site not in ("none", "same-origin") and how != ["navigate", "document"]


def _json(reply: dict[str, Any]) -> Response:
    content = json.dumps(reply)  # in ASCII: names of files may hold bytes that are no UTF-8
    return Response(content, 400 if "error" in reply else 200, media_type="application/json")
