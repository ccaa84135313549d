"""Text files in whatever encoding they were saved: UTF-8 and UTF-16, and the code pages of before."""

import codecs
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from charset_normalizer import from_bytes

from videomatch.data.language import classify, script

#: bytes of the largest text file that is read beside a video: hours of speech with a time for each word have half,
#: and JSON can take forty times as much in memory
MAX_BYTES = 20 << 20
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
#: what text often consists of: with its bytes swapped, it would not
_PLAIN = re.compile(r"[\t\n\r -~\u0370-\u0e7f\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff5e]")
#: code page -> its script, and a smaller set in which the frequent characters have the first bytes below a limit
_PAGES = {
    "gb18030": ("Han", "gb2312", 0xD8),
    "big5": ("Han", "big5", 0xC7),
    "cp932": ("Kana", "euc_jp", 0xD0),
    "euc_jp": ("Kana", "euc_jp", 0xD0),
    "cp949": ("Hangul", "euc_kr", 0xC9),
    "cp1251": ("Cyrillic", "cp1251", 256),
    "koi8_r": ("Cyrillic", "cp1251", 256),
    "cp866": ("Cyrillic", "cp1251", 256),
    "cp1253": ("Greek", "cp1253", 256),
    "cp1255": ("Hebrew", "cp1255", 256),
    "cp1256": ("Arabic", "cp1256", 256),
    "cp874": ("Thai", "cp874", 256),
}
_BY_CHARACTER = ("Han", "Kana", "Hangul")
#: code pages of Latin letters by language; the other languages' is Windows-1252
_LATIN: dict[str, str] = dict.fromkeys(("pl", "cs", "sk", "hu", "ro", "hr", "sl", "bs", "sq"), "cp1250")
_LATIN |= {"tr": "cp1254", "az": "cp1254", "vi": "cp1258", "lt": "cp1257", "lv": "cp1257", "et": "cp1257"}
#: code pages of Windows whose bytes from 80 to 9F the page of ISO lacks, and has some letters elsewhere; these by
#: language
_ISO = {"cp1250": "iso8859_2", "cp1253": "iso8859_7"}
_MOVED = {"cs": "ŠšŤťŽž", "sk": "ŠšŤťŽžĽľ", "pl": "ĄąŚśŹź", "hr": "ŠšŽž", "sl": "ŠšŽž", "bs": "ŠšŽž", "el": "Ά"}
#: what begins characters of several bytes in text of ASCII, and the encodings that have it
_SHIFTS = {rb"\x1b[$(]": ("iso2022_jp_ext", "iso2022_kr"), rb"~\{([!-w][!-}])+~\}": ("hz",)}
_COMMON_LATIN = ("cp1252", "cp1250", "cp1254")
#: letters below which a language is not to be told
_FEW_LETTERS = 20
_WESTERN = ("en", "es", "fr", "de", "it", "pt", "nl", "sv", "da", "no", "fi", "id", "ca", "is")
_HIGH = re.compile(rb"[\x80-\xff]+")
_SIGNS = "‘’‚“”„–—…«»¿¡°·€£§©®™´ªº½¼¾•×\u0300\u0301\u0303\u0309\u0323"
_WORD, _ASCII = re.compile(r"[^\W\d_]+"), re.compile(r"[a-zA-Z]")
#: bytes of the lines by which an encoding is judged, and characters below which it is not; least score, and lead over
#: the next one
_SAMPLE, _FEW, _LEAST, _LEAD = 1 << 16, 4, 0.7, 0.03


