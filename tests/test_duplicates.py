"""videomatch duplicates: which files hold the same film, which of them is kept, and what is ever deleted."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import films
from pages import Page
from videomatch import Library, cli
from videomatch.folders import duplicate_list, duplicates


def larger(image, _):
    """Twice as wide and high."""
    return cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


def barred(image, _):
    """Between bars above and below."""
    return np.pad(image, [(12, 12), (0, 0), (0, 0)])


@pytest.fixture(scope="module")
def films_below(tmp_path_factory):
    """A film, the same in another size, in grey, cut, named twice and linked; two strangers with one opening and bars;
    and a compilation of two strangers."""
    raw = tmp_path_factory.mktemp("films")
    films.write(raw / "film.mp4", (1, 0, 16))
    films.write(raw / "large.mp4", (1, 0, 16), edit=larger)
    films.write(raw / "grey.mp4", (1, 0, 16), edit=films.darker)
    films.write(raw / "cut.mp4", (1, 4, 12))
    shutil.copy(raw / "film.mp4", raw / "twin = film.mp4")
    os.link(raw / "film.mp4", raw / "link.mp4")
    for name, seed in (("one", 2), ("other", 3)):
        films.write(raw / f"{name}.mp4", (9, 0, 6), (seed, 0, 10), edit=barred)
    films.write(raw / "long.mp4", (4, 0, 8), (5, 0, 8))
    films.write(raw / "part4.mp4", (4, 1, 7))
    films.write(raw / "part5.mp4", (5, 1, 7))
    return raw


@pytest.fixture
def folder(films_below, tmp_path, monkeypatch):
    """A copy of the films, with indexes elsewhere; what an index costs is paid once."""
    home = films_below.with_name("home")
    monkeypatch.setenv("VIDEOMATCH_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return films_below


def found(answer):
    """Name -> (kind, suggestion, name of the file that holds it, from, to) of the files in groups."""
    rows = [row for group in answer.groups for row in group]
    return {Path(r.path).stem: (r.kind, r.suggestion, Path(r.of).stem, r.start, r.end) for r in rows}


def test_kinds_and_what_is_kept(folder):
    library = Library(folder, model="none")
    answer = library.duplicates()
    rows = found(answer)
    assert len(answer.groups) == 2 and answer.files == 11
    kept = {name: row[:3] for name, row in rows.items()}
    assert kept["large"] == ("", "keep", "large")  # more pixels
    assert kept["film"] == ("same content", "delete", "large")
    assert kept["twin = film"] == ("identical", "delete", "film") and "link" not in kept  # a link frees nothing
    assert kept["grey"] == ("edited", "look", "large")  # its colours are gone, so it is no other encoding
    assert kept["cut"][:3] == ("part", "look", "large") and rows["cut"][3:] == pytest.approx((4, 12), abs=0.6)
    # the parts of a compilation are its parts, and no duplicates of each other
    assert kept["long"][1] == "keep" and kept["part4"] == kept["part5"] == ("part", "look", "long")
    assert rows["part5"][3:] == pytest.approx((9, 15), abs=0.6)
    assert not {"one", "other"} & kept.keys()  # they share an opening and bars


def test_the_share_decides_what_belongs_together(folder):
    library = Library(folder)
    assert {"one", "other"} <= found(library.duplicates(0.3)).keys()
    with pytest.raises(ValueError, match=r"share = 1\.5, expected more than 0 and at most 1"):
        library.duplicates(1.5)


@pytest.mark.parametrize("seconds", [2, 4, 10])
def test_films_of_still_pictures_are_found(tmp_path, monkeypatch, seconds):
    """The same slides in two sizes; but not other slides, or black ones."""
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))

    def still(image, second):
        return films.picture(seed, second // seconds * seconds)

    for name, seed, edit in (("talk", 1, still), ("other", 2, still), ("large", 1, lambda *at: larger(still(*at), 0))):
        films.write(tmp_path / f"raw/{name}.mp4", (seed, 0, 6 * seconds), edit=edit)
    films.write(tmp_path / "raw/black.mp4", (3, 0, 12), edit=lambda image, _: 0 * image)
    films.write(tmp_path / "raw/begins black.mp4", (4, 0, 12), edit=lambda image, second: image * (second >= 6))
    answer = Library(tmp_path / "raw", model="none").duplicates()
    assert len(answer.groups) == 1 and found(answer).keys() == {"talk", "large"}


def test_files_of_two_folders_are_compared_with_each_other(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    shutil.copy(folder / "film.mp4", tmp_path / "here")
    shutil.copy(folder / "part4.mp4", tmp_path / "here")
    shutil.copy(folder / "cut.mp4", tmp_path / "there")
    shutil.copy(folder / "part4.mp4", tmp_path / "there/again.mp4")
    assert cli.main(["duplicates", "here", "there", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [[os.path.relpath(row["path"], tmp_path) for row in group] for group in groups] == [
        ["here/film.mp4", "there/cut.mp4"],
        ["here/part4.mp4", "there/again.mp4"],
    ]


def test_a_table_a_list_and_a_page_are_written(folder, tmp_path, capsys):
    assert cli.main(["duplicates", str(folder), "--csv", "list.csv", "--page", "page.html"]) == 0
    printed = capsys.readouterr()
    assert f"{folder}/cut.mp4  (part: 100% of it, at 00:0" in printed.out and "nothing was deleted" in printed.err
    with (tmp_path / "list.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and {row["delete"] for row in rows} == {""}  # nobody looked at it yet
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (
        str(folder / "twin = film.mp4") in " ".join(Page(text).words)
        and text.count("data:image/jpeg") == text.count("<video") == 8
    )


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A list of a group: ``a`` is kept, ``b`` is an edit of it, ``c`` is a copy of ``b``; and what marks rows in it."""
    monkeypatch.chdir(tmp_path)
    contents = {"a": b"one", "b": b"two", "c": b"two"}
    digest = {}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        digest[name] = duplicates.digests.file_digest(tmp_path / name)
    of = {"a": "a", "b": "a", "c": "b"}

    def mark(**marks):
        rows = [f"1,{marks.get(n, '')},{tmp_path / n},{tmp_path / of[n]},{digest[n]}" for n in contents]
        (tmp_path / "list.csv").write_text("\n".join(["group,delete,path,of,sha256", *rows]))

    mark()
    return mark


