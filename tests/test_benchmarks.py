"""The page of benchmarks: which commands it has, and what it says of what they measured."""

import importlib
import re
import shlex

import pytest

from paths import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPT = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
from _claims import claim
claim("reading", [2.0, 1.0, 4.0], "CPU s", peer=("a | peer", [4.0, 3.0, 4.0]), floor=("copy", [1.0]), bar=2)
claim("finding", [0.5], "", peer=("chance", [0.25]), bar=3, more=True)
"""


@pytest.fixture
def page(monkeypatch, tmp_path):
    """The module, whose commands are files of another folder."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delenv("VIDEOMATCH_CLAIMS", raising=False)
    found = importlib.import_module("page")
    monkeypatch.setattr(found, "HERE", tmp_path)
    return found


def test_every_benchmark_is_on_the_page_with_options_that_it_has(page):
    scripts = {p.stem: p.read_text(encoding="utf-8") for p in FOLDER.glob("[!_]*.py") if p.stem != "page"}
    assert scripts.keys() == page.COMMANDS.keys()
    for name, every in [*page.COMMANDS.items(), *page.CARD.items()]:
        given = [word for options in every for word in shlex.split(options or "")]
        assert not [word for word in given if word.startswith("--") and f'"{word}"' not in scripts[name]], name


def test_what_is_measured_is_a_table_and_the_rest_is_named(page, tmp_path):
    (tmp_path / "store.py").write_text(SCRIPT)
    (tmp_path / "mmt.py").write_text("print('more')\nraise SystemExit('losses differ')")
    (tmp_path / "index.py").write_text("import time\ntime.sleep(600)")
    commands = {name: page.command_line(name, page.COMMANDS[name][0]) for name in ("store", "mmt", "index")}
    about = {"machine": "a machine", "rates": "9 GFLOP/s", "code": "abc"}
    measured = {c: about | page.measure(n, "", 1 if n == "index" else 300) for n, c in commands.items()}
    assert {n: measured[c]["error"] for n, c in commands.items()} == {
        "store": "",
        "mmt": "losses differ",
        "index": "stopped after 1 s",
    }
    text = page.text(measured)
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in text.splitlines() if row[:1] == "|"]
    assert rows[0] == ["claim", "ours", "peer", "times as good", "floor's share", "bar"]
    ours, ratio = "2 (1 to 4) CPU s", "2.00 (1.00 to 3.00)"
    assert rows[2] == ["reading", ours, r"a \| peer: 4", ratio, "copy: 0.50", "2: met"]
    assert rows[3] == ["finding", "0.5", "chance: 0.25", "2.00", "", "3: MISSED"]
    left = text.partition("## Without an entry")[2].splitlines()
    assert (
        not [c for c in commands.values() if f"- `{c}`" in left] and "- `python benchmarks/detector.py --full`" in left
    )
    assert "**It failed**: losses differ" in text and "\n    more\n" in text


def test_a_command_without_its_data_is_not_run(page, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDEOMATCH_REALDATA", str(tmp_path))
    monkeypatch.delenv("WHISPER", raising=False)
    assert page.missing("--rounds 3 'a b'") is None
    assert page.missing(page.COMMANDS["decode"][1]) == "$VIDEOMATCH_REALDATA/videos"
    assert page.missing(page.COMMANDS["speech"][1]) == "$WHISPER"
    (tmp_path / "videos").mkdir()
    assert page.missing(page.COMMANDS["decode"][1]) is None
