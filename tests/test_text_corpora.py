"""Readers of captioned videos: published counts on the real files, protocols, and files that are not what they seem."""

import json
import shutil
import zipfile

import polars as pl
import pytest

from paths import fixtures, realdata
from videomatch.corpora import activitynet, cnvid, didemo, lsmdc, msrvtt, msvd, vatex
from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.stages.prepare import prepare


def of(found, split, role="query"):
    return split_ids(found["splits"], split, role)


def sizes(found, split):
    return len(of(found, split)), len(of(found, split, "reference"))


def words(found):
    return dict(found["texts"].select("text_id", "text").iter_rows())


@pytest.fixture(scope="module")
def real_msrvtt(tmp_path_factory):
    """The official test annotations, and every list of ids."""
    folder, source = tmp_path_factory.mktemp("msrvtt"), realdata() / "text_annotations"
    with zipfile.ZipFile(source / "WingsBrokenAngel+MSR-VTT-DataCleaning/test_videodatainfo.json.zip") as opened:
        opened.extractall(folder)
    for name in ("www-2025+EAT/MSRVTT_JSFUSION_test.csv", "www-2025+EAT/MSRVTT_train.9k.csv"):
        shutil.copy(source / name, folder)
    shutil.copy(source / "layer6ai-labs+xpool/MSRVTT_train.7k.csv", folder)
    for name in ("train_list_miech.txt", "test_list_miech.txt"):
        shutil.copy(source / f"albanie+collaborative-experts/msrvtt_{name}", folder / name)
    return folder


def whole(folder):
    """The real test annotations with made-up sentences of the 7,010 other videos: every published count can be held."""
    content = json.loads((folder / "test_videodatainfo.json").read_text())
    videos = [
        {"video_id": f"video{n}", "category": n % 20, "url": f"u{n}", "start time": 0.0, "end time": 9.5}
        | {"split": "train" if n < 6513 else "validate", "id": n}
        for n in range(7010)
    ]
    said = [
        {"sen_id": 20 * n + k, "video_id": f"video{n}", "caption": f"c {n} {k}"} for k in range(20) for n in range(7010)
    ]
    return {"info": {}, "videos": videos + content["videos"], "sentences": said + content["sentences"]}


@pytest.fixture(scope="module")
def msrvtt_tables(real_msrvtt):
    (real_msrvtt / "MSRVTT_data.json").write_text(json.dumps(whole(real_msrvtt)))
    return msrvtt.read(raw=real_msrvtt)


def test_msrvtt_protocols_have_the_published_sizes(msrvtt_tables):
    found = msrvtt_tables
    for name, rows in found.items():
        assert rows.equals(tables.check(name, rows))
    assert len(found["videos"]) == 10_000 and found["videos"]["path"].null_count() == 10_000
    whole = {
        "train": 6513,
        "val": 497,
        "test": 2990,
        "train_9k": 9000,
        "train_7k": 7010,
        "1kb_train": 6656,
        "1ka_fit": 8000,
    }
    for split, count in whole.items():
        assert sizes(found, f"captions_{split}") == (20 * count, count), split
    for split in ("1ka_test", "1kb_test", "1ka_val"):
        assert sizes(found, f"captions_{split}") == (1000, 1000), split
    assert found["splits"].filter(pl.col("role") == "query")["split"].str.starts_with("captions_").all()
    said = words(found)
    queries = of(found, "captions_1ka_test")
    assert len({said[q] for q in queries}) == 995
    assert sum(q.endswith(":1ka") for q in queries) == 32
    kinds = dict(found["texts"].group_by("kind").len().iter_rows())
    assert kinds == {"caption": 200_000, "query": 32}


def test_msrvtt_training_and_test_of_each_protocol_are_apart(msrvtt_tables):
    def videos(name):
        return set(of(msrvtt_tables, name, "reference"))

    assert videos("train_9k").isdisjoint(videos("1ka_test")) and videos("1ka_test") < videos("test")
    assert len(videos("train_9k") & videos("test")) == 1990 and videos("train_7k") == videos("train") | videos("val")
    assert videos("1kb_train").isdisjoint(videos("1kb_test")) and len(videos("1kb_test") & videos("test")) == 896
    fit, val = videos("1ka_fit"), videos("1ka_val")
    assert fit.isdisjoint(val) and fit | val == videos("train_9k")
    relevance = dict(msrvtt_tables["relevance"].select("query_id", "reference_id").iter_rows())
    listed = pl.read_csv(realdata() / "text_annotations/www-2025+EAT/MSRVTT_JSFUSION_test.csv")
    said = words(msrvtt_tables)
    mine = {relevance[q]: said[q] for q in of(msrvtt_tables, "captions_1ka_test")}
    assert mine == dict(listed.select("video_id", "sentence").iter_rows())


