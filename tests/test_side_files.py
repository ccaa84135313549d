"""Subtitles, transcripts, texts and lists beside videos, as tools and people write them."""

import json
import random
import time

import polars as pl
import pytest

from videomatch.corpora import folder
from videomatch.data.encodings import decode
from videomatch.data.subtitles import Cue, subtitles, whisper

SRT = "1\n00:00:01,000 --> 00:00:02,500\n{}\n\n2\n00:00:03,000 --> 00:00:04,000\n<i>second</i> line\n"


def _read(tmp_path, files):
    for name, content in {"a.mp4": b"", **files}.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder.read(raw=tmp_path)


def _said(tables):
    rows = tables["texts"].filter(pl.col("kind") == "asr")
    return rows.select("start", "text").rows()


def _cues(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [tuple(cue) for cue in subtitles(path)]


ENCODED = [
    ("gb18030", "zh", "今天我们要烤苹果派\n请加入糖和肉桂"),
    ("gbk", "zh", "今天我們要烤蘋果派\n請加入糖和肉桂，謝謝大家"),
    ("big5", "zh", "今天我們要烤蘋果派\n請加入糖和肉桂"),
    ("cp932", "ja", "今日はりんごのケーキを焼きます\n砂糖とシナモンを入れてください"),
    ("cp932", "ja", "シナモン アップルパイ\nテストです"),
    ("euc_jp", "ja", "今日はりんごのケーキを焼きます\n砂糖とシナモンを入れてください"),
    ("cp949", "ko", "오늘은 사과 파이를 굽습니다\n설탕과 계피를 넣으세요"),
    ("cp1251", "ru", "Сегодня мы печём яблочный пирог\nДобавьте сахар и корицу"),
    ("koi8_r", "ru", "Сегодня мы печём яблочный пирог\nДобавьте сахар и корицу"),
    ("koi8_u", "uk", "Сьогодні ми печемо яблучний пиріг\nДодайте цукор і корицю, будь ласка"),
    ("cp1251", "uk", "Сьогодні ми печемо яблучний пиріг\nДодайте цукор і корицю, будь ласка"),
    ("cp866", "ru", "Сегодня мы печём яблочный пирог\nДобавьте сахар и корицу"),
    ("cp1250", "pl", "Dzisiaj upieczemy szarlotkę.\nProszę dodać cukier i święty spokój, jeśli można"),
    ("cp1250", "cs", "Dnes upečeme jablečný koláč\nPřidejte cukr a skořici, prosím"),
    ("cp1252", "fr", "Aujourd’hui nous préparons une tarte aux pommes\nAjoutez le sucre à la fin, s’il vous plaît"),
    ("cp1252", "de", "Heute backen wir einen Kuchen mit Äpfeln\nBitte Zucker hinzufügen, das ist schön"),
    ("cp1253", "el", "Σήμερα θα ψήσουμε μηλόπιτα\nΠροσθέστε ζάχαρη και κανέλα"),
    ("cp1254", "tr", "Bugün elmalı turta pişireceğiz\nLütfen şeker ve tarçın ekleyin"),
    ("cp1255", "he", "היום נאפה פאי תפוחים\nהוסיפו סוכר וקינמון"),
    ("cp1256", "ar", "اليوم سنخبز فطيرة التفاح\nأضف السكر والقرفة"),
    ("cp874", "th", "วันนี้เราจะอบพายแอปเปิล\nใส่น้ำตาลและอบเชย"),
]


@pytest.mark.parametrize(("encoding", "language", "text"), ENCODED)
def test_code_pages(tmp_path, encoding, language, text):
    lines = text.split("\n")
    srt = "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{line}\n\n" for n, line in enumerate(lines, 1))
    assert decode(srt.encode(encoding)) == srt
    tables = _read(tmp_path, {"a.srt": srt.encode(encoding)})
    assert len(_said(tables)) == 2 and not tables["rejected"].height
    assert set(tables["texts"]["language"]) == {language}


