"""Sentences for the user: counts, the nearest name, what an error says, and characters that a terminal lacks."""

import codecs
import difflib
import io
import json
import sys
from collections.abc import Iterable
from pathlib import PurePath


def count(number: int, what: str) -> str:
    """``1 video``, ``2 videos``."""
    return f"{number} {what}{'s' * (number != 1)}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is meant by another: of a path one of the same file name; None where none is near."""
    lower = {one.lower(): one for one in known}
    name = name.lower()
    near = [one for one in lower if PurePath(one).name == PurePath(name).name]
    near = near or difflib.get_close_matches(name, lower, n=1)
    return lower[near[0]] if near else None


def did_you_mean(sentence: str, name: object, known: Iterable[str]) -> str:
    """A sentence about a name that does not exist, with the nearest one that does."""
    near = nearest(str(name), known)
    return sentence if near is None else f"{sentence}; did you mean {near!r}?"


def unknown(what: str, name: object, known: Iterable[object]) -> str:
    """A sentence for a name that does not exist, with the nearest one or all."""
    known = sorted(str(one) for one in known)
    sentence = f"no {what} named {name!r}"
    hinted = did_you_mean(sentence, name, known)
    return hinted if hinted != sentence else f"{sentence}; there are: {', '.join(known) or 'none'}"


def text_of(error: Exception) -> str:
    """What an error says, in one sentence."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
    return str(error) or type(error).__name__


def escape_unknown_characters() -> None:
    """Print characters that the terminal's encoding lacks as ``\\u4e2d``, in JSON, too."""
    codecs.register_error("escape", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