def test_msrvtt_sources_are_uploads_and_times(msrvtt_tables):
    source = msrvtt_tables["sources"].filter(pl.col("video_id") == "video7010").row(0)
    assert source == ("video7010", "youtube:Sa4BUsvAcjc", 401.51, 419.65)


def test_msrvtt_addresses_of_one_upload_are_one_source(tmp_path):
    addresses = ("http://youtu.be/x?v=abc", "https://www.youtube.com/watch?t=3&v=abc")
    videos = [{"video_id": f"video{n}", "split": "train", "url": url} for n, url in enumerate(addresses)]
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps({"videos": videos, "sentences": []}))
    assert msrvtt.read(raw=tmp_path, partial=True)["sources"]["source"].to_list() == ["youtube:abc"] * 2


def test_msrvtt_annotations_alone_and_parts(real_msrvtt, tmp_path):
    shutil.copy(real_msrvtt / "test_videodatainfo.json", tmp_path)
    found = msrvtt.read(raw=tmp_path)
    assert set(found["splits"]["split"]) == {"test", "captions_test"}
    for name in ("MSRVTT_JSFUSION_test.csv", "MSRVTT_train.9k.csv"):
        shutil.copy(real_msrvtt / name, tmp_path)
    with pytest.raises(
        ValueError, match=r"9k.csv: 7,010 of its 9,000 videos are not in test_video.*first 'video0'; `partial"
    ):
        msrvtt.read(raw=tmp_path)
    found = msrvtt.read(raw=tmp_path, partial=True)
    assert sizes(found, "captions_train_9k") == (1990 * 20, 1990) and sizes(found, "captions_1ka_test") == (1000, 1000)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("test_videodatainfo.json", "{", r"test_videodatainfo.json: not JSON, or cut short"),
        ("test_videodatainfo.json", "[]", "list .* expected an object with `videos`"),
        ("test_videodatainfo.json", '{"videos": {}}', "videos: dict '{}': .*valid list"),
        ("test_videodatainfo.json", None, "annotations are missing; looked for MSRVTT_data"),
        ("test_videodatainfo.json", lambda text: fewer(text, "videos"), "2,989 videos of|is none of its videos"),
        ("test_videodatainfo.json", lambda text: fewer(text, "sentences"), "has 19 captions, expected 20"),
        ("MSRVTT_JSFUSION_test.csv", lambda text: cut(text), "test.csv: 999 rows, expected 1,000"),
        ("MSRVTT_JSFUSION_test.csv", "video_id\nvideo1\n", "no column 'sentence' among"),
        ("MSRVTT_train.9k.csv", lambda text: cut(text), r"MSRVTT_train.9k.csv: 8,999 videos, expected 9,000"),
        ("MSRVTT_train.7k.csv", "a,b\n1,2\n", "line 1: 'a,b', expected one id a line"),
        ("MSRVTT_train.7k.csv", "v\nw\nv\n", "line 3: 'v' stands on line 1 already"),
        ("MSRVTT_train.7k.csv", "", "no id in it"),
    ],
)
def test_msrvtt_wrong_files_are_refused(real_msrvtt, tmp_path, name, change, message):
    if name != "test_videodatainfo.json":
        shutil.copy(real_msrvtt / "test_videodatainfo.json", tmp_path)
    if change is not None:
        text = (real_msrvtt / name).read_text()
        (tmp_path / name).write_text(change if isinstance(change, str) else change(text))
    with pytest.raises(ValueError, match=message):
        msrvtt.read(raw=tmp_path)


def cut(text):
    return "\n".join(text.rstrip("\n").split("\n")[:-1])


def fewer(text, name):
    content = json.loads(text)
    content[name].pop()
    return json.dumps(content)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (msrvtt, "MSRVTT_data.json, train_val_videodatainfo.json, test_video"),
        (msvd, "captions_msvd.json"),
        (activitynet, "train.json, val_1.json, val_2.json"),
        (lsmdc, "LSMDC16_annos_training.csv, "),
        (vatex, "vatex_training_v1.0.json, "),
        (didemo, "train_data.json, "),
    ],
)
def test_an_empty_folder_says_what_was_looked_for(tmp_path, module, names):
    with pytest.raises(ValueError, match=f"looked for {names}"):
        module.read(raw=tmp_path)