@pytest.mark.parametrize(("encodings", "text"), [
    (("cp1250", "iso8859_2"), "Myslíš, že to přijde?\nNe, už šel domů a ještě teď tam sedí."),
    (("cp1250", "iso8859_2"), "Myslíš, že to príde?\nVieš, že ťa mám rád, ľudia sú tu."),
    (("cp1250", "iso8859_2"), "Są też dobrzy, mówią że będą.\nPójdę z nią do tej szkoły."),
    (("cp1250", "iso8859_2"), "Možeš li doći? Čekaš li još dugo?\nNe znam što ćeš reći."),
    (("cp1250",), "Řekl: »Dobře« – a odešel. Žádné další zprávy jsme od něj neměli."),
    (("cp1253", "iso8859_7"), "Άνθρωπος είναι εδώ, Άννα και Άρης\nΣήμερα θα ψήσουμε μηλόπιτα"),
    (("iso2022_jp", "iso2022_jp_2"), "今日はりんごのケーキを焼きます\n砂糖とシナモンを入れてください"),
    (("iso2022_kr",), "오늘은 사과 파이를 굽습니다\n설탕과 계피를 넣으세요"),
    (("hz",), "今天我们要烤苹果派\n请加入糖和肉桂"),
    (("ascii",), "\x1b[1mbold\x1b[0m and ~{ so on ~} or {~"),
])  # fmt: skip
def test_pages_of_iso_and_escapes(encodings, text):
    srt = SRT.format(text)
    for encoding in encodings:
        assert decode(srt.encode(encoding)) == srt, encoding


@pytest.mark.parametrize("data", [SRT.format("že").encode("iso8859_2"), b"\x1b$B\x01\x02 broken"])
def test_escapes_and_letters_that_fit_two_pages_are_unknown(data):
    with pytest.raises(ValueError, match="encoding unknown"):
        decode(data)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"])
def test_encodings(tmp_path, encoding):
    text = "这是一个字幕，谢谢大家观看"
    files = {"a.srt": SRT.format(text).encode(encoding), "a.txt": f"{text}\n".encode(encoding)}
    tables = _read(tmp_path, files)
    assert _said(tables)[0] == (1.0, "这是一个字幕,谢谢大家观看")
    assert tables["texts"].filter(pl.col("kind") == "title")["text"].to_list() == ["这是一个字幕,谢谢大家观看"]


def test_western_text_is_not_taken_for_chinese():
    text = "Les élèves étaient fatigués, l'été déjà passé: voilà où ça mène."
    assert decode(text.encode("cp1252")) == text
    assert decode(text.encode()) == text
    assert decode(b"") == ""


def test_damaged_utf8_stays_utf8():
    text = "今天我们要烤苹果派，请加入糖和肉桂，谢谢大家观看\n" * 3
    damaged = bytearray(text.encode())
    damaged[40] = 0xFF
    assert decode(bytes(damaged)).count("\ufffd") <= 3
    assert decode(text.encode()[:-2]).startswith("今天我们要烤苹果派")


@pytest.mark.parametrize("text", [SRT.format("今天"), "a title\nand more\n", "Сегодня мы печём пирог", "café " * 50])
def test_a_zero_byte_by_damage_makes_no_utf16_of_a_text(text):
    for at in (0, 3, len(text) // 2, len(text)):
        damaged = f"{text[:at]}\0{text[at:]}"
        assert decode(damaged.encode()) == damaged


@pytest.mark.parametrize(
    "text", ["hi", "a\n", "中\n", "Сегодня мы печём яблочный пирог", "आज हम सेब की पाई बनाएंगे", "今日は\n焼きます"]
)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(text, encoding):
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    "data", ["你好".encode("gbk"), bytes(range(128, 256)) * 20, random.Random(0).randbytes(400).replace(b"\0", b"")]
)
def test_an_encoding_that_cannot_be_told_is_unknown(tmp_path, data):
    tables = _read(tmp_path, {"a.srt": SRT.format("x").encode() + data, "a.txt": data})
    reasons = tables["rejected"]["reason"].to_list()
    assert len(reasons) == 2 and all("encoding unknown" in reason for reason in reasons)
    assert tables["videos"].height == 1 and not tables["texts"].height


ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.070 align:start position:0%
 
today<00:00:00.400><c> we</c><00:00:00.800><c> bake</c>

00:00:02.070 --> 00:00:02.080 align:start position:0%
today we bake
 

00:00:02.080 --> 00:00:04.550 align:start position:0%
today we bake
a<00:00:02.400><c> big</c><00:00:02.900><c> pie</c>

00:00:04.550 --> 00:00:04.560 align:start position:0%
a big pie
 

