"""``videomatch serve``: a page to search on, and the answers as JSON, for this user of this machine alone.

All addresses begin with a token that is printed, and that :mod:`videomatch.app.client` reads, so that other users of
the machine read nothing. Below it ``/`` is the page (``?q=`` a text, ``?like=`` an id, ``?from=`` a number of all
videos); of an index ``/copies?id=…`` is the page of a video's copies and ``/duplicates`` that of files that hold the
same film. ``/find?q=…&top=…`` and ``/similar?id=…&top=…`` give JSON, ``/thumbnail?id=…&start=…&end=…`` gives a picture
and ``/video?id=…`` the file, or parts of it (``Range``); these name ids and never files. ``POST /reply`` answers the
command line, which may name files. Only requests to 127.0.0.1 or ``localhost`` are answered, so that a page elsewhere
cannot reach the server by a name of its own (DNS rebinding), and none that a page elsewhere makes.
"""

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
from urllib.parse import urlencode

import uvicorn
from fastapi import APIRouter, Body, FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from videomatch.app import client, indexes, search
from videomatch.app.catalogue import Catalogue
from videomatch.app.copies import CopySearch, choose_aligner
from videomatch.app.copies_page import video_page
from videomatch.app.requests import check_project, check_top
from videomatch.app.search_page import SearchPage
from videomatch.common import named
from videomatch.common.messages import text_of
from videomatch.media.container import MAX_SECONDS
from videomatch.media.thumbnail import jpeg, still
from videomatch.pipeline import params

POLICY = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": POLICY,
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
#: media types of endings that some systems do not know, or know as those of other files
TYPES = dict.fromkeys((".ts", ".mts", ".m2ts", ".m2t"), "video/mp2t") | {
    ".m4v": "video/mp4", ".mkv": "video/x-matroska", ".ogv": "video/ogg", ".3gp": "video/3gpp", ".3g2": "video/3gpp2",
}  # fmt: skip
#: kinds of hits in an index
Kinds = Annotated[list[str] | None, Query(alias="in")]


@functools.lru_cache(4096)
def cached_jpeg(path: str, start: float, end: float, sha256: str | None) -> bytes | None:
    """The middle of a part of a video (s) as a JPEG, some 10 kB, None without one; it is cut again where the digest is
    another."""
    with DECODERS:
        picture = still(Path(path), start, end)
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
    one_at_a_time, one_copy_at_a_time = threading.Lock(), threading.Lock()
    shown = SearchPage(catalogue, dataset)
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

    def number(top: str) -> int:
        if top and (not top.isdecimal() or len(top) > 6):
            raise ValueError(f"top = {top!r}, expected a whole number")
        check_top(found := int(top or default_top))
        return found

    def reply_to(command: str, asked: str, system: str, top: str, within: list[str] | None = None) -> dict[str, Any]:
        try:
            request = {"command": command, "asked": asked, "dataset": dataset, "top": number(top)}
        except ValueError as error:
            return {"error": str(error)}
        return reply(request | {"system": system or None, "within": ",".join(within or ()) or None})

    @router.api_route("/find", methods=["GET", "HEAD"])
    def find(q: str = "", system: str = "", top: str = "", within: Kinds = None) -> Response:
        return _json(reply_to("find", q, system, top, within))

    @router.api_route("/similar", methods=["GET", "HEAD"])
    def similar(id: str = "", system: str = "", top: str = "") -> Response:
        return _json(reply_to("similar", id, system, top))

    @router.post("/reply")
    def reply_to_client(request: Annotated[dict[str, Any], Body()]) -> Response:
        return _json(reply(request))

    @router.api_route("/thumbnail", methods=["GET", "HEAD"])
    def picture(id: str = "", start: float | None = None, end: float | None = None) -> Response:
        row = catalogue.video(dataset, id)
        if row is None or row["path"] is None:
            raise HTTPException(404)
        first = float(row["start"] or 0.0) if start is None else start
        last = first + float(row["duration"] or 0.0) if end is None else end
        content = cached_jpeg(row["path"], first, last, row["sha256"]) if 0 <= first <= last < MAX_SECONDS else None
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
        return FileResponse(row["path"], headers=policy, media_type=TYPES.get(Path(row["path"]).suffix.lower()))

    @router.api_route("/copies", methods=["GET", "HEAD"])
    def copies(id: str = "", parts: bool = False) -> Response:
        if isinstance(catalogue, Catalogue):
            raise HTTPException(404)
        links = [("search", "./"), ("similar videos", "./?" + urlencode({"like": id}))]
        if not parts:
            again = "copies?" + urlencode({"id": id, "parts": 1})
            links.append(("search its picture mirrored, turned and in parts, too", again))
        try:
            with one_copy_at_a_time:
                library, about = catalogue.index, str(catalogue.place / indexes.ABOUT)
                opened = catalogue.cached([about], ("copies",), lambda: CopySearch(library, choose_aligner()))
                html = video_page(opened, id, shown.shown, views=parts, links=links)
        except (ValueError, OSError) as error:
            return _html(shown.render(error=text_of(error), top=default_top), 400)
        return _html(html, policy=POLICY.replace("img-src", "img-src data:"))

    @router.api_route("/duplicates", methods=["GET", "HEAD"])
    def duplicates() -> Response:
        if isinstance(catalogue, Catalogue):
            raise HTTPException(404)
        try:
            with one_copy_at_a_time:
                return _html(catalogue.duplicates_page(shown.shown, [("search", "./")]))
        except (ValueError, OSError) as error:
            return _html(shown.render(error=text_of(error), top=default_top), 400)

    @router.api_route("/", methods=["GET", "HEAD"])
    def index(
        q: str = "", like: str = "", system: str = "", top: str = "", within: Kinds = None,
        first: Annotated[int, Query(alias="from", ge=0, lt=1 << 31)] = 0,
    ) -> Response:  # fmt: skip
        answer = None
        if like or q.strip():
            answer = reply_to("similar" if like else "find", like or q, system, top, None if like else within)
        about = {"question": "" if like else q, "like": like, "system": system, "within": within or ()}
        try:
            if answer is not None and "error" in answer:
                raise ValueError(answer["error"])
            return _html(shown.render(**about, answer=answer, top=number(top), first=first))
        except (ValueError, OSError) as error:
            return _html(shown.render(**about, error=text_of(error), top=default_top), 400)

    app.include_router(router, prefix=f"/{token}")
    return app


def _from_elsewhere(request: Request) -> bool:
    """Whether a page of another origin asks; a link on it, which shows the answer in place of it, may."""
    site, *how = (request.headers.get(f"Sec-Fetch-{name}", "none") for name in ("Site", "Mode", "Dest"))
    return site not in ("none", "same-origin") and how != ["navigate", "document"]


def _html(html: str, status: int = 200, policy: str = POLICY) -> Response:
    return HTMLResponse(html.encode("utf-8", "replace"), status, {"Content-Security-Policy": policy})


def _json(reply: dict[str, Any]) -> Response:
    content = json.dumps(reply)  # in ASCII: names of files may hold bytes that are no UTF-8
    return Response(content, 400 if "error" in reply else 200, media_type="application/json")