@pytest.fixture(scope="module")
def real_msvd(tmp_path_factory):
    folder, source = tmp_path_factory.mktemp("msvd"), realdata() / "text_annotations/layer6ai-labs+xpool"
    shutil.copy(source / "captions_msvd.json", folder)
    for split in ("train", "val", "test"):
        shutil.copy(source / f"msvd_{split}_list.txt", folder / f"{split}_list.txt")
    return folder


def test_msvd_has_the_published_counts(real_msvd):
    found = msvd.read(raw=real_msvd)
    assert len(found["videos"]) == 1970
    published = {"train": (48774, 1200), "val": (4290, 100), "test": (27763, 670)}
    assert {split: sizes(found, f"captions_{split}") for split in published} == published
    assert found["sources"].row(0) == ("-4wsuPCjDBc_5_15", "youtube:-4wsuPCjDBc", 5.0, 15.0)
    assert words(found)["-4wsuPCjDBc_5_15:0"] == "a squirrel is eating a peanut in it s shell"


def test_msvd_from_caption_lines(real_msvd, tmp_path):
    said = json.loads((real_msvd / "captions_msvd.json").read_text())
    for split in ("train", "val", "test"):
        ids = (real_msvd / f"{split}_list.txt").read_text().split()
        lines = [f"{v}#{n} {words}" for v in ids for n, words in enumerate(said[v])]
        (tmp_path / f"msvd{split}.caption.txt").write_text("\n".join(lines) + "\n")
        shutil.copy(real_msvd / f"{split}_list.txt", tmp_path)
    lines, whole = (msvd.read(raw=raw)["relevance"].sort("query_id") for raw in (tmp_path, real_msvd))
    assert lines.equals(whole)


def test_msvd_wrong_files_are_refused(real_msvd, tmp_path):
    shutil.copytree(real_msvd, tmp_path, dirs_exist_ok=True)
    (tmp_path / "captions_msvd.json").write_bytes((real_msvd / "captions_msvd.json").read_bytes()[:99])
    with pytest.raises(ValueError, match=r"captions_msvd.json: not JSON, or cut short"):
        msvd.read(raw=tmp_path)
    (tmp_path / "captions_msvd.json").write_text('{"a": ["x", 3]}')
    with pytest.raises(ValueError, match=r"_msvd.json, a, 1: int '3': .*string; expected {video id: \[sentence\]}"):
        msvd.read(raw=tmp_path)
    shutil.copy(real_msvd / "captions_msvd.json", tmp_path)
    shutil.copy(real_msvd / "val_list.txt", tmp_path / "test_list.txt")
    with pytest.raises(ValueError, match=r"test_list.txt: 100 videos, expected 670"):
        msvd.read(raw=tmp_path)
    with pytest.raises(ValueError, match="stands in the val file, too"):
        msvd.read(raw=tmp_path, partial=True)


def test_caption_lines_equal_the_published_reader_fixture(tmp_path):
    folder = fixtures() / "bigfile_collection/toycollection"
    wanted = json.loads((fixtures() / "bigfile_expected.json").read_text())["caption_file"]
    lines = list(msvd.caption_lines(folder / "TextData/toycollection.caption.txt"))
    assert list(dict.fromkeys(video for video, _ in lines)) == wanted["video_ids_in_order"]
    assert [sentence for _, sentence in lines] == [wanted["captions"][c] for c in wanted["cap_ids"]]
    shutil.copy(folder / "TextData/toycollection.caption.txt", tmp_path / "msvdtrain.caption.txt")
    shutil.copy(folder / "VideoSets/toycollection.txt", tmp_path / "train_list.txt")
    (tmp_path / "msvdval.caption.txt").write_text("w#0 One.\nx#0 Two.\n")
    (tmp_path / "val_list.txt").write_text("w\n")
    (tmp_path / "test_list.txt").write_text("x\n")
    found = msvd.read(raw=tmp_path, partial=True)
    assert of(found, "train", "reference") == sorted(wanted["video_ids_in_order"])
    said = words(found)
    mine = sorted(said[text] for text in of(found, "captions_train"))
    assert mine == sorted(wanted["captions"][c] for c in wanted["cap_ids"])


