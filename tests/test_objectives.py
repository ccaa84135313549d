"""Objectives: closed forms, slow twins, and what must not matter."""

import inspect
import math

import numpy as np
import pytest
import torch

from paths import ROOT, fixtures
from videomatch import objectives
from videomatch.models.video_text import hard_negatives, is_hard_step, row_weights
from videomatch.objectives.contrast import clip_contrastive, lvwm, mil_nce, moco_nce, vtm
from videomatch.objectives.hard_negatives import neg_nce, partial_order, row_nce
from videomatch.objectives.margins import cosine_mse, max_margin, pearson
from videomatch.objectives.tags_and_masks import bce_tags, fused_mlm, itm, mfm_nce, mlm, softmax_tags
from videomatch.pipeline import signatures


def test_a_name_means_one_objective():
    modules = signatures.objectives()  # an error if two modules have one of the same name
    assert {"clip_contrastive", "max_margin", "segment_giou"} <= set(modules)
    assert set(modules) == set(objectives.functions())
    for name, module in modules.items():
        function = objectives.function(name)
        assert (function.__module__, function.__name__) == (f"videomatch.{module.module}", name)
    for name in ("max_margins", "all_gather", "torch", "_overlap"):
        with pytest.raises(KeyError, match=name):
            objectives.function(name)


def test_clip_contrastive_of_identity_is_closed_form():
    # n orthogonal pairs at inverse temperature s: every row's softmax is e^s / (e^s + n - 1)
    n, s = 8, 3.0
    eye = torch.eye(n)
    loss = clip_contrastive(eye, eye, torch.tensor(math.log(s)), torch.arange(n))
    assert loss.item() == pytest.approx(math.log(math.exp(s) + n - 1) - s, rel=1e-6)


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

    loss = clip_contrastive(torch.tensor(image), torch.tensor(text), torch.tensor(math.log(5.0)), torch.tensor(video))
    assert loss.item() == pytest.approx((one_way(image, text) + one_way(text, image)) / 2, rel=1e-5)


def test_clip_contrastive_is_symmetric_and_equals_clip_without_shared_videos():
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=1) for _ in range(2))
    scale, video = torch.tensor(1.5), torch.arange(6)
    logits = a @ b.T * scale.exp()
    target = torch.arange(6)
    clip = (torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)) / 2
    assert clip_contrastive(a, b, scale, video).item() == pytest.approx(clip.item(), rel=1e-6)
    assert clip_contrastive(b, a, scale, video).item() == pytest.approx(clip.item(), rel=1e-6)


def test_clip_contrastive_cuts_the_temperature_off():
    eye, video = torch.eye(3), torch.arange(3)
    cut = clip_contrastive(eye, eye, torch.tensor(9.0), video, max_scale=2.0)
    assert cut.item() == pytest.approx(math.log(math.exp(2) + 2) - 2, rel=1e-6)


def test_bce_tags_closed_form_and_naive_twin():
    assert bce_tags(torch.zeros(2, 3), torch.ones(2, 3)).item() == pytest.approx(math.log(2))
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 3)), rng.integers(0, 2, (4, 3))
    chance = 1 / (1 + np.exp(-logits))
    naive = -np.mean(labels * np.log(chance) + (1 - labels) * np.log(1 - chance))
    assert bce_tags(torch.tensor(logits), torch.tensor(labels)).item() == pytest.approx(naive, rel=1e-6)


def test_bce_tags_leaves_out_what_is_not_tagged():
    generator = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(5, 4, generator=generator), (torch.rand(5, 4, generator=generator) < 0.5).float()
    is_tagged = torch.tensor([True, False, True, True, False])
    some = bce_tags(logits, labels, is_tagged)
    torch.testing.assert_close(some, bce_tags(logits[is_tagged], labels[is_tagged]))
    torch.testing.assert_close(bce_tags(logits, labels, torch.ones(5).bool()), bce_tags(logits, labels))
    logits.requires_grad_()
    none = bce_tags(logits, labels, torch.zeros(5).bool())
    none.backward()
    assert none.item() == 0
    assert not logits.grad.any()


