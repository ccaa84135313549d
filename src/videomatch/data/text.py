"""Cleaning of titles, speech, subtitles and captions: what people and machines type, made into text for a tokenizer.

In this order: encoding repaired (ftfy) · width and compatibility forms (Unicode NFKC, so "，" becomes "," and "Ⅳ" "IV")
· markup and web addresses · timestamps · emoji · loops of a recogniser · spelled-out Chinese ("鸡 头 稳 定 器") · white
space. Applied twice, :func:`clean` and :func:`clean_table` change nothing more.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import emoji as emoji_names
import ftfy
import ftfy.badness
import numpy as np
import polars as pl

from videomatch.data.language import language, script
from videomatch.data.tables import check

#: NFKC is ours to apply, and quotes are typography in Chinese: ftfy only repairs
_FTFY = ftfy.TextFixerConfig(
    unescape_html=False, uncurl_quotes=False, normalization=None, fix_character_width=False, explain=False
)
#: kinds that a machine or a subtitle file wrote, whose lines may be in different languages
_SPOKEN = ("asr", "ocr")

_TAG = re.compile(
    r"</?(?:[a-z][a-z0-9]{0,15})(?:[.\s/][^<>]*)?>|<!--[^<>]*-->|<\d\d:\d\d[\d:.,]*>|</?c(?:\.[^<>]*)?>", re.IGNORECASE
)
_ASS = re.compile(r"\{[^{}\\]*\\[^{}]*\}")
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-f]+|[a-z]{2,8});", re.IGNORECASE)
_URL = re.compile(r"(?:https?://|www\.)[^\s\u3000-\u9fff<>\"')\]]+", re.IGNORECASE)
_CUE_TIME = re.compile(r"(?:\d{1,2}:)?\d{1,2}:\d{2}[,.]\d{2,3}(?:\s*-->\s*(?:\d{1,2}:)?\d{1,2}:\d{2}[,.]\d{2,3})?")
_BRACKET_TIME = re.compile(r"[\[(](?:\d{1,2}:)?\d{1,2}:\d{2}(?:[,.]\d{1,3})?[\])]")
#: marks of sounds in subtitles: [Music], (applause), 【掌声】, ♪
_SOUND = re.compile(
    r"[\[(【]\s*(?:music|applause|laughter|laughs|laughing|cheering|silence|inaudible|noise|blank_audio"
    r"|background music|foreign|音乐|掌声|笑声|欢呼声?|背景音乐)[^\])】]{0,20}[\])】]|[♪♫♬♩]+",
    re.IGNORECASE,
)
#: sentences that Whisper writes over music and silence, credits of the subtitles that it was trained on
_HALLUCINATED = re.compile(
    r"(?:字幕(?:由|提供者?:?)?\s*Amara\.?org\s*社[区群]提供|请不吝点赞\s*订阅\s*转发\s*打赏支持明镜与点点栏目"
    r"|subtitles? by the amara\.?org community|transcri(?:bed|ption) by https?://\S+)[.。]?",
    re.IGNORECASE,
)
_LEAD = re.compile(r"^(?:#+\s+|>>+\s*|[-–—]\s+)")
_CONTROL = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u200b\u200c\u200e\u200f"
    "\u202a-\u202e\u2060-\u2069\ufeff\ufffc\ufffd]"
)
_BLANK = re.compile(r"[ \t\u00a0\u3000\u2028\u2029]+")
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_SPELLED = re.compile(f"(?<![{_HAN}])[{_HAN}](?: [{_HAN}]){{2,}}(?![{_HAN}])")
_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u20e3\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff\U000e0020-\U000e007f]"
)
_TONE = re.compile("[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")
#: signs with which something removed may leave new markup behind: cleaned again, until nothing changes
_SUSPECT = re.compile(r"[<{&#]|^[>–—-]|\\[Nnh]")
_PASSES = 4
_CURLED = str.maketrans("‘’‚“”„", "'''\"\"\"")

#: a token is a character of a script without spaces, a word of another, or one sign, each with the blanks after it
_TOKEN = re.compile(
    r"[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\u0e01-\u0e46]\s*|[^\W_]+(?:['’][^\W_]+)*\s*|[\W_]\s*"
)
#: how often a phrase must come in a row to be a loop, and tokens of the longest phrase looked for
_COPIES, _MAX_PERIOD = 3, 40
_SHOUT = re.compile(r"([^\d\s])\1{3,}")


def clean(text: str, kind: str, *, hint: str | None = None) -> list[tuple[str, str]]:
    """The cleaned text, without line breaks, and its language: two or more where the lines of a subtitle are in
    different languages, none if nothing is left. Only the kinds "asr" and "ocr" have loops, sound marks, bilingual
    lines. ``hint`` is the language by file name or recogniser. Emoji are written out in the text's language."""
    found = _once(text, kind, hint)
    for _ in range(_PASSES):
        if not any(_SUSPECT.search(cleaned) for cleaned, _ in found):
            break
        again = _by_language(twice for once, _ in found for twice in _once(once, kind, hint))
        if again == found:
            break
        found = again
    return found