def test_activitynet_paragraphs_of_a_real_file(tmp_path):
    source = realdata() / "text_annotations/jayleicn+recurrent-transformer/anet_entities_val_1.json"
    shutil.copy(source, tmp_path / "val_1.json")
    with pytest.raises(ValueError, match=r"val_1.json: 2,460 videos, expected 4,917"):
        activitynet.read(raw=tmp_path)
    found = activitynet.read(raw=tmp_path, partial=True)
    assert sizes(found, "captions_val1") == (2460, 2460) and set(found["texts"]["kind"]) == {"caption"}
    content = json.loads(source.read_text())
    said = words(found)
    for video_id, entry in list(content.items())[:50]:
        mine = said[f"{video_id}:val1"]
        assert mine == " ".join(" ".join(entry["sentences"]).split()) or "  " in mine


def test_activitynet_two_annotations_of_one_video(tmp_path):
    one = {"v_a": {"duration": 9.0, "timestamps": [[0, 4], [4, 9.01]], "sentences": ["One. ", "  Two."]}}
    for name, more in (("train.json", {}), ("val_1.json", {}), ("val_2.json", {"v_b": one["v_a"]})):
        (tmp_path / name).write_text(json.dumps((one if "val" in name else {"v_t": one["v_a"]}) | more))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").touch()
    (tmp_path / "videos/v_t.mkv").touch()
    found = activitynet.read(raw=tmp_path, partial=True)
    assert words(found) == dict.fromkeys(("v_t:train", "v_a:val1", "v_a:val2", "v_b:val2"), "One. Two.")
    kinds = dict(found["texts"].select("text_id", "kind").iter_rows())
    assert kinds["v_a:val1"] == "caption" and kinds["v_a:val2"] == "query"
    paths = dict(found["videos"].select("video_id", "path").iter_rows())
    assert paths == {"v_t": str(tmp_path / "videos/v_t.mkv"), "v_a": str(tmp_path / "videos/a.mp4"), "v_b": None}
    (tmp_path / "train.json").write_text(json.dumps({"v_a": {"duration": 9.0, "sentences": []}}))
    with pytest.raises(ValueError, match=r"train.json, v_a, sentences: list '\[\]': List should have at least 1"):
        activitynet.read(raw=tmp_path, partial=True)


def test_lsmdc(tmp_path):
    def line(clip, said):
        return "\t".join([clip, "00.01", "00.02", "00.01", "00.02", said])

    first, second = "0001_American_Beauty_00.00.51.926-00.00.54.129", "0002_Up_01.00.00.500-01.00.02.000"
    (tmp_path / "LSMDC16_annos_training.csv").write_text(
        "\n".join([line(first, 'SOMEONE says "no'), line(first, "He goes."), line(second, " ")]) + "\n"
    )
    (tmp_path / "LSMDC16_challenge_1000_publictect.csv").write_text(line(second, "A house flies.") + "\n")
    (tmp_path / "videos/0002_Up").mkdir(parents=True)
    (tmp_path / f"videos/0002_Up/{second}.avi").touch()
    with pytest.raises(ValueError, match=r"LSMDC16_annos_training.csv: 3 rows, expected 101,079"):
        lsmdc.read(raw=tmp_path)
    found = lsmdc.read(raw=tmp_path, partial=True)
    assert sizes(found, "captions_train") == (2, 1) and sizes(found, "captions_test") == (1, 1)
    assert words(found)[f"{first}:train:0"] == 'SOMEONE says "no'
    assert found["sources"].rows() == [
        (first, "0001_American_Beauty", pytest.approx(51.926), pytest.approx(54.129)),
        (second, "0002_Up", 3600.5, 3602.0),
    ]
    assert found["videos"]["path"].to_list() == [None, str(tmp_path / f"videos/0002_Up/{second}.avi")]
    (tmp_path / "LSMDC16_annos_val.csv").write_text("a\tb\tc\n")
    with pytest.raises(ValueError, match=r"LSMDC16_annos_val.csv, line 1: 3 cells, expected 6 between tabs"):
        lsmdc.read(raw=tmp_path, partial=True)


