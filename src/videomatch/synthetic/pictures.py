"""Frames: what a video shows at a moment, at any size. Pure: equal arguments give equal pixels.

The twelve presenters each have their own head, hair, eyes, glasses and beard, drawn once and scaled. They are shaded as
far as a face detector that was trained on photographs needs: eyes in shadow, a lit forehead and nose, lips. Shapes and
tones identify a presenter; either alone tells some of them apart.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from videomatch.synthetic import places, vocabulary
from videomatch.synthetic.latent import Latent, Scene, scenes

Colour = tuple[int, int, int]

#: how much larger than the picture a background is, so that the camera can pan
MARGIN = 1.14
#: height of the presenter's head and shoulders, in short sides of the picture
PRESENTER = 0.58
_FONT = cv2.FontFace("uni")
_SHIFT = 4  # sub-pixel bits of cv2's drawing


def frame(latent: Latent, time: float, width: int, height: int) -> np.ndarray:
    """The picture of a video at ``time`` (s) as (height, width, 3) uint8 RGB."""
    all_scenes = scenes(latent)
    scene = all_scenes[max(bisect.bisect_right([s.start for s in all_scenes], time + 1e-9) - 1, 0)]
    since, share = time - scene.start, (time - scene.start) / max(scene.end - scene.start, 1e-6)
    picture = _background(scene, share, width, height)
    rng = np.random.default_rng(scene.layout)
    if scene.extra:
        bystander = _path(8, 0.3 * since, rng.uniform(0, 6))
        _sprite(picture, int(rng.integers(len(vocabulary.SHAPES))), _muted(rng), bystander, 0.12, 0.2, 0.0)
    if scene.presented:
        _present(picture, latent.factors["presenter"], scene.layout, since)
    spot = rng.uniform((0.3, 0.4), (0.7, 0.6))
    phase, speed = rng.uniform(0, 2 * math.pi), rng.uniform(0.75, 1.3)
    _object(picture, latent.factors, spot, since * speed, phase, rng.uniform(0.22, 0.3) * (1.3 if scene.inset else 1.0))
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


def _object(
    picture: np.ndarray, factors: dict[str, int], spot: np.ndarray, since: float, phase: float, radius: float
) -> None:
    """The moving object: its action decides its position, size and rotation."""
    action, t = factors["action"], since * 2 * math.pi
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
    _sprite(picture, factors["shape"], vocabulary.COLOURS[factors["colour"]][2], (x, y), size, 1.0, turn)


def _path(action: int, since: float, phase: float) -> tuple[float, float]:
    return 0.5 + 0.42 * math.cos(phase + since), 0.5 + 0.35 * math.sin(phase * action + since)


def _muted(rng: np.random.Generator) -> Colour:
    grey = int(rng.integers(70, 180))
    return grey, grey, grey


@lru_cache(maxsize=len(vocabulary.SHAPES))
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
    picture: np.ndarray, shape: int, colour: Colour, at: tuple[float, float], size: float,
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
    """The presenter in a lower corner, nodding, talking, sometimes blinking; the moving object passes in front."""
    h, w = picture.shape[:2]
    talks, blinks = math.sin(11 * since) > 0.1 * (layout % 7), math.sin(2.3 * since + layout % 6) > 0.98
    patch, alpha = face_sprite(presenter, round(PRESENTER * min(h, w)), talks, blinks)
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


# ----------------------------------------------------------------------------------------------------------- faces

#: height and width in which a head is drawn before it is scaled, px
HIGH, WIDE = 240, 200


@dataclass(frozen=True)
class Face:
    """The looks of a presenter; lengths are shares of the head's width."""

    skin: Colour
    hair: Colour
    style: str
    width: float
    eyes: float
    iris: Colour
    nose: float
    mouth: float
    glasses: bool
    beard: str
    shirt: Colour


_BLACK, _BROWN, _BLOND, _GREY, _RED = (28, 22, 22), (84, 52, 30), (222, 184, 104), (176, 176, 182), (158, 62, 24)
_PALE, _FAIR, _TAN, _OLIVE, _DARK = (246, 218, 200), (236, 194, 164), (212, 162, 122), (196, 152, 112), (132, 88, 60)

