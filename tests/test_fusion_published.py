"""The joint encoder and the published system's own numbers, from the same weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig

from paths import ROOT, fixtures
from videomatch.models import fusion_bert
from videomatch.objectives.tags_and_masks import bce_tags, mfm_nce, mlm

JOBS = {
    # job 1 again, small enough to lie here: features, and the two weights they meet, in an orthonormal basis of the
    # features' span, which changes no product of theirs
    "golden": {},
    "arch_aiac": {},
    "arch_aiac_job2": {"layout": "frames_first", "tags_from": "embedding"},
    "arch_aiac_job4": {"pool": "attention_all"},
}
#: the authors' names and ours
NAMES = {
    "newfc_hidden": "projection",
    "newfc_tag": "tag_head",
    "newemb_att": "attention_pool",
    "roberta_mvm_lm_header.predictions.transform.LayerNorm": "frame_head.norm",
    "roberta_mvm_lm_header.predictions.transform.dense": "frame_head.dense",
    "roberta_mvm_lm_header.predictions.decoder": "frame_head.decoder",
    "roberta_mvm_lm_header.predictions.bias": "frame_head.decoder.bias",
    "roberta.cls.predictions.transform.LayerNorm": "token_head.norm",
    "roberta.cls.predictions.transform.dense": "token_head.dense",
    "roberta.cls.predictions.decoder": "token_head.decoder",
    "roberta.cls.predictions.bias": "token_head.decoder.bias",
    "roberta.bert.embeddings": "encoder.embeddings",
    "roberta.bert.encoder": "encoder.encoder",
    "roberta.bert.video_fc": "frames.projection",
    "roberta.bert.video_embeddings.position_embeddings": "frames.positions",
    "roberta.bert.video_embeddings.token_type_embeddings": "frames.kind",
    "roberta.bert.video_embeddings.LayerNorm": "frames.norm",
}
ALL = ("tags", "tokens", "frames")


def ours(name: str) -> str:
    """Our name of one of the authors' parameters."""
    old = next(k for k in sorted(NAMES, key=len, reverse=True) if name.startswith(k))
    return NAMES[old] + name.removeprefix(old)


def published(job: str) -> tuple[fusion_bert.Model, dict[str, np.ndarray]]:
    """The authors' weights in our model, double precision, with their inputs and outputs."""
    path = ROOT / "tests/golden/aiac_joint_encoder.npz" if job == "golden" else fixtures() / f"{job}.npz"
    with np.load(path) as file:
        z = {name: file[name] for name in file.files}
    config = fusion_bert.Config(
        **{"pool": "mean_all", **JOBS[job]}, layers=2, width=32, heads_count=4, ffn=64, embedding_dim=16, heads=ALL,
        vocab_size=95, max_frames=8, max_tokens=13, num_tags=25, frame_dim=z["frames"].shape[2],
    )  # fmt: skip
    config.encoder.max_position_embeddings = 40
    model = fusion_bert.Model(config).double().eval()
    weights = {ours(k.removeprefix("param__")): torch.from_numpy(z[k]).double() for k in z if k.startswith("param__")}
    weights["frames.positions.weight"] = weights["frames.positions.weight"][:8]
    weights["frames.kind.weight"] = weights["frames.kind.weight"][:1]
    model.load_state_dict(weights)
    return model, z


def batch_of(z: dict[str, np.ndarray], tokens: bool = False, frames: bool = False) -> dict[str, torch.Tensor]:
    """The authors' inputs, with the modalities masked that a task of the call needs."""
    batch = {
        "frames": torch.from_numpy(z["frames"]).double(),
        "frame_mask": torch.from_numpy(z["frame_mask"]).bool(),
        "input_ids": torch.from_numpy(z["masked_text_ids" if tokens else "text_ids"]),
        "attention_mask": torch.from_numpy(z["text_mask"]),
    }
    if tokens:
        batch["token_labels"] = torch.from_numpy(z["mlm_labels"])
    if frames:
        batch["masked_frames"] = torch.from_numpy(z["mfm_labels"]) != -100
    return batch


def close(found: torch.Tensor, wanted: np.ndarray, tolerance: float = 1e-9) -> None:
    """Equal relative to the largest entry."""
    assert found.shape == wanted.shape
    scale = max(np.abs(wanted).max(), 1e-30)
    assert np.abs(found.detach().numpy() - wanted).max() <= tolerance * scale