@pytest.mark.parametrize(
    ("marks", "left"), [({}, "abc"), ({"b": "yes"}, "ac"), ({"b": "x", "c": " YES "}, "a"), ({"c": "x"}, "ab")]
)
def test_what_is_marked_is_deleted_and_nothing_else(listed, tmp_path, capsys, marks, left):
    listed(**marks)
    assert cli.main(["duplicates", "--delete", "list.csv"]) == 0
    assert "".join(sorted(p.name for p in tmp_path.iterdir() if p.suffix == "")) == left
    assert capsys.readouterr().out.count("deleted ") == 3 - len(left)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_list_is_read_as_spreadsheets_save_it_whatever_the_names(tmp_path, monkeypatch, separator):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "films").mkdir()
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))
    film = films.write(tmp_path / "films/film.mp4", (1, 0, 6))
    twin = Path(shutil.copy(film, tmp_path / "films/a\r, b;\té.mp4"))
    text = duplicate_list.text(Library(tmp_path / "films", model="none").duplicates().groups)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    with (tmp_path / "list.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=separator)
        writer.writeheader()
        writer.writerows(row | {"delete": "x" * (row["suggestion"] == "delete")} for row in rows)
    assert len(rows) == 2 and len(duplicate_list.delete(tmp_path / "list.csv")) == 1
    assert film.exists() + twin.exists() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"marks": {"a": "x"}}, "line 2: {}/a: every file of its group that holds it is marked, too: keep one"),
        ({"marks": {"b": "x", "a": "x"}}, "marked, too: keep one"),
        ({"marks": {"b": "maybe"}}, "line 3: {}/b: delete = 'maybe', expected 'yes', 'x' or nothing"),
        ({"marks": {"b": "x"}, "write": "b"}, "{}/b: has other content than in the list; nothing was deleted"),
        ({"marks": {"b": "x"}, "write": "a"}, "{}/a: has other content than in the list; nothing was deleted"),
        ({"marks": {"c": "x", "b": "x"}, "remove": "a"}, "{}/a: does not exist; nothing was deleted"),
        ({"marks": {"b": "x"}, "list": "file,score\n"}, "no column 'delete'"),
    ],
)
def test_one_doubt_and_nothing_is_deleted(listed, tmp_path, capsys, change, message):
    listed(**change["marks"])
    for name in change.get("write", ""):
        (tmp_path / name).write_bytes(b"new")
    for name in change.get("remove", ""):
        (tmp_path / name).unlink()
    if "list" in change:
        (tmp_path / "list.csv").write_text(change["list"])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert cli.main(["duplicates", "--delete", "list.csv"]) == 1
    assert message.format(tmp_path) in capsys.readouterr().err
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}


def test_a_link_to_what_is_marked_is_no_copy_of_it(listed, tmp_path, capsys):
    (tmp_path / "a").unlink()
    (tmp_path / "c").unlink()
    os.link(tmp_path / "b", tmp_path / "c")
    rows = [
        f"1,{m},{tmp_path / n},{tmp_path / 'c'},{duplicates.digests.file_digest(tmp_path / n)}" for n, m in ("bx", "c ")
    ]
    (tmp_path / "list.csv").write_text("\n".join(["group,delete,path,of,sha256", *rows]))
    assert cli.main(["duplicates", "--delete", "list.csv"]) == 1
    assert "is the same file as one that is marked" in capsys.readouterr().err and (tmp_path / "b").exists()


def test_a_name_that_a_spreadsheet_would_compute_is_listed_as_text_and_deleted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("=a", "'=a"):
        Path(name).write_bytes(b"one")
    about = {"share": 1.0, "start": 0.0, "end": 1.0, "score": 1.0, "duration": 1.0, "width": 1, "height": 1}
    about |= {"bit_rate": 8, "bytes": 3, "sha256": duplicates.digests.file_digest(Path("=a"))}
    group = [duplicates.Duplicate(1, how, "", name, "=a", **about) for how, name in (("keep", "=a"), ("", "'=a"))]
    keep, copy = duplicate_list.text([group]).splitlines()[1:]
    assert ",'=a," in keep and ",''=a,'=a," in copy
    marked = copy.replace("1,,", "1,x,", 1)
    Path("list.csv").write_text("\n".join([",".join(duplicate_list.COLUMNS), keep, marked]))
    assert duplicate_list.delete(Path("list.csv")) == [Path("'=a")] and Path("=a").exists()
