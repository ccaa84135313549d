"""The page of `videomatch serve` on an index: kinds of hits, copies that play, hostile names, a person who clicks."""

import json
import re

import pytest
from starlette.testclient import TestClient

import films
from pages import Browser, Page, served
from videomatch import cli
from videomatch.app import indexes
from videomatch.app.server import create_app
from videomatch.folders.folder_search import FolderCatalogue
from videomatch.reports import pages

NASTY = '"><script>document.title = 1<_script> &amp; #t=9.mp4'
SUBTITLE = "1\n00:00:01,000 --> 00:00:02,500\nWe launched the rocket\n"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Four films, of which one is a part of another and one has a hostile name, in an index that sees no pictures."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VIDEOMATCH_HOME", str(folder / "home"))
        films.write(folder / "raw/whole rocket.mp4", (1, 0, 12))
        films.write(folder / "raw/piece.mp4", (7, 0, 3), (1, 4, 9))
        films.write(folder / "raw/strange.mp4", (3, 0, 4))
        films.write(folder / "raw" / NASTY, (5, 0, 4))
        (folder / "raw/strange.srt").write_text(SUBTITLE)
        assert cli.main(["index", str(folder / "raw"), "--model", "none", "--name", "mine"]) == 0
        yield create_app(FolderCatalogue(indexes.place("mine")), "mine", "token")


@pytest.fixture
def page(app):
    client = TestClient(app, base_url="http://127.0.0.1")
    return lambda address, status=200: _checked(client.get("/token/" + address), status)


def _checked(reply, status):
    assert reply.status_code == status, reply.text
    return reply.text


def test_a_search_is_restricted_to_kinds_of_hits(page):
    both, names = page("?q=rocket"), page("?q=rocket&in=titles")
    assert [len(Page(text).of("video")) for text in (both, names, page("?q=rocket&in=speech"))] == [2, 1, 1]
    boxes = [box for box in Page(names).of("input") if box.get("type") == "checkbox"]
    assert [box["value"] for box in boxes if "checked" in box] == ["titles"] and len(boxes) == 4
    assert "video?id=strange.mp4#t=1.000,2.500" in both and "start=1.000&amp;end=2.500" in both
    assert "no kind of hits named" in page("?q=rocket&in=smells", 400)
    assert len(json.loads(page("find?q=rocket&in=speech"))["hits"]) == 1


def test_copies_of_a_video_of_the_index(page):
    text = page("copies?id=piece.mp4")
    got = Page(text)
    assert len(got.of("a", "bar")) == len(got.of("image", "map")) == 1 and len(got.of("video")) == 2
    times = [re.search(r"id=(.*)#t=(.*),(.*)", v["src"]).groups() for v in got.of("video")]
    assert [name for name, *_ in times] == ["piece.mp4", "whole+rocket.mp4"]
    assert [float(t) for _, *two in times for t in two] == pytest.approx([3, 8, 4, 9], abs=0.5)
    assert "this very file" not in text and "No part of it was found" in page("copies?id=strange.mp4&parts=1")
    assert "is no video of index" in page("copies?id=..%2Fhome", 400)


def test_files_that_hold_the_same_film_are_shown_side_by_side(page):
    assert [a["href"] for a in Page(page("")).of("a") if a["href"] == "duplicates"] == ["duplicates"]
    text = page("duplicates")
    got = Page(text)
    assert len(got.of("div", "beside")) == 1 and "Duplicates" in got.words
    played = [re.search(r"id=([^#]*)", video["src"])[1] for video in got.of("video")]
    assert played == ["whole+rocket.mp4", "piece.mp4"]  # the one to keep first
    assert "keep" in text and "look" in text and "raw/piece.mp4" in text


