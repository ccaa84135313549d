"""Edits of a copied segment, frame by frame.

The list follows the edits found in VCSL and those of the third place's generator in the Video Similarity Challenge 2022
(AugLy), milder where those would leave nothing of a small picture. An edit's strength is drawn once for a segment.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Picture = np.ndarray
#: draws the host's picture of the same size, for the edits that show it
Host = Callable[[], Picture]
#: (copied picture, host, randomness of the segment that starts anew at every frame)
Function = Callable[[Picture, Host, np.random.Generator], Picture]


@dataclass(frozen=True)
class Edit:
    """A named edit and the seed of its choices (where, how strong)."""

    name: str
    seed: int


def apply(edits: tuple[Edit, ...], picture: Picture, host: Host) -> Picture:
    """``picture`` after all ``edits``; it, ``host()`` and the result are (height, width, 3) uint8 of one size."""
    for edit in edits:
        picture = np.ascontiguousarray(EDITS[edit.name][1](picture, host, np.random.default_rng(edit.seed)))
    return picture


def _sized(picture: Picture, width: int, height: int) -> Picture:
    return cv2.resize(picture, (max(width, 2), max(height, 2)), interpolation=cv2.INTER_AREA)


def _crop(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    h, w = p.shape[:2]
    top, bottom, left, right = r.uniform(0.02, 0.25, 4)
    return _sized(p[int(top * h) : h - int(bottom * h), int(left * w) : w - int(right * w)], w, h)


def _pad(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    h, w = p.shape[:2]
    plain = np.full_like(p, r.integers(0, 255, 3).astype(np.uint8))
    sides, ends = r.uniform(0.0, 0.2, 2)
    x, y = int(sides * w), int(ends * h)
    return _pasted(plain, _sized(p, w - 2 * x, h - 2 * y), y, x)


def _picture_in_picture(p: Picture, host: Host, r: np.random.Generator) -> Picture:
    h, w = p.shape[:2]
    scale = r.uniform(0.45, 0.75)
    small = _sized(p, int(w * scale), int(h * scale))
    y, x = int(r.random() * (h - small.shape[0])), int(r.random() * (w - small.shape[1]))
    return _pasted(host(), small, y, x)


def _overlay(p: Picture, host: Host, r: np.random.Generator) -> Picture:
    h, w = p.shape[:2]
    scale = r.uniform(0.25, 0.45)
    small = _sized(host(), int(w * scale), int(h * scale))
    return _pasted(p, small, r.choice([0, h - small.shape[0]]), r.choice([0, w - small.shape[1]]))


def _pasted(whole: Picture, small: Picture, y: int, x: int) -> Picture:
    result = whole.copy()
    result[y : y + small.shape[0], x : x + small.shape[1]] = small
    return result


def _beside(p: Picture, host: Host, r: np.random.Generator) -> Picture:
    h, w = p.shape[:2]
    halves = [_sized(p, w // 2, h), _sized(host(), w - w // 2, h)]
    return _sized(np.concatenate(halves if r.random() < 0.5 else halves[::-1], 1), w, h)


def _letters(p: Picture, r: np.random.Generator, y: float, size: float, text: str) -> Picture:
    result = p.copy()
    colour = r.integers(150, 256, 3).tolist()
    at = (int(r.uniform(0.03, 0.3) * p.shape[1]), int(y * p.shape[0]))
    cv2.putText(result, text, at, colour, cv2.FontFace("uni"), max(int(size * min(p.shape[:2])), 8))
    return result


def _text(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    signs = "abcdefghkmnoprstuvw 你我他看好大新开门真"
    text = "".join(signs[k] for k in r.integers(len(signs), size=r.integers(5, 15)))
    return _letters(p, r, r.uniform(0.25, 0.9), r.uniform(0.1, 0.18), text)


def _subtitle(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    lines = ["What happens next?", "转载请注明", "Follow for more", "关注我不迷路", "See full video", "精彩片段"]
    return _letters(p, r, 0.95, 0.1, lines[r.integers(len(lines))])


def _logo(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    result, (h, w) = p.copy(), p.shape[:2]
    radius = int(r.uniform(0.08, 0.2) * min(h, w))
    at = (int(r.choice([0.15, 0.85]) * w), int(r.choice([0.2, 0.8]) * h))
    cv2.circle(result, at, radius, r.integers(0, 256, 3).tolist(), -1, cv2.LINE_AA)
    cv2.circle(result, at, radius // 2, (255, 255, 255), -1, cv2.LINE_AA)
    return cv2.addWeighted(result, 0.85, p, 0.15, 0)


def _contrast(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    gain = r.choice([r.uniform(0.35, 0.7), r.uniform(1.4, 2.0)])
    return np.clip((p.astype(np.float32) - 128) * gain + 128, 0, 255).astype(np.uint8)


def _tint(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    hsv = cv2.cvtColor(p, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(r.integers(10, 60))) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _pixelate(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    h, w = p.shape[:2]
    ratio = r.uniform(0.12, 0.4)
    return cv2.resize(_sized(p, int(w * ratio), int(h * ratio)), (w, h), interpolation=cv2.INTER_NEAREST)


def _noise(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    # the same grain in every frame: noise that changes would cost x264 more than all the rest
    grain = np.float32(r.uniform(8, 25)) * r.standard_normal((*p.shape[:2], 1), dtype=np.float32)
    return np.clip(p + grain, 0, 255).astype(np.uint8)


def _turn(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    h, w = p.shape[:2]
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), r.uniform(5, 25) * r.choice([-1, 1]), 1.0)
    return cv2.warpAffine(p, matrix, (w, h), borderValue=(0, 0, 0))


def _camcording(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    h, w = p.shape[:2]
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32)
    moved = corners + r.uniform(-0.12, 0.12, (4, 2)).astype(np.float32) * (w, h)
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return cv2.warpPerspective(p, matrix, (w, h), borderValue=(20, 20, 20))


def _blend(p: Picture, host: Host, r: np.random.Generator) -> Picture:
    opacity = r.uniform(0.15, 0.45)
    return cv2.addWeighted(p, 1 - opacity, host(), opacity, 0)


def _dots(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    result, (h, w) = p.copy(), p.shape[:2]
    for x, y in r.uniform(0, 1, (r.integers(20, 70), 2)):
        colour = r.integers(0, 256, 3).tolist()
        cv2.circle(result, (int(x * w), int(y * h)), max(h // 60, 1), colour, -1, cv2.LINE_AA)
    return result


def _low_quality(p: Picture, _: Host, r: np.random.Generator) -> Picture:
    data = cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, int(r.integers(4, 18))])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


#: name -> kind and function, in the order that is part of the random draws. The kind tells what changes: positions,
#: other content in the picture, marks over it, colours, or detail
EDITS: dict[str, tuple[str, Function]] = {
    "crop": ("geometry", _crop),
    "pad": ("geometry", _pad),
    "picture_in_picture": ("company", _picture_in_picture),
    "overlay": ("company", _overlay),
    "beside": ("company", _beside),
    "text": ("marks", _text),
    "subtitle": ("marks", _subtitle),
    "logo": ("marks", _logo),
    "brightness": ("colour", lambda p, _, r: cv2.convertScaleAbs(p, alpha=1.0, beta=r.uniform(25, 90))),
    "darkness": ("colour", lambda p, _, r: cv2.convertScaleAbs(p, alpha=r.uniform(0.4, 0.75))),
    "contrast": ("colour", _contrast),
    "tint": ("colour", _tint),
    "gray": ("colour", lambda p, _, __: cv2.cvtColor(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)),
    "blur": ("detail", lambda p, _, r: cv2.GaussianBlur(p, (0, 0), r.uniform(1.5, 4.5) * min(p.shape[:2]) / 192)),
    "pixelate": ("detail", _pixelate),
    "noise": ("detail", _noise),
    "mirror": ("geometry", lambda p, _, __: p[:, ::-1]),
    "turn": ("geometry", _turn),
    "camcording": ("geometry", _camcording),
    "blend": ("company", _blend),
    "dots": ("marks", _dots),
    "low_quality": ("detail", _low_quality),
}
