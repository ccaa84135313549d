"""The page of `videomatch serve`: what it shows, what it refuses, and that a real browser can use it."""

import http.client
import io
import json
import os
import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import polars as pl
import pytest
from PIL import Image

import clips
import small_project
from pages import Browser, Page, served
from videomatch.app import client
from videomatch.app import server as app_server
from videomatch.app.catalogue import Catalogue
from videomatch.app.server import cached_jpeg, create_app
from videomatch.data import corpus as corpora

TOKEN = "secret"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    before = Path.cwd()
    small_project.built(folder)
    catalogue = Catalogue()
    with served(create_app(catalogue, "mine", TOKEN)) as port:
        yield port
    os.chdir(before)


def got(server, address, method="GET", host=None, body=None, token=TOKEN, **fields):
    """(status, headers, content) of an address below the token's."""
    link = http.client.HTTPConnection(client.HOST, server, timeout=60)
    link.putrequest(method, f"/{token}{address}", skip_host=True)
    link.putheader("Host", host or f"{client.HOST}:{server}")
    for name, value in fields.items():
        link.putheader(name.replace("_", "-"), value)
    if body is not None:
        body = json.dumps(body).encode()
        link.putheader("Content-Type", "application/json")
        link.putheader("Content-Length", str(len(body)))
    link.endheaders(body)
    reply = link.getresponse()
    content = reply.read()
    link.close()
    return reply.status, reply.headers, content


def sent(server, *parts):
    """What comes back for some bytes, until the server ends the connection; a pause is between the parts."""
    with socket.create_connection((client.HOST, server), timeout=60) as link:
        for number, part in enumerate(parts):
            time.sleep(0.3 * (number > 0))
            link.sendall(part)
        return b"".join(iter(lambda: link.recv(65536), b""))


def assert_still_answers(server, capfd):
    assert got(server, "/find?q=film&system=title")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def page(server, **query):
    status, headers, content = got(server, "/?" + urlencode(query))
    assert headers["Content-Type"].startswith("text/html")
    return status, Page(content.decode())


def test_only_requests_to_this_machine_are_answered(server):
    assert got(server, "/", host=f"localhost:{server}")[0] == 200
    for host in ("evil.example", f"evil.example:{server}", "127.0.0.1.evil.example", ""):
        status, _, content = got(server, "/find?q=bars", host=host or " ")
        assert status == 400 and b"hits" not in content


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "%ff", "x/" + TOKEN, "/" + TOKEN])
def test_nothing_is_read_without_the_token(server, token):
    request = {"command": "find", "asked": "film"}
    for address, options in {
        "/": {}, "/find?q=film": {}, "/thumbnail?id=clip0.mp4": {}, "/video?id=clip0.mp4": {},
        "/reply": {"method": "POST", "body": request},
    }.items():  # fmt: skip
        status, headers, content = got(server, address, token=token, **options)
        assert status == 403 and b"videomatch serve" in content
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_command_line_names_files(server):
    request = {"command": "similar", "asked": "x", "file": str(Path("raw/clip2.mp4").absolute()), "system": "pooled"}
    status, _, content = got(server, "/reply", "POST", body=request)
    assert status == 200 and "clip2.mp4" in json.loads(content)["notes"][0]
    assert got(server, "/similar?id=x&file=raw/clip2.mp4")[0] == 400