00:00:04.560 --> 00:00:06.000 align:start position:0%
a big pie
in<00:00:04.800><c> the</c><00:00:05.000><c> oven</c>
"""
PLAIN = "".join(
    f"00:0{n}.000 --> 00:0{n + 1}.000\n{text}\n\n" for n, text in enumerate(["a b", "a b\nc d", "c d", "c d\ne f"])
)
THREE = "00:00.000 --> 00:01.000\na b\nc d\n\n00:01.000 --> 00:01.010\nc d\n\n00:01.010 --> 00:02.000\nc d\ne f\n"
ROLLS = [
    (ROLLING, [(0.16, "today we bake"), (2.08, "a big pie"), (4.56, "in the oven")]),
    ("WEBVTT\n\n" + PLAIN, [(0.0, "a b"), (1.0, "c d"), (3.0, "e f")]),
    ("WEBVTT\n\n" + THREE, [(0.0, "a b c d"), (1.01, "e f")]),
    (ROLLING.replace("\n", "\r\n"), [(0.16, "today we bake"), (2.08, "a big pie"), (4.56, "in the oven")]),
]


@pytest.mark.parametrize(("content", "expected"), ROLLS)
def test_each_line_of_rolling_captions_once_at_its_first_time(tmp_path, content, expected):
    assert _said(_read(tmp_path, {"a.vtt": content})) == expected


def test_a_line_said_again_later_is_kept(tmp_path):
    content = "00:00:01,000 --> 00:00:02,000\nhello\nworld\n\n00:00:09,000 --> 00:00:10,000\nworld\n"
    assert _said(_read(tmp_path, {"a.srt": content})) == [(1.0, "hello world"), (9.0, "world")]


def test_rolling_captions_that_a_tool_made_subrip_of(tmp_path):
    content = THREE.replace("00:0", "00:00:0").replace(".", ",")
    assert _said(_read(tmp_path, {"a.srt": content})) == [(0.0, "a b c d"), (1.01, "e f")]


@pytest.mark.parametrize(
    "between",
    [
        "8d0c6f0e-1b7a-4b7e-9a51-000000000001/12-1\n",
        "intro\n",
        "12\n",
        "NOTE a remark\n\n",
        "NOTE\nof two\nlines\n\n7\n",
        "STYLE\n::cue { color: red }\n\n",
        "REGION\nid:fred\nwidth:40%\n\n",
        "",
    ],
)
def test_webvtt_ids_notes_and_styles_are_not_said(tmp_path, between):
    first, second = (
        "00:01.000 --> 00:03.000 line:0\n<v Person One>Welcome 7\n\n",
        "00:00:04.5 --> 00:06.000\nbake\na pie\n",
    )
    content = (
        f"WEBVTT - title\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000\n\n{between}{first}{between}{second}\nNOTE last\nof file\n"
    )
    assert _cues(tmp_path, "a.vtt", content) == [(1.0, 3.0, "Welcome 7"), (4.5, 6.0, "bake\na pie")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "1\n99:59:58,000 --> 100:00:03,000\na\n\n2\n101:00:00,000 --> 101:00:03,000\nb\n",
            [(359998, 360003, "a"), (363600, 363603, "b")],
        ),
        ("1\n00:00:20 --> 00:00:24\na\n\n2\n00:00:24 --> 00:00:27\nb\n", [(20, 24, "a"), (24, 27, "b")]),
        ("1\n00:00:01.5 --> 00:00:02,25\na\n\n00:00:03 --> 00:00:04,1234\nb", [(1.5, 2.25, "a"), (3, 4.1234, "b")]),
        ("1\n00:01,000 --> 00:02,000\na\n2\n00:03,000 --> 00:04,000\nb", [(1, 2, "a"), (3, 4, "b")]),
        ("1\r00:00:01,000 --> 00:00:03,000\ra\r\r2\r00:00:04,000 --> 00:00:05,000\rb\r", [(1, 3, "a"), (4, 5, "b")]),
        (
            "1\r\r\n00:00:01,000 --> 00:00:03,000\r\r\na\r\r\n\r\r\n2\r\r\n00:00:04,000 --> 00:00:05,000\r\r\nb",
            [(1, 3, "a"), (4, 5, "b")],
        ),
        (
            "1\r\n00:00:01,000 --> 00:00:03,000\r\na\r\n\r\n2\r\n00:00:04,000 --> 00:00:05,000 X1:1\r\nb",
            [(1, 3, "a"), (4, 5, "b")],
        ),
        (
            "1\n00:00:01,000 --> 00:00:03,000\nin\n1984\n\n2\n00:00:04,000 --> 00:00:05,000\n1985\n",
            [(1, 3, "in\n1984"), (4, 5, "1985")],
        ),
        ("1\n00:00:01,000 --> 00:00:03,000\nthe answer\n\n42\n", [(1, 3, "the answer\n42")]),
        ("1\n00:00:01,000 --> 00:00:03,000\ncut here\n\n2\n", [(1, 3, "cut here")]),
        ("1\n00:00:01,000 --> 00:00:03,000\n\n2\n00:00:04,000 --> 00:00:05,000\nb\n", [(4, 5, "b")]),
        ("1\n00:00:01,000 --> 00:00:03,000\na < b\n\nand > c {\\an8}<b>d</b>\n", [(1, 3, "a < b\nand > c d")]),
    ],
)
def test_subrip_as_people_write_it(tmp_path, content, expected):
    assert _cues(tmp_path, "a.srt", content) == expected


SEGMENTS = [{"start": 1.0, "end": 2.5, "text": " bake"}, {"start": 2.5, "end": 4.0, "text": " a pie"}]
BAKE = [(1.0, 2.5, "bake"), (2.5, 4.0, "a pie")]
CHUNKS = [{"timestamp": [1.0, None], "text": " bake"}, {"timestamp": [2.5, 4.0], "text": " a pie"}]
OFFSETS = [{"offsets": {"from": s["start"] * 1000, "to": s["end"] * 1000}, "text": s["text"]} for s in SEGMENTS]


@pytest.mark.parametrize(
    ("content", "expected", "language"),
    [
        ({"language": "en", "segments": SEGMENTS}, BAKE, "en"),
        (SEGMENTS, BAKE, None),
        ({"segments": [*SEGMENTS, {"start": 4.0, "end": None, "text": "x"}]}, [*BAKE, (4.0, 4.0, "x")], None),
        ({"segments": [{**SEGMENTS[0], "end": None}, SEGMENTS[1]]}, BAKE, None),
        ({"segments": [{"start": 1.0, "text": "bake"}, SEGMENTS[1]]}, BAKE, None),
        ({"segments": [{**SEGMENTS[0], "end": None}, {"start": None, "text": "x"}, SEGMENTS[1]]}, BAKE, None),
        ({"segments": [*SEGMENTS, {"start": 4.0, "end": 5.0, "text": None}]}, BAKE, None),
        ({"segments": [*SEGMENTS, None, 7, {"start": "x", "text": "lost"}]}, BAKE, None),
        ({"segments": [*SEGMENTS, {"start": int("1" * 400), "end": 5.0, "text": "x"}]}, BAKE, None),
        ({"result": {"language": "en"}, "transcription": OFFSETS}, BAKE, "en"),
        ({"text": " bake a pie", "chunks": CHUNKS}, BAKE, None),
        ({"text": "", "segments": [], "language": "en"}, [], "en"),
        ({"text": "", "chunks": []}, [], None),
        ([], [], None),
    ],
)
def test_recognisers(tmp_path, content, expected, language):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    cues, found = whisper(path)
    assert cues == [Cue(*cue) for cue in expected] and found == language


def test_a_silent_video_is_no_rejection(tmp_path):
    files = {
        "a.json": '{"text": "", "segments": [], "language": "en"}',
        "a.srt": "",
        "a.vtt": "WEBVTT\n\n",
        "a.ass": "[Script Info]\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, Effect, Text\n",
        "a.txt": "",
    }
    tables = _read(tmp_path, files)
    assert not tables["rejected"].height and not tables["texts"].height


HEAD = "1\n00:00:01,000 --> 00:00:03,000\n"
ENTITIES = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><tt xmlns="http://www.w3.org/ns/ttml">&b;</tt>'
SEGMENT = {"start": 1, "end": None, "text": "a"}
REFUSED = [
    ("a.srt", "00:01,000 --> 00:02,000\na\n" * 700_000, "has more than 100,000 cues"),
    (
        "a.ass",
        "[Script Info]\n\n[Events]\n" + "Dialogue: 0,0:00:01.00,0:00:02.00,,,0,0,0,,x\n" * 400_000,
        "has more than",
    ),
    ("a.json", json.dumps([SEGMENT] * 400_000), "has more than 100,000 cues"),
    ("a.vtt", "WEBVTT\n\n00:00.000 --> 00:05.000\nsprite.jpg#xywh=0,0,160,90\n", "no subtitle found"),
    ("a.json", '{"segments": [' + "{}," * 6_500_000 + "{}]}", "has more than 100,000 cues"),
    ("a.srt", HEAD + "x" * 20_000_000, "line 2: a cue of 20,000,000 characters"),
    ("a.srt", "x" * 20_000_000, "line 1: has 20,000,000 characters"),
    ("a.srt", HEAD + "<" * 100_000, "line 2: a cue of 100,000 characters"),
    ("a.srt", ENTITIES, "line 1: defines an entity"),
    ("a.srt", '<tt xmlns="http://www.w3.org/ns/ttml"><body>', "no readable subtitles"),
    ("a.vtt", "WEBVTT\n\n00:01 --> soon\nx\n", "no subtitle found"),
    ("a.txt", "word " * 6_000_000, "has 30,000,000 bytes, expected at most"),
    ("a.json", "[" * 200_000, "not JSON"),
    ("a.json", '[{"start": 1' + "0" * 5000 + "}]", "not JSON"),
    ("a.json", '[{"start": null, "text": "x"}]', "none of 1 segments has both"),
    ("a.json", '{"text": "x"}', "expected a recogniser's output"),
]


@pytest.mark.parametrize(("name", "content", "reason"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_one_bad_side_file_is_a_row_of_rejected(tmp_path, name, content, reason):
    started = time.process_time()
    tables = _read(tmp_path, {name: content, "b.mp4": b"", "b.srt": SRT.format("hello")})
    assert [text for _, text in _said(tables)] == ["hello", "second line"]
    [row] = tables["rejected"].rows()
    assert row[0] == "a.mp4" and row[1] == str(tmp_path / name) and reason in row[2]
    assert time.process_time() - started < 10


@pytest.mark.parametrize("tag", ["<i>", "</font>", "<c.yellow>", "{\\i1}", "<00:00:01.000>", "<v A B>"])
@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.ass"])
def test_many_tags_take_no_time(tmp_path, tag, name):
    layout = {
        "a.srt": HEAD + "{}\n",
        "a.vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\n{}\n",
        "a.ass": "[Script Info]\nScriptType: v4+\n\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{}\n",
    }
    started = time.process_time()
    assert _said(_read(tmp_path, {name: layout[name].replace("{}", tag * 100_000 + "x")})) == [(1.0, "x")]
    assert time.process_time() - started < 5


def test_lone_surrogates_become_a_sign_that_tables_hold(tmp_path):
    rows = '{"path": "a.mp4", "title": "cat \\ud83d", "captions": ["a \\ude00 cat", "\\ud83d\\ude00"]}\n'
    said = '[{"start": 1, "end": 2, "text": "a \\ud83d b"}]'
    tables = _read(tmp_path, {"videos.jsonl": rows, "a.json": said})
    assert tables["texts"]["text"].to_list() == ["cat", "a b", "a cat", "grinning face"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("videos.csv", "path,title\nb.mp4,{cell}\na.mp4,kept\n", "line 2: field larger than field limit"),
        ("videos.csv", "path,title\nb.mp4,x,y\na.mp4,kept\n", "line 2: more cells than the 2 columns"),
        ("videos.csv", "path,title\n{path},x\na.mp4,kept\n", "line 2: file 'pppp"),
        ("videos.jsonl", '[1]\n{"path": "a.mp4", "title": "kept"}', "line 1: expected an object"),
        ("videos.jsonl", '{\n{"path": "a.mp4", "title": "kept"}', "line 1: not JSON"),
        ("videos.jsonl", '{deep}\n{"path": "a.mp4", "title": "kept"}', "line 1: not JSON"),
        ("videos.jsonl", '{"path": "{path}"}\n{"path": "a.mp4", "title": "kept"}', "line 1: file 'pppp"),
    ],
)
def test_one_bad_line_of_a_list_is_a_row_of_rejected(tmp_path, name, content, reason):
    content = content.replace("{cell}", "x" * 200_000).replace("{path}", "p" * 5000).replace("{deep}", "[" * 100_000)
    tables = _read(tmp_path, {name: content})
    assert tables["texts"]["text"].to_list() == ["kept"]
    [row] = tables["rejected"].rows()
    assert reason in row[2] and len(row[2]) < 400
