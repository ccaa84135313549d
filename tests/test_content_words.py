"""Content words: by counts on generated captions, whose words are known, and by the tags of packages that stand in."""

import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from videomatch.data.content_words import content_tokens
from videomatch.data.tokenize import tokenizer, wrap
from videomatch.synthetic.annotations import annotate
from videomatch.synthetic.options import SyntheticOptions

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module")
def captions():
    texts = annotate(seed=3, shards=1, options=SyntheticOptions(videos=400, copies=0, captions=10))["texts"]
    return texts.filter(kind="caption")


@pytest.fixture(scope="module")
def reader(captions):
    return tokenizer(texts=captions["text"], vocab_size=2000)


@pytest.fixture
def untagged(monkeypatch):
    monkeypatch.setattr("videomatch.data.content_words.find_spec", lambda name: None)


def test_words_of_facts_are_content_and_words_of_sentences_are_not(captions, reader, untagged):
    found = reader.convert_ids_to_tokens(content_tokens(captions, reader).tolist())
    named = {"harbour", "forest", "temple", "star", "circle", "red", "purple", "guitar", "dinosaurs", "港", "庙", "红"}
    told = {
        "the",
        "a",
        "in",
        "while",
        "which",
        "where",
        "something",
        "before",
        "的",
        "在",
        "是",
        "有",
        "先",
        "再",
        "[UNK]",
    }
    assert named <= set(found) and not told & set(found)
    assert content_tokens(captions, reader).tolist() == sorted(content_tokens(captions.reverse(), reader).tolist())


def test_the_mask_is_a_lookup_of_ids_and_the_most_frequent_are_kept(captions, reader, untagged):
    ids, few = (content_tokens(captions, reader, most) for most in (3000, 20))
    assert set(few) < set(ids) and len(few) == 20
    encoded = reader(["a red star rises in the harbour"], return_tensors="np")["input_ids"]
    marked = [reader.convert_ids_to_tokens(int(i)) for i in encoded[np.isin(encoded, ids)]]
    assert {"red", "star", "harbour"} <= set(marked) and not {"a", "in", "the", "[CLS]"} & set(marked)


def test_texts_of_which_no_word_comes_back_are_refused(reader, untagged):
    alone = pl.DataFrame({"video_id": ["a", "b"], "text": ["a red star", "the harbour"]})
    with pytest.raises(ValueError, match="none of 2 texts of 2 videos has a content word"):
        content_tokens(alone, reader)


class Token(SimpleNamespace):
    def __len__(self):
        return len(self.text)


class Pipeline:
    """What spaCy calls a pipeline: "the" is a stop word, all else are nouns but "is"."""

    def pipe(self, texts):
        for text in texts:
            starts = [at for at in range(len(text)) if at == 0 or text[at - 1] == " "]
            words = zip(starts, text.split(), strict=True)
            yield [
                Token(idx=at, text=word, pos_="AUX" if word == "is" else "NOUN", is_stop=word == "the")
                for at, word in words
            ]


def test_tags_decide_where_packages_are_installed(monkeypatch):
    reader = wrap([*SPECIALS, "the", "star", "##s", "is", "一", "个", "红", "色"])
    models = SimpleNamespace(get_installed_models=lambda: ["de_core", "en_core_web_md"])
    spacy = SimpleNamespace(util=models, load=lambda name, exclude: {"en_core_web_md": Pipeline()}[name])
    posseg = SimpleNamespace(cut=lambda text: [("一个", "m"), ("红色", "n")])
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    monkeypatch.setitem(sys.modules, "jieba", SimpleNamespace(posseg=posseg))
    monkeypatch.setattr("videomatch.data.content_words.find_spec", lambda name: name)
    texts = pl.DataFrame({"video_id": ["a", "b"], "text": ["the stars is the star", "一个红色"]})
    found = reader.convert_ids_to_tokens(content_tokens(texts, reader).tolist())
    assert found == ["star", "##s", "红", "色"]
