"""Two edited views of a frame: what a copy descriptor learns from.

The edits are those of the first place's training in the Video Similarity Challenge 2022 and of SSCD's (crop, flip,
rotation, colour, blur, JPEG, text, logos, overlays, pictures in pictures), for pictures of 64 pixels or so.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from videomatch.examples import Batch, Examples

Picture = UInt8[np.ndarray, "height width 3"]
#: of a frame
VIEWS = 2


def view(picture: Picture, other: Picture, rng: np.random.Generator, *, max_edits: int = 3) -> Picture:
    """A picture after 1 to ``max_edits`` different edits, in an order in which each can be seen. ``other`` is a picture
    of the same size, of another video, for edits that show one."""
    count = int(rng.integers(1, max_edits + 1))
    for number in sorted(rng.choice(len(EDITS), min(count, len(EDITS)), replace=False)):
        picture = np.ascontiguousarray(EDITS[number](picture, other, rng))
    return picture


def _sized(p: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(p, (max(width, 2), max(height, 2)), interpolation=cv2.INTER_AREA)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _crop(p: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    h, w = p.shape[:2]
    top, bottom, left, right = rng.uniform(0, 0.3, 4)
    return _sized(p[int(top * h) : h - int(bottom * h), int(left * w) : w - int(right * w)], w, h)


def _flip(p: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return p[:, ::-1] if rng.random() < 0.85 else p[::-1]


def _warp(p: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    h, w = p.shape[:2]
    if rng.random() < 0.5:
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(-30, 30), rng.uniform(0.8, 1.2))
        return cv2.warpAffine(p, matrix, (w, h), borderValue=_colour(rng))
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32)
    moved = corners + rng.uniform(-0.15, 0.15, (4, 2)).astype(np.float32) * np.array([w, h], np.float32)
    return cv2.warpPerspective(p, cv2.getPerspectiveTransform(corners, moved), (w, h), borderValue=_colour(rng))


def _light(p: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gain, shift = np.exp(rng.uniform(-1, 0.7)), rng.uniform(-70, 70)
    return np.clip((p.astype(np.float32) - 128) * gain + 128 + shift, 0, 255).astype(np.uint8)


def _tone(p: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.3:
        return cv2.cvtColor(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    hsv = cv2.cvtColor(p, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-90, 90)) % 180
    hsv[..., 1] *= rng.uniform(0.3, 1.6)
    return cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)


def _soft(p: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    h, w = p.shape[:2]
    if rng.random() < 0.5:
        return cv2.GaussianBlur(p, (0, 0), rng.uniform(0.5, 2.0) * h / 64)
    ratio = rng.uniform(0.15, 0.5)
    return cv2.resize(_sized(p, int(w * ratio), int(h * ratio)), (w, h), interpolation=cv2.INTER_NEAREST)


def _grain(p: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        data = cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(3, 30))])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    grain = rng.uniform(5, 35) * rng.standard_normal(p.shape, dtype=np.float32)
    return np.clip(p + grain, 0, 255).astype(np.uint8)


def _inside(p: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In another picture, or before a plain ground."""
    h, w = p.shape[:2]
    scale = rng.uniform(0.4, 0.85)
    small = _sized(p, int(w * scale * rng.uniform(0.8, 1)), int(h * scale))
    return _pasted(other if rng.random() < 0.7 else np.full_like(p, _colour(rng)), small, rng)


def _beside(p: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    h, w = p.shape[:2]
    both = [p, other][:: 1 if rng.random() < 0.5 else -1]
    if rng.random() < 0.5:
        return np.concatenate([_sized(both[0], w // 2, h), _sized(both[1], w - w // 2, h)], 1)
    return np.concatenate([_sized(both[0], w, h // 2), _sized(both[1], w, h - h // 2)], 0)


def _blend(p: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    opacity = rng.uniform(0.1, 0.45)
    return cv2.addWeighted(p, 1 - opacity, other, opacity, 0)


def _over(p: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another picture in it."""
    h, w = p.shape[:2]
    scale = rng.uniform(0.2, 0.5)
    return _pasted(p, _sized(other, int(w * scale), int(h * scale)), rng)


def _pasted(p: np.ndarray, small: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    result = p.copy()
    y, x = (int(rng.integers(0, a - b + 1)) for a, b in zip(p.shape[:2], small.shape[:2], strict=True))
    result[y : y + small.shape[0], x : x + small.shape[1]] = small
    return result


def _marks(p: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Logos, dots and a line of letters or bars."""
    h, w = p.shape[:2]
    result = p.copy()
    for _number in range(int(rng.choice([1, 2, 25]))):
        radius = max(1, int(rng.uniform(0.06, 0.2) * h)) if _number < 2 else 1
        cv2.circle(result, (int(rng.integers(w)), int(rng.integers(h))), radius, _colour(rng), -1)
    if rng.random() < 0.6:
        letters = "".join(chr(c) for c in rng.integers(65, 123, int(rng.integers(3, 12))))
        at = (int(rng.uniform(0, 0.4) * w), int(rng.uniform(0.2, 0.98) * h))
        cv2.putText(result, letters, at, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.25, 0.6) * h / 64, _colour(rng), 1)
    return result


#: (picture, another one, randomness) -> picture of the same size; what lies inside another picture is edited before
EDITS = (
    _light, _tone, _flip, _crop, _warp, _over, _blend, _beside, _inside, _marks, _soft, _grain,
)  # fmt: skip


@dataclass(kw_only=True, eq=False)
class EditedViews(Examples):
    """A random frame of a video, seen twice after edits that are sampled anew each time; ``edits`` is how many the
    second view has at most, the first has one.

    Batch: ``views`` ``(B, V, height, width, 3)`` uint8, ``video`` ``(B,)``: the number of the video.
    """

    expert: str | None = "frames"
    per_video: int = 4
    edits: int = 3

    def __post_init__(self) -> None:
        if self.edits < 1:
            raise ValueError(f"EditedViews: {self.edits} edits, expected at least 1")

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        frames = self._random_rows([self.videos[n] for n in numbers], rng).numpy()
        if frames.dtype != np.uint8 or frames.ndim != 4:
            raise ValueError(f"EditedViews: rows of {frames.shape[1:]} {frames.dtype}, expected frames of bytes")
        others = np.roll(frames, 1, axis=0)  # a batch's frames are of different videos, as a rule
        rows = [
            [view(frame, other, rng, max_edits=self.edits if n else 1) for n in range(VIEWS)]
            for frame, other in zip(frames, others, strict=True)
        ]
        return {"views": torch.from_numpy(np.array(rows)), "video": torch.from_numpy(np.asarray(numbers, np.int64))}