def test_an_index_without_videos_says_so_and_files_have_the_type_of_their_format(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/empty.mp4").write_bytes(b"")
    cli.main(["index", str(tmp_path / "raw"), "--model", "none", "--name", "mine"])
    client = TestClient(create_app(FolderCatalogue(indexes.place("mine")), "mine", "token"), "http://127.0.0.1")
    assert "holds no video yet" in _checked(client.get("/token/duplicates"), 400)
    types = {"a.ts": "video/mp2t", "b.M2TS": "video/mp2t", "c.3g2": "video/3gpp2", "d.mp4": "video/mp4"}
    film = films.write(tmp_path / "film.ts", (1, 0, 1)).read_bytes()
    for number, name in enumerate(types):
        (tmp_path / "raw" / name).write_bytes(film + bytes(number))
    assert cli.main(["index", str(tmp_path / "raw")]) == 0
    assert {name: client.get(f"/token/video?id={name}").headers["Content-Type"] for name in types} == types


def test_a_person_searches_plays_and_follows_copies(app, tmp_path):
    with served(app) as port, Browser(tmp_path) as browser:
        browser.open(address := f"http://127.0.0.1:{port}/token/")
        assert browser.run("document.querySelectorAll('video').length") == 4
        assert not browser.run("document.querySelector('script') || document.title === '1'")
        browser.click("[value=speech]")
        browser.click("[name=q]")
        browser.type("rocket")
        browser.press("Enter")
        browser.until("document.querySelectorAll('video').length === 1")
        assert browser.run("document.querySelector('[value=speech]').checked")
        browser.run("document.querySelector('video').focus()")
        browser.press(" ", "Space")
        browser.until("document.querySelector('video').currentTime > 1.1")
        browser.until("document.querySelector('video').paused")
        assert 1 < browser.run("document.querySelector('video').currentTime") < 3, "it ends with the moment"
        browser.open(address + "?q=nothing")
        assert "Nothing was found" in browser.run("document.querySelector('[role=status]').textContent")
        for name in ("copies?id=piece.mp4", "copies?id=strange.mp4", "?q=rocket"):
            browser.open(address + name, width=360, height=640)
            assert browser.run("document.documentElement.scrollWidth") <= 360, f"{name} scrolls to the side"
        browser.open(address + "?q=piece&in=titles")
        browser.click("a[href^=copies]")
        browser.until("document.querySelector('.bar')")
        browser.click(".bar")
        assert browser.run("document.querySelector(':target').id") == "segment1"
        assert browser.run("document.querySelector('.map').getBoundingClientRect().width") > 100, "its picture may load"
        for side, start in ((0, 3), (1, 4)):
            browser.run(f"document.querySelectorAll(':target video')[{side}].focus()")
            browser.press(" ", "Space")
            browser.until(f"document.querySelectorAll(':target video')[{side}].currentTime > {start - 0.5}")


def test_serve_of_a_folder_makes_its_index_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    films.write(tmp_path / "my films/a.mp4", (1, 0, 2))
    assert cli.main(["serve", "my films", "--port", "99999"]) == 1
    printed = capsys.readouterr()
    assert "index 'my-films' of" in printed.out and "port 99999: expected 0 to 65535" in printed.err
    assert list(indexes.known()) == ["my-films"]
    assert cli.main(["serve", "no folder"]) == 1 and "no folder is no folder" in capsys.readouterr().err


def test_groups_of_files_are_shown_side_by_side():
    file = pages.Shown(NASTY, "video?id=1", None, facts=["640 × 360", "keep this one"], links=[(NASTY, "./?like=1")])
    text = pages.render(
        "groups.html",
        title="Duplicates",
        links=[],
        about=["2 groups"],
        groups=[(NASTY, [file, pages.Shown("no file")]), ("b", [file])],
    )
    got = Page(text)
    assert len(got.of("div", "beside")) == 2 and len(got.of("video")) == 2 and "<script" not in text
    assert "no picture" in text and "keep this one" in text and got.words.count(NASTY) == 2 * 2 + 1
    assert "There is nothing to show" in pages.render("groups.html", title="", about=[], groups=[], links=[])