def test_softmax_tags_closed_form_and_naive_twin():
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    assert softmax_tags(torch.zeros(3, 3), labels).item() == pytest.approx(math.log(3))
    logits = np.random.default_rng(0).normal(size=(3, 3))
    log_chance = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    naive = -np.mean([log_chance[0, [0, 2]].mean(), log_chance[1, 1]])  # the third has no label
    assert softmax_tags(torch.tensor(logits), labels).item() == pytest.approx(naive, rel=1e-6)


def test_mlm_closed_form_and_naive_twin():
    targets = torch.tensor([4, 0, 2])
    assert mlm(torch.zeros(3, 9), targets).item() == pytest.approx(math.log(9))
    assert mlm(50 * torch.eye(9)[targets], targets).item() == pytest.approx(0, abs=1e-6)
    logits = np.random.default_rng(1).normal(size=(3, 9))
    naive = np.mean([math.log(sum(math.exp(x) for x in row)) - row[t] for row, t in zip(logits, targets, strict=True)])
    assert mlm(torch.tensor(logits), targets).item() == pytest.approx(naive, rel=1e-12)


def masked_frames(case: str) -> tuple[dict[str, np.ndarray], torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
    """The published objective's case: its arrays, and outputs, candidates and targets as ours takes them."""
    with np.load(ROOT / "tests/golden/aiac_masked_frames.npz") as file:
        z = {name.removeprefix(f"{case}_"): file[name] for name in file.files if name.startswith(case)}
    there, at = z["frame_mask"] == 1, z["labels"] != -100
    outputs = torch.tensor(z["output"][at], requires_grad=True)
    targets = torch.from_numpy(np.flatnonzero(at[there]))
    return z, outputs, torch.from_numpy(z["input_frames"][there]), targets, at


@pytest.mark.parametrize("case", ["small", "wide"])
@pytest.mark.parametrize(("norm", "options"), [(0, {}), (1, {"normalise": True, "temperature": 0.1})])
def test_mfm_nce_equals_the_published_system(case, norm, options):
    z, outputs, candidates, targets, at = masked_frames(case)
    loss = mfm_nce(outputs, candidates, targets, **options)
    assert loss.item() == pytest.approx(float(z[f"loss_norm{norm}"]), rel=1e-9)
    loss.backward()
    wanted = z[f"grad_output_norm{norm}"]
    assert np.abs(outputs.grad.numpy() - wanted[at]).max() <= 1e-9 * np.abs(wanted).max()
    assert not wanted[~at].any()  # what is not masked has no part in it


def test_mfm_nce_closed_forms():
    # orthogonal candidates, outputs that point at their own with length s
    n, s = 6, 2.5
    eye = torch.eye(n)
    loss = mfm_nce(s * eye[:4], eye, torch.arange(4))
    assert loss.item() == pytest.approx(math.log(math.exp(s) + n - 1) - s, rel=1e-6)
    unit = mfm_nce(s * eye[:4], 3 * eye, torch.arange(4), normalise=True, temperature=0.5)
    assert unit.item() == pytest.approx(math.log(math.exp(2) + n - 1) - 2, rel=1e-6)


@pytest.mark.parametrize("objective", [mlm, lambda o, t: mfm_nce(o, torch.ones(4, 3), t)])
def test_nothing_masked_is_zero_with_a_graph(objective):
    weight = torch.ones(5, 3, requires_grad=True)
    loss = objective(torch.zeros(0, 5) @ weight, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(weight.grad, torch.zeros(5, 3))


def test_mfm_nce_does_not_blur_under_bfloat16():
    g = torch.Generator().manual_seed(4)
    outputs, candidates = torch.randn(5, 64, generator=g) * 4, torch.randn(9, 64, generator=g)
    exact = mfm_nce(outputs, candidates, torch.arange(5))
    with torch.autocast("cpu", torch.bfloat16):
        assert mfm_nce(outputs, candidates, torch.arange(5)).item() == exact.item()


def test_cosine_mse_closed_form():
    similarity, grade = torch.tensor([1.0, 0.5, -1.0]), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    assert cosine_mse(similarity, grade).item() == pytest.approx(1.25 / 3)


def test_pearson_closed_forms():
    grade = torch.tensor([0.1, 0.9, 0.4, 0.7])
    linear = 0.2 * grade.log()  # exp(s / 0.2) is the grade
    assert pearson(linear, grade).item() == pytest.approx(0, abs=1e-6)
    assert pearson(linear + 0.3, 5 * grade - 2).item() == pytest.approx(0, abs=1e-6)
    assert pearson(linear, -grade).item() == pytest.approx(2, abs=1e-6)
    assert pearson(0.5 * grade.log(), grade, temperature=0.5).item() == pytest.approx(0, abs=1e-6)
    # two pairs correlate fully, at any temperature; orthogonal contrasts do not correlate
    assert pearson(torch.tensor([0.2, 0.3]), torch.tensor([0.0, 1.0])).item() == pytest.approx(0, abs=1e-5)
    apart = pearson(torch.tensor([0.0, 0.0, 0.5, 0.5]), torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert apart.item() == pytest.approx(1, abs=1e-6)


def test_pearson_equals_numpy():
    rng = np.random.default_rng(2)
    similarity, grade = rng.uniform(-1, 1, 30), rng.uniform(size=30)
    softmax = np.exp(similarity / 0.2) / np.exp(similarity / 0.2).sum()
    wanted = 1 - np.corrcoef(softmax, grade)[0, 1]
    assert pearson(torch.tensor(similarity), torch.tensor(grade)).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("constant", ["similarity", "grade", "both"])
def test_pearson_of_a_constant_is_one(constant):
    spread = torch.linspace(0, 1, 5)
    similarity = torch.full((5,), 0.5) if constant != "grade" else spread.clone()
    similarity.requires_grad_()
    loss = pearson(similarity, torch.full((5,), 0.3) if constant != "similarity" else spread)
    loss.backward()
    assert loss.item() == pytest.approx(1, abs=1e-5)
    assert torch.isfinite(similarity.grad).all()


@pytest.mark.parametrize("name", ["sims", "sims_hard"])
@pytest.mark.parametrize("margin", [0.05, 0.2])
def test_max_margin_is_the_published(name, margin):
    with np.load(fixtures() / "loss_mmt_maxmargin.npz") as z:
        sims, key = torch.from_numpy(z[name]).requires_grad_(), f"{name}_margin{margin}_fixnorm1"
        loss = max_margin(sims, margin=margin)
        loss.backward()
        assert loss.item() == pytest.approx(float(z[f"loss_{key}"]), rel=1e-9)
        np.testing.assert_allclose(sims.grad, z[f"grad_{key}"], rtol=0, atol=1e-12)


def test_max_margin_closed_forms():
    assert max_margin(torch.full((5, 5), 0.3), margin=0.05).item() == pytest.approx(0.05)  # ties lose
    assert max_margin(torch.eye(5), margin=0.05).item() == 0
    assert max_margin(torch.eye(5) - 1, margin=1.5).item() == pytest.approx(0.5)
    assert max_margin(torch.ones(1, 1)).item() == 0  # no negative


def test_max_margin_leaves_captions_of_one_video_alone():
    video = torch.tensor([0, 1, 0, 2])
    sims = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    terms = [
        max(0.0, 0.2 + sims[i, j].item() - sims[k, k].item())
        for i in range(4)
        for j in range(4)
        for k in (i, j)
        if video[i] != video[j]
    ]
    assert len(terms) == 2 * 10
    assert max_margin(sims, video, margin=0.2).item() == pytest.approx(np.mean(terms), rel=1e-6)
    everything = max_margin(sims, video, margin=0.2, same_video=True)
    assert everything.item() == pytest.approx(max_margin(sims, margin=0.2).item())
    assert everything.item() != pytest.approx(np.mean(terms), rel=1e-3)
    assert max_margin(sims, torch.zeros(4, dtype=torch.int64)).item() == 0


def published(name: str) -> dict[str, torch.Tensor]:
    """The arrays of a file of fixtures as tensors."""
    with np.load(fixtures() / f"{name}.npz") as z:
        return {key: torch.from_numpy(z[key]) for key in z.files}


def equal(loss: torch.Tensor, wanted: torch.Tensor, *gradients: tuple[torch.Tensor, torch.Tensor], rel=1e-9) -> None:
    """A loss and its gradients, each with respect to a tensor, are the published ones."""
    assert loss.item() == pytest.approx(wanted.item(), rel=rel)
    found = torch.autograd.grad(loss, [tensor for tensor, _ in gradients])
    for one, (_, expected) in zip(found, gradients, strict=True):
        assert (one - expected).abs().max() <= rel * expected.abs().max()


@pytest.mark.parametrize("clips", [1, 2, 3])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_mil_nce_is_the_published(clips, is_weighted):
    z, weighted = published("loss_mil_nce"), "weighted_" * is_weighted
    scores = z[f"sims_npair{clips}"].requires_grad_()
    texts = scores.unflatten(0, (-1, clips))  # with unit vectors as clips the products are the scores
    videos = torch.eye(len(scores), dtype=torch.float64).unflatten(0, (-1, clips))
    loss = mil_nce(texts, videos, z[f"weights_npair{clips}"] if is_weighted else None)
    equal(loss, z[f"loss_{weighted}npair{clips}"], (scores, z[f"grad_{weighted}npair{clips}"]))


def test_mil_nce_of_texts_and_clips_is_the_published():
    z = published("loss_mil_nce")
    text, clips = z["stage1_text"].requires_grad_(), z["stage1_video_clips"].requires_grad_()
    loss = mil_nce(text, clips.unflatten(0, (len(text), -1)))
    equal(loss, z["stage1_loss"], (text, z["stage1_grad_text"]), (clips, z["stage1_grad_video"]))
    text, video = z["howto_text"].requires_grad_(), z["howto_video"].requires_grad_()
    loss = mil_nce(text.unflatten(0, (len(video), -1)), video, all_pairs=True)
    gradients = (text, z["howto_grad_text"]), (video, z["howto_grad_video"])
    equal(loss, z["howto_loss"], *gradients, rel=1e-6)  # theirs has a part in single precision


@pytest.mark.parametrize("clips", [1, 4])
def test_lvwm_is_the_published(clips):
    z = published("loss_lvwm")
    words, video = z[f"words_clips{clips}"].requires_grad_(), z[f"video_clips{clips}"].requires_grad_()
    gradients = (words, z[f"grad_words_clips{clips}"]), (video, z[f"grad_video_clips{clips}"])
    equal(lvwm(words, video.unflatten(0, (-1, clips))), z[f"loss_clips{clips}"], *gradients)


def test_vtm_is_mil_nce_within_groups():
    z = published("loss_mil_nce")
    scores = z["sims_npair1"].requires_grad_()
    own = torch.arange(len(scores))
    equal(vtm(scores, own), z["loss_npair1"], (scores, z["grad_npair1"]))
    # two groups of five and three, of whose columns two do not exist
    short = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded = torch.cat([short, torch.full((3, 2), -torch.inf)], 1)
    both = vtm(torch.cat([scores, padded]), torch.cat([own, own[:3]]))
    assert both.item() == pytest.approx((5 * vtm(scores, own).item() + 3 * vtm(short, own[:3]).item()) / 8, rel=1e-12)
    both.backward()
    assert torch.isfinite(scores.grad).all()


def test_moco_nce_closed_forms():
    # texts and videos at right angles to all keys but their own; two of four entries are others'
    eye = torch.eye(6, dtype=torch.float64)
    own, queue, video = eye[:2], eye[2:], torch.tensor([7, 8])
    others = torch.tensor([-1, 7, 3, 4])  # an empty entry, one of the first example's video, two of other videos
    loss = moco_nce(own, own, own, own, queue, queue, others, video, temperature=0.5)
    assert loss.item() == pytest.approx((math.log(math.e**2 + 2) + math.log(math.e**2 + 3)) / 2 - 2, rel=1e-9)
    empty = torch.full((4,), -1)
    assert moco_nce(own, own, own, own, queue, queue, empty, video).item() == 0
    # directions are separate: texts near a queued video raise the loss as videos near a queued text do
    for pair in ((own, queue[2:]), (queue[2:], own)):
        assert moco_nce(*pair, *pair[::-1], queue, queue, others, video).item() > loss.item()


def test_itm_closed_form():
    logits = torch.tensor([[3.0, -1.0], [0.0, 2.0]])
    each = [math.log1p(math.exp(-3)), math.log1p(math.exp(-1)), math.log(2), math.log1p(math.exp(2))]
    assert itm(logits).item() == pytest.approx(np.mean(each), rel=1e-6)


def test_fused_mlm_is_mlm():
    assert fused_mlm(torch.zeros(3, 9), torch.tensor([4, 0, 2])).item() == pytest.approx(math.log(9))


@pytest.mark.parametrize("name", ["sims_mixed", "sims_nohard", "sims_hard", "sims_soft"])
@pytest.mark.parametrize(
    ("loss", "options"),
    [("negnce", {"clamp": 1e-6}), ("cross_entropy_scale100", {"negative_weight": 0.0})],
)
def test_neg_nce_is_the_published(name, loss, options):
    with np.load(fixtures() / "loss_clip_ce_negnce.npz") as z:
        sims = torch.from_numpy(z[name]).requires_grad_()
        found = neg_nce(sims, **options)
        found.backward()
        assert found.item() == pytest.approx(float(z[f"loss_{loss}_{name}"]), rel=1e-9)
        wanted = z[f"grad_{loss}_{name}"]
        np.testing.assert_allclose(sims.grad, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())


def test_neg_nce_gives_the_worst_rows_a_gradient():
    sims = torch.tensor([[0.0, 1.0, 0.9], [-0.1, 0.5, 0.2], [0.3, 0.1, 0.4]]).requires_grad_()
    loss = neg_nce(sims)
    loss.backward()
    total = torch.logsumexp(100 * sims.detach().double(), 1)
    assert total[0] > 99  # P_00 is below 1e-40 and P_01 above 1 - 1e-4
    assert sims.grad[0, 0] < -1 and sims.grad[0, 1] > 1
    assert torch.autograd.gradcheck(neg_nce, sims.detach().double().requires_grad_())


def test_neg_nce_leaves_captions_of_one_video_alone():
    video = torch.tensor([0, 1, 0, 2])
    sims = torch.rand(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 20

    def one_way(sims):
        positive, negative = [], []
        for i in range(4):
            kept = [j for j in range(4) if j == i or video[i] != video[j]]
            shares = (100 * sims[i, kept]).softmax(0).tolist()
            positive.append(-math.log(shares[kept.index(i)]))
            for j, share in zip(kept, shares, strict=True):
                if j != i and (sims[i, j] > sims[i, i] or sims[i, j] > sims[j, j]):
                    negative.append(-math.log(1 - share))
        assert negative
        return np.mean(positive) + 0.5 * np.mean(negative)

    assert neg_nce(sims, video).item() == pytest.approx((one_way(sims) + one_way(sims.T)) / 2, rel=1e-9)
    assert neg_nce(sims, video, same_video=True).item() == pytest.approx(neg_nce(sims).item(), rel=1e-12)
    assert neg_nce(sims, torch.zeros(4, dtype=torch.int64)).item() == 0


@pytest.mark.parametrize(("how", "theirs"), [("nearest", "nearliest"), ("top_k", "top_k")])
def test_hard_negatives_are_the_published(how, theirs):
    with np.load(fixtures() / "hscl.npz") as z:
        everything = torch.from_numpy(z["l1_sims_global"])
        for rank in range(3):
            positive = torch.arange(9) + 9 * rank
            is_negative = torch.arange(27) != positive[:, None]
            found = hard_negatives(everything[positive], positive, is_negative, 9, how)
            np.testing.assert_array_equal(found.sort(1).values, z[f"chosen_sorted_rank{rank}_{theirs}"])


@pytest.mark.parametrize("case", ["mixed", "equal", "spread"])
def test_row_weights_are_the_published(case):
    z = published("hscl")
    weights = row_weights(z[f"rowweight_l1_{case}"].diagonal())
    torch.testing.assert_close(weights, z[f"rowweight_expected_{case}"], rtol=1e-9, atol=0)
    scores = z[f"rowweight_stage2_{case}"].requires_grad_()
    loss = mil_nce(scores, torch.eye(len(scores), dtype=torch.float64), weights)
    equal(loss, z[f"rowweight_loss_{case}"], (scores, z[f"rowweight_grad_{case}"]))


def test_row_nce_is_the_half_of_mil_nce_that_reads_rows():
    """MIL-NCE of one row against columns of its own: the other half, of texts for that video, is left out."""
    with np.load(fixtures() / "hscl.npz") as z:
        logits = torch.from_numpy(z["stage2_logits_global"])
        everything = torch.from_numpy(z["l1_sims_global"])
    positive = torch.arange(9)
    columns = hard_negatives(everything[:9], positive, torch.arange(27) != positive[:, None], 9)
    mined = torch.cat([logits[:9].diagonal()[:, None], logits[:9].gather(1, columns)], 1).requires_grad_()
    weight = row_weights(everything[:9].diagonal())
    naive = [
        w * (math.log(sum(math.exp(x) for x in row)) - row[0])
        for w, row in zip(weight.tolist(), mined.tolist(), strict=True)
    ]
    loss = row_nce(mined, weight)
    assert loss.item() == pytest.approx(np.mean(naive), rel=1e-12)
    assert row_nce(mined).item() == pytest.approx(row_nce(mined, torch.ones(9)).item())
    (gradient,) = torch.autograd.grad(loss, mined)
    expected = mined.detach().softmax(1)
    expected[:, 0] -= 1
    np.testing.assert_allclose(gradient, weight[:, None] * expected / 9, atol=1e-12)


def test_hard_negatives_leave_out_what_is_no_negative():
    sims = torch.tensor([[0.5, 0.9, 0.6, 0.1], [0.2, 0.3, 0.8, 0.7]])
    is_negative = torch.tensor([[False, False, True, True], [True, False, True, True]])
    assert hard_negatives(sims, torch.tensor([0, 1]), is_negative, 5, "top_k").tolist() == [[2, 3], [2, 3]]
    assert hard_negatives(sims, torch.tensor([0, 1]), is_negative, 1).tolist() == [[2], [0]]


def test_hard_steps_become_more_frequent():
    draws = np.random.default_rng(0).random(4000)
    shares = [np.mean([is_hard_step(p, u, every=0.1, rise=0.15) for u in draws]) for p in np.arange(10) / 10]
    np.testing.assert_allclose(shares, [0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1, 1, 1], atol=0.02)
    assert all(is_hard_step(p, 0.999, every=1.0, rise=1.0) == (p == 1) for p in (0.0, 0.5, 1.0))


def test_partial_order_closed_forms():
    whole = torch.tensor([[0.9, 0.5, 0.2], [0.1, 0.5, 0.3]])
    part = torch.tensor([[0.1, 0.4, 0.2], [0.0, 0.5, 0.9]])
    assert partial_order(whole, part, orders="visual").item() == pytest.approx(0.25 + 0.55)
    assert partial_order(whole, part, orders="textual").item() == pytest.approx((0.6 + 1.2) / 2)
    assert partial_order(whole, part).item() == pytest.approx(0.8 + 0.9)
    assert partial_order(whole, part, margin=0.1, orders="visual").item() == pytest.approx(0.05)


@pytest.mark.parametrize("name", sorted(objectives.functions()))
def test_every_objective_keeps_the_contract(name):
    """Tensors by position, options by keyword with a default."""
    parameters = inspect.signature(objectives.function(name)).parameters.values()
    tensors = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert tensors and tensors[0].default is inspect.Parameter.empty
    assert all(p.default in (inspect.Parameter.empty, None) for p in tensors)
    assert len(tensors) + len(options) == len(parameters)
    assert all(p.default is not inspect.Parameter.empty for p in options)
