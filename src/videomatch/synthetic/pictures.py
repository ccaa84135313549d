"""Frames: what a video shows at a moment, at any size. Pure: equal arguments give equal pixels.

The presenters are shaded as far as a face detector that was trained on photographs needs: eyes in shadow, a lit
forehead and nose, lips. Shapes and tones identify a presenter; either alone tells some of them apart.
"""

import bisect
import math
from functools import lru_cache
from types import SimpleNamespace

import cv2
import numpy as np

from videomatch.synthetic import vocabulary
from videomatch.synthetic.latent import COURSES, Latent, Scene, scenes
from videomatch.synthetic.places import Colour, paint

MARGIN = 1.14  #: how much larger than the picture a background is, so that the camera can pan
PRESENTER = 0.58  #: height of the presenter's head and shoulders, in short sides of the picture
_FONT = cv2.FontFace("uni")
_SHIFT = 4  # sub-pixel bits of cv2's drawing


def frame(latent: Latent, time: float, width: int, height: int) -> np.ndarray:
    """The picture of a video at ``time`` (s) as (height, width, 3) uint8 RGB."""
    all_scenes = scenes(latent)
    scene = all_scenes[max(bisect.bisect_right([s.start for s in all_scenes], time + 1e-9) - 1, 0)]
    since, share = time - scene.start, (time - scene.start) / max(scene.end - scene.start, 1e-6)
    picture = _background(scene, share, width, height)
    if scene.presented:
        _present(picture, latent.factors["presenter"], scene.layout, since)
    _act(picture, latent.factors, scene, since, min(share, 1.0))
    if scene.words:
        _write(picture, scene)
    return picture


def _background(scene: Scene, share: float, width: int, height: int) -> np.ndarray:
    """The part of the place's picture that the camera shows after a share of the scene."""
    wide, high = round(width * MARGIN), round(height * MARGIN)
    pans, way = scene.layout % 5 < 2, scene.layout // 5 % 4
    moved = share if pans else 0.5
    x = round((wide - width) * (moved if way < 2 else 1 - moved))
    y = round((high - height) * (0.5 if way % 2 else moved))
    return paint(scene.step.place, scene.layout, scene.inset, wide, high)[y : y + height, x : x + width].copy()


#: where the middles of one, two, and three objects are, and the radius of each, in radii of the group
GROUPS = [[(0.0, 0.0)], [(-0.72, 0.0), (0.72, 0.0)], [(-0.66, 0.5), (0.66, 0.5), (0.0, -0.6)]]
SIZES = [1.0, 0.72, 0.64]
SMALLER, GAP = 0.72, 0.15  #: radius of a companion, and its distance from the group, in those of the group
SIDES = [(0, -1), (0, 1), (-1, 0), (1, 0)]  #: by relation, y down
LOW = (13, 14)  #: actions at the lower edge, which words would hide
LIGHT, DARK = (255, 252, 205), (40, 36, 44)  #: of a glow and of dots; of ropes, wheels, bars


