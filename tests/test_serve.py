"""The page of `videomatch serve`: what it shows, what it refuses, and that a real browser can use it."""

import http.client
import io
import json
import os
import socket
import threading
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import uvicorn
from PIL import Image

import small_project
from pages import Page, screenshot
from videomatch.app import client
from videomatch.app.catalogue import Catalogue
from videomatch.app.server import cached_jpeg, create_app

TOKEN = "secret"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    before = Path.cwd()
    small_project.built(folder)
    catalogue = Catalogue()
    app = create_app(catalogue, "mine", token=TOKEN)
    with socket.create_server((client.HOST, 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        running.should_exit = True
        thread.join()
    os.chdir(before)


def got(server, address, method="GET", host=None, body=None, token=None):
    """(status, headers, content) of an address."""
    link = http.client.HTTPConnection(client.HOST, server, timeout=60)
    link.putrequest(method, address, skip_host=True)
    link.putheader("Host", host or f"{client.HOST}:{server}")
    if token is not None:
        link.putheader("Authorization", f"Bearer {token}")
    if body is not None:
        body = json.dumps(body).encode()
        link.putheader("Content-Type", "application/json")
        link.putheader("Content-Length", str(len(body)))
    link.endheaders(body)
    reply = link.getresponse()
    content = reply.read()
    link.close()
    return reply.status, reply.headers, content


def page(server, **query):
    status, headers, content = got(server, "/?" + urlencode(query))
    assert headers["Content-Type"].startswith("text/html")
    return status, Page(content.decode())


def test_only_requests_to_this_machine_are_answered(server):
    assert got(server, "/", host=f"localhost:{server}")[0] == 200
    for host in ("evil.example", f"evil.example:{server}", "127.0.0.1.evil.example", ""):
        status, _, content = got(server, "/find?q=bars", host=host or " ")
        assert status == 400 and b"hits" not in content


def test_only_the_token_names_files(server):
    request = {"command": "similar", "asked": "x", "file": str(Path("raw/clip2.mp4").absolute()), "system": "pooled"}
    for token in (None, "", "wrong"):
        status, _, content = got(server, "/reply", "POST", body=request, token=token)
        assert status == 403 and b"hits" not in content
    status, _, content = got(server, "/reply", "POST", body=request, token=TOKEN)
    assert status == 200 and "clip2.mp4" in json.loads(content)["notes"][0]
    assert got(server, "/similar?id=x&file=raw/clip2.mp4")[0] == 400


def test_a_question_gives_pictures_that_lead_on(server):
    status, shown = page(server, q="x bars", top=5)
    assert status == 200
    links = [a["href"] for a in shown.of("a")]
    pictures = [i["src"] for i in shown.of("img")]
    assert len(links) == len(pictures) == 5
    assert [i["value"] for i in shown.of("input") if i["name"] == "q"] == ["x bars"]
    status, _, content = got(server, pictures[0])
    assert status == 200 and Image.open(io.BytesIO(content)).size[1] in range(20, 121)
    cut = cached_jpeg.cache_info().misses
    assert got(server, pictures[0])[2] == content and cached_jpeg.cache_info().misses == cut
    status, headers, content = got(server, links[0])
    assert status == 200 and b"Videos like this one" in content and headers["Cache-Control"] == "no-store"
    assert content.count(b"<li>") == small_project.COUNT - 1
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_everything_is_escaped_and_nothing_comes_from_elsewhere(server):
    for query in (
        {"q": small_project.NASTY},
        {"like": small_project.name(0)},
        {"like": small_project.NASTY},
        {"q": "x", "system": small_project.NASTY},
    ):
        _, _, content = got(server, "/?" + urlencode(query))
        text = content.decode()
        assert "<script" not in text and 'alert("1")' not in text
        assert "alert(" in text, "it is shown, as words"
        assert "http" not in text and "url(" not in text and "@import" not in text
        shown = Page(text)
        assert not shown.of("script") and not shown.of("link")
        assert not [n for _, attributes in shown.tags for n in attributes if n.startswith("on")]
        for _, attributes in shown.tags:
            for name in ("src", "href", "action"):
                assert attributes.get(name, "/").startswith("/")


def test_answers_as_json(server):
    status, headers, content = got(server, "/find?q=film+bravo&top=3&system=title")
    found = json.loads(content)
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert len(found["hits"]) == 3 and found["hits"][0]["id"] == small_project.name(1) and found["seconds"]["total"] < 5
    status, _, content = got(
        server, "/similar?" + urlencode({"id": small_project.name(1), "top": 2, "system": "pooled"})
    )
    assert status == 200 and len(json.loads(content)["hits"]) == 2
    status, _, content = got(server, "/find?q=film", method="HEAD")
    assert status == 200 and content == b""


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/find?q=", "the question is empty"),
        ("/find", "the question is empty"),
        ("/find?q=x&top=many", "expected a whole number"),
        ("/find?q=x&top=-1", "expected a whole number"),
        ("/find?q=x&top=99999", "expected 1 to"),
        ("/find?q=x&system=zeroshot", "did you mean 'zero_shot'"),
        ("/find?q=x&system=pooled", "cannot be asked in words"),
        ("/similar?id=../../../etc/passwd", "neither a video"),
        ("/find?q=" + "x" * 3000, "expected at most"),
    ],
)
def test_mistakes_are_shown(server, address, message):
    status, _, content = got(server, address)
    assert status == 400 and message in json.loads(content)["error"]
    if address.startswith("/find?q=x&"):
        status, _, content = got(server, address.replace("/find", "/"))
        assert status == 400 and 'role="alert"' in content.decode()


@pytest.mark.parametrize(
    "asked",
    ["../raw/clip0.mp4", "raw/clip0.mp4", "/etc/passwd", "params.yaml", "", "\0", "clip0.mp4/../clip1.mp4", "%2e%2e"],
)
def test_only_ids_of_the_corpus_are_served(server, asked, tmp_path):
    assert got(server, "/thumbnail?id=" + quote(asked, safe=""))[0] == 404
    assert got(server, "/" + quote(asked.lstrip("/"), safe="/"))[0] in (200, 404)
    assert got(server, "/../params.yaml")[0] == 404


def test_other_methods_and_odd_requests(server):
    assert got(server, "/", method="POST")[0] == 405
    assert got(server, "/reply")[0] == 405
    assert got(server, "/docs")[0] == 404 and got(server, "/openapi.json")[0] == 404
    assert got(server, "/thumbnail")[0] == 404


def test_a_browser_shows_what_was_found(server, tmp_path):
    def colours(**query):
        address = f"http://{client.HOST}:{server}/?{urlencode(query)}"
        return len(set(screenshot(address, tmp_path, "--virtual-time-budget=8000").getdata()))

    # pictures have many more colours than words have greys
    empty = colours()
    assert colours(q="x bars", top=6) > empty + 200
    assert colours(like=small_project.name(0)) > empty + 200
