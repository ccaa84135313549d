"""The shots of a film, found by PySceneDetect's detector of changed content with its own threshold."""

from pathlib import Path

from videomatch.common.digests import cached, file_digest
from videomatch.media.container import opened, video_stream

#: what installs PySceneDetect; each kind of OpenCV has a package of it, and this is the project's
PACKAGE = "scenedetect-headless"


def detect(path: Path) -> list[tuple[float, float]]:
    """Start and end of every shot of a film (s after its first frame), from its begin to its end; remembered by the
    film's content, since every frame is decoded. :class:`Unreadable` where that cannot be."""
    with opened(path) as container:
        video_stream(container)
    return [(start, end) for start, end in cached(f"shots of {file_digest(path)}", PACKAGE, lambda: _detect(path))]


def _detect(path: Path) -> list[tuple[float, float]]:
    try:
        import scenedetect  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"shots are found with the package {PACKAGE}: `pip install {PACKAGE}`") from error

    found = scenedetect.detect(str(path), scenedetect.ContentDetector(), start_in_scene=True, backend="pyav")
    return [(start.seconds, end.seconds) for start, end in found]
