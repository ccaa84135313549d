"""Small valid data sets of every reader, and what must hold of all that it reads: what ``fuzz.py`` starts from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import polars as pl

import clips
import records
from videomatch.corpora import activitynet, aiac, avs, didemo, folder, lsmdc, msrvtt, msvd, vatex, vcsl, vsc2022
from videomatch.data import corpus, released, tables
from videomatch.data.store import Store, StoreWriter
from videomatch.media.container import Unreadable
from videomatch.media.decode import FrameRequest, Sampler
from videomatch.media.sound import SoundRequest
from videomatch.stages.prepare import probed

#: columns of seconds and sizes, from 0 up
POSITIVE = ("duration", "fps", "width", "height", "start", "end")
POSITIVE += ("query_start", "query_end", "reference_start", "reference_end")
#: columns of which the first is not after the second
ORDERED = (("start", "end"), ("query_start", "query_end"), ("reference_start", "reference_end"))


class Target(NamedTuple):
    """``write`` makes valid files below a folder; ``read`` reads them and raises AssertionError for nonsense."""

    write: Callable[[Path], None]
    read: Callable[[Path], None]


def sound(found: Mapping[str, pl.DataFrame]) -> None:
    """Nothing in the tables of a reader may be no number, infinite, negative, or end before it starts."""
    for name, rows in found.items():
        rows = tables.check(name, rows)
        for column, dtype in rows.schema.items():
            values = rows[column].drop_nulls()
            assert dtype != pl.Float64 or values.is_finite().all(), f"{name}.{column} holds a number that is none"
            assert column not in POSITIVE or (values >= 0).all(), f"{name}.{column} is negative"
            assert column not in POSITIVE or (values < 1e10).all(), f"{name}.{column} is out of all bounds"
        for first, second in ORDERED:
            if first in rows.columns:
                assert not (rows[first] > rows[second]).any(), f"{name}: {second} is before {first}"


def sound_features(found: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Times of features are unknown as a whole, or from 0 up."""
    for video_id, values, times in found:
        assert values.dtype.kind in "fiu" and values.ndim == 2 and times.shape == (len(values), 2), video_id
        known = times[~np.isnan(times).all(axis=1)]
        assert len(known) in (0, len(times)), f"{video_id}: some times are missing"
        assert np.isfinite(known).all() and (known >= 0).all(), f"{video_id}: times are no numbers from 0 up"
        assert (known[:, 0] <= known[:, 1]).all(), f"{video_id}: an end is before its start"