#: in the order of ``vocabulary.PRESENTERS``
FACES: list[Face] = [
    Face(_PALE, _BLOND, "long", 0.86, 0.42, (70, 110, 160), 0.15, 0.34, False, "", (190, 40, 60)),
    Face(_FAIR, _GREY, "bald", 1.00, 0.40, (90, 90, 90), 0.22, 0.40, True, "full", (60, 70, 90)),
    Face(_FAIR, _BLACK, "bob", 0.92, 0.40, (40, 26, 20), 0.15, 0.32, True, "", (240, 240, 235)),
    Face(_TAN, _BROWN, "bun", 0.88, 0.46, (60, 90, 50), 0.14, 0.40, False, "", (250, 170, 40)),
    Face(_OLIVE, _BLACK, "short", 0.92, 0.38, (50, 36, 26), 0.20, 0.36, False, "moustache", (40, 120, 80)),
    Face(_TAN, (120, 40, 110), "scarf", 0.84, 0.44, (44, 30, 22), 0.16, 0.34, False, "", (120, 40, 110)),
    Face(_FAIR, _RED, "short", 1.00, 0.42, (60, 120, 110), 0.20, 0.40, False, "goatee", (30, 60, 140)),
    Face(_FAIR, _BLACK, "fringe", 0.86, 0.45, (34, 24, 20), 0.13, 0.30, False, "", (230, 120, 160)),
    Face(_PALE, _BROWN, "curly", 0.96, 0.38, (80, 120, 170), 0.20, 0.38, True, "", (80, 80, 80)),
    Face(_FAIR, (64, 40, 34), "long", 0.92, 0.39, (40, 28, 22), 0.14, 0.36, True, "", (70, 160, 170)),
    Face(_DARK, _BLACK, "bald", 0.98, 0.43, (30, 20, 16), 0.22, 0.44, False, "goatee", (230, 200, 60)),
    Face(_DARK, _BLACK, "curly", 0.90, 0.45, (36, 24, 18), 0.18, 0.42, False, "", (150, 60, 190)),
]


