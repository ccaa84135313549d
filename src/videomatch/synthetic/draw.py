"""Frames: what a story looks like at a moment, at any size. Pure: equal arguments give equal pixels."""

from __future__ import annotations

import bisect
import math
from functools import lru_cache

import cv2
import numpy as np

from videomatch.synthetic import faces, places, words
from videomatch.synthetic.scenes import scenes
from videomatch.synthetic.story import Scene, Story

#: how much larger than the picture a background is, so that the camera can pan
MARGIN = 1.14
#: height of the presenter's head and shoulders, in short sides of the picture
PRESENTER = 0.58
_FONT = cv2.FontFace("uni")
_SHIFT = 4  # sub-pixel bits of cv2's drawing


def frame(story: Story, time: float, width: int, height: int) -> np.ndarray:
    """The picture on screen at ``time`` (s) as (height, width, 3) uint8 RGB."""
    shown = scenes(story)
    scene = shown[max(bisect.bisect_right([s.start for s in shown], time + 1e-9) - 1, 0)]
    since, share = time - scene.start, (time - scene.start) / max(scene.end - scene.start, 1e-6)
    picture = _background(scene, share, width, height)
    rng = np.random.default_rng(scene.layout)
    if scene.extra:
        bystander = _path(8, 0.3 * since, rng.uniform(0, 6))
        _sprite(picture, int(rng.integers(len(words.SHAPES))), _muted(rng), bystander, 0.12, 0.2, 0.0)
    if scene.presented:
        _present(picture, story.latents["presenter"], scene.layout, since)
    spot = rng.uniform((0.3, 0.4), (0.7, 0.6))
    phase, speed = rng.uniform(0, 2 * math.pi), rng.uniform(0.75, 1.3)
    _hero(picture, story.latents, spot, since * speed, phase, rng.uniform(0.22, 0.3) * (1.3 if scene.inset else 1.0))
    if scene.words:
        _write(picture, scene)
    return picture


def _background(scene: Scene, share: float, width: int, height: int) -> np.ndarray:
    wide, high = round(width * MARGIN), round(height * MARGIN)
    canvas = _canvas(scene.place, scene.layout, scene.inset, wide, high)
    pans, way = scene.layout % 5 < 2, scene.layout // 5 % 4
    moved = share if pans else 0.5
    x = round((wide - width) * (moved if way < 2 else 1 - moved))
    y = round((high - height) * (0.5 if way % 2 else moved))
    return canvas[y : y + height, x : x + width].copy()


@lru_cache(maxsize=12)
def _canvas(place: int, layout: int, inset: bool, width: int, height: int) -> np.ndarray:
    picture = (places.paint_inset if inset else places.paint)(place, layout, width, height)
    picture.setflags(write=False)
    return picture


def _hero(
    picture: np.ndarray, latents: dict[str, int], spot: np.ndarray, since: float, phase: float, radius: float
) -> None:
    """The moving thing: its action decides where it is, how large and how far turned."""
    action, t = latents["action"], since * 2 * math.pi
    x, y, size, turn = float(spot[0]), float(spot[1]), radius, 0.0
    if action == 0:  # jumps
        y += 0.2 - 0.45 * abs(math.sin(0.8 * t + phase))
    elif action == 1:  # circles
        x, y = 0.5 + 0.28 * math.cos(0.5 * t + phase), 0.5 + 0.26 * math.sin(0.5 * t + phase)
    elif action in (2, 5):  # slides, zigzags
        x = 0.5 + 0.4 * math.sin(0.35 * t + phase)
        y += 0.22 * (2 / math.pi) * math.asin(math.sin(2.2 * t + phase)) if action == 5 else 0.0
    elif action == 3:  # spins
        turn = 0.9 * t + phase
    elif action == 4:  # grows and shrinks
        size *= 1 + 0.5 * math.sin(0.8 * t + phase)
    elif action == 6:  # trembles
        x, y = x + 0.025 * math.sin(7.0 * t), y + 0.025 * math.sin(9.1 * t + phase)
    elif action == 7:  # swings
        turn = 0.8 * math.sin(0.7 * t + phase)
        x, y = x + 0.25 * math.sin(turn), y - 0.1 + 0.25 * math.cos(turn)
    else:  # falls
        y = -0.1 + 1.2 * ((0.45 * since + phase) % 1.0)
    _sprite(picture, latents["shape"], words.COLOURS[latents["colour"]][2], (x, y), size, 1.0, turn)


def _path(action: int, since: float, phase: float) -> tuple[float, float]:
    return 0.5 + 0.42 * math.cos(phase + since), 0.5 + 0.35 * math.sin(phase * action + since)


def _muted(rng: np.random.Generator) -> tuple[int, int, int]:
    grey = int(rng.integers(70, 180))
    return grey, grey, grey