def write(folder: Path, files: Mapping[str, Any]) -> None:
    """Write texts, bytes, and other values as JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, str | bytes):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def texts_of(module: Any, files: Mapping[str, Any], **options: Any) -> Target:
    """A data set of texts."""
    return Target(lambda raw: write(raw, files), lambda raw: sound(module.read(raw=raw, **options)))


SAID = ["a cat sits", "the dog runs", "two birds sing", "a fish swims"]
CLIPS = ["abc-d_0_10", "-x_y_5_20", "zzz_000010_000020", "q1_1_2"]
LISTS = {f"{split}_list.txt": f"{clip}\n" for split, clip in zip(("train", "val", "test"), CLIPS, strict=False)}

MSRVTT = {
    "MSRVTT_data.json": {
        "videos": [
            {"video_id": f"video{n}", "category": n, "url": f"https://www.youtube.com/watch?v=u{n}", "id": n}
            | {"start time": 1.5 * n, "end time": 1.5 * n + 9, "split": ("train", "validate", "test", "test")[n]}
            for n in range(4)
        ],
        "sentences": [{"sen_id": n, "video_id": f"video{n % 4}", "caption": f"{SAID[n % 4]} {n}"} for n in range(8)],
    },
    "MSRVTT_JSFUSION_test.csv": 'key,video_id,sentence\nret0,video2,two birds sing 2\nret1,video3,"a, b"\n',
    "MSRVTT_train.9k.csv": "video_id\nvideo0\nvideo1\n",
    "train_list_miech.txt": "video0\nvideo1\n",
}
VATEX = {"vatex_training_v1.0.json": [{"videoID": c, "enCap": SAID[:2], "chCap": ["一只猫", "狗跑"]} for c in CLIPS]}
ACTIVITYNET = {
    f"{name}.json": {
        f"v_{c}": {"duration": 30.5, "timestamps": [[0, 10.2], [9.5, 30.5]], "sentences": SAID[:2]} for c in some
    }
    for name, some in (("train", CLIPS[:2]), ("val_1", CLIPS[2:]))
}
DIDEMO = {
    f"{name}_data.json": [{"video": f"{name}_{n}.mov", "description": said} for n in (0, 1) for said in SAID[:2]]
    for name in ("train", "val", "test")
}
LSMDC = {
    f"LSMDC16_{name}.csv": "".join(
        f"{n}_FILM_00.0{n}.51.926-00.0{n}.54.{n}29\t00:00:51,926\t00:00:54,129\t00:00:51\t00:00:54\t{said}\n"
        for n, said in enumerate(SAID, start=first)
    )
    for first, name in ((1, "annos_training"), (5, "challenge_1000_publictect"))
}
TOPICS = {"tv21.avs.txt": "661 Find shots of a cat\n662 Find shots of two dogs\n"}
QRELS = {"avs.qrels.tv21": "1661 0 shot00001_1 1 1\n1661 0 shot00001_2 2 -1\n1662 0 shot00002_1 1 0\n"}
MSB = {
    "msb/00001.tsv": "startframe\tstarttime\tendframe\tendtime\n0\t0\t49\t1.96\n50\t2.0\t99\t3.96\n",
    "msb/00002.msb": "film\n--------\n0 120\n121 300\n",
}
AVS_LIST = {"shots.txt": "shot00001_1 shot00001_2 shot00002_1\n", "V.dropped.shots.list": "shot00001_2\n"}
VCSL = {
    "pair_file_train.csv": "query_id,reference_id\na,b\na,c\n",
    "pair_file_test.csv": "query_id,reference_id\nc,d\nd,a\n",
    "label_file_uuid_total.json": {
        "a-b": [[1, 2, 11, 22], [30, 5, 35, 9]],
        "c-d": [[0, 0, 3, 4]],
        "x-y": [[0, 1, 2, 3]],
    },
    "video_categories.json": {"games": ["a", "b"], "news": ["c"]},
    "frames_all.csv": "uuid,path,frame_count\na,a.mp4,31\nb,b.mp4,40\n",
}
VSC = {
    "train/train_query_metadata.csv": "video_id,duration_sec,frames_per_sec,width,height\nQ1,10.5,30.0,640,360\n",
    "train/train_reference_metadata.csv": "video_id,duration_sec,frames_per_sec,width,height\nR1,20.0,25,1280,720\n",
    "train/train_ground_truth.csv": "query_id,ref_id,query_start,query_end,ref_start,ref_end\nQ1,R1,0.5,5.0,3,8.5\n",
}
CUES = "1\n00:00:01,000 --> 00:00:02,500\nhello <i>you</i>\n\n2\n00:00:03,000 --> 00:01:04,250\n一只猫\n"
ASS = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,hello {\\i1}you
Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,cat
"""
SEGMENTS = [{"start": 1.0, "end": 2.5, "text": " bake"}, {"start": 2.5, "end": 4.0, "text": " a pie"}]
CPP = [{"offsets": {"from": 1000, "to": 2500}, "text": " bake"}]
CHUNKS = [{"timestamp": [1.0, None], "text": " bake"}, {"timestamp": [2.5, 4.0], "text": " a pie"}]
FOLDER = {
    **dict.fromkeys((f"{letter}.mp4" for letter in "abcdefgh"), b""),
    "a.srt": CUES,
    "b.vtt": "WEBVTT\n\n" + CUES.replace(",", "."),
    "c.ass": ASS,
    "d.json": {"language": "en", "segments": SEGMENTS},
    "e.json": {"result": {"language": "en"}, "transcription": CPP},
    "f.json": {"text": "bake a pie", "chunks": CHUNKS},
    "g.txt": "a title\nand what is described\n",
    "h.srt": '<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="1s" end="2s">cat</p></div></body></tt>',
}
LISTED = "path,title,tags,category,captions,split\na.mp4,猫,x|y,pets,a cat|the cat,train\nb.mp4,dog,,pets,a dog,test\n"
LINES = [{"path": "a.mp4", "title": "猫", "tags": ["x"], "captions": ["a cat"], "split": "train"}, {"file": "b.mp4"}]