def test_vatex(tmp_path):
    def entry(name):
        return {"videoID": name, "enCap": [f"{name} {n}" for n in range(10)], "chCap": [f"中{n}" for n in range(10)]}

    names = [f"_-abc{n}_000010_000020" for n in range(6)]
    (tmp_path / "vatex_training_v1.0.json").write_text(json.dumps([entry(n) for n in names[:3]]))
    (tmp_path / "vatex_validation_v1.0.json").write_text(json.dumps([entry(n) for n in names[3:]]))
    found = vatex.read(raw=tmp_path)
    assert sizes(found, "captions_train") == (30, 3) and sizes(found, "captions_val") == (30, 3)
    assert found["sources"].row(0) == (names[0], "youtube:_-abc0", 10.0, 20.0)
    (tmp_path / "val_list.txt").write_text(names[3])
    (tmp_path / "test_list.txt").write_text("\n".join(names[4:]))
    with pytest.raises(ValueError, match=r"val_list.txt: 1 videos, expected 1,500"):
        vatex.read(raw=tmp_path)
    found = vatex.read(raw=tmp_path, partial=True, languages=["en", "zh"])
    assert sizes(found, "captions_test") == (20, 2) == sizes(found, "captions_test_zh")
    assert sizes(found, "captions_val") == (10, 1)
    assert set(of(found, "captions_test")).isdisjoint(of(found, "captions_test_zh"))
    assert dict(found["texts"].group_by("language").len().iter_rows()) == {"en": 60, "zh": 60}
    held = {n: [f"{n} said"] for n in names}
    for path in tmp_path.glob("vatex_*.json"):
        path.unlink()
    (tmp_path / "ref_captions.json").write_text(json.dumps(held))
    (tmp_path / "train_list.txt").write_text("\n".join(names[:3]))
    again = vatex.read(raw=tmp_path, partial=True)
    assert sizes(again, "captions_train") == (3, 3) and sizes(again, "captions_test") == (2, 2)
    withheld = [{"videoID": n} for n in names]
    (tmp_path / "vatex_training_v1.0.json").write_text(json.dumps(withheld))
    with pytest.raises(ValueError, match=rf"v1.0.json, {names[0]}: no 'enCap', expected its captions"):
        vatex.read(raw=tmp_path)
    with pytest.raises(ValueError, match=r"languages \['de'\], expected some of en, zh"):
        vatex.read(raw=tmp_path, languages=["de"])


def test_didemo(tmp_path):
    rows = [
        {"video": f"7@N0_{n}.mov", "description": f"part {k}", "times": [[k, k]]} for k in range(3) for n in range(4)
    ]
    (tmp_path / "train_data.json").write_text(json.dumps(rows))
    (tmp_path / "test_data.json").write_text(json.dumps([{"video": "a/b_1.mp4", "caption": ["One.", " two "]}]))
    found = didemo.read(raw=tmp_path)
    assert sizes(found, "captions_train") == (4, 4)
    assert words(found) | {} == {f"7@N0_{n}:paragraph": "part 0 part 1 part 2" for n in range(4)} | {
        "b_1:paragraph": "One. two"
    }
    single = [{"video": f"s{n}.mp4", "caption": "one sentence."} for n in range(30)]
    (tmp_path / "test_data.json").write_text(json.dumps(single))
    with pytest.raises(ValueError, match=r"test_data.json: one sentence for each of 30 videos"):
        didemo.read(raw=tmp_path)
    assert sizes(didemo.read(raw=tmp_path, partial=True), "captions_test") == (30, 30)
    (tmp_path / "test_data.json").write_text(json.dumps([{"video": "7@N0_1.mov", "caption": "x. y. z."}]))
    with pytest.raises(ValueError, match="'7@N0_1' stands in the train file, too"):
        didemo.read(raw=tmp_path)
    (tmp_path / "test_data.json").write_text(json.dumps([{"clip": 3}]))
    with pytest.raises(ValueError, match=r"test_data.json, 0, video: .*: Field required"):
        didemo.read(raw=tmp_path)


def spoken(*words, step=2.5):
    times = [n * step for n in range(len(words) + 1)]
    return {"text": list(words), "start": times[:-1], "end": times[1:]}


@pytest.fixture
def cnvid_raw(tmp_path):
    """Three videos to train on, one to validate on, and one of neither list."""
    said = {f"70{n}.mp4": spoken("大家好", " ", f"今天做第{n}道菜") for n in range(5)}
    (tmp_path / "caption.json").write_text(json.dumps(said))
    for split, ids in (("train", "012"), ("val", "3")):
        rows = [json.dumps({"clip_name": f"videos/70{n}.mp4", "caption": ""}) for n in ids]
        (tmp_path / cnvid.LISTS[split]).write_text("\n".join(rows))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/701.mp4").touch()
    return tmp_path


