"""The shots of a film, found by PySceneDetect's detector of changed content with its own threshold."""

from itertools import pairwise
from pathlib import Path

from videomatch.common.digests import cached, file_digest
from videomatch.media.container import opened, probe, video_stream
from videomatch.media.decode import FrameRequest, Sampler

#: what installs PySceneDetect; each kind of OpenCV has a package of it, and this is the project's
PACKAGE = "scenedetect-headless"
#: pictures that the detector gets of each frame on average, so that it misses none where their rate varies
STEPS = 2
#: seconds of a shot at least, and pixels of the longer side of its pictures, as PySceneDetect's program has them
SHORTEST, SIDE = 0.6, 256


def detect(path: Path) -> list[tuple[float, float]]:
    """Start and end of every shot of a film (s after its first frame), from its begin to its end; remembered by the
    film's content, since every frame is decoded. :class:`Unreadable` where that cannot be."""
    with opened(path) as container:
        video_stream(container)
    key = f"{PACKAGE}, {STEPS} pictures a frame"
    return [(start, end) for start, end in cached(f"shots of {file_digest(path)}", key, lambda: _detect(path))]


def _detect(path: Path) -> list[tuple[float, float]]:
    try:
        import scenedetect  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"shots are found with the package {PACKAGE}: `pip install {PACKAGE}`") from error

    timeline = probe(path)
    every = (timeline.end - timeline.start) * timeline.time_base / (STEPS * max(1, timeline.num_frames))
    scale = max(1.0, max(timeline.width, timeline.height) / SIDE)
    size = max(1, round(timeline.height / scale)), max(1, round(timeline.width / scale))
    detector, edges = scenedetect.ContentDetector(min_scene_len=SHORTEST), [0.0]
    for chunk in Sampler(path, [FrameRequest(every, size)]):
        for point, picture in enumerate(chunk.values, chunk.first):
            cuts = detector.process_frame(scenedetect.FrameTimecode(point, 1 / every), picture[..., ::-1])
            edges += [float((cut.frame_num - 0.5) * every) for cut in cuts]  # its frame begins nearest to there
    edges.append(timeline.duration)
    spans = timeline.parts(list(pairwise(edges))) - timeline.start
    return [(float(first * timeline.time_base), float(end * timeline.time_base)) for first, end in spans.tolist()]