def decode(data: bytes) -> str:
    """Text of a file in UTF-8, UTF-16 or UTF-32 (the first two with or without byte order mark), or a code page.

    A ValueError says "encoding unknown" where no code page, or more than one, makes words of the bytes.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    for shift, encodings in _SHIFTS.items() if data.isascii() else ():
        if re.search(shift, data):
            for encoding in encodings:
                with suppress(UnicodeDecodeError):
                    return data.decode(encoding)
            raise _unknown(encodings)
    if 0 in data and _is_wide(data):
        return data.decode(max(("utf-16-le", "utf-16-be"), key=lambda order: _plain(data, order)), errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        cut = error.end >= len(data) - 3 and error.reason == "unexpected end of data"
        if cut and not data[: error.start].isascii():  # only the last character is cut
            return data.decode("utf-8", errors="ignore")
    text = data.decode("utf-8", errors="replace")
    if text.count("\ufffd") * 20 <= sum(not c.isascii() for c in text):  # a few damaged bytes
        return text
    return data.decode(_code_page(data), errors="replace")


def _plain(data: bytes, order: str) -> float:
    """How much bytes look like text in UTF-16: frequent characters, whose first bytes are few."""
    text = data[:_SAMPLE].decode(order, errors="replace")
    return (len(_PLAIN.findall(text)) - len({ord(c) >> 8 for c in text})) / max(len(text), 1)


def _is_wide(data: bytes) -> bool:
    """Whether a text with zero bytes is UTF-16, which has one in every Latin letter and line break; the other encodings
    have none, except a few by damage."""
    text = data.decode("utf-8", errors="replace")
    odd = sum(c == "\ufffd" or (c < " " and c not in "\t\n\r") for c in text)
    return 4 * odd >= len(data) or odd > 2 + len(data) // 64


def _code_page(data: bytes) -> str:
    sample = b""
    for line in re.split(rb"[\r\n]+", data):  # lines of ASCII, as most of a subtitle file, say nothing
        if not line.isascii() and len(sample) < _SAMPLE:
            sample += line[:_SAMPLE] + b"\n"
    runs = [len(run) for run in _HIGH.findall(sample)]
    letters = sum(chr(byte).isalpha() for byte in sample if byte < 128)
    if sum(n for n in runs if n <= 2) >= 0.6 * sum(runs) and letters >= sum(runs):  # accented letters stand alone
        text = sample.decode("cp1252", errors="replace")
        language = classify(text, (*_LATIN, *_WESTERN))
        page = _windows_or_iso(sample, _LATIN.get(language, "cp1252"), language)
        text = sample.decode(page, errors="replace")
        high = [c for c in text if not c.isascii()]
        good = sum(c in _SIGNS or (script(c) == "Latin" and c != "ƒ") for c in high)
        if good >= 0.9 * len(high):
            if letters < _FEW_LETTERS and len({sample.decode(p, errors="replace") for p in _COMMON_LATIN}) > 1:
                raise _unknown(_COMMON_LATIN)
            return page
    found = []
    for match in from_bytes(sample, cp_isolation=list(_PAGES), threshold=0.5, preemptive_behaviour=False):
        high = [c for c in str(match) if not c.isascii()]
        written, smaller, limit = _PAGES[match.encoding]
        if script("".join(high)) == written:
            score = sum(_frequent(c, written, smaller, limit) for c in high) / len(high)
            if written in _BY_CHARACTER:
                score += 0.1  # two bytes a character fit by chance far less than one
            else:
                words = [word for word in _WORD.findall(str(match)) if not word.isascii()]
                score -= sum(map(_odd, words)) / max(len(words), 1)
            found.append((score - match.chaos + match.coherence, match.encoding, len(high)))
    found.sort(reverse=True)
    if found:
        score, page, count = found[0]
        lead = score - found[1][0] if len(found) > 1 else score
        if score >= _LEAST and lead >= _LEAD and count >= _FEW:
            page = _windows_or_iso(sample, page, "el")
            return "koi8_u" if page == "koi8_r" else page  # which has Ukrainian letters where the other has lines
    raise _unknown(page for _, page, _ in found[:3])


def _windows_or_iso(sample: bytes, page: str, language: str) -> str:
    """The code page, or that of ISO where it gives more of the language's letters and fewer others."""
    if page not in _ISO or re.search(rb"[\x80-\x9f]", sample):
        return page
    moved, windows, iso = _MOVED.get(language, ""), 0, 0
    for one, other in zip(*(sample.decode(each, errors="replace") for each in (page, _ISO[page])), strict=True):
        if one != other:
            windows += 1 if one in moved else -one.isalpha()
            iso += 1 if other in moved else -other.isalpha()
    if windows == iso != 0:
        raise _unknown((page, _ISO[page]))
    return _ISO[page] if iso > windows else page


def _unknown(pages: Iterable[str]) -> ValueError:
    likely = ", ".join(pages)
    return ValueError(f"encoding unknown{likely and f'; could be {likely}'}; expected UTF-8")


def _odd(word: str) -> bool:
    """Whether a word has letters of two scripts, or capitals as no word has."""
    return _ASCII.search(word) is not None or word not in (word.lower(), word.upper(), word.capitalize())


def _frequent(char: str, written: str, smaller: str, limit: int) -> bool:
    code = char.encode(smaller, errors="ignore")
    if not 1 <= len(code) <= 2 or code[0] >= limit or code[0] == 0x8E:  # 8E begins the half-width kana
        return False
    kind = unicodedata.category(char)
    return kind[0] == "P" or ((kind[0] == "L" or written == "Thai") and script(char) in (written, None, "Han"))


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """The whole of a text file of at most ``limit`` bytes, decoded by :func:`decode`."""
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{path}: has {size:,} bytes, expected at most {limit:,}")
    try:
        return decode(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
