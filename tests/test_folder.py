"""Folders that people have."""

import inspect
import json
import os
import shutil
import unicodedata
from pathlib import Path

import polars as pl
import pytest

from paths import realdata
from videomatch.common import named
from videomatch.corpora import FeatureReader, folder
from videomatch.data.tables import check

SRT = "1\n00:00:01,000 --> 00:00:02,500\n{}\n\n2\n00:00:03,000 --> 00:00:04,000\n<i>second</i> line\n"


def _put(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def _texts(tables: dict[str, pl.DataFrame], video_id: str, kind: str) -> list[tuple]:
    rows = tables["texts"].filter((pl.col("video_id") == video_id) & (pl.col("kind") == kind))
    return rows.select("language", "start", "end", "text").rows()


def _ids(tables: dict[str, pl.DataFrame], split: str, role: str) -> list[str]:
    return sorted(tables["splits"].filter((pl.col("split") == split) & (pl.col("role") == role))["id"])


def test_everything_that_lies_beside_a_video(tmp_path):
    segments = [{"start": 0, "end": 1.5, "text": " hello"}, {"start": "x", "text": "lost"}]
    whisper = {"language": "en", "segments": segments}
    files = {
        "a.zh.srt": SRT.format("你好"),
        "a.en.vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\nhi there\n",
        "a.txt": "A title\nand what it is about",
        "sub/b.json": json.dumps(whisper),
        "sub/b.v2.srt": SRT.format("of v2"),
        "sub/notes.md": "nothing",
    }
    videos = ("a.mp4", "sub/b.MKV", "sub/b.v2.mkv", ".hidden.mp4", ".cache/c.mp4")
    tables = folder.read(raw=_put(tmp_path, {**files, **dict.fromkeys(videos, b"")}))
    for name, rows in tables.items():
        assert rows.equals(check(name, rows))
    assert tables["videos"]["video_id"].to_list() == ["a.mp4", "sub/b.MKV", "sub/b.v2.mkv"]
    assert all(Path(path).is_file() for path in tables["videos"]["path"])
    assert _texts(tables, "a.mp4", "asr") == [
        ("en", 1.0, 2.0, "hi there"),
        ("zh", 1.0, 2.5, "你好"),
        ("en", 3.0, 4.0, "second line"),
    ]
    assert _texts(tables, "a.mp4", "title") == [("en", None, None, "A title and what it is about")]
    assert _texts(tables, "sub/b.MKV", "asr") == [("en", 0.0, 1.5, "hello")]
    assert [row[3] for row in _texts(tables, "sub/b.v2.mkv", "asr")] == ["of v2", "second line"]
    assert _ids(tables, "all", "query") == _ids(tables, "all", "reference") == ["a.mp4", "sub/b.MKV", "sub/b.v2.mkv"]
    assert len(tables["rejected"]) == len(tables["relevance"]) == 0


def test_one_speech_in_several_formats_is_read_once(tmp_path):
    cues = SRT.format("hello")
    whisper = json.dumps([{"start": 1, "end": 2, "text": "hello"}])
    files = {"a.mp4": b"", "a.srt": cues, "a.json": whisper, "a.txt": "hello\nsecond line\n"}
    tables = folder.read(raw=_put(tmp_path, files))
    assert len(_texts(tables, "a.mp4", "asr")) == 2
    assert _texts(tables, "a.mp4", "title") == []  # the .txt is the transcript


def test_a_broken_subtitle_is_listed_and_the_next_one_taken(tmp_path):
    files = {
        "a.mp4": b"",
        "a.srt": b"\xff\x00garbage\x07",
        "a.json": "{}",
        "a.vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\nok\n",
    }
    tables = folder.read(raw=_put(tmp_path, {**files, "b.mp4": b"", "b.json": "{", "b.srt": ""}))
    assert [row[3] for row in _texts(tables, "a.mp4", "asr")] == ["ok"]
    assert sorted(Path(p).name for p in tables["rejected"]["path"]) == ["a.srt", "b.json"]  # b.srt: nothing was said
    assert set(tables["rejected"]["video_id"]) == {"a.mp4", "b.mp4"}
    assert tables["videos"].height == 2


def test_a_list_of_videos(tmp_path):
    listing = (
        "file,title,tags,category,captions,split\n"
        "a.mp4,The <b>title</b>,cat|dog,animals,a cat sits|a cat sleeps,train\n"
        "./a.mp4,,dog,,one more caption,\n"
        "sub\\b.mp4,,,,a dog,test|val\n"
        "gone.mp4,x,,,,\n"
        "../outside.mp4,x,,,,\n"
        "notes.md,x,,,,\n"
    )
    files = {"a.mp4": b"", "sub/b.mp4": b"", "notes.md": b"", "videos.csv": listing, "a.txt": "not used"}
    tables = folder.read(raw=_put(tmp_path, files))
    assert tables["videos"].select("video_id", "category", "tags").rows() == [
        ("a.mp4", "animals", ["cat", "dog"]),
        ("sub/b.mp4", None, None),
    ]
    assert _texts(tables, "a.mp4", "title") == [("en", None, None, "The title")]
    assert [row[3] for row in _texts(tables, "a.mp4", "caption")] == ["a cat sits", "a cat sleeps", "one more caption"]
    assert tables["relevance"]["reference_id"].to_list() == ["a.mp4"] * 3 + ["sub/b.mp4"]
    assert _ids(tables, "captions_all", "query") == sorted(tables["relevance"]["query_id"])
    assert _ids(tables, "captions_all", "reference") == ["a.mp4", "sub/b.mp4"]
    assert _ids(tables, "train", "reference") == ["a.mp4"]
    assert _ids(tables, "captions_test", "query") == ["sub/b.mp4:caption:0"]
    assert tables["rejected"].height == 3
    assert "line 5: file 'gone.mp4' does not exist" in tables["rejected"]["reason"][0]
    assert "not a video by its ending" in tables["rejected"]["reason"][2]


def test_a_list_as_json_lines(tmp_path):
    rows = [{"path": "a.mp4", "title": "你好", "tags": ["x", "y"], "captions": ["one | with a bar"]}]
    tables = folder.read(raw=_put(tmp_path, {"a.mp4": b"", "videos.jsonl": "\n".join(map(json.dumps, rows)) + "\n"}))
    assert tables["videos"]["tags"].to_list() == [["x", "y"]]
    assert _texts(tables, "a.mp4", "caption")[0][3] == "one | with a bar"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"videos.csv": "pth,title\na.mp4,x\n"}, "no column 'path' or 'file'.*did you mean 'pth'"),
        ({"videos.csv": "title,tags\na.mp4,x\n"}, r"no column 'path' or 'file' among \['title', 'tags'\]$"),
        ({"videos.csv": "filename,titles\na.mp4,x\n"}, "did you mean 'filename'"),
        ({"videos.csv": "TITLES,split\na.mp4,x\n"}, r"among \['TITLES', 'split'\]$"),
        ({"videos.csv": f"path,{'x' * 200_000}\n"}, "line 1: field larger than field limit"),
    ],
)
def test_a_wrong_list_says_what_is_wrong(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        folder.read(raw=_put(tmp_path, {"a.mp4": b"", **files}))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "videos.csv",
            "path,titel,title\na.mp4,x,cat\nb.mp4,y,dog\n",
            "line 1: unknown column 'titel' is left out (columns are ",
        ),
        (
            "videos.jsonl",
            '{"path": "a.mp4", "title": "cat"}\n{"path": "b.mp4", "url": 1, "title": "dog"}',
            "line 2: unkno",
        ),
        ("videos.csv", "path,title,,\na.mp4,cat,,\nb.mp4,dog,,\n", "line 1: unknown column ''"),
    ],
)
def test_a_column_of_another_name_is_reported_once(tmp_path, name, content, reason):
    tables = folder.read(raw=_put(tmp_path, {"a.mp4": b"", "b.mp4": b"", name: content}))
    assert tables["texts"]["text"].to_list() == ["cat", "dog"]
    [(_, path, found)] = tables["rejected"].rows()
    assert path == str(tmp_path / name) and reason in found and "columns are path, file" in found
    assert "did you mean" not in found


