"""The page of `videomatch serve`: what it shows, what it refuses, and that a real browser can use it."""

import http.client
import io
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from PIL import Image

import doors
from pages import Page
from videomatch.app import web
from videomatch.app.library import Library
from videomatch.app.service import Desk

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    before = Path.cwd()
    doors.built(folder)
    site = web.Site(Desk(Library(doors.plan_of([]))))
    with web.Server(site, 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
    os.chdir(before)


def got(server, address, method="GET", host=None):
    """(status, headers, content) of an address."""
    port = server.server_address[1]
    link = http.client.HTTPConnection(web.HOST, port, timeout=60)
    link.putrequest(method, address, skip_host=True)
    link.putheader("Host", host or f"{web.HOST}:{port}")
    link.endheaders()
    reply = link.getresponse()
    content = reply.read()
    link.close()
    return reply.status, reply.headers, content


def page(server, **query):
    status, headers, content = got(server, "/?" + urlencode(query))
    assert headers["Content-Type"].startswith("text/html")
    return status, Page(content.decode())


def test_the_server_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1" and server.url.startswith("http://127.0.0.1:")
    port = server.server_address[1]
    assert got(server, "/", host=f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", ""):
        status, _, content = got(server, "/find?q=bars", host=host or " ")
        assert status == 403 and b"hits" not in content


def test_a_question_gives_pictures_that_lead_on(server):
    status, shown = page(server, q="x bars", top=5)
    assert status == 200
    links = [a["href"] for a in shown.of("a")]
    pictures = [i["src"] for i in shown.of("img")]
    assert len(links) == len(pictures) == 5
    assert [i["value"] for i in shown.of("input") if i["name"] == "q"] == ["x bars"]
    status, _, content = got(server, pictures[0])
    assert status == 200 and Image.open(io.BytesIO(content)).size[1] in range(20, 121)
    status, headers, content = got(server, links[0])
    assert status == 200 and b"Videos like this one" in content and headers["Cache-Control"] == "no-store"
    assert content.count(b"<li>") == doors.COUNT - 1
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_everything_is_escaped_and_nothing_comes_from_elsewhere(server):
    for query in (
        {"q": doors.NASTY},
        {"like": doors.name(0)},
        {"like": doors.NASTY},
        {"q": "x", "system": doors.NASTY},
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
    assert len(found["hits"]) == 3 and found["hits"][0]["id"] == doors.name(1) and found["seconds"]["total"] < 5
    status, _, content = got(server, "/similar?" + urlencode({"id": doors.name(1), "top": 2, "system": "pooled"}))
    assert status == 200 and len(json.loads(content)["hits"]) == 2
    status, _, content = got(server, "/find?q=film", method="HEAD")
    assert status == 200 and content == b""


@pytest.mark.parametrize(
    ("address", "said"),
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
def test_mistakes_are_shown(server, address, said):
    status, _, content = got(server, address)
    assert status == 400 and said in json.loads(content)["error"]
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
    assert got(server, "/", method="POST")[0] == 501
    assert got(server, "/find?" + "&".join(f"a{n}=1" for n in range(50)))[0] == 400
    assert got(server, "/thumbnail")[0] == 404


def test_pictures_are_cut_once_and_not_too_many_are_kept(server, monkeypatch):
    cut = []
    monkeypatch.setattr(web, "thumbnail", lambda path, duration: cut.append(path))
    pictures = web.Pictures(server.site.library, "mine", most=2)
    for number in (0, 0, 2, 3, 3, 0):
        assert pictures.get(doors.name(number)) is None
    assert [p.name for p in cut] == [doors.name(n) for n in (0, 2, 3, 0)]
    assert pictures.get("nothing") is None and len(cut) == 4


def test_a_browser_shows_what_was_found(server, tmp_path):
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")

    def look(query):
        switches = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--window-size=1000,900"),
            f"--screenshot={tmp_path / 'page.png'}",
        ]
        subprocess.run(
            [browser, *switches, server.url + "?" + urlencode(query)], check=True, capture_output=True, timeout=120
        )
        return Image.open(tmp_path / "page.png").convert("RGB")

    before = len(server.site.pictures._kept)
    empty, found = look({}), look({"q": "x bars", "top": 6})
    assert len(server.site.pictures._kept) >= before and len(server.site.pictures._kept) >= 6, "it asked for pictures"
    # pictures have many more colours than words have greys
    assert len(set(found.getdata())) > len(set(empty.getdata())) + 200
    assert len(set(look({"like": doors.name(0)}).getdata())) > len(set(empty.getdata())) + 200