def states_of(model: fusion_bert.Model, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Last hidden states of the sequence in the job's own order (B, 21, hidden), and where a position is no padding.

    Masked frames are given as zeros: of a masked batch the model would only compute the states that heads read.
    """
    hidden, found = batch.get("masked_frames", torch.zeros_like(batch["frame_mask"])), []
    shown = {name: batch[name] for name in ("frame_mask", "input_ids", "attention_mask")}
    layers: Any = model.encoder.encoder.layer
    hook = layers[-1].output.register_forward_hook(lambda _, __, rows: found.append(rows))
    model(batch["frames"].masked_fill(hidden[..., None], 0.0), **shown)
    hook.remove()
    tokens, frames = batch["input_ids"].shape[1], hidden.shape[1]
    text, video = found[0].unflatten(0, (len(hidden), -1)).split([tokens, frames], dim=1)
    first = 1 if model.config.layout == "frames_inside" else 0
    valid = batch["attention_mask"].bool()
    masks = [valid[:, :first], batch["frame_mask"], valid[:, first:]]
    return torch.cat([text[:, :first], video, text[:, first:]], 1), torch.cat(masks, 1)


@pytest.mark.parametrize("job", JOBS)
class TestPublished:
    def test_states(self, job):
        model, z = published(job)
        for case, masks in (("clean", {}), ("masked", {"tokens": True, "frames": True})):
            states, valid = states_of(model, batch_of(z, **masks))
            close(states[valid], z[f"{case}_last_hidden"][valid.numpy()])
            close(states, z[f"{case}_last_hidden"])  # of padding, too: their pooling reads it

    def test_embedding_and_tags(self, job):
        model, z = published(job)
        outputs = model(**batch_of(z))
        close(outputs["embedding"], z["clean_embedding"])
        close(outputs["logits"], z["clean_tag_logits"])
        close(model.embed_videos(**batch_of(z)), z["clean_embedding"])
        masked = model(**batch_of(z, tokens=True, frames=True))
        close(masked["logits"], z["tag_logits_in_masked_pass"])
        if "embedding" in masked:
            close(masked["embedding"], z["embedding_in_masked_pass"])
        assert ("embedding" in masked) == (model.config.tags_from == "embedding")

    def test_padding_of_the_batch_does_not_matter_to_their_pooling(self, job):
        model, z = published(job)
        batch = batch_of(z)
        length, words = int(z["frame_mask"][:1].sum()), int(z["text_mask"][:1].sum())
        short = {
            "frames": batch["frames"][:1, :length],
            "frame_mask": batch["frame_mask"][:1, :length],
            "input_ids": batch["input_ids"][:1, :words],
            "attention_mask": batch["attention_mask"][:1, :words],
        }
        close(model.embed_videos(**short), z["clean_embedding"][:1])

    def test_heads(self, job):
        model, z = published(job)
        outputs = model(**batch_of(z, tokens=True, frames=True))
        at = z["mlm_labels"] != -100
        after = slice(1 if model.config.layout == "frames_inside" else 0, None)  # there [CLS] is not among the tokens
        logits = z["masked_mlm_logits"]
        close(outputs["token_logits"], logits if job == "golden" else logits[at[:, after]])
        assert outputs["token_targets"].tolist() == z["mlm_labels"][at].tolist()
        assert (
            outputs["frame_targets"].tolist() == np.flatnonzero(z["mfm_labels"][z["frame_mask"] == 1] != -100).tolist()
        )
        if job == "golden":
            return
        there, seen = z["text_mask"][:, after].astype(bool), z["frame_mask"].astype(bool)
        rows, _ = states_of(model, batch_of(z))
        length = seen.shape[1]
        close(model.token_head(rows[:, length + after.start :][there]), z["clean_mlm_logits"][there])
        close(model.frame_head(rows[:, after][:, :length][seen]), z["clean_mfm_output"][seen], 1e-6)

    def test_losses_and_gradients(self, job):
        model, z = published(job)
        target = torch.from_numpy(z["target"])
        for tasks in ("tag", "mlm", "mfm", "tag_mlm", "mlm_mfm", "tag_mlm_mfm"):
            if f"loss_{tasks}" not in z:
                continue
            among = tasks.split("_")
            outputs = model(**batch_of(z, tokens="mlm" in among, frames="mfm" in among))
            terms = {
                "tag": lambda o: 1250 * bce_tags(o["logits"], target),
                "mlm": lambda o: mlm(o["token_logits"], o["token_targets"]) / 1.25,
                "mfm": lambda o: mfm_nce(o["frame_outputs"], o["frame_candidates"], o["frame_targets"]) / 3,
            }
            divisor = 3 if job == "arch_aiac_job4" else len(among)
            loss = torch.stack([terms[task](outputs) for task in among]).sum() / divisor
            close(loss, z[f"loss_{tasks}"])
        model.zero_grad()
        loss.backward()  # of all three, the last
        grads = {name: p.grad for name, p in model.named_parameters()}
        checked = [name for name in z if name.startswith("grad__")]
        assert checked
        for name in checked:
            wanted, found = z[name], grads[ours(name.removeprefix("grad__"))]
            if "video_embeddings.position" in name:
                assert not wanted[8:].any()
                wanted = wanted[:8]
            close(found, wanted)


@pytest.mark.parametrize(("pool", "count"), [("mean_all", 384_056_472), ("attention_all", 385_107_097)])
def test_published_size(pool, count, tmp_path: Path):
    BertConfig(
        vocab_size=21128, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    ).save_pretrained(tmp_path)
    config = fusion_bert.Config(pretrained=str(tmp_path), heads=ALL, num_tags=10_000, pool=pool)
    with torch.device("meta"):
        model = fusion_bert.Model(config)
    dead = 21_128 + (512 - 32) + (2 - 1)  # words, positions past the last frame, and a type that frames never have
    assert sum(p.numel() for p in model.parameters()) == count - dead * 1024