def test_cnvid(cnvid_raw):
    with pytest.raises(ValueError, match=r"val5k.jsonl: 1 videos, expected 5,000 \(`partial: true`"):
        cnvid.read(raw=cnvid_raw)
    found = cnvid.read(raw=cnvid_raw, partial=True)
    for name, rows in found.items():
        assert rows.equals(tables.check(name, rows))
    assert found["splits"].rows() == [
        *(("train", "reference", f"70{n}") for n in range(3)), ("val", "reference", "703"),
    ]  # fmt: skip
    assert dict(found["videos"].drop_nulls("path").select("video_id", "path").rows()) == {
        "701": str(cnvid_raw / "videos/701.mp4")
    }
    assert found["texts"].filter(video_id="702").rows() == [
        ("702:0", "702", "asr", "zh", 0.0, 2.5, "大家好", None),
        ("702:2", "702", "asr", "zh", 5.0, 7.5, "今天做第2道菜", None),
    ]
    for name in cnvid.LISTS.values():
        (cnvid_raw / name).unlink()
    assert len(of(cnvid.read(raw=cnvid_raw), "train", "reference")) == 5


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ({"text": ["a"], "start": [0.0]}, "end: .*: Field required"),
        (spoken("a") | {"end": [1.0, 2.0]}, "1 texts, 1 starts and 2 ends, expected as many of each"),
        (spoken("a", step=-1.0), r"end, 0: float '-1.0': .*greater than or equal to 0"),
        (spoken("a", "b") | {"start": [0.0, 9.0]}, "text 1 is from 9.0 to 5.0 s, expected start <= end"),
        (spoken("a") | {"text": [3]}, r"text, 0: int '3': .*valid string"),
        ("a", "str 'a': .*valid dictionary"),
    ],
)
def test_cnvid_refuses_bad_transcripts(tmp_path, entry, wrong):
    (tmp_path / "caption.json").write_text(json.dumps({"v1": entry}))
    with pytest.raises(ValueError, match=f"caption.json, v1.*{wrong}"):
        cnvid.read(raw=tmp_path)


def test_cnvid_refuses_lists_that_do_not_fit(cnvid_raw):
    train, val = (cnvid_raw / cnvid.LISTS[split] for split in ("train", "val"))
    train.write_text('{"clip_name": "703"}')
    with pytest.raises(ValueError, match=r"val5k.jsonl: '703' stands in the train file, too"):
        cnvid.read(raw=cnvid_raw, partial=True)
    train.write_text('{"clip_name": "704.mp4"}\n{"clip_name": "799.mp4"}')
    val.unlink()
    with pytest.raises(ValueError, match=r"train3_5m.jsonl: 1 of its 2 videos are not in caption.json, first '799'"):
        cnvid.read(raw=cnvid_raw)
    train.write_text('{"clip_name": "704.mp4"}\n{"video": 3}')
    with pytest.raises(ValueError, match=r"line 2, clip_name: .*: Field required"):
        cnvid.read(raw=cnvid_raw)
    (cnvid_raw / "caption.json").unlink()
    with pytest.raises(ValueError, match=r"the transcripts are missing; looked for caption.json"):
        cnvid.read(raw=cnvid_raw)


def test_prepare_takes_videos_without_media(tmp_path):
    rows = [{"video": f"v{n}.mp4", "caption": ["One.", "two. three."]} for n in range(6)]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/test_data.json").write_text(json.dumps(rows))
    (tmp_path / "out").mkdir()
    given = {"dataset": "didemo", "corpus": "didemo", "shards": 2, "seed": 0, "options": {}}
    prepare(output=tmp_path / "out", raw=str(tmp_path / "raw"), **given)
    counts = json.loads((tmp_path / "out/corpus.json").read_text())
    assert counts["videos"] == 6 and counts["videos with media"] == 0
    assert counts["splits"]["captions_test"] == {"query": 6, "reference": 6}
    assert len(tables.read("sources", tmp_path / "out")) == 6
    assert not (tmp_path / "out/strata.parquet").exists()


def test_a_media_folder_that_is_not_there_is_named(tmp_path):
    (tmp_path / "test_data.json").write_text(json.dumps([{"video": "v.mp4", "caption": "a. b. c."}]))
    with pytest.raises(ValueError, match="media 'clips': there is no folder"):
        didemo.read(raw=tmp_path, media="clips")
