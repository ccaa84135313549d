"""Which language a short text is in: its script first, a classifier only where the script leaves the question open.

Languages are BCP 47 primary subtags ("zh", "en", …), "und" where no letter decides. Titles and captions are so
short that a classifier alone errs ("best goals 2021" comes out Dutch and "dog" Czech): its answer (py3langid) is taken
only with enough letters to carry it.
"""

import re
from functools import cache, lru_cache
from typing import Any

#: scripts as ranges of code points
_RANGES = {
    "Kana": "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Hangul": "\uac00-\ud7a3\u1100-\u11ff",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3005\u3007\U00020000-\U0003134f",
    "Latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
    "Cyrillic": "\u0400-\u052f",
    "Arabic": "\u0620-\u064a\u066e-\u06d3\u0750-\u077f",
    "Devanagari": "\u0904-\u0939\u0958-\u097f",
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Hebrew": "\u05d0-\u05ea",
    "Thai": "\u0e01-\u0e30\u0e40-\u0e46",
    "Tamil": "\u0b83-\u0bb9",
    "Bengali": "\u0985-\u09b9",
}
#: scripts written without spaces: a character counts as a word, elsewhere a run of letters does
_BY_CHARACTER = ("Kana", "Hangul", "Han", "Thai")
_WORDS = {
    name: re.compile(f"[{ranges}]" if name in _BY_CHARACTER else f"[{ranges}]+") for name, ranges in _RANGES.items()
}
#: a word: a character of scripts without spaces, elsewhere a run of letters
WORD = re.compile("|".join(pattern.pattern for pattern in _WORDS.values()))
_ANY = re.compile("[" + "".join(_RANGES.values()) + "]")
_WIDE = re.compile("[" + "".join(r for n, r in _RANGES.items() if n != "Latin") + "]")
_DIACRITIC = re.compile("[\u00c0-\u00ff\u0100-\u024f\u1e00-\u1eff]")

_ONE_LANGUAGE = {"Kana": "ja", "Hangul": "ko", "Han": "zh", "Greek": "el", "Hebrew": "he", "Thai": "th"}
_ONE_LANGUAGE |= {"Tamil": "ta", "Bengali": "bn"}
#: languages the classifier may answer with, and the answer for a text too short to classify
_CANDIDATES = {
    "Latin": (("en", "es", "fr", "de", "it", "pt", "nl", "pl", "tr", "vi", "id", "sv", "cs", "ro"), "en"),
    "Cyrillic": (("ru", "uk", "bg", "sr"), "ru"),
    "Arabic": (("ar", "fa", "ur"), "ar"),
    "Devanagari": (("hi", "mr", "ne"), "hi"),
}
_SCRIPT_OF = {tag: name for name, tag in _ONE_LANGUAGE.items()}
_SCRIPT_OF |= {tag: name for name, (tags, _) in _CANDIDATES.items() for tag in tags}
#: letters below which the default is taken instead of the classifier's guess, unless a diacritic speaks against it
_FEW_LETTERS = 16
#: letters after which more text does not change the guess; the classifier's cost grows with length
_ENOUGH = 400


@lru_cache(maxsize=1024)  # called several times for one text while it is cleaned
def script(text: str) -> str | None:
    """The script most words of ``text`` are in, or None without any letter. Kana decides for Japanese even among more
    Han characters: Chinese text holds an ornament or two at most."""
    if _WIDE.search(text) is None:  # most English captions end here
        return "Latin" if _ANY.search(text) else None
    counts = {name: len(pattern.findall(text)) for name, pattern in _WORDS.items()}
    if counts["Kana"] >= 2 and counts["Kana"] * 4 >= counts["Han"]:
        counts["Kana"] += counts["Han"]
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None


def language(text: str, hint: str | None = None) -> str:
    """The language of a cleaned text. ``hint``, the language that its file name or recogniser gives, is believed unless
    the script contradicts it."""
    found = script(text)
    if found is None:
        return "und"
    if hint and hint != "und" and _SCRIPT_OF.get(hint) in (found, None):
        return hint
    if found in _ONE_LANGUAGE:
        return _ONE_LANGUAGE[found]
    tags, default = _CANDIDATES[found]
    letters = sum(map(len, _WORDS[found].findall(text)))
    if letters < _FEW_LETTERS and not _DIACRITIC.search(text):
        return default
    tag, score = _classifier(tags).classify(text[:_ENOUGH].lower())
    return str(tag) if score >= 0.75 or letters >= 3 * _FEW_LETTERS else default


def classify(text: str, tags: tuple[str, ...]) -> str:
    """The most likely of the languages ``tags``, by the classifier alone."""
    return str(_classifier(tags).classify(text[: 4 * _ENOUGH].lower())[0])


@cache
def _classifier(tags: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(tags))
    return identifier


#: how subtitle files and recognisers write languages, by primary subtag
_NAMES = {
    "zh": "chi zho chs cht sc tc cn hans hant chinese cmn yue gb big5",
    "en": "eng english",
    "ja": "jpn jp japanese",
    "ko": "kor kr korean",
    "fr": "fre fra french",
    "de": "ger deu german",
    "es": "spa spanish",
    "ru": "rus russian",
    "pt": "por portuguese",
    "it": "ita italian",
    "ar": "ara arabic",
    "hi": "hin hindi",
    "vi": "vie vietnamese",
    "tr": "tur turkish",
}
_ALIASES = {alias: subtag for subtag, aliases in _NAMES.items() for alias in aliases.split()}


def tag(name: str) -> str | None:
    """The primary subtag of a language name or code ("zh-CN", "chs", "eng", "Chinese"), None if it is neither; a bare
    two-letter code counts only if a table above has it."""
    primary = re.split("[-_&]", name.strip().lower())[0]
    if primary in _ALIASES:
        return _ALIASES[primary]
    return primary if primary in _SCRIPT_OF else None
