"""Phrases said over and over: speech recognisers fall into loops on music and silence, and titles shout.

A loop of period p is a stretch where every token equals the one p before it; one comparison of the token row with
itself, shifted, finds all of them for one period, so the cost is (longest period) x (tokens).
"""

from __future__ import annotations

import re

import numpy as np

#: a token is a character of a script without spaces, a word of another, or one sign, each with the blanks after it
_TOKEN = re.compile(
    r"[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\u0e01-\u0e46]\s*|[^\W_]+(?:['’][^\W_]+)*\s*|[\W_]\s*"
)
#: tokens of the longest phrase looked for
MAX_PERIOD = 40
_SHOUT = re.compile(r"([^\d\s])\1{3,}")


def collapse(text: str, *, times: int = 3, max_period: int = MAX_PERIOD) -> str:
    """Keep one copy of every phrase that stands ``times`` or more times in a row (short ones: ``times`` + 1).

    Signs between the copies belong to the phrase: "好的。好的。好的。" repeats three tokens. Phrases of one or two
    tokens need one repetition more, because "no no no" and "哈哈哈" are said by people.

    Args:
        text: one text.
        times: repetitions (of phrases from three tokens on) that make a loop, at least 2.
        max_period: the longest phrase in tokens.
    """
    tokens: list[str] = _TOKEN.findall(text)
    if len(tokens) < times:
        return text
    codes: dict[str, int] = {}
    row = np.array([codes.setdefault(token.strip().lower(), len(codes)) for token in tokens])
    if len(tokens) - len(codes) < times:  # the smallest loop repeats that many tokens: nearly always the end of it
        return text
    keep = np.ones(len(tokens), dtype=bool)
    for period in range(1, min(max_period, len(tokens) // 2) + 1):
        needed = period * ((times if period > 2 else times + 1) - 1)
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


def unshout(text: str) -> str:
    """Runs of one character (not a digit) of four and more become three: "哈哈哈哈哈" and "!!!!!" lose nothing."""
    return _SHOUT.sub(r"\1\1\1", text)
