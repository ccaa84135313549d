"""Cleaning, languages, tokenizers."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from paths import realdata
from videomatch.data.language import language, tag
from videomatch.data.subtitles import subtitles
from videomatch.data.tables import frame
from videomatch.data.text import clean, clean_table, clean_tables, collapse
from videomatch.data.tokenize import tokenizer, wrap

ENGLISH = ["a man is playing the guitar on stage", "two dogs run over the green field", "people are dancing"] * 5
CHINESE = ["一个男人在弹吉他", "两只狗在草地上奔跑", "人们在跳舞", "厨师在切洋葱"] * 5


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("title", "  Hello\u00a0 world\u3000! ", [("Hello world !", "en")]),
        ("title", "ＡＢＣ：１２３，你好", [("ABC:123,你好", "zh")]),
        ("title", "Tom &amp;amp; Jerry", [("Tom & Jerry", "en")]),
        ("title", "<b>bold</b> and <a href='x'>linked</a>", [("bold and linked", "en")]),
        ("title", "1 < 2 and 3 > 2", [("1 < 2 and 3 > 2", "en")]),
        ("title", "鸡 头 稳 定 器", [("鸡头稳定器", "zh")]),
        ("title", "哈哈哈哈哈哈哈！！！！！！", [("哈哈哈!!!", "zh")]),
        ("title", "🔥🔥🔥 hot", [("fire hot", "en")]),
        ("title", "我的狗🐶", [("我的狗 狗脸", "zh")]),
        ("title", "see https://example.org/a?b=c now", [("see now", "en")]),
        ("title", "schÃ¶n und grÃ¼n ist die Heide", [("schön und grün ist die Heide", "de")]),
        ("title", "我们的歌".encode().decode("latin-1"), [("我们的歌", "zh")]),
        ("caption", "don’t stop", [("don't stop", "en")]),
        ("asr", "{\\an8\\i1}Hello\\Nthere{\\i0}", [("Hello there", "en")]),
        ("asr", "# 我是大爷\nI am Da Ye", [("我是大爷", "zh"), ("I am Da Ye", "en")]),
        ("asr", "I am Da Ye\n我是大爷\n123", [("I am Da Ye 123", "en"), ("我是大爷", "zh")]),
        ("asr", "[Music] ♪ hello (applause)", [("hello", "en")]),
        ("asr", "00:00:24,640 --> 00:00:26,600\n[00:12] at 10:30", [("at 10:30", "en")]),
        ("asr", "字幕由Amara.org社区提供", []),
        ("asr", "thank you. " * 30, [("thank you.", "en")]),
        ("title", "", []),
        ("title", " \u200b\ufeff ", []),
        ("title", "12345", [("12345", "und")]),
    ],
)
def test_clean(kind, text, expected):
    assert clean(text, kind) == expected


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *"ab你好の ！，<>&;{}\\/#:0123",
                "&amp;",
                "&lt;b&gt;",
                "🔥",
                "…",
                "\n",
                "哈哈哈哈",
                "yes yes ",
                "<br>",
                "[Music]",
                "http://x.y",
            ]
        ),
        max_size=30,
    ),
    st.sampled_from(["title", "asr"]),
)
def test_cleaning_nearly_any_text_terminates_and_leaves_one_line(parts, kind):
    for text, tagged in clean("".join(parts), kind):
        assert text == text.strip() and "\n" not in text and text
        assert tagged in {"und", "zh", "en", "ja"}
        assert clean(text, kind) == [(text, tagged)]


def test_cleaning_a_clean_table_changes_nothing_real():
    titles = json.loads((realdata() / "derived" / "text" / "bilibili_titles.json").read_text())
    rows = [(f"t{i}", None, "title", None, None, None, t) for i, t in enumerate(titles)]
    once = clean_table(frame("texts", rows))
    assert once.equals(clean_table(once))
    assert len(once) == len(titles)
    assert (once["language"] == "zh").mean() > 0.95


def test_cleaning_a_thousand_titles_takes_less_than_a_second_real():
    titles = json.loads((realdata() / "derived" / "text" / "bilibili_titles.json").read_text())
    clean(titles[0], "title")
    begun = time.process_time()
    for n in range(1000):
        clean(f"{titles[n % len(titles)]} {n}", "title")
    assert time.process_time() - begun < 1.0  # 0.12 to 0.25 s measured


def test_bilingual_subtitles_become_two_texts_a_cue_real():
    found = sorted((realdata() / "asr_subtitle_ocr" / "immoonancient+YTSubtitles").glob("*.srt"))
    assert len(found) == 4
    for path in found:
        rows = [(f"{n}", "v", "asr", None, *cue) for n, cue in enumerate(subtitles(path))]
        cleaned = clean_table(frame("texts", rows))
        counts = dict(cleaned["language"].value_counts().iter_rows())
        assert set(counts) <= {"zh", "en", "und"}
        assert counts["zh"] > 0.9 * len(rows) and counts["en"] > 0.9 * len(rows)
        assert not cleaned["text"].str.contains(r"^#|\\N|[{}]").any()


def test_captions_are_kept_and_english_real():
    lines = (
        realdata() / "text_annotations" / "WingsBrokenAngel+MSR-VTT-DataCleaning" / "multiple_sentences.txt"
    ).read_text()
    captions = [line.split(", ", 2)[2] for line in lines.splitlines() if line.count(", ") >= 2]
    assert len(captions) > 500
    cleaned = [clean(caption, "caption") for caption in captions]
    assert all(len(c) == 1 for c in cleaned)
    assert sum(c[0][1] == "en" for c in cleaned) > 0.99 * len(cleaned)


def test_clean_table_merges_repeats_and_unrolls_scrolling_captions():
    rows = [
        ("a:0", "a", "asr", None, 0.0, 1.0, "one"),
        ("a:1", "a", "asr", None, 1.0, 2.0, "one\ntwo"),
        ("a:2", "a", "asr", None, 2.0, 3.0, "two\nthree"),
        ("a:3", "a", "asr", None, 3.0, 4.0, "three"),
        ("a:4", "a", "asr", None, 4.0, 6.0, "three."),
        ("b:0", "b", "asr", None, 0.0, 1.0, "three."),
        ("b:1", "b", "asr", None, 1.0, 2.0, " ♪ "),
    ]
    cleaned = clean_table(frame("texts", rows))
    assert cleaned.select("text_id", "start", "end", "text").rows() == [
        ("a:0", 0.0, 1.0, "one"),
        ("a:1", 1.0, 2.0, "two"),
        ("a:2", 2.0, 4.0, "three"),
        ("a:4", 4.0, 6.0, "three."),
        ("b:0", 0.0, 1.0, "three."),
    ]
    assert cleaned.equals(clean_table(cleaned))


def test_clean_tables_drops_what_pointed_at_an_empty_text():
    texts = [("v:0", "v", "caption", None, None, None, "<b></b>"), ("v:1", "v", "caption", None, None, None, "a dog")]
    given = {
        "texts": frame("texts", texts),
        "splits": frame("splits", [("s", "query", "v:0"), ("s", "query", "v:1"), ("s", "reference", "v")]),
        "relevance": frame("relevance", [("v:0", "v", 1.0), ("v:1", "v", 1.0)]),
    }
    tables = clean_tables(given)
    assert tables["relevance"]["query_id"].to_list() == ["v:1"]
    assert tables["splits"]["id"].to_list() == ["v:1", "v"]


def test_languages():
    said = {
        "dog": "en",
        "best goals 2021": "en",
        "一只狗": "zh",
        "当凯有了bgm": "zh",
        "こんにちは世界": "ja",
        "안녕하세요": "ko",
        "un hombre toca la guitarra": "es",
        "ein Mann spielt Gitarre": "de",
        "я люблю тебя": "ru",
        "?!": "und",
        "我 is a word of the Chinese language": "en",
        "iPhone 15 Pro 开箱评测": "zh",
        "สวัสดีครับ": "th",
    }
    assert {text: language(text) for text in said} == said
    assert language("guitarra", hint="es") == "es"
    assert language("一只狗", hint="en") == "zh"  # the script contradicts the file name
    assert [tag(t) for t in ("zh-Hans", "chs", "en_US", "Chinese", "v2", "forced", "eng")] == [
        "zh",
        "zh",
        "en",
        "zh",
        None,
        None,
        "en",
    ]


def test_loops_collapse_and_ordinary_speech_stays():
    assert collapse("谢谢观看" * 5) == "谢谢观看"
    assert collapse("好的。好的。好的。再见") == "好的。再见"
    assert collapse("so I said no no no to him") == "so I said no no no to him"
    assert collapse("well " + "and then he went home. " * 4 + "The end") == "well and then he went home. The end"
    text = "the cat sat on the mat and the dog sat on the log"
    assert collapse(text) == text
    assert collapse("") == ""
    assert clean("2000000 gooooal!!!!!", "title") == [("2000000 goooal!!!", "en")]


@pytest.mark.parametrize("style", ["bert", "clip"])
def test_a_trained_tokenizer(tmp_path: Path, style):
    trained = tokenizer(None, ENGLISH + CHINESE, vocab_size=200, style=style)
    trained.save_pretrained(tmp_path)
    again = tokenizer(None, list(reversed(ENGLISH + CHINESE)), vocab_size=200, style=style)
    assert trained.get_vocab() == again.get_vocab()
    assert len(trained) <= 200 and trained.pad_token_id == 0
    loaded = tokenizer(str(tmp_path))
    batch = ["A man plays THE guitar", "男人在弹吉他", "", "\u2603"]
    options = {"padding": True, "truncation": True, "max_length": 12, "return_tensors": "pt"}
    ours, theirs = trained(batch, **options), AutoTokenizer.from_pretrained(tmp_path)(batch, **options)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["attention_mask"], loaded(batch, **options)["attention_mask"])
    assert ours["attention_mask"].sum(1).tolist()[2:] == [2, 3]
    assert trained.tokenize("男人") == ["男", "人"]
    assert trained.unk_token_id in ours["input_ids"][3]
    if style == "clip":
        assert trained.eos_token_id == len(trained) - 1 != 2
        assert torch.equal(
            ours["input_ids"].argmax(1), ours["attention_mask"].sum(1) - 1
        )  # the end token is the largest
    else:
        assert trained.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 1, 2, 3, 4]


def test_training_does_not_depend_on_the_process():
    code = (
        "from videomatch.data.tokenize import tokenizer;"
        f"print(sorted(tokenizer(None, {ENGLISH + CHINESE!r}, vocab_size=120).get_vocab().items()))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == str(sorted(tokenizer(None, ENGLISH + CHINESE, vocab_size=120).get_vocab().items()))


def test_tokenizer_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="no text"):
        tokenizer(None, [" ", ""])
    with pytest.raises(ValueError, match="leaves no room"):
        tokenizer(None, ["abc"], vocab_size=5)
    with pytest.raises(ValueError, match="lacks"):
        wrap(["[PAD]", "[UNK]"])
    with pytest.raises(ValueError, match="expected the last one"):
        wrap(["[PAD]", "[UNK]", "<|endoftext|>", "<|startoftext|>"], style="clip")


def test_a_published_vocabulary_real():
    found = tokenizer(
        str(realdata() / "tokenizers" / "alipay+Ant-Multi-Modal-Framework" / "bert-base-chinese_21128_vocab.txt")
    )
    assert len(found) == 21128
    assert found.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 100, 101, 102, 103]
    assert found("你好 World")["input_ids"] == [101, 872, 1962, 8572, 102]
