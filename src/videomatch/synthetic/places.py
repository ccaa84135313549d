"""The sixteen places, drawn as still pictures. A painter draws over its ground by its layout's random numbers."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np

from videomatch.synthetic.vocabulary import DATA

Colour = Sequence[int]
Painter = Callable[[np.ndarray, np.random.Generator], None]


@lru_cache(maxsize=12)
def paint(place: int, layout: int, inset: bool, width: int, height: int) -> np.ndarray:
    """Background of ``place``, (height, width, 3) uint8 RGB, read-only; ``inset`` is a close-up, out of focus."""
    rng = np.random.default_rng([layout, place])
    picture = np.zeros((height, width, 3), np.uint8)
    for band in list(DATA["ground"].values())[place]:
        _gradient(picture, *band)
    PAINTERS[place](picture, rng)
    # light, tint and a still texture, so that no two layouts have equal colours
    noise = rng.normal(0, 9, (5, 8)).astype(np.float32)
    coarse = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 9, (height, width)).astype(np.float32), (0, 0), 1.2)
    tint = rng.normal(1.0, 0.05, 3).astype(np.float32) * np.float32(rng.uniform(0.82, 1.12))
    picture = np.clip(picture * tint + (coarse + fine)[..., None], 0, 255).astype(np.uint8)
    if inset:
        picture = cv2.GaussianBlur(picture, (0, 0), height / 24)[:, ::-1]
    picture.setflags(write=False)
    return picture


def _gradient(p: np.ndarray, top: Colour, bottom: Colour | None = None, first: float = 0.0, last: float = 1.0) -> None:
    if bottom is None:
        p[:] = top
        return
    a, b = int(first * len(p)), int(last * len(p))
    ramp = np.linspace(0, 1, max(b - a, 1), dtype=np.float32)[:, None]
    rows = np.array(top, np.float32) * (1 - ramp) + np.array(bottom, np.float32) * ramp
    p[a:b] = rows[:, None].astype(np.uint8)


def _polygon(p: np.ndarray, points: list[tuple[float, float]], colour: Colour) -> None:
    h, w = p.shape[:2]
    cv2.fillPoly(p, [np.array([(x * w, y * h) for x, y in points]).round().astype(np.int32)], colour, cv2.LINE_AA)


def _box(p: np.ndarray, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    _polygon(p, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)


def _disc(p: np.ndarray, x: float, y: float, radius: float, colour: Colour) -> None:
    h, w = p.shape[:2]
    cv2.circle(p, (round(x * w), round(y * h)), max(round(radius * h), 1), colour, -1, cv2.LINE_AA)


def _harbour(p: np.ndarray, r: np.random.Generator) -> None:
    for x in r.uniform(0.05, 0.9, 3):
        _polygon(p, [(x, 0.52), (x + 0.2, 0.52), (x + 0.16, 0.6), (x + 0.04, 0.6)], (110, 60, 40))
        _polygon(p, [(x + 0.1, 0.2), (x + 0.1, 0.5), (x + 0.19, 0.5)], (240, 240, 230))
    for x, y in r.uniform((0, 0.65), (1, 0.97), (14, 2)):
        _box(p, x, y, x + 0.08, y + 0.012, (90, 160, 200))


def _forest(p: np.ndarray, r: np.random.Generator) -> None:
    for k, x in enumerate(np.sort(r.uniform(-0.05, 1, 9))):
        green = (15 + 5 * k, 80 + int(r.integers(50)), 30)
        _box(p, x, 0.5, x + 0.025, 0.78, (80, 50, 25))
        for level in (0.12, 0.27, 0.42):
            _polygon(p, [(x - 0.08, level + 0.2), (x + 0.1, level + 0.2), (x + 0.012, level - 0.05)], green)


def _desert(p: np.ndarray, r: np.random.Generator) -> None:
    _disc(p, r.uniform(0.1, 0.9), 0.2, 0.1, (255, 250, 220))
    xs = np.linspace(0, 1, 30)
    for k, shade in enumerate([(225, 170, 95), (205, 145, 75), (180, 120, 60)]):
        phase, base = r.uniform(0, 6), 0.5 + 0.15 * k
        dunes = [(float(x), float(base + 0.06 * np.sin(6 * x + phase))) for x in xs]
        _polygon(p, [*dunes, (1.0, 1.0), (0.0, 1.0)], shade)


def _city(p: np.ndarray, r: np.random.Generator) -> None:
    for x in np.arange(0, 1, 0.11):
        top = r.uniform(0.15, 0.6)
        _box(p, x, top, x + 0.1, 1, (25, 25, 45))
        for wx in np.arange(x + 0.015, x + 0.09, 0.03):
            for wy in np.arange(top + 0.04, 0.95, 0.08):
                if r.random() < 0.55:
                    _box(p, wx, wy, wx + 0.015, wy + 0.035, (255, 215, 110))


def _kitchen(p: np.ndarray, r: np.random.Generator) -> None:
    for x in np.arange(0, 1, 0.09):
        for y in np.arange(0, 0.62, 0.15):
            _box(p, x + 0.004, y + 0.008, x + 0.086, y + 0.142, (205, 225, 225))
    _box(p, 0, 0.62, 1, 0.7, (120, 80, 50))
    _box(p, 0, 0.7, 1, 1, (190, 150, 110))
    for x in r.uniform(0.05, 0.9, 3):
        _box(p, x, 0.48, x + 0.09, 0.62, (90, 90, 100))


def _stadium(p: np.ndarray, r: np.random.Generator) -> None:
    crowd = r.integers(60, 230, (20, 90, 3)).astype(np.uint8)
    h, w = p.shape[:2]
    top, bottom = int(0.15 * h), int(0.45 * h)
    p[top:bottom] = cv2.resize(crowd, (w, bottom - top), interpolation=cv2.INTER_NEAREST)
    for k in range(8):
        _box(p, k / 8, 0.45, (k + 1) / 8, 1, (40, 150, 50) if k % 2 else (55, 175, 65))
    _box(p, 0, 0.6, 1, 0.615, (245, 245, 245))
    cv2.ellipse(p, (w // 2, int(0.8 * h)), (int(0.2 * w), int(0.12 * h)), 0, 0, 360, (245, 245, 245), 2, cv2.LINE_AA)


def _classroom(p: np.ndarray, r: np.random.Generator) -> None:
    _box(p, 0.08, 0.08, 0.92, 0.58, (110, 70, 40))
    _box(p, 0.1, 0.11, 0.9, 0.55, (25, 80, 60))
    for y in (0.2, 0.3, 0.4):
        x = r.uniform(0.12, 0.4)
        _box(p, x, y, x + r.uniform(0.15, 0.4), y + 0.015, (220, 235, 225))
    for x in (0.05, 0.38, 0.71):
        _box(p, x, 0.75, x + 0.24, 0.82, (170, 110, 60))
        _box(p, x + 0.03, 0.82, x + 0.05, 1, (120, 75, 40))


def _snowfield(p: np.ndarray, r: np.random.Generator) -> None:
    for x in r.uniform(0, 0.8, 3):
        _polygon(p, [(x - 0.2, 0.6), (x + 0.1, 0.12), (x + 0.4, 0.6)], (150, 165, 190))
        _polygon(p, [(x + 0.025, 0.24), (x + 0.1, 0.12), (x + 0.175, 0.24)], (255, 255, 255))
    _gradient(p, (250, 252, 255), (215, 228, 245), 0.6)
    for x, y in r.uniform(0, 1, (45, 2)):
        _disc(p, x, y, 0.012, (255, 255, 255))


def _beach(p: np.ndarray, r: np.random.Generator) -> None:
    for x in r.uniform(0.08, 0.9, 3):
        _box(p, x - 0.004, 0.5, x + 0.004, 0.85, (120, 80, 50))
        stripe = (235, 70, 80) if r.random() < 0.5 else (70, 110, 235)
        _polygon(p, [(x - 0.11, 0.55), (x, 0.4), (x + 0.11, 0.55)], stripe)
        _polygon(p, [(x - 0.035, 0.55), (x, 0.4), (x + 0.035, 0.55)], (255, 255, 255))


def _market(p: np.ndarray, r: np.random.Generator) -> None:
    for x in np.arange(0, 1, 0.25):
        colour = r.integers(60, 240, 3).tolist()
        for k in range(6):
            shade = colour if k % 2 else (245, 240, 230)
            _box(p, x + k * 0.04, 0.15, x + k * 0.04 + 0.04, 0.33, shade)
        _box(p, x + 0.02, 0.62, x + 0.23, 0.85, (130, 85, 45))
        for _ in range(10):
            fruit = r.integers((120, 60, 0), (255, 220, 80)).tolist()
            _disc(p, x + r.uniform(0.03, 0.22), 0.6 + r.uniform(-0.04, 0.02), 0.028, fruit)


def _stage(p: np.ndarray, r: np.random.Generator) -> None:
    for k in range(12):
        _box(p, k / 12, 0, (k + 0.5) / 12, 0.75, (110, 15, 35))
    _box(p, 0, 0.75, 1, 1, (95, 60, 35))
    light = np.zeros_like(p)
    for x in r.uniform(0.2, 0.8, 2):
        _polygon(light, [(x - 0.03, 0), (x + 0.03, 0), (x + 0.22, 0.9), (x - 0.22, 0.9)], (110, 100, 60))
    p[:] = cv2.add(p, light)


def _space(p: np.ndarray, r: np.random.Generator) -> None:
    for x, y in r.uniform(0, 1, (70, 2)):
        _disc(p, x, y, 0.006, (230, 230, 255))
    x, y = r.uniform(0.15, 0.85), r.uniform(0.2, 0.8)
    _disc(p, x, y, 0.24, (150, 100, 70))
    for _ in range(4):
        _disc(p, x + r.uniform(-0.07, 0.07), y + r.uniform(-0.15, 0.15), 0.03, (110, 75, 55))


def _sea_floor(p: np.ndarray, r: np.random.Generator) -> None:
    for x in r.uniform(0, 1, 9):
        ys = np.linspace(0.95, r.uniform(0.4, 0.7), 9)
        wave = 0.02 * np.sin(9 * ys + x * 30)
        left = [(float(x + d), float(y)) for d, y in zip(wave, ys, strict=True)]
        right = [(a + 0.025, b) for a, b in left[::-1]]
        _polygon(p, left + right, (20, 130, 80))
    for x, y in r.uniform(0, 0.85, (18, 2)):
        cv2.circle(p, (int(x * p.shape[1]), int(y * p.shape[0])), 3, (170, 220, 240), 1, cv2.LINE_AA)


def _farm(p: np.ndarray, r: np.random.Generator) -> None:
    for k in range(-8, 9):
        far, near = 0.5 + k * 0.03, 0.5 + k * 0.2
        _polygon(p, [(far, 0.45), (0.515 + k * 0.03, 0.45), (0.55 + k * 0.2, 1), (near, 1)], (150, 105, 55))
    x = r.uniform(0.1, 0.7)
    _box(p, x, 0.25, x + 0.2, 0.48, (175, 40, 35))
    _polygon(p, [(x - 0.03, 0.27), (x + 0.1, 0.12), (x + 0.23, 0.27)], (90, 60, 55))


def _tunnel(p: np.ndarray, r: np.random.Generator) -> None:
    cx, cy = 0.5 + r.uniform(-0.1, 0.1), 0.5 + r.uniform(-0.1, 0.1)
    h, w = p.shape[:2]
    for k in range(12, 0, -1):
        grey = 20 + 14 * k if k % 2 else 30 + 6 * k
        size = (int(w * 0.065 * k), int(h * 0.07 * k))
        cv2.ellipse(p, (int(cx * w), int(cy * h)), size, 0, 0, 360, (grey, grey, grey + 12), -1, cv2.LINE_AA)


def _temple(p: np.ndarray, r: np.random.Generator) -> None:
    _polygon(p, [(0.02, 0.32), (0.25, 0.1), (0.75, 0.1), (0.98, 0.32)], (150, 35, 30))
    for x in np.linspace(0.12, 0.85, 5):
        _box(p, x, 0.32, x + 0.05, 0.82, (190, 60, 45))
    for x in r.uniform(0.2, 0.8, 2):
        _disc(p, x, 0.42, 0.05, (250, 190, 60))


PAINTERS: list[Painter] = [
    _harbour, _forest, _desert, _city, _kitchen, _stadium, _classroom, _snowfield, _beach, _market, _stage, _space,
    _sea_floor, _farm, _tunnel, _temple,
]  # fmt: skip
