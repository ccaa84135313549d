"""Opening media files: one door, so that everything that can be wrong with a file arrives as one error.

Everything below ``videomatch.media`` raises :class:`Unreadable` and nothing else about the contents of a file: FFmpeg's
errors, a folder in the place of a file, a file without pictures. Files are opened through FFmpeg's ``file:`` protocol
only, so that neither a path nor a play list inside a file can reach the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.error
import av.logging
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

# FFmpeg's own messages go to standard error from its threads; what matters is recorded as a warning of the video
av.logging.set_level(av.logging.PANIC)


class Unreadable(Exception):
    """A file of which not a single picture can be read; the message is the reason, in a person's words."""


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file.

    Raises:
        Unreadable: it is missing, a folder, empty, or no media file.
    """
    if not path.exists():
        raise Unreadable("the file does not exist")
    if not path.is_file():
        raise Unreadable("not a file")
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty")
    try:
        container = av.open(f"file:{path}", metadata_errors="ignore", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise Unreadable(f"not a media file that FFmpeg can open: {reason(error)}") from error
    try:
        yield container
    finally:
        container.close()


def video_stream(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures; cover pictures of music files are none.

    Raises:
        Unreadable: there is no such stream.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise Unreadable("no decoder for its video stream")
            # one thread per video: many videos at a time are faster than many threads on one
            stream.codec_context.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            return stream
    kinds = sorted({s.type for s in container.streams})
    raise Unreadable(f"no video stream (it holds: {', '.join(kinds) or 'nothing'})")


def reason(error: BaseException) -> str:
    """What an FFmpeg error says, without the path (paths of one machine do not belong into tables)."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
