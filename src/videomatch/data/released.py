"""Features as others released them: an HDF5 file per video (MMT), an ``.npy`` file per video, or one matrix (BigFile).

Every reader takes a folder and the ids that are wanted, and yields ``(id, values (L, dim), times (L, 2) in seconds)``
for those that are there, each once. L is 0 where a file has nothing of this expert for a video. Times are NaN where
they are unknown. Without times in the files, row n covers ``n * every`` to ``(n + 1) * every`` seconds. An id that is
not a plain file name is skipped, so no path leaves the folder. A ValueError names a file that is missing, cannot be
read, or does not fit.
"""

import math
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videomatch.common.files import text_of
from videomatch.data.walk import NO_FILE

Features = Iterator[tuple[str, np.ndarray, np.ndarray]]
#: how many bytes of a dataset one byte of an HDF5 file can hold at most (deflate packs 1032)
DEFLATED = 1100
#: where below the folder MMT's archives put their files
_H5_FOLDERS = ("vid_feat_files/mult_h5", "mult_h5", "")


def mmt_h5(
    folder: Path, ids: Collection[str], *, dim: int, name: str, every: float | None = None, clock: bool = True
) -> Features:
    """Features of one expert in the files of MMT: ``a/b/c/abcdef.h5`` with ``features.<name>`` (n, dim) and perhaps
    ``features_t.<name>`` (at least n, 2), as its published reader takes them.

    A video has nothing of an expert if its dataset is absent, empty, or begins with a NaN. Experts in the files are
    face, ocr, rgb, s3d, scene, speech, vggish; MMT has ``every`` 1 for s3d, vggish and scene, 0.2 for rgb, none for the
    others. ``clock`` uses the files' times; MMT does for s3d and vggish only.
    """
    import h5py  # every job that extracts anything imports this module

    root = next((folder / part for part in _H5_FOLDERS if (folder / part).is_dir()), None)
    if root is None:
        raise ValueError(f"{folder}: there is no such folder of HDF5 files")
    for video_id in ids:
        path = root / video_id[:1] / video_id[1:2] / video_id[2:3] / f"{video_id}.h5"
        if len(video_id) < 3 or not _is_name(video_id) or not path.is_file():
            continue
        try:
            with h5py.File(path, "r") as file:
                values, times = (
                    _dataset(file, f"{part}.{name}", path.stat().st_size) for part in ("features", "features_t")
                )
        except Exception as error:  # the library raises whatever a damaged file leads to
            raise ValueError(f"{path}: cannot be read as HDF5 ({error})") from error
        if values is None or not values.size or np.isnan(values.flat[0]):
            yield video_id, np.zeros((0, dim), np.float32), np.zeros((0, 2))
            continue
        values = _checked(path, values, dim)
        if times is None or not clock:
            yield video_id, values, times_of(np.arange(len(values)), every)
            continue
        if times.ndim != 2 or times.shape[1] != 2 or len(times) < len(values):
            raise ValueError(f"{path}: features_t.{name} has shape {times.shape}, expected ({len(values)} or more, 2)")
        times = times[: len(values)].astype(np.float64)
        if not (np.isfinite(times).all() and (times[:, 0] >= 0).all() and (times[:, 0] <= times[:, 1]).all()):
            raise ValueError(f"{path}: features_t.{name}: expected start and end in seconds, from 0 up, none NaN")
        yield video_id, values, times


