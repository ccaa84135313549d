"""The twelve presenters' faces: each identity has its own head, hair, eyes, glasses and beard, drawn once and scaled.

They are shaded as far as a face detector that was trained on photographs needs: eyes in shadow, a lit forehead and
nose, lips. What identifies a presenter is in the shapes and in the tones: either alone tells some of them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

Colour = tuple[int, int, int]

#: height and width in which a head is drawn before it is scaled, px
HIGH, WIDE = 240, 200


@dataclass(frozen=True)
class Face:
    """What a presenter looks like; lengths are shares of the head's width."""

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

#: in the order of ``words.PRESENTERS``
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
def sprite(presenter: int, height: int, talks: bool, blinks: bool) -> tuple[np.ndarray, np.ndarray]:
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