def _aiac(raw: Path) -> None:
    frames = [np.full(aiac.DIM, n, "<f2").tobytes() for n in range(2)]
    for part, number in (("pointwise", 100), ("pairwise", 200), ("test_b", 300)):
        some = [
            records.example(id=[str(number + n).encode()], title=[b"a title"], asr_text=["说话".encode()])
            + records.example(tag_id=[7, 11], category_id=[301], frame_feature=frames)
            for n in (0, 5)
        ]
        records.write(raw / part / f"{part}.tfrecords", some)
    write(raw, {"pairwise/label.tsv": "200\t205\t0.35\n205\t200\t1\n", "tag_list.txt": "7\n11\n5\n"})


def _read_aiac(raw: Path) -> None:
    sound(aiac.read(raw=raw))
    sound_features(aiac.frame_features(raw))


def _vcsl(raw: Path) -> None:
    write(raw, VCSL)
    (raw / "features").mkdir()
    np.save(raw / "features/a.npy", np.ones((31, 4), np.float16))


def _read_vcsl(raw: Path) -> None:
    sound(vcsl.read(raw=raw))
    sound_features(vcsl.frame_features(raw))


def _vsc(raw: Path) -> None:
    write(raw, VSC)
    ids, values = np.array(["Q1", "Q1", "R1"]), np.ones((3, 4), np.float32)
    np.savez(raw / "train/a.npz", video_ids=ids, features=values, timestamps=np.array([0.0, 1.0, 0.0]))
    np.savez_compressed(raw / "b.npz", video_ids=np.array(["R2"]), features=values[:1], timestamps=np.array([[0.5, 2]]))


def _read_vsc(raw: Path) -> None:
    sound(vsc2022.read(raw=raw))
    sound_features(vsc2022.frame_features(raw))


def _mmt(raw: Path) -> None:
    path = raw / "a/b/c/abc.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["features.s3d"] = np.ones((3, 4), np.float32)
        file.create_dataset("features_t.s3d", data=np.array([[0, 1], [1, 2], [2, 3.0]]), chunks=True, compression=9)
        file["features.rgb"] = np.ones((2, 4), np.float32)


def _read_mmt(raw: Path) -> None:
    for name in ("s3d", "rgb"):
        sound_features(released.mmt_h5(raw, ["abc"], dim=4, name=name, every=1.0))


def _npy(raw: Path) -> None:
    np.save(raw / "a.npy", np.ones((3, 4), np.float32))
    np.save(raw / "b.npy", np.ones(4))


def _read_npy(raw: Path) -> None:
    sound_features(released.npy(raw, ["a", "b"], dim=4, every=0.5))


def _bigfile(raw: Path) -> None:
    write(raw, {"id.txt": "a_0 a_1 b_x_0\n", "shape.txt": "3 2\n", "feature.bin": np.ones(6, "<f4").tobytes()})


def _read_bigfile(raw: Path) -> None:
    sound_features(released.bigfile(raw, ["a", "b_x"], dim=2, every=1.0, frames=True))


def _store(raw: Path) -> None:
    with StoreWriter(raw / "store", shape=(4,), times=True, made_by={"expert": "x"}) as writer:
        for name, length in (("a", 3), ("b", 0), ("视频", 2)):
            times = np.arange(length)[:, None] + [0.0, 1.0]
            writer.add(name, np.ones((length, 4), np.float16), times=times)


def _read_store(raw: Path) -> None:
    store = Store(raw / "store")
    assert len({store[name].shape[1:] for name in store.ids}) == 1
    assert all(store.times(name).shape == (len(store[name]), 2) for name in store.ids)


def _tables(raw: Path) -> None:
    rows = tables.videos(
        [{"video_id": f"v{n}", "duration": 9.5, "fps": 25.0, "width": 64, "tags": ["x"]} for n in (0, 1)]
    )
    corpus.write_videos(tables.check("videos", rows), raw, 2)
    text = [(f"v{n}:asr:0", f"v{n}", "asr", "en", 1.0, 2.0, SAID[n]) for n in (0, 1)]
    tables.write("texts", tables.frame("texts", text), raw)
    tables.write("segments", tables.frame("segments", [("v0", "v1", 0.0, 1.0, 2.0, 3.0, 0.5)]), raw)
    tables.write("splits", tables.frame("splits", [("all", "reference", "v0")]), raw)


def _read_tables(raw: Path) -> None:
    sound({"videos": corpus.videos(raw)} | {name: tables.read(name, raw) for name in ("texts", "segments", "splits")})


def _read_folder(raw: Path) -> None:
    sound(folder.read(raw=raw))


