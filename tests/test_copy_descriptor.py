"""The copy descriptor: its two objectives in closed form, edited views, learning, and loading as any image backbone."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel, ConvNextModel

from toys import toy
from videomatch.data.store import Store
from videomatch.examples import Source
from videomatch.examples.edited_views import EDITS, EditedViews, view
from videomatch.experts.image import Expert
from videomatch.models.copy_descriptor import Config, Model
from videomatch.objectives.contrast import entropy_spread, info_nce_views
from videomatch.training.loop import Trainer, Training
from videomatch.training.objective import configured

SMALL = {"image_size": 32, "sizes": (16, 32), "depths": (1, 1)}


def drawn_views(images: int = 5, count: int = 2, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (images, count, size, size, 3), dtype=torch.uint8, generator=generator)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64), dim=-1)


class TestObjectives:
    def test_orthogonal_images_in_closed_form(self):
        embeds, video = torch.eye(4, dtype=torch.float64)[:, None].repeat(1, 2, 1), torch.arange(4)
        loss = info_nce_views(embeds, video, temperature=0.5)
        # each view has one positive (cosine 1) and 6 views of other images (cosine 0)
        assert loss.item() == pytest.approx(math.log(1 + 6 * math.exp(-2)))
        assert entropy_spread(embeds, video).item() == pytest.approx(-math.log(2) / 2)

    def test_info_nce_equals_its_slow_twin(self):
        embeds, video = unit(5, 3, 8), torch.tensor([0, 1, 2, 1, 3])
        terms = []
        for i in range(5):
            for a in range(3):
                others = [embeds[i, a] @ embeds[j, b] for j in range(5) for b in range(3) if video[j] != video[i]]
                negatives = sum(math.exp(x / 0.2) for x in others)
                for b in range(3):
                    if b != a:
                        own = math.exp(embeds[i, a] @ embeds[i, b] / 0.2)
                        terms.append(-math.log(own / (own + negatives)))
        loss = info_nce_views(embeds, video, temperature=0.2)
        assert loss.item() == pytest.approx(np.mean(terms))

    def test_entropy_equals_its_slow_twin(self):
        embeds, video = unit(4, 2, 6), torch.tensor([0, 1, 1, 2])
        terms = []
        for i in range(4):
            for a in range(2):
                others = [
                    (embeds[i, a] - embeds[j, b]).norm() for j in range(4) for b in range(2) if video[j] != video[i]
                ]
                terms.append(-math.log(min(others)))
        assert entropy_spread(embeds, video).item() == pytest.approx(np.mean(terms))

    def test_one_video_alone_gives_finite_gradients(self):
        embeds = unit(2, 2, 4).requires_grad_()
        video = torch.zeros(2, dtype=torch.long)
        loss = info_nce_views(embeds, video) + entropy_spread(embeds, video)
        loss.backward()
        assert loss.item() == 0 and embeds.grad is not None and torch.isfinite(embeds.grad).all()


class TestViews:
    @pytest.mark.parametrize("edit", EDITS, ids=lambda e: e.__name__)
    def test_every_edit_changes_a_picture_and_keeps_its_shape(self, edit):
        rng = np.random.default_rng(0)
        picture, other = rng.integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
        before = picture.copy()
        found = [edit(picture, other, np.random.default_rng(n)) for n in range(12)]
        assert all(x.shape == picture.shape and x.dtype == np.uint8 for x in found)
        assert np.array_equal(picture, before)
        assert sum(not np.array_equal(x, picture) for x in found) >= 10

    def test_the_same_seed_sees_the_same(self):
        picture, other = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        one, two = (view(picture, other, np.random.default_rng(4)) for _ in range(2))
        assert np.array_equal(one, two)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    corpus, features = toy(tmp_path_factory.mktemp("toy"))
    return Source(corpus, Store(features / "frames"))


class TestExamples:
    def test_views_of_each_video(self, source):
        train, val = EditedViews(source, per_video=2).parts()
        assert val is not None and not set(train.videos) & set(val.videos)
        assert len(train) == 2 * len(train.videos)
        numbers = np.array([0, 3, 1])
        batch, again = (train.batch(numbers, np.random.default_rng(0)) for _ in range(2))
        assert batch["views"].shape == (3, 2, 32, 32, 3) and batch["views"].dtype == torch.uint8
        assert torch.equal(batch["views"], again["views"]) and batch["video"].tolist() == [0, 3, 1]
        assert not torch.equal(batch["views"], train.batch(numbers, np.random.default_rng(1))["views"])

    def test_views_without_edits_are_refused(self, source):
        with pytest.raises(ValueError, match="0 edits"):
            EditedViews(source, edits=0)


class TestModel:
    def test_unit_vectors_that_do_not_depend_on_the_batch(self):
        torch.manual_seed(0)
        model, given = Model(Config(**SMALL)), drawn_views()
        with torch.inference_mode():
            whole, part = model(given)["view_embeds"], model(given[:2])["view_embeds"]
        torch.testing.assert_close(whole.norm(dim=2), torch.ones(5, 2))
        torch.testing.assert_close(whole[:2], part, rtol=1e-4, atol=1e-5)

    def test_it_starts_alive_and_small(self):
        torch.manual_seed(0)
        model = Model(Config())
        assert sum(p.numel() for p in model.parameters()) < 1e6
        with torch.inference_mode():
            embeds = model(drawn_views(size=64))["view_embeds"][:, 0]
        assert (embeds @ embeds.T - torch.eye(5)).max() < 0.995

    def test_it_loads_as_any_image_backbone(self, tmp_path):
        torch.manual_seed(0)
        model, given = Model(Config(**SMALL)).eval(), drawn_views()
        model.save_pretrained(tmp_path)
        model.processor().save_pretrained(tmp_path)
        assert type(AutoModel.from_pretrained(tmp_path)) is ConvNextModel
        expert = Expert(backbone=str(tmp_path), precision="float32")
        assert expert.shape == (32,) and expert.about["pooling"] == "pooled"
        rows = torch.from_numpy(expert.infer(expert.prepare(given[:, 0].numpy())))
        with torch.inference_mode():
            ours = model(given)["view_embeds"][:, 0]
        torch.testing.assert_close(F.normalize(rows, dim=1), ours, rtol=1e-4, atol=1e-5)

    def test_wrong_stages_are_named(self):
        with pytest.raises(ValueError, match="expected one each a stage"):
            Config(sizes=(8, 16), depths=(1,))


def test_training_brings_views_together(source):
    examples, _ = EditedViews(source, per_video=8, edits=1, validation=None).parts()
    losses = {"info_nce_views": {"temperature": 0.1}, "entropy_spread": {"weight": 0.1}}
    torch.manual_seed(0)
    run = Trainer(Model(Config(**SMALL)), configured(losses), Training(epochs=5, batch=8, lr=3e-3), seed=0)
    rows = run.fit(examples)
    assert rows[-1]["train/info_nce_views"] < 0.85 * rows[0]["train/info_nce_views"]