def npy(folder: Path, ids: Collection[str], *, dim: int, every: float | None = None) -> Features:
    """Features in files ``<id>.npy`` (L, dim) or (dim,), at any depth of a folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder of .npy files")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.npy")):
        if path.stem in files:
            raise ValueError(f"{path}: {files[path.stem]} has the same name, which is an id here")
        files[path.stem] = path
    for video_id in ids:
        path = files.get(video_id)
        if path is None:
            continue
        values = read_array(path)
        values = _checked(path, values[None] if values.ndim == 1 else values, dim)
        yield video_id, values, times_of(np.arange(len(values)), every)


def read_array(path: Path) -> np.ndarray:
    """The array of an ``.npy`` file. It is mapped before it is read, so that its size is held against the file's."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: {NO_FILE}")
    try:
        mapped = np.load(path, allow_pickle=False, mmap_mode="r")
        if isinstance(mapped, np.ndarray):
            return np.array(mapped)
        mapped.close()
    except Exception as error:  # numpy raises whatever a damaged header leads to, such as a TokenError
        raise ValueError(f"{path}: cannot be read as an array of numbers ({error})") from error
    raise ValueError(f"{path}: an archive of arrays, expected one array of numbers")


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Some arrays of an ``.npz`` file, whose sizes are held against the file's before they are read."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.getinfo(f"{name}.npy") for name in names if f"{name}.npy" in archive.namelist()}
            if absent := [name for name in names if name not in members]:
                raise ValueError(f"no array {absent[0]!r} among {archive.namelist()[:20]}")
            if sum(member.file_size for member in members.values()) > DEFLATED * path.stat().st_size:
                raise ValueError("declares more than a file of its size can hold")
            return {name: _member(archive, member) for name, member in members.items()}
    except Exception as error:  # as above, and of zipfile
        raise ValueError(f"{path}: cannot be read as an archive of arrays ({error})") from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(member) as file:
        shape, _, dtype = read[np.lib.format.read_magic(file)](file)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} has the shape {shape}, more than its {member.file_size} bytes hold")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def bigfile(
    folder: Path, ids: Collection[str], *, dim: int, every: float | None = None, frames: bool | None = None
) -> Features:
    """Features in one matrix, a row per video or per frame: ``feature.bin`` (float32, little-endian, no header),
    ``id.txt`` (names between blanks) and ``shape.txt`` (rows, columns).

    A frame is called ``<video>_<number>``, and all before the *last* underscore is the video, so that ids may hold
    underscores. Frames come in the order of their numbers, ``every`` seconds apart. Rows are ``frames`` by default if
    there is a ``video2frames.txt``.
    """
    names = _names(folder, dim)
    frames = (folder / "video2frames.txt").is_file() if frames is None else frames
    rows: dict[str, list[tuple[int, int]]] = {}
    wanted = frozenset(ids)
    for row, name in enumerate(names):
        video_id, number = name, 0
        if frames:
            video_id, _, tail = name.rpartition("_")
            if not (tail.isascii() and tail.isdigit() and len(tail) < 10 and video_id):
                raise ValueError(f"{folder / 'id.txt'}: {name[:60]!r} is no frame, expected <video>_<number>")
            number = int(tail)
        if video_id in wanted:
            rows.setdefault(video_id, []).append((number, row))
    if not rows:
        return
    values = np.memmap(folder / "feature.bin", dtype="<f4", mode="r", shape=(len(names), dim))
    for video_id, places in rows.items():
        numbers, at = np.array(sorted(places)).T
        yield video_id, np.asarray(values[at]), times_of(numbers, every if frames else None)


def _names(folder: Path, dim: int) -> list[str]:
    """The names of the rows of a BigFile, whose files fit each other."""
    absent = [name for name in ("feature.bin", "id.txt", "shape.txt") if not (folder / name).is_file()]
    if absent:
        raise ValueError(f"{folder}: no {', '.join(absent)}; expected feature.bin, id.txt and shape.txt")
    words = text_of(folder / "shape.txt").split()
    if len(words) != 2 or not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
        raise ValueError(f"{folder / 'shape.txt'}: {' '.join(words)[:60]!r}, expected rows and columns")
    count, columns = map(int, words)
    if columns != dim:
        raise ValueError(f"{folder / 'shape.txt'}: rows of {columns} numbers, expected {dim} (`dim`)")
    names = text_of(folder / "id.txt").split()
    if len(names) != count:
        raise ValueError(f"{folder / 'id.txt'}: {len(names)} names, expected {count}, as shape.txt says")
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise ValueError(f"{folder / 'id.txt'}: {name[:60]!r} stands twice")
    size = (folder / "feature.bin").stat().st_size
    if size != 4 * count * columns:
        raise ValueError(f"{folder / 'feature.bin'}: {size} bytes, expected 4 * {count} * {columns}")
    return names


def _is_name(video_id: str) -> bool:
    """Whether an id is a file name, and no way out of a folder."""
    return video_id not in (".", "..") and not any(c in "/\\\0" for c in video_id)


def _dataset(file: Any, name: str, size: int) -> np.ndarray | None:
    import h5py

    low_level: Any = h5py  # its compiled modules have no types
    links = file.id.links
    if not links.exists(name.encode()):
        return None
    # whatever looks behind a link opens the file that it leads to, by steps or at once, or waits for a pipe
    if links.get_info(name.encode()).type != low_level.h5l.TYPE_HARD:
        raise ValueError(f"{name} is a link, perhaps to another file, expected numbers")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.shape is None or found.dtype.kind not in "fiu":
        raise ValueError(f"{name} is {found}, expected numbers")
    if found.external or found.is_virtual:
        raise ValueError(f"{name} has its numbers in another file, expected them in this one")
    if math.prod(found.shape) * found.dtype.itemsize > DEFLATED * size:
        raise ValueError(f"{name} has the shape {found.shape}, more than a file of its size can hold")
    return np.asarray(found)


def _checked(path: Path, values: np.ndarray, dim: int) -> np.ndarray:
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != dim:
        raise ValueError(
            f"{path}: {values.dtype} of shape {values.shape}, expected numbers of shape (L, {dim}) (`dim`)"
        )
    return values


def times_of(numbers: np.ndarray, every: float | None) -> np.ndarray:
    """Start and end of rows ``every`` seconds apart, by their numbers, (n, 2); NaN without ``every``."""
    if every is None:
        return np.full((len(numbers), 2), np.nan)
    return np.stack([numbers * every, (numbers + 1) * every], axis=1)
