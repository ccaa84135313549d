"""``videomatch serve``: a page to search on, and the answers as JSON, on this machine alone.

``/`` is the page (``?q=`` a text, ``?like=`` an id), ``/find?q=…&top=…`` and ``/similar?id=…&top=…`` give JSON,
``/thumbnail?id=…`` gives a picture; these name ids and never files. ``POST /reply`` answers the command line, which may
name files, and needs the token that :mod:`videomatch.app.client` reads. Only requests to 127.0.0.1 or ``localhost`` are
answered, so that a page elsewhere cannot reach the server by a name of its own (DNS rebinding).
"""

from __future__ import annotations

import argparse
import functools
import os
import secrets
import socket
import threading
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from videomatch.app import client, search
from videomatch.app.catalogue import Catalogue
from videomatch.app.requests import MAX_CHARACTERS, PARAMS
from videomatch.common import named
from videomatch.media.thumbnail import jpeg, thumbnail
from videomatch.pipeline import params
from videomatch.reports import pages

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
DECODERS = threading.Semaphore(os.cpu_count() or 1)


@functools.lru_cache(4096)
def cached_jpeg(path: str, duration: float | None, sha256: str | None) -> bytes | None:
    """The picture of a video as a JPEG, some 5 kB, None without one; it is cut again where the digest is another."""
    with DECODERS:
        picture = thumbnail(Path(path), duration)
    return None if picture is None else jpeg(picture)


def serve(options: argparse.Namespace) -> int:
    """Serve until interrupted, with the options of the command line."""
    parameters = [str(file) for file in params.load(options.configfile or [PARAMS])[1]]
    state = client.current_state(parameters)  # before the catalogue reads them
    catalogue = Catalogue(options.configfile, options.config)
    dataset, token = catalogue.dataset(options.dataset), secrets.token_urlsafe(32)
    app = create_app(catalogue, dataset, options.top, token)
    try:
        listener = socket.create_server((client.HOST, options.port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ValueError(f"port {options.port}: {reason}; choose another with --port") from error
    named.module("app", "query_file")  # torch and transformers are loaded before the first request
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
    file = client.server_file(options.configfile, options.config)
    with listener, client.announced(file, port=port, token=token, parameters=parameters, state=state):
        print(f"http://{client.HOST}:{port}/  (data set {dataset}; Ctrl-C ends it)", flush=True)
        server.run(sockets=[listener])
    return 0


def create_app(catalogue: Catalogue, dataset: str, default_top: int = 24, token: str | None = None) -> FastAPI:
    """The server's application, to search ``dataset``; without a ``token`` all requests to ``/reply`` are refused."""
    one_at_a_time = threading.Lock()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[client.HOST, "localhost"], www_redirect=False)

    @app.middleware("http")
    async def add_headers(request: Request, proceed: Any) -> Response:
        response = await proceed(request)
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

    @app.api_route("/find", methods=["GET", "HEAD"])
    def find(q: str = "", system: str = "", top: str = "") -> Response:
        return _json(reply_to("find", q, system, top))

    @app.api_route("/similar", methods=["GET", "HEAD"])
    def similar(id: str = "", system: str = "", top: str = "") -> Response:
        return _json(reply_to("similar", id, system, top))

    @app.post("/reply")
    def reply_to_client(
        request: Annotated[dict[str, Any], Body()], authorization: Annotated[str, Header()] = ""
    ) -> Response:
        if token is None or not secrets.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(403)
        return _json(reply(request))

    @app.api_route("/thumbnail", methods=["GET", "HEAD"])
    def picture(id: str = "") -> Response:
        row = catalogue.video(dataset, id)
        content = row and row["path"] and cached_jpeg(row["path"], row["duration"], row["sha256"])
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})

    @app.api_route("/", methods=["GET", "HEAD"])
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

    return app


def _json(reply: dict[str, Any]) -> Response:
    return JSONResponse(reply, 400 if "error" in reply else 200)