def test_the_column_that_is_meant_is_named(tmp_path):
    rows = "PATHS,Tag,path\n,x,a.mp4\n"
    tables = folder.read(raw=_put(tmp_path, {"a.mp4": b"", "videos.csv": rows}))
    assert [row[2].split("; ")[1:] for row in tables["rejected"].rows()] == [[], ["did you mean 'tags'?"]]


def test_two_lists_add_up(tmp_path):
    lists = {
        "videos.csv": "path,title\na.mp4,cat\n",
        "videos.jsonl": '{"path": "a.mp4", "title": "x", "captions": ["a cat"]}',
    }
    tables = folder.read(raw=_put(tmp_path, {"a.mp4": b"", **lists}))
    assert tables["texts"]["text"].to_list() == ["cat", "a cat"] and not tables["rejected"].height


def test_no_video_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"no video; looked for .*\.webm"):
        folder.read(raw=_put(tmp_path, {"a.txt": ""}))
    with pytest.raises(ValueError, match="expected a folder"):
        folder.read(raw=tmp_path / "absent")


def test_odd_names_and_links(tmp_path):
    raw, other = tmp_path / "raw", tmp_path / "other"
    _put(other, {"linked.mp4": b""})
    decomposed = unicodedata.normalize("NFD", "Übung ñ.mp4")
    _put(raw, {decomposed: b"", "a\nb.mp4": b"", "title_of.a video.mp4": b""})
    (raw / "folder").symlink_to(other)
    (raw / "circle").symlink_to(raw)
    (raw / "dangling.mp4").symlink_to(tmp_path / "nothing")
    (Path(os.fsdecode(os.fsencode(raw) + b"/bad\xff.mp4"))).write_bytes(b"")
    tables = folder.read(raw=raw, title_from_name=True)
    ids = sorted(["Übung ñ.mp4", "a%0Ab.mp4", "folder/linked.mp4", "title_of.a video.mp4"])
    assert _texts(tables, "title_of.a video.mp4", "title")[0][3] == "title of a video"
    assert tables["videos"]["video_id"].to_list() == ids
    assert all(Path(path).is_file() for path in tables["videos"]["path"])
    assert sorted(tables["rejected"]["reason"])[0].startswith("file name is not valid UTF-8")
    assert sorted(tables["rejected"]["reason"])[1] == "link to nothing"