def _act(picture: np.ndarray, factors: dict[str, int], scene: Scene, since: float, share: float) -> None:
    """The objects and their companion: the action decides where they are after a share of the scene. Lengths are in
    short sides of the picture."""
    h, w = picture.shape[:2]
    short = min(h, w)
    wide, high, (x, y), size = w / short, h / short, scene.spot, scene.radius
    action, companion = scene.step.action, scene.step.companion
    slow = math.sin(2 * math.pi * 0.4 * since + scene.layout % 7)  # less than once in two seconds
    at = 1 - share if action % 2 else share  # of a course; the second of two goes backwards
    course = action // 2 if action < COURSES else -1
    away = 1 + SMALLER + GAP
    if course == 0:  # rises, sinks
        y = 1 - at
    elif course == 1:  # up and back, down and back
        y = 0.5 + (0.5 if action % 2 == 0 else -0.5) * math.cos(2 * math.pi * share)
    elif course == 2:  # comes nearer, goes away
        size *= 0.45 + 0.75 * at
    elif course == 3:  # to the right, to the left
        x = at
    elif course == 4:  # meets, parts
        away += (1 - at) * max((wide / size - 1.05) - SMALLER - away, 0)
    # the group and its companion stay in the picture
    side = SIDES[companion.relation] if companion else (0, 0)
    margin, reach = 1.05 * size, (away + SMALLER) * size
    x = _between(reach if side[0] < 0 else margin, wide - (reach if side[0] > 0 else margin), x)
    y = _between(reach if side[1] < 0 else margin, high - (reach if side[1] > 0 else margin), y)
    if action == 10:  # swings on a rope
        pivot = _between(0.35, wide - 0.35, scene.spot[0])
        x, y = pivot + 0.5 * math.sin(0.6 * slow), 0.5 * math.cos(0.6 * slow)
        _line(picture, (pivot * short, 0), (x * short, y * short), 0.03 * short)
    elif action == 11:  # glows
        _shine(picture, x * short, y * short, size * (1.45 + 0.15 * slow) * short)
    elif action == 12:  # leaves a trail of dots
        way = 1 if scene.layout % 2 else -1
        x = wide / 2 + way * (share - 0.5) * 0.5 * wide
        for k in range(1, 6):
            _disc(picture, ((x - way * (1.0 + 0.45 * k) * size) * short, y * short), 0.13 * size * short, LIGHT)
    elif action == 13:  # peeps over the edge
        y = high - (0.15 + 0.15 * slow) * size
    elif action == 14:  # rolls on wheels
        y = high - 1.8 * size
        x = _between(margin, wide - margin, 0.5 + (share - 0.5) * (0.6 if scene.layout % 2 else -0.6))
    radius = size * short
    x, y, group = x * short, y * short, factors["count"]
    middles = [(x + dx * radius, y + dy * radius) for dx, dy in GROUPS[group]]
    _draw(picture, factors["shape"], factors["colour"], middles, SIZES[group] * radius, scene.turn)
    if companion:
        middle = x + side[0] * away * radius, y + side[1] * away * radius
        _draw(picture, companion.shape, companion.colour, [middle], SMALLER * radius, -scene.turn)
    if action == 14:
        _line(picture, (x - radius, y + 1.1 * radius), (x + radius, y + 1.1 * radius), radius / 4)
        for way in (-1, 1):
            _disc(picture, (x + 0.65 * way * radius, y + 1.4 * radius), 0.32 * radius, DARK)
    elif action == 15:  # waits behind bars
        reach, (top, bottom) = 1.5 * radius, (y - 1.25 * radius, y + 1.25 * radius)
        for bar in np.linspace(x - reach, x + reach, 7).tolist():
            _line(picture, (bar, top), (bar, bottom), 0.11 * radius)
        for end in (top, bottom):
            _line(picture, (x - reach, end), (x + reach, end), 0.2 * radius)


def _between(low: float, high: float, at: float) -> float:
    return low + (high - low) * (at if low < high else 0.5)


def _line(picture: np.ndarray, start: tuple[float, float], end: tuple[float, float], thickness: float) -> None:
    first, last = ((round(x * (1 << _SHIFT)), round(y * (1 << _SHIFT))) for x, y in (start, end))
    cv2.line(picture, first, last, DARK, max(round(thickness), 1), cv2.LINE_AA, _SHIFT)


def _disc(picture: np.ndarray, at: tuple[float, float], radius: float, colour: Colour) -> None:
    middle, size = (round(at[0] * (1 << _SHIFT)), round(at[1] * (1 << _SHIFT))), round(radius * (1 << _SHIFT))
    cv2.circle(picture, middle, max(size, 1 << _SHIFT), colour, -1, cv2.LINE_AA, _SHIFT)


