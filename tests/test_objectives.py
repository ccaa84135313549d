"""Objectives: closed forms, slow twins, and what must not matter."""

import math

import numpy as np
import pytest
import torch

from videomatch import objectives


def test_clip_contrastive_of_identity_is_closed_form():
    # n orthogonal pairs at inverse temperature s: every row's softmax is e^s / (e^s + n - 1)
    n, s = 8, 3.0
    eye = torch.eye(n)
    loss = objectives.clip_contrastive(eye, eye, torch.tensor(math.log(s)), torch.arange(n))
    assert loss.item() == pytest.approx(math.log(math.exp(s) + n - 1) - s, rel=1e-6)


def test_clip_contrastive_of_equal_embeddings_is_log_n():
    ones = torch.nn.functional.normalize(torch.ones(16, 4), dim=1)
    loss = objectives.clip_contrastive(ones, ones, torch.tensor(2.0), torch.arange(16))
    assert loss.item() == pytest.approx(math.log(16), rel=1e-6)


def test_clip_contrastive_equals_naive_twin_with_several_positives():
    rng = np.random.default_rng(0)
    image, text = (rng.normal(size=(7, 5)) for _ in range(2))
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    video = np.array([3, 1, 3, 0, 1, 3, 2])

    def one_way(queries, references):
        total = 0.0
        for i, query in enumerate(queries):
            scores = [5.0 * float(query @ r) for r in references]
            normaliser = math.log(sum(math.exp(x) for x in scores))
            positives = [j for j in range(len(video)) if video[j] == video[i]]
            total += -sum(scores[j] - normaliser for j in positives) / len(positives)
        return total / len(queries)

    loss = objectives.clip_contrastive(
        torch.tensor(image), torch.tensor(text), torch.tensor(math.log(5.0)), torch.tensor(video)
    )
    assert loss.item() == pytest.approx((one_way(image, text) + one_way(text, image)) / 2, rel=1e-5)


def test_clip_contrastive_is_symmetric_and_equals_clip_without_shared_videos():
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=1) for _ in range(2))
    scale, video = torch.tensor(1.5), torch.arange(6)
    logits = a @ b.T * scale.exp()
    target = torch.arange(6)
    clip = (torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)) / 2
    assert objectives.clip_contrastive(a, b, scale, video).item() == pytest.approx(clip.item(), rel=1e-6)
    assert objectives.clip_contrastive(b, a, scale, video).item() == pytest.approx(clip.item(), rel=1e-6)


def test_clip_contrastive_cuts_the_temperature_off():
    eye, video = torch.eye(3), torch.arange(3)
    cut = objectives.clip_contrastive(eye, eye, torch.tensor(9.0), video, max_scale=2.0)
    assert cut.item() == pytest.approx(math.log(math.exp(2) + 2) - 2, rel=1e-6)


def test_bce_tags_closed_form_and_naive_twin():
    assert objectives.bce_tags(torch.zeros(2, 3), torch.ones(2, 3)).item() == pytest.approx(math.log(2))
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 3)), rng.integers(0, 2, (4, 3))
    chance = 1 / (1 + np.exp(-logits))
    naive = -np.mean(labels * np.log(chance) + (1 - labels) * np.log(1 - chance))
    assert objectives.bce_tags(torch.tensor(logits), torch.tensor(labels)).item() == pytest.approx(naive, rel=1e-6)