def test_a_file_may_have_a_name_that_is_no_text(server, tmp_path):
    file = tmp_path / os.fsdecode(b"\xff\xfe.mp4")
    file.write_bytes(Path("raw/clip2.mp4").read_bytes())
    request = {"command": "similar", "asked": str(file), "file": str(file), "system": "pooled"}
    status, _, content = got(server, "/reply", "POST", body=request)
    assert status == 200 and json.loads(content)["asked"] == str(file)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"command": "delete", "asked": "clip0.mp4"}, "no command named 'delete'; there are: find, similar"),
        ({"command": "finds", "asked": "clip0.mp4"}, "did you mean 'find'?"),
        ({"command": "", "asked": "clip0.mp4"}, "no command named ''"),
        ({"command": ["find"], "asked": "clip0.mp4"}, "command = ['find'], expected str"),
        ({"asked": "clip0.mp4"}, "missing a required argument: 'command'"),
        ({"command": "find"}, "missing a required argument: 'asked'"),
        ({"command": "find", "asked": 7}, "asked = 7, expected str"),
        ({"command": "find", "asked": "film", "top": 2.5}, "top = 2.5, expected int"),
        ({"command": "find", "asked": "film", "top": True}, "top = True, expected int"),
        ({"command": "find", "asked": "film", "top": 0}, "top = 0, expected 1 to"),
        ({"command": "find", "asked": "film", "colour": "red"}, "unexpected keyword argument 'colour'"),
        ({"command": "find", "asked": "film", "catalogue": "red"}, "'catalogue'"),
        ({"command": "similar", "asked": "x", "file": {}}, "file = {}, expected str"),
        ({"command": "find", "asked": "\udcff"}, "bytes that are no UTF-8"),
        ({"command": "find", "asked": "\ud800"}, "bytes that are no UTF-8"),
        ({"command": "find", "asked": "x" * 100_000}, "100000 characters, expected at most"),
    ],
)
def test_what_is_no_question_is_refused(server, capfd, request_, message):
    status, _, content = got(server, "/reply", "POST", body=request_)
    assert status == 400 and message in json.loads(content)["error"]
    assert_still_answers(server, capfd)


