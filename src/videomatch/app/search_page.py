"""The page of `videomatch serve`: what was found, or all videos in portions, as moments that play."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from videomatch.app.catalogue import Catalogue
from videomatch.app.requests import MAX_CHARACTERS
from videomatch.common.messages import count
from videomatch.reports import pages
from videomatch.reports.pages import Shown, clock

#: kinds of hits in an index (``--in``) -> what they are called
WORDS = {"titles": "names and titles", "ocr": "words on the screen"}


class SearchPage:
    """The pages of one data set; all addresses are relative to them."""

    def __init__(self, catalogue: Catalogue | Any, dataset: str) -> None:
        self.catalogue, self.dataset = catalogue, dataset
        self.is_library = not isinstance(catalogue, Catalogue)  # an index is a library of frames, too

    def shown(self, video_id: str, start: float | None, end: float | None, facts: Sequence[str] = ()) -> Shown:
        """A video, or its part from ``start`` to ``end`` (s): its picture, the file to play, and where to go on."""
        row = self.catalogue.video(self.dataset, video_id) or {}
        asked, times = {"id": video_id}, {}
        if start is not None and end is not None:
            times = {"start": f"{start:.3f}", "end": f"{end:.3f}"}
        links = [("similar", "./?" + urlencode({"like": video_id}))]
        if row.get("path"):
            links += [("copies", "copies?" + urlencode(asked))] if self.is_library else []
            links += [("open", "video?" + urlencode(asked))]
        title = row.get("title")
        return Shown(
            title or video_id,
            "video?" + urlencode(asked) if row.get("path") else None,
            "thumbnail?" + urlencode(asked | times),
            start,
            end,
            ([video_id] if title else []) + list(facts),
            links,
        )

    def render(
        self,
        *,
        question: str = "",
        like: str = "",
        answer: dict[str, Any] | None = None,
        error: str | None = None,
        system: str | None = None,
        within: Sequence[str] = (),
        top: int | str = 24,
        first: int = 0,
    ) -> str:
        """The page of an ``answer`` (of :mod:`videomatch.app.search`) to a question or to a video's id; of an error; or
        without both of the videos from number ``first`` on."""
        answered = answer or {}
        about, more = list[str](), list[tuple[str, str]]()
        files = [self.shown(hit["id"], hit["start"], hit["end"], _facts(hit)) for hit in answered.get("hits", ())]
        if answer is not None:
            about = [_summary(answered), *(f"{note[:1].upper()}{note[1:]}." for note in answered["notes"])]
        elif error is None:
            files, about, more = self._listed(first, int(top))
        chosen = answered.get("system", system)
        return pages.render(
            "search.html",
            title=f"Search in {self.dataset}",
            question=question,
            max_characters=MAX_CHARACTERS,
            kinds={kind: WORDS.get(kind, kind) for kind in self.catalogue.kinds},
            within=within,
            text_systems=self._in_words(list(self.catalogue.searchable(self.dataset, for_text=True))),
            systems=self._in_words(self.catalogue.embedded_by(self.dataset)),
            text_system=None if like else chosen,
            system=chosen,
            top=top,
            like=self.shown(like, None, None) if like and self.catalogue.video(self.dataset, like) else None,
            like_id=like,
            about=about,
            error=error,
            files=files,
            pages=more,
            has_duplicates=self.is_library,
        )

    def _listed(self, first: int, top: int) -> tuple[list[Shown], list[str], list[tuple[str, str]]]:
        """A portion of all videos, what is said of it, and the addresses of those before and after."""
        videos = self.catalogue.videos(self.dataset)
        files = []
        for row in videos.slice(first, top).iter_rows(named=True):
            end = None if row["start"] is None else row["start"] + row["duration"]
            length = [] if row["duration"] is None else [clock(row["duration"])]
            files.append(self.shown(row["video_id"], row["start"], end, length if end is None else []))
        last = first + len(files)
        about = [f"{count(len(videos), 'video')} in {self.dataset}" + (f", {first + 1} to {last}." if files else ".")]
        more = [("earlier", max(0, first - top))] if first else []
        more += [("more", last)] if files and last < len(videos) else []
        return files, about, [(text, "./?" + urlencode({"from": n, "top": top})) for text, n in more]

    def _in_words(self, systems: Sequence[str]) -> dict[str, str]:
        """Systems to choose from, as they are called there."""
        return {system: self.catalogue.in_words(system) for system in systems} if len(systems) > 1 else {}


def _summary(answer: dict[str, Any]) -> str:
    hits, milliseconds = answer["hits"], f"{1000 * answer['seconds'].get('total', 0):.0f} ms"
    found = count(len(hits), "video") if hits else "Nothing was found: other words may do, or fewer. No video"
    return f"{found} of {answer['dataset']} by {answer['system']}, {milliseconds}."


def _facts(hit: dict[str, Any]) -> list[str]:
    """What is said of a hit: its score, by what it was found, and which words match when."""
    matches = (f"{match['word']} {clock(match['start'])}" for match in hit.get("matches", ()))
    return list(filter(None, [f"{hit['score']:.3f}", ", ".join(hit.get("by", ())), ", ".join(matches)]))