def _shine(picture: np.ndarray, x: float, y: float, radius: float) -> None:
    """A light disc with rays."""
    _disc(picture, (x, y), 0.85 * radius, LIGHT)
    for k in range(10):
        turn = k * math.pi / 5
        points = [(turn - 0.14, 0.8), (turn, 1.35), (turn + 0.14, 0.8)]
        corners = [[(x + r * radius * math.cos(a)), (y + r * radius * math.sin(a))] for a, r in points]
        fixed = np.round(np.array(corners) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(picture, [fixed], LIGHT, cv2.LINE_AA, _SHIFT)


_TURN = np.linspace(0, 2 * np.pi, 40, endpoint=False)
_CIRCLE = np.c_[np.cos(_TURN), np.sin(_TURN)]
_POINT = -np.pi / 2 + np.arange(10) * np.pi / 5  # of a star
_LOBES = 13 * np.cos(_TURN) - 5 * np.cos(2 * _TURN) - 2 * np.cos(3 * _TURN) - np.cos(4 * _TURN)  # of a heart
_OUTER, _INNER = np.linspace(0.35 * np.pi, 1.65 * np.pi, 24), np.linspace(1.6 * np.pi, 0.4 * np.pi, 20)  # of a moon
_MOON = [np.c_[np.cos(_OUTER), np.sin(_OUTER)], np.c_[0.42 + 0.74 * np.cos(_INNER), 0.82 * np.sin(_INNER)]]
_CURVED = {
    "circle": _CIRCLE,
    "ring": _CIRCLE,
    "star": np.c_[np.cos(_POINT), np.sin(_POINT)] * np.where(np.arange(10) % 2, 0.42, 1.1)[:, None],
    "heart": np.c_[16 * np.sin(_TURN) ** 3, -_LOBES] / 16,
    "moon": np.concatenate(_MOON),
}
_SHAPES = vocabulary.NAMES["shape"]
#: corners (P, 2) of the shapes of the vocabulary around the origin, about 1 in radius, y down
OUTLINES = [np.array((_CURVED | vocabulary.DATA["outline"])[shape], float) for shape in _SHAPES]


@lru_cache(maxsize=256)
def _outlines(shape: int, turn: float) -> np.ndarray:
    """The corners of a turned shape, and for a ring those of its hole: (1 or 2, P, 2)."""
    c, s = math.cos(turn), math.sin(turn)
    corners = OUTLINES[shape] @ np.array([[c, s], [-s, c]]) * (1 << _SHIFT)
    return np.stack([corners, 0.52 * corners] if _SHAPES[shape] == "ring" else [corners])


def _draw(
    picture: np.ndarray, shape: int, colour: int, middles: list[tuple[float, float]], radius: float, turn: float
) -> None:
    """One object or several, with dark rims."""
    rgb = vocabulary.DATA["rgb"][colour]
    dark, outlines = tuple(int(v * 0.35) for v in rgb), _outlines(shape, turn) * radius
    for x, y in middles:
        at = np.array([x, y]) * (1 << _SHIFT)
        rim, *hole = (outlines + at).round().astype(np.int32)
        cv2.fillPoly(picture, [rim], rgb, cv2.LINE_AA, _SHIFT)
        if hole:
            cv2.fillPoly(picture, hole, dark, cv2.LINE_AA, _SHIFT)
        cv2.polylines(picture, [rim], True, dark, max(round(radius * 0.09), 1), cv2.LINE_AA, _SHIFT)


def _present(picture: np.ndarray, presenter: int, layout: int, since: float) -> None:
    """The presenter in a lower corner, nodding, talking, sometimes blinking; the moving object passes in front."""
    h, w = picture.shape[:2]
    talks, blinks = math.sin(11 * since) > 0.1 * (layout % 7), math.sin(2.3 * since + layout % 6) > 0.98
    patch, alpha = face_sprite(presenter, round(PRESENTER * min(h, w)), talks, blinks)
    top = h - len(alpha) + round(0.012 * h * (1 + math.sin(3.1 * since)))
    _paste(picture, patch, alpha, round((w - alpha.shape[1]) * (0.04 if layout // 11 % 2 else 0.96)), top)


def _write(picture: np.ndarray, scene: Scene) -> None:
    h, w = picture.shape[:2]
    patch, alpha = _lettering(scene.words, w, h)
    at_the_top = scene.layout % 3 == 0 or scene.step.action in LOW
    top = round(0.04 * h) if at_the_top else h - len(alpha) - round(0.05 * h)
    _paste(picture, patch, alpha, max((w - alpha.shape[1]) // 2, 0), top)


def _paste(picture: np.ndarray, patch: np.ndarray, alpha: np.ndarray, x: int, y: int) -> None:
    """Lay a patch (colour times opacity) over a picture, whose lower edge may cut it off."""
    area = picture[y : y + len(alpha), x : x + alpha.shape[1]]
    area[:] = (area * (1 - alpha[: len(area)]) + patch[: len(area)]).astype(np.uint8)


@lru_cache(maxsize=12)
def _lettering(text: str, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour times opacity, and opacity (height, width, 1), of white letters on a dark band."""

    def length(size: int) -> int:
        return int(cv2.getTextSize((4096, 512), text, (0, 100), _FONT, size)[2])

    size = max(round(min(width, height) * 0.105), 9)
    while length(size) > width * 0.92 and size > 7:
        size -= 1
    letters = np.zeros((round(size * 1.6), min(length(size) + size, width), 3), np.uint8)
    cv2.putText(letters, text, (size // 2, round(size * 1.15)), (255, 255, 255), _FONT, size)
    ink = letters[..., :1].astype(np.float32) / 255
    return 255 * ink, np.maximum(ink, 0.55)


HIGH, WIDE = 240, 200  #: height and width in which a head is drawn before it is scaled, px
X, Y = 100, 108  #: middle of the face in it


#: the looks of the presenters, in the order of the vocabulary
FACES = [SimpleNamespace(**{"glasses": False, "beard": ""} | looks) for looks in vocabulary.DATA["face"]]


@lru_cache(maxsize=96)
def face_sprite(presenter: int, height: int, talks: bool, blinks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Head and shoulders, ``height`` px high: colour times opacity (height, width, 3), opacity (height, width, 1)."""
    f, p = FACES[presenter], np.zeros((HIGH, WIDE, 4), np.uint8)
    p[..., :3] = f.skin
    half, shadow = round(62 * f.width), _shade(f.skin, 0.72)
    _hair_behind(p, f, half)
    _oval(p, (X, HIGH + 22), (92, 62), f.shirt, 180, 360)
    _box(p, (X - 26, 160), (X + 26, 204), shadow)
    if f.style != "scarf":
        for side in (-1, 1):
            _oval(p, (X + side * half, Y + 6), (10, 18), shadow)
    _oval(p, (X, Y), (half, 78), f.skin)
    _light(p, half)
    opacity = p[..., 3].copy()
    _features(p, f, half, talks, blinks)
    p[..., 3] = opacity  # a full beard ends where the head does
    _hair_above(p, f, half)
    size = (max(round(height * WIDE / HIGH), 2), max(height, 2))
    drawn = cv2.resize(p, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = drawn[..., 3:] / 255
    return drawn[..., :3] * alpha, alpha


def _oval(
    p: np.ndarray, at: tuple[int, int], axes: tuple[int, int], colour: Colour, start: int = 0, end: int = 360,
    line: int = -1,
) -> None:  # fmt: skip
    """An opaque ellipse, or the part from ``start`` to ``end`` degrees; filled, or a line of some width."""
    cv2.ellipse(p, at, axes, 0, start, end, (*colour, 255), line, cv2.LINE_AA)


def _box(p: np.ndarray, corner: tuple[int, int], opposite: tuple[int, int], colour: Colour) -> None:
    cv2.rectangle(p, corner, opposite, (*colour, 255), -1)


def _shade(colour: Colour, by: float) -> Colour:
    r, g, b = (min(int(c * by), 255) for c in colour)
    return r, g, b


def _light(p: np.ndarray, half: int) -> None:
    """The head as a ball lit from above and in front."""
    y, x = np.mgrid[:HIGH, :WIDE].astype(np.float32)
    u, v = (x - X) / half, (y - Y) / 78
    inside = u * u + v * v < 1
    lit = 1.10 - 0.34 * np.abs(u) ** 2.4 - 0.16 * np.clip(v, 0, 1) ** 2
    for side in (-1, 1):  # sockets
        lit -= 0.20 * np.exp(-(((u - side * 0.40) / 0.30) ** 2) - ((v + 0.10) / 0.16) ** 2)
    lit -= 0.16 * np.exp(-((u / 0.34) ** 2) - ((v - 0.36) / 0.07) ** 2)  # below the nose
    lit += 0.10 * np.exp(-((u / 0.10) ** 2) - ((v - 0.10) / 0.24) ** 2)  # bridge
    skin = p[..., :3]
    skin[:] = np.where(inside[..., None], np.clip(skin * lit[..., None], 0, 255), skin).astype(np.uint8)


def _features(p: np.ndarray, f: SimpleNamespace, half: int, talks: bool, blinks: bool) -> None:
    level, apart = Y - 10, round(half * f.eyes)
    dark, brow = _shade(f.skin, 0.45), _shade(f.hair, 0.8) if f.style != "scarf" else (50, 34, 26)
    if f.beard == "full":
        _oval(p, (X, Y + 42), (round(half * 0.84), 37), _shade(f.hair, 0.9), 0, 180)
        _oval(p, (X, Y + 43), (round(half * 0.62), 8), _shade(f.hair, 0.9), 180, 360)
    elif f.beard == "goatee":
        _oval(p, (X, Y + 60), (18, 16), f.hair)
    for side in (-1, 1):
        eye = (X + side * apart, level)
        if blinks:
            _oval(p, eye, (14, 5), dark, 0, 180, 3)
        else:
            _oval(p, eye, (14, 8), (238, 234, 230))
            _oval(p, eye, (8, 8), f.iris)
            _oval(p, eye, (4, 4), (10, 8, 8))
            _oval(p, eye, (15, 9), dark, 180, 360, 3)
        _oval(p, (eye[0], level - 12), (19, 9), brow, 200, 340, 5)
    wide = round(half * f.nose)
    _oval(p, (X, Y + 22), (wide, 7), dark, 10, 170, 3)
    for side in (-1, 1):
        _oval(p, (X + side * wide // 2, Y + 23), (3, 3), _shade(f.skin, 0.3))
    lips, span = _shade((200, 84, 84), 0.55 + 0.4 * f.skin[0] / 255), round(half * f.mouth)
    if f.beard in ("moustache", "full"):
        _oval(p, (X, Y + 38), (round(span * 1.05), 8), f.hair, 180, 360)
    _oval(p, (X, Y + 46), (span, 10 if talks else 6), lips)
    if talks:
        _oval(p, (X, Y + 46), (round(span * 0.7), 6), (60, 16, 20))
    else:
        _oval(p, (X, Y + 42), (span, 6), _shade(lips, 0.5), 20, 160, 2)
    if f.glasses:
        for side in (-1, 1):
            _oval(p, (X + side * apart, level), (20, 20), (24, 22, 26), line=3)
        cv2.line(p, (X - apart + 20, level), (X + apart - 20, level), (24, 22, 26, 255), 3, cv2.LINE_AA)


def _hair_behind(p: np.ndarray, f: SimpleNamespace, half: int) -> None:
    """Hair that hangs behind the head."""
    if f.style in ("long", "scarf"):
        _oval(p, (X, Y + 6), (half + 22, 92), f.hair)
        _box(p, (X - half - 20, Y), (X + half + 20, 226 if f.style == "long" else 206), f.hair)
    elif f.style in ("bob", "fringe"):
        _oval(p, (X, Y - 4), (half + 18, 84), f.hair)
    elif f.style == "curly":
        for angle in np.linspace(0.75 * np.pi, 2.25 * np.pi, 13):
            _oval(p, (round(X + (half + 6) * np.cos(angle)), round(Y - 10 + 74 * np.sin(angle))), (20, 20), f.hair)
    elif f.style == "bun":
        _oval(p, (X, 24), (24, 24), f.hair)


def _hair_above(p: np.ndarray, f: SimpleNamespace, half: int) -> None:
    """Hair over the forehead."""
    if f.style == "bald":
        return
    line = {"fringe": -0.36, "scarf": -0.62, "bob": -0.45}.get(f.style, -0.55)
    cap, y = np.zeros((HIGH, WIDE), np.uint8), round(Y + 78 * line)
    cv2.ellipse(cap, (X, Y - 4), (half + 8, 84), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cap[y:] = 0
    if f.style != "fringe":  # a hairline is round
        cv2.ellipse(cap, (X, y + 14), (round(half * 0.78), 26), 0, 0, 360, 0, -1, cv2.LINE_AA)
    share = cap[..., None].astype(np.float32) / 255
    p[..., :3] = (p[..., :3] * (1 - share) + np.array(f.hair, np.float32) * share).astype(np.uint8)
    p[..., 3] = np.maximum(p[..., 3], cap)