#: name -> what is mutated; files in a folder may have been written by others
DATA: dict[str, Target] = {
    "msrvtt": texts_of(msrvtt, MSRVTT, partial=True),
    "msvd json": texts_of(msvd, {"captions_msvd.json": dict.fromkeys(CLIPS, SAID), **LISTS}, partial=True),
    "msvd text": texts_of(
        msvd,
        {f"msvd{s}.caption.txt": f"{c}#0 a cat\n{c}#enc#1 cats\n" for s, c in zip(msvd.SIZES, CLIPS, strict=False)}
        | LISTS,
        partial=True,
    ),
    "vatex": texts_of(vatex, VATEX | LISTS, languages=["en", "zh"], partial=True),
    "vatex dict": texts_of(vatex, {"ref_captions.json": dict.fromkeys(CLIPS, SAID), **LISTS}, partial=True),
    "activitynet": texts_of(activitynet, ACTIVITYNET, partial=True),
    "didemo": texts_of(didemo, DIDEMO),
    "lsmdc": texts_of(lsmdc, LSMDC, partial=True),
    "avs": texts_of(avs, MSB | TOPICS | QRELS, partial=True),
    "avs list": texts_of(avs, AVS_LIST | TOPICS | QRELS, shots="shots.txt", partial=True),
    "avs table": texts_of(avs, {"valid.txt": "00001 2\n2 3\n"} | TOPICS | QRELS, shots="valid.txt", partial=True),
    "aiac": Target(_aiac, _read_aiac),
    "vcsl": Target(_vcsl, _read_vcsl),
    "vsc2022": Target(_vsc, _read_vsc),
    "folder": texts_of(folder, FOLDER),
    "folder csv": texts_of(folder, {"a.mp4": b"", "b.mp4": b"", "videos.csv": LISTED}),
    "folder jsonl": texts_of(
        folder, {"a.mp4": b"", "b.mp4": b"", "videos.jsonl": "\n".join(map(json.dumps, LINES))}, title_from_name=True
    ),
    "mmt_h5": Target(_mmt, _read_mmt),
    "npy": Target(_npy, _read_npy),
    "bigfile": Target(_bigfile, _read_bigfile),
    "store": Target(_store, _read_store),
    "tables": Target(_tables, _read_tables),
}


def _clip(name: str, codec: str, **options: Any) -> Target:
    def make(raw: Path) -> None:
        clips.write(raw / name, range(24), codec=codec, **options)

    return Target(make, read_media)


def read_media(raw: Path) -> None:
    """Frames and sound of the videos of a folder, as the stages read them. What is rejected names its file."""
    found, bad = probed(folder.read(raw=raw)["videos"], 1, 1)
    sound({"videos": found})
    for path, reason in bad.select("path", "reason").rows():
        raise ValueError(f"{path}: {reason}")
    for path, duration in found.select("path", "duration").rows():
        sampler = Sampler(Path(path), [FrameRequest(Fraction(1, 4), 32), SoundRequest(Fraction(1, 2))])
        counts = [0, 0]
        try:
            for chunk in sampler:
                assert np.isfinite(chunk.values).all(), "sound that is no number"
                assert chunk.first == counts[chunk.request], "grid points are left out"
                counts[chunk.request] += len(chunk.values)
        except Unreadable as error:
            raise ValueError(f"{path}: {error}") from error
        assert counts[0] == len(sampler.times(0)), f"{counts[0]} frames at {len(sampler.times(0))} times"
        assert counts[1] <= len(sampler.times(1)), f"{counts[1]} windows of sound at {len(sampler.times(1))} times"
        sound_features([("", np.zeros((counts[0], 1)), sampler.times(0))])
        assert 0 < duration < 48 * 3600, f"a duration of {duration} s"


MEDIA: dict[str, Target] = {
    "mp4": _clip("a.mp4", "libx264", tone=0.2),
    "fragments": _clip("a.mp4", "libx264", container_options={"movflags": "frag_keyframe+empty_moov"}),
    "mov": _clip("a.mov", "mpeg4"),
    "mkv": _clip("a.mkv", "libx264", tone=0.2),
    "webm": _clip("a.webm", "libvpx-vp9", options={"deadline": "realtime"}),
    "avi": _clip("a.avi", "mpeg4"),
    "ts": _clip("a.ts", "mpeg2video", tone=0.2),
    "flv": _clip("a.flv", "flv"),
    "mpg": _clip("a.mpg", "mpeg1video"),
    "asf": _clip("a.asf", "msmpeg4"),
}