def _once(text: str, kind: str, hint: str | None) -> list[tuple[str, str]]:
    spoken = kind in _SPOKEN
    lines: dict[str, list[str]] = {}
    for line in _characters(text).split("\n"):
        line = _line(line, spoken)
        if not line:
            continue
        written = script(line)
        tag = language(line, hint) if written else ""
        if _EMOJI.search(line):
            line = _emoji(line, tag)
        line = _joined(line)
        if line:
            lines.setdefault((written or "") if spoken else "", []).append(line)
    if "" in lines and len(lines) > 1:  # lines of digits and signs belong to the first language
        loose = lines.pop("")
        next(iter(lines.values())).extend(loose)
    joined = (_joined(" ".join(group)) for group in lines.values())
    # runs of one character (not a digit) of four and more become three: "!!!!!" and "哈哈哈哈哈" lose nothing
    texts = (_SHOUT.sub(r"\1\1\1", collapse(text).strip() if spoken else text) for text in joined)
    return _by_language((text, language(text, hint)) for text in texts if text)


def _joined(text: str) -> str:
    """A text with single blanks, and none in spelled-out Chinese."""
    return _SPELLED.sub(lambda found: found[0].replace(" ", ""), _BLANK.sub(" ", text).strip())


def _by_language(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Texts with their languages, those of one language joined."""
    texts: dict[str, list[str]] = {}
    for text, tag in found:
        texts.setdefault(tag, []).append(text)
    return [(" ".join(parts), tag) for tag, parts in texts.items()]


def clean_table(texts: pl.DataFrame) -> pl.DataFrame:
    """Clean every row of a texts table; the order stays. Rows that come out empty are dropped; further languages of a
    row get rows of their own (``<text_id>.<language>``). Among the timed rows of one video and language, a cue that
    only repeats the one before is merged into it, and lines that scroll from cue to cue are kept once."""
    texts = check("texts", texts)
    rows: list[list[Any]] = []
    before: dict[tuple[str | None, str], int] = {}  # last timed row of a (video, language)
    latest: dict[tuple[str | None, str | None], int] = {}  # last timed row of a (video, source)
    scrolled: dict[tuple[str | None, str | None], list[str]] = {}  # raw lines of the last cue of a (video, source)
    for text_id, video_id, kind, hint, start, end, text, confidence in texts.iter_rows():
        timed = kind in _SPOKEN and start is not None
        if timed:
            new = _unscroll(text, scrolled, (video_id, hint))
            row = rows[latest[video_id, hint]] if (video_id, hint) in latest else None
            if not new and row is not None and start <= (row[5] or row[4]):  # the last lines of the row stay on screen
                row[5] = max(row[5] or end, end or start)
                continue
            text = new or text
        for number, (cleaned, tag) in enumerate(clean(text, kind, hint=hint)):
            if timed:
                last = before.get((video_id, tag))
                if last is not None and rows[last][6] == cleaned and rows[last][2] == kind:
                    rows[last][5] = max(rows[last][5] or end, end or start)
                    continue
                before[video_id, tag] = latest[video_id, hint] = len(rows)
            row_id = text_id if number == 0 else f"{text_id}.{tag}"
            rows.append([row_id, video_id, kind, tag, start, end, cleaned, confidence])
    return check("texts", pl.DataFrame(rows, schema=texts.schema, orient="row"))


def clean_tables(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """A corpus' tables with cleaned texts, and without what pointed at a text of which nothing was left."""
    texts = tables["texts"]
    cleaned = clean_table(texts)
    gone = texts.join(cleaned, on="text_id", how="anti")["text_id"]
    out = {**tables, "texts": cleaned}
    for name, column in (("splits", "id"), ("relevance", "query_id")):
        if name in out and len(gone):
            out[name] = out[name].filter(~pl.col(column).is_in(gone.implode()))
    return out


def _characters(text: str) -> str:
    """Encoding, compatibility forms, markup, line breaks: what concerns the text as a whole."""
    if ftfy.badness.is_bad(text):
        text = ftfy.fix_text(text, _FTFY)
    text = unicodedata.normalize("NFKC", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
    for _ in range(3):  # "&amp;lt;br&amp;gt;" is twice escaped; more than that does not occur
        if _ENTITY.search(text) is None:
            break
        text = unicodedata.normalize("NFKC", html.unescape(text))
    text = _TAG.sub(lambda m: "\n" if m[0][:3].lower() in ("<br", "</p", "<p>") else "", text)
    return _CONTROL.sub("", _ASS.sub("", text))


def _line(line: str, spoken: bool) -> str:
    line = _BRACKET_TIME.sub(" ", _CUE_TIME.sub(" ", line))
    if spoken:
        line = _SOUND.sub(" ", _HALLUCINATED.sub(" ", line))
    line = _URL.sub(" ", line)
    line = _BLANK.sub(" ", line).strip()
    if spoken:
        line = _LEAD.sub("", line)
    return line if line.isascii() or script(line) != "Latin" else line.translate(_CURLED)


def _emoji(line: str, tag: str) -> str:
    line = _TONE.sub("", line)
    emoji_names.config.load_language("zh")  # reads its names once
    names = "zh" if tag == "zh" else "en"
    last = ""

    def written(chars: str, data: Mapping[str, str]) -> str:
        nonlocal last
        if chars in "©®™":
            return " "
        before, last = last, data.get(names, data["en"]).strip(":").replace("_", " ")
        return " " if last == before else f" {last} "

    return emoji_names.replace_emoji(line, written)


def _unscroll(
    text: str, scrolled: dict[tuple[str | None, str | None], list[str]], key: tuple[str | None, str | None]
) -> str:
    lines = [line for line in re.split(r"\r?\n|\\N", text) if line.strip()]
    before = scrolled.get(key, [])
    scrolled[key] = lines
    # the first lines of this cue, or all, are the last ones of the cue before (a cue that repeats it all is merged)
    for shared in range(min(len(before) - (len(before) == len(lines)), len(lines)), 0, -1):
        if before[-shared:] == lines[:shared]:
            return "\n".join(lines[shared:])
    return text


def collapse(text: str) -> str:
    """Keep one copy of every phrase that a speech recogniser repeats over music and silence, three or more times in a
    row; phrases of one or two tokens four times, because "no no no" and "哈哈哈" are ordinary speech.

    A loop of period p is a stretch where every token equals the one p before it; one comparison of the token row with
    itself, shifted, finds all of them for one period, so the cost is (longest period) x (tokens).
    """
    tokens: list[str] = _TOKEN.findall(text)
    if len(tokens) < _COPIES:
        return text
    codes: dict[str, int] = {}
    row = np.array([codes.setdefault(token.strip().lower(), len(codes)) for token in tokens])
    if len(tokens) - len(codes) < _COPIES:  # the smallest loop repeats that many tokens: nearly always the end of it
        return text
    keep = np.ones(len(tokens), dtype=bool)
    for period in range(1, min(_MAX_PERIOD, len(tokens) // 2) + 1):
        needed = period * (_COPIES - 1 if period > 2 else _COPIES)
        same = row[period:] == row[:-period]
        if np.count_nonzero(same) < needed:
            continue
        edges = np.flatnonzero(np.diff(np.concatenate(([0], same.view(np.int8), [0]))))
        for start, end in edges.reshape(-1, 2):  # same[start:end] is all true: tokens start … end + period repeat
            if end - start >= needed and keep[start : end + period].all():
                # what is cut ends where the loop ends, so the unfinished last copy goes with it
                keep[start + period : end + period] = False
    if keep.all():
        return text
    return "".join(token for token, kept in zip(tokens, keep, strict=True) if kept).strip()