def test_a_list_of_very_many_unknown_columns_names_some(tmp_path: Path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "videos.csv").write_text(f"path,{','.join(f'c{n}' for n in range(20_000))}\na.mp4\n")
    rejected = folder.read(raw=tmp_path)["rejected"]["reason"]
    assert len(rejected) == 51 and "further unknown columns" in rejected[50]


def test_real_videos_and_subtitles_of_other_people_real(tmp_path):
    videos = sorted((realdata() / "videos").rglob("*.mp4"))
    found = [p for p in sorted((realdata() / "asr_subtitle_ocr").rglob("*")) if p.suffix in (".srt", ".ass")]
    for path, video in zip(found, videos, strict=False):
        (tmp_path / f"{path.stem}.mp4").symlink_to(video)
        shutil.copy(path, tmp_path)
    tables = folder.read(raw=tmp_path)
    assert tables["videos"].height == len(found) == 8
    spoken = tables["texts"].filter(pl.col("kind") == "asr")
    assert spoken.height > 500 and (spoken["end"] >= spoken["start"]).all()
    assert {"zh", "en"} <= set(spoken["language"])
    # the two files with pictures only hold no line of text, so they are listed
    assert tables["rejected"]["reason"].str.contains("no subtitle found").sum() == 2


def test_a_folder_of_real_videos_real():
    tables = folder.read(raw=realdata() / "videos")
    assert tables["videos"].height == len(_ids(tables, "all", "query")) >= 40
    assert not tables["rejected"].height


@pytest.mark.parametrize("name", named.names("corpora"))
def test_every_reader_keeps_the_protocol(name):
    module = named.module("corpora", name)
    first, *options = inspect.signature(module.read).parameters.values()
    assert first.name == ("renders" if name == "generated" else "raw") and first.kind is first.KEYWORD_ONLY
    if name == "generated":
        assert [option.name for option in options] == ["seed", "shards", "options"]
    else:
        assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)
    if isinstance(module, FeatureReader):
        assert list(inspect.signature(module.frame_features).parameters) == ["raw", "ids"]


def test_captioned_data_sets_share_their_options():
    for name in ("activitynet", "didemo", "lsmdc", "msrvtt", "msvd", "vatex"):
        options = list(inspect.signature(named.module("corpora", name).read).parameters)
        assert options[-2:] == ["media", "partial"]