@lru_cache(maxsize=len(words.SHAPES))
def outline(shape: int) -> np.ndarray:
    """Corners (P, 2) of a shape around the origin, about 1 in radius, y down."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    if shape in (0, 7):  # circle, ring
        return np.stack([np.cos(turn), np.sin(turn)], 1)
    if shape == 3:  # star
        angle = -np.pi / 2 + np.arange(10) * np.pi / 5
        return np.stack([np.cos(angle), np.sin(angle)], 1) * np.where(np.arange(10) % 2, 0.42, 1.1)[:, None]
    if shape == 4:  # heart
        x, y = (
            16 * np.sin(turn) ** 3,
            13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn),
        )
        return np.stack([x, -y], 1) / 16
    if shape == 8:  # moon
        outer = np.linspace(0.35 * np.pi, 1.65 * np.pi, 24)
        inner = np.linspace(1.6 * np.pi, 0.4 * np.pi, 20)
        crescent = np.stack([0.42 + 0.74 * np.cos(inner), 0.82 * np.sin(inner)], 1)
        return np.concatenate([np.stack([np.cos(outer), np.sin(outer)], 1), crescent])
    corners: dict[int, list[tuple[float, float]]] = {
        1: [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
        2: [(0, -1.05), (1.0, 0.8), (-1.0, 0.8)],
        5: [(0, -1.15), (0.75, 0), (0, 1.15), (-0.75, 0)],
        6: [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3),
            (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)],
        9: [(-1, -0.3), (0.1, -0.3), (0.1, -0.85), (1.1, 0), (0.1, 0.85), (0.1, 0.3), (-1, 0.3)],
    }  # fmt: skip
    return np.array(corners[shape], float)


def _sprite(
    picture: np.ndarray, shape: int, colour: tuple[int, int, int], at: tuple[float, float], size: float,
    rim: float, turn: float,
) -> None:  # fmt: skip
    h, w = picture.shape[:2]
    radius = size * min(h, w)
    c, s = math.cos(turn), math.sin(turn)
    points = outline(shape) @ np.array([[c, s], [-s, c]]) * radius + (at[0] * w, at[1] * h)
    fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
    dark = tuple(int(v * 0.35 * rim) for v in colour)
    cv2.fillPoly(picture, [fixed], colour, cv2.LINE_AA, _SHIFT)
    if shape == 7:  # the ring is an edge without a middle
        hole = np.round(((points - points.mean(0)) * 0.52 + points.mean(0)) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(picture, [hole], dark, cv2.LINE_AA, _SHIFT)
    thickness = max(round(radius * 0.09), 1)
    cv2.polylines(picture, [fixed], True, dark, thickness, cv2.LINE_AA, _SHIFT)


def _present(picture: np.ndarray, presenter: int, layout: int, since: float) -> None:
    """The presenter in a lower corner, nodding, talking and now and then blinking; the moving thing passes in front."""
    h, w = picture.shape[:2]
    talks, blinks = math.sin(11 * since) > 0.1 * (layout % 7), math.sin(2.3 * since + layout % 6) > 0.98
    patch, alpha = faces.sprite(presenter, round(PRESENTER * min(h, w)), talks, blinks)
    high, wide = alpha.shape[:2]
    top = h - high + round(0.012 * h * (1 + math.sin(3.1 * since)))
    x = round((w - wide) * (0.04 if layout // 11 % 2 else 0.96))
    area = picture[top:, x : x + wide]
    area[:] = (area * (1 - alpha[: len(area)]) + patch[: len(area)]).astype(np.uint8)


def _write(picture: np.ndarray, scene: Scene) -> None:
    h, w = picture.shape[:2]
    patch, alpha = _lettering(scene.words, w, h)
    high, wide = alpha.shape[:2]
    top = (round(0.04 * h), h - high - round(0.05 * h))[scene.layout % 3 != 0]
    x = max((w - wide) // 2, 0)
    area = picture[top : top + high, x : x + wide]
    area[:] = (area * (1 - alpha) + patch).astype(np.uint8)


@lru_cache(maxsize=12)
def _lettering(text: str, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour times opacity, and opacity (height, width, 1), of white letters on a dark band."""
    size = max(round(min(width, height) * 0.105), 9)
    box, _ = _measure(text, size)
    while box > width * 0.92 and size > 7:
        size -= 1
        box, _ = _measure(text, size)
    high, wide = round(size * 1.6), min(box + size, width)
    letters = np.zeros((high, wide, 3), np.uint8)
    cv2.putText(letters, text, (size // 2, round(size * 1.15)), (255, 255, 255), _FONT, size)
    ink = letters[..., :1].astype(np.float32) / 255
    return 255 * ink, np.maximum(ink, 0.55)


def _measure(text: str, size: int) -> tuple[int, int]:
    rect = cv2.getTextSize((4096, 512), text, (0, 100), _FONT, size)
    return int(rect[2]), int(rect[3])