@lru_cache(maxsize=96)
def face_sprite(presenter: int, height: int, talks: bool, blinks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Head and shoulders, ``height`` px high: colour times opacity (height, width, 3), opacity (height, width, 1)."""
    picture, opacity = _drawn(FACES[presenter], talks, blinks)
    size = (max(round(height * WIDE / HIGH), 2), max(height, 2))
    alpha = cv2.resize(opacity, size, interpolation=cv2.INTER_AREA)[..., None].astype(np.float32) / 255
    colour = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return colour * alpha, alpha


def _drawn(face: Face, talks: bool, blinks: bool) -> tuple[np.ndarray, np.ndarray]:
    p, a = np.zeros((HIGH, WIDE, 3), np.uint8), np.zeros((HIGH, WIDE), np.uint8)
    p[:] = face.skin
    half, centre = round(62 * face.width), (WIDE // 2, 108)
    _behind(p, a, face, half, centre)
    shadow = _shade(face.skin, 0.72)
    _both(
        p, a, lambda x, c: cv2.ellipse(x, (WIDE // 2, HIGH + 22), (92, 62), 0, 180, 360, c, -1, cv2.LINE_AA), face.shirt
    )
    _both(p, a, lambda x, c: cv2.rectangle(x, (WIDE // 2 - 26, 160), (WIDE // 2 + 26, 204), c, -1), shadow)
    if face.style != "scarf":
        for side in (-1, 1):
            ear = (centre[0] + side * half, centre[1] + 6)
            _both(p, a, lambda x, c, e=ear: cv2.ellipse(x, e, (10, 18), 0, 0, 360, c, -1, cv2.LINE_AA), shadow)
    _both(p, a, lambda x, c: cv2.ellipse(x, centre, (half, 78), 0, 0, 360, c, -1, cv2.LINE_AA), face.skin)
    _light(p, centre, half)
    _features(p, face, half, centre, talks, blinks)
    _above(p, a, face, half, centre)
    return p, a


def _both(p: np.ndarray, a: np.ndarray, draw: Callable[[np.ndarray, Any], Any], colour: Colour) -> None:
    draw(p, colour)
    draw(a, 255)


def _shade(colour: Colour, by: float) -> Colour:
    r, g, b = (min(int(c * by), 255) for c in colour)
    return r, g, b


def _light(p: np.ndarray, centre: tuple[int, int], half: int) -> None:
    """The head as a ball lit from above and in front."""
    y, x = np.mgrid[:HIGH, :WIDE].astype(np.float32)
    u, v = (x - centre[0]) / half, (y - centre[1]) / 78
    inside = u * u + v * v < 1
    lit = 1.10 - 0.34 * np.abs(u) ** 2.4 - 0.16 * np.clip(v, 0, 1) ** 2
    for side in (-1, 1):  # sockets
        lit -= 0.20 * np.exp(-(((u - side * 0.40) / 0.30) ** 2) - ((v + 0.10) / 0.16) ** 2)
    lit -= 0.16 * np.exp(-((u / 0.34) ** 2) - ((v - 0.36) / 0.07) ** 2)  # below the nose
    lit += 0.10 * np.exp(-((u / 0.10) ** 2) - ((v - 0.10) / 0.24) ** 2)  # bridge
    p[:] = np.where(inside[..., None], np.clip(p * lit[..., None], 0, 255), p).astype(np.uint8)


def _features(p: np.ndarray, f: Face, half: int, centre: tuple[int, int], talks: bool, blinks: bool) -> None:
    cx, cy = centre
    level, apart = cy - 10, round(half * f.eyes)
    dark, brow = _shade(f.skin, 0.45), _shade(f.hair, 0.8) if f.style != "scarf" else (50, 34, 26)
    if f.beard == "full":
        cv2.ellipse(p, (cx, cy + 42), (round(half * 0.84), 37), 0, 0, 180, _shade(f.hair, 0.9), -1, cv2.LINE_AA)
        cv2.ellipse(p, (cx, cy + 43), (round(half * 0.62), 8), 0, 180, 360, _shade(f.hair, 0.9), -1, cv2.LINE_AA)
    elif f.beard == "goatee":
        cv2.ellipse(p, (cx, cy + 60), (18, 16), 0, 0, 360, f.hair, -1, cv2.LINE_AA)
    for side in (-1, 1):
        eye = (cx + side * apart, level)
        if blinks:
            cv2.ellipse(p, eye, (14, 5), 0, 0, 180, dark, 3, cv2.LINE_AA)
        else:
            cv2.ellipse(p, eye, (14, 8), 0, 0, 360, (238, 234, 230), -1, cv2.LINE_AA)
            cv2.circle(p, eye, 8, f.iris, -1, cv2.LINE_AA)
            cv2.circle(p, eye, 4, (10, 8, 8), -1, cv2.LINE_AA)
            cv2.ellipse(p, eye, (15, 9), 0, 180, 360, dark, 3, cv2.LINE_AA)
        cv2.ellipse(p, (eye[0], level - 12), (19, 9), 0, 200, 340, brow, 5, cv2.LINE_AA)
    wide = round(half * f.nose)
    cv2.ellipse(p, (cx, cy + 22), (wide, 7), 0, 10, 170, dark, 3, cv2.LINE_AA)
    for side in (-1, 1):
        cv2.circle(p, (cx + side * wide // 2, cy + 23), 3, _shade(f.skin, 0.3), -1, cv2.LINE_AA)
    lips, mouth = _shade((200, 84, 84), 0.55 + 0.4 * f.skin[0] / 255), (cx, cy + 46)
    span = round(half * f.mouth)
    if f.beard in ("moustache", "full"):
        cv2.ellipse(p, (cx, cy + 38), (round(span * 1.05), 8), 0, 180, 360, f.hair, -1, cv2.LINE_AA)
    cv2.ellipse(p, mouth, (span, 10 if talks else 6), 0, 0, 360, lips, -1, cv2.LINE_AA)
    if talks:
        cv2.ellipse(p, mouth, (round(span * 0.7), 6), 0, 0, 360, (60, 16, 20), -1, cv2.LINE_AA)
    else:
        cv2.ellipse(p, (cx, cy + 42), (span, 6), 0, 20, 160, _shade(lips, 0.5), 2, cv2.LINE_AA)
    if f.glasses:
        for side in (-1, 1):
            cv2.circle(p, (cx + side * apart, level), 20, (24, 22, 26), 3, cv2.LINE_AA)
        cv2.line(p, (cx - apart + 20, level), (cx + apart - 20, level), (24, 22, 26), 3, cv2.LINE_AA)


def _behind(p: np.ndarray, a: np.ndarray, f: Face, half: int, centre: tuple[int, int]) -> None:
    """Hair that hangs behind the head."""
    cx, cy = centre
    if f.style in ("long", "scarf"):
        _both(p, a, lambda x, c: cv2.ellipse(x, (cx, cy + 6), (half + 22, 92), 0, 0, 360, c, -1, cv2.LINE_AA), f.hair)
        low = 226 if f.style == "long" else 206
        _both(p, a, lambda x, c: cv2.rectangle(x, (cx - half - 20, cy), (cx + half + 20, low), c, -1), f.hair)
    elif f.style in ("bob", "fringe"):
        _both(p, a, lambda x, c: cv2.ellipse(x, (cx, cy - 4), (half + 18, 84), 0, 0, 360, c, -1, cv2.LINE_AA), f.hair)
    elif f.style == "curly":
        for angle in np.linspace(0.75 * np.pi, 2.25 * np.pi, 13):
            at = (round(cx + (half + 6) * np.cos(angle)), round(cy - 10 + 74 * np.sin(angle)))
            _both(p, a, lambda x, c, at=at: cv2.circle(x, at, 20, c, -1, cv2.LINE_AA), f.hair)
    elif f.style == "bun":
        _both(p, a, lambda x, c: cv2.circle(x, (cx, 24), 24, c, -1, cv2.LINE_AA), f.hair)


def _above(p: np.ndarray, a: np.ndarray, f: Face, half: int, centre: tuple[int, int]) -> None:
    """Hair over the forehead."""
    if f.style == "bald":
        return
    cx, cy = centre
    line = {"fringe": -0.36, "scarf": -0.62, "bob": -0.45}.get(f.style, -0.55)
    cap, y = np.zeros((HIGH, WIDE), np.uint8), round(cy + 78 * line)
    cv2.ellipse(cap, (cx, cy - 4), (half + 8, 84), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cap[y:] = 0
    if f.style != "fringe":  # a hairline is round
        cv2.ellipse(cap, (cx, y + 14), (round(half * 0.78), 26), 0, 0, 360, 0, -1, cv2.LINE_AA)
    share = cap[..., None].astype(np.float32) / 255
    p[:] = (p * (1 - share) + np.array(f.hair, np.float32) * share).astype(np.uint8)
    np.maximum(a, cap, out=a)