@pytest.mark.parametrize("body", [b"", b"{nope", b"null", b"[1]", b'"\xff"', b"[" * 100_000, b"1" * 5000])
def test_what_is_no_json_is_refused(server, capfd, body):
    start = (
        f"POST /{TOKEN}/reply HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    )
    answer = sent(server, f"{start}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert answer.split()[1] in (b"400", b"422") and b"Content-Security-Policy" in answer.title()
    assert_still_answers(server, capfd)


@pytest.mark.parametrize(
    "parts",
    [
        [b"hello\r\n\r\n"],
        [bytes(range(128, 256)) + b"\r\n\r\n"],
        [b"\x16\x03\x01\x02\x00\x01\x00" + b"a" * 500 + b"\r\n\r\n"],
        [b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n"],
        [b"GET / HTTP/1.1\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"],
        [b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n"],
        [f"POST /{TOKEN}/reply HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode(), b"zz\r\n"],
    ],
)
def test_what_is_no_http_is_refused_with_all_headers(server, capfd, parts):
    answer = sent(server, *parts)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"no HTTP request" in answer
    assert b"\r\nContent-Security-Policy: default-src 'none'" in answer
    assert b"\r\nCross-Origin-Resource-Policy: same-origin\r\n" in answer
    assert_still_answers(server, capfd)


@pytest.mark.parametrize(
    "garbage", [b"zz\r\n", b"2\r\n{}\r\nzz\r\n", b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n\xff\r\n\r\n"]
)
def test_garbage_behind_a_request_is_answered_once(server, capfd, garbage):
    start = b"POST /wrong/reply HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = sent(server, start + garbage)
    assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 ")) and answer.count(b"HTTP/1.1") == 1
    assert_still_answers(server, capfd)


def test_clients_that_leave_or_fall_silent_hold_nobody_up(server, capfd, monkeypatch):
    host = "Host: localhost\r\nConnection: close\r\n"
    requests = [
        f"GET /{TOKEN}{address} HTTP/1.1\r\n{host}\r\n" for address in ("/", "/?q=film", "/thumbnail?id=clip3.mp4")
    ]
    requests += [f"POST /{TOKEN}/reply HTTP/1.1\r\n{host}Content-Length: 100\r\n\r\n{{", "GET /fi", ""]
    silent = []
    for start in requests * 8:
        link = socket.create_connection((client.HOST, server))
        link.sendall(start.encode())
        silent.append(link)
        leaving = socket.create_connection((client.HOST, server))
        leaving.sendall(start.encode())
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        leaving.close()
    assert_still_answers(server, capfd)
    for link in silent:
        link.close()
    monkeypatch.setattr(app_server, "SILENCE", 0.5)
    assert sent(server, b"GET /fi") == sent(server, b"") == b"", "the server ends them"
    assert_still_answers(server, capfd)


def test_many_clients_are_all_answered(server, capfd):
    addresses = [
        "/",
        "/find?q=film+bravo&system=title",
        "/thumbnail?id=clip3.mp4",
        "/similar?id=clip3.mp4&system=pooled",
    ]
    with ThreadPoolExecutor(50) as clients:
        statuses = list(clients.map(lambda address: got(server, address)[0], addresses * 50))
    assert statuses == [200] * 200
    assert_still_answers(server, capfd)


@pytest.mark.parametrize(
    "address",
    ["/", "/find?q=film", "/similar?id=clip0.mp4", "/thumbnail?id=clip0.mp4", "/video?id=clip0.mp4", "/nothing"],
)
def test_pages_from_elsewhere_learn_nothing(server, address):
    for site in ("cross-site", "same-site", "odd"):
        for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe"), ("no-cors", "script")):
            status, headers, content = got(
                server, address, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=dest
            )
            assert status == 403 and len(content) < 100
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        followed = got(server, address, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
        assert followed[0] == got(server, address, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")[0]


def test_a_question_gives_pictures_that_lead_on(server):
    status, shown = page(server, q="x bars", top=5)
    assert status == 200
    links, files = ([a["href"] for a in shown.of("a") if a["href"].startswith(start)] for start in ("./?like", "video"))
    pictures = [v["poster"] for v in shown.of("video")]
    assert len(links) == len(files) == len(pictures) == 5
    assert [i["value"] for i in shown.of("input") if i["name"] == "q"] == ["x bars"]
    status, _, content = got(server, "/" + pictures[0])
    assert status == 200 and Image.open(io.BytesIO(content)).size == (clips.WIDTH, clips.HEIGHT)
    cut = cached_jpeg.cache_info().misses
    assert got(server, "/" + pictures[0])[2] == content and cached_jpeg.cache_info().misses == cut
    status, headers, content = got(server, links[0].removeprefix("."))
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
            for name in ("src", "href", "action", "poster"):
                assert attributes.get(name, "./").startswith(("./", "thumbnail?", "video?"))


def test_a_question_of_the_greatest_length_is_answered(server):
    status, _, content = got(server, "/find?system=title&q=" + quote("🎬" * 1999 + "x"))
    assert status == 200 and len(json.loads(content)["asked"]) == 2000


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
        ("/find?q=" + "x" * 3000, "the question has 3000 characters, expected at most"),
        ("/find?q=" + quote("映" * 2001), "the question has 2001 characters, expected at most"),
        ("/find?q=" + "x" * 300_000, "the question has 300000 characters, expected at most"),
        ("/find?q=%ff%fe", "the question has bytes that are no UTF-8"),
        ("/find?q=%c4%e3%ba%c3", "the question has bytes that are no UTF-8"),
        ("/find?q=bars%ed%a0%80", "the question has bytes that are no UTF-8"),
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
    assert got(server, "/video?id=" + quote(asked, safe=""))[0] == 404
    assert got(server, "/" + quote(asked.lstrip("/"), safe="/"))[0] in (200, 404, 403)
    assert got(server, "/../params.yaml")[0] == 404


def test_a_video_is_played_and_a_part_of_one_from_its_start_to_its_end(server):
    path = Path("raw/clip3.mp4").resolve()
    status, headers, content = got(server, "/video?id=clip3.mp4", Range="bytes=10-29")
    assert status == 206 and content == path.read_bytes()[10:30] and headers["Content-Type"] == "video/mp4"
    folder, id_of = Path("results/tiny/corpora/mine"), pl.col("video_id")
    before, picture = corpora.videos(folder), got(server, "/thumbnail?id=clip3.mp4")[2]
    parts = {"start": 0.0, "end": 0.25, "duration": 0.25}
    try:
        for videos, ending in (
            (before, ""),
            (before.with_columns(pl.when(id_of == "clip3.mp4").then(v).otherwise(n).alias(n) for n, v in parts.items()),
             "#t=0.000,0.250"),
        ):  # fmt: skip
            corpora.write_videos(videos, folder, 1)
            os.utime(folder / "manifest.json")
            _, shown = page(server, q="bars", system="zero_shot")
            played = [v["src"] for v in shown.of("video")]
            assert [v for v in played if v.startswith("video?id=clip3.mp4")] == ["video?id=clip3.mp4" + ending]
        assert got(server, "/thumbnail?id=clip3.mp4")[2] != picture
    finally:
        corpora.write_videos(before, folder, 1)
        os.utime(folder / "manifest.json")


def test_other_methods_and_odd_requests(server):
    assert got(server, "/", method="POST")[0] == 405
    assert got(server, "/reply")[0] == 405
    assert got(server, "/docs")[0] == 404 and got(server, "/openapi.json")[0] == 404
    assert got(server, "/thumbnail")[0] == 404


def test_systems_are_chosen_in_words(server):
    content = got(server, "/")[2].decode()
    words = dict(re.findall(r'<option value="([^"]*)"[^>]*>([^<]*)</option>', content))
    assert words["zero_shot"] == "zero_shot: frames by clip and caption"
    assert words["fine"] == "fine: trained token_match" and words["again"] == "again: zero_shot, its best ranked again"


def test_without_a_question_all_videos_are_listed_in_portions(server):
    seen = []
    address = "/?top=3"
    for number in (3, 3, 2):
        status, _, content = got(server, address)
        shown = Page(content.decode())
        assert status == 200 and len(shown.of("video")) == number
        seen += [v["src"] for v in shown.of("video")]
        more = [a["href"] for a in shown.of("a") if "from=" in a["href"]]
        address = more[-1].removeprefix(".")
    assert len(set(seen)) == small_project.COUNT and len(more) == 1, "the last has a link back alone"
    for odd in ("from=-1", "from=99999999999", "from=x", "top=many"):
        assert got(server, "/?" + odd)[0] in (400, 422)
    status, _, content = got(server, "/?from=99")
    assert status == 200 and b"<video" not in content


def test_pictures_of_moments_are_cut_where_they_are(server):
    first, last = (got(server, f"/thumbnail?id=clip3.mp4&start={at}&end={at}")[2] for at in (0, 1.5))
    numbers = [clips.number_of(np.asarray(Image.open(io.BytesIO(content)))) for content in (first, last)]
    assert numbers == [0, 45]
    for odd in (
        "start=nan&end=1",
        "start=-1&end=1",
        "start=2&end=1",
        "start=0&end=inf",
        "start=1e9&end=1e9",
        "start=x",
    ):
        assert got(server, "/thumbnail?id=clip3.mp4&" + odd)[0] in (404, 422)


def test_a_person_types_and_plays_and_asks_for_more(server, tmp_path):
    with Browser(tmp_path) as browser:
        browser.open(address := f"http://{client.HOST}:{server}/{TOKEN}/")
        assert browser.run("document.activeElement.name") == "q", "a person can type at once"
        browser.type("x bars")
        browser.press("Enter")
        browser.until("location.search.includes('q=x+bars') && document.querySelectorAll('video').length")
        assert not browser.run("[...document.querySelectorAll('video')].some(v => v.readyState)"), (
            "nothing is fetched yet"
        )
        browser.click("video", left=30, bottom=30)  # the button
        browser.until("document.querySelector('video').currentTime > 0.2")
        browser.click(".found a")  # similar
        browser.until("location.search.includes('like=') && document.querySelector('.like video')")
        browser.open(address + "?" + urlencode({"q": small_project.NASTY, "system": small_project.NASTY}))
        assert "alert(" in browser.run("document.querySelector('[role=alert]').textContent")
        assert browser.run("document.querySelector('[name=q]').value") == small_project.NASTY
        assert not browser.run("document.querySelector('script')")
        browser.open(address + "?from=99")
        assert "8 videos" in browser.run("document.querySelector('[role=status]').textContent")
        for query in ("", "?q=x+bars", "?" + urlencode({"like": small_project.name(0)}), "?q=x&top=many"):
            browser.open(address + query, width=360, height=640)
            assert browser.run("document.documentElement.scrollWidth") <= 360, f"{query} scrolls to the side"
