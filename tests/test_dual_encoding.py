"""Dual encoding against the published system's own numbers and slow twins, its examples, and its way to a checkpoint."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel, CLIPModel

from paths import fixtures
from videomatch.models import clip, dual_encoding
from videomatch.models._levels import Convolutions, Packed

#: the authors' names and ours
VIDEO = {"rnn": "video.gru", "convs1": "video.convolutions", "visual_mapping": "video_maps.0"}
TEXT = {"embed": "words", "rnn": "sentence.gru", "convs1": "sentence.convolutions", "text_mapping": "text_map"}
SMALL = {"frame_dim": 12, "hidden": 5, "filters": 6, "dim": 16}
SENTENCE = {"word_dim": 9, "word_hidden": 4, "word_filters": 5, "vocab_size": 24, "text": "words"}
LEVELS = {"full": ["mean", "gru", "conv"], "reduced": ["gru", "conv"]}


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(fixtures() / name) as file:
        return {key: file[key] for key in file.files}


def published(z: dict[str, np.ndarray], prefix: str, names: dict[str, str], model: nn.Module) -> None:
    """Give a model the authors' weights of one side."""
    state = {}
    for key, value in z.items():
        if key.startswith(prefix):
            head, rest = key.removeprefix(prefix).split(".", 1)
            rest = rest.replace("fc1", "linear").replace("bn_1", "norm")
            weight = torch.from_numpy(value).double()
            state[f"{names[head]}.{rest}"] = weight.flatten(1) if weight.ndim == 4 else weight
    missing, odd = model.load_state_dict(state, strict=False)
    own = {name for name in missing if name.split(".")[0] in {n.split(".")[0] for n in names.values()}}
    assert not odd and all(name.endswith("num_batches_tracked") for name in own)


def collated(z: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The raw frames as our examples would give them: the first 64, and the mean of all."""
    videos = np.split(z["frames_concat"], np.cumsum(z["n_frames"])[:-1])
    frames, mask = np.zeros((6, 64, 12)), np.zeros((6, 64), bool)
    for n, video in enumerate(videos):
        kept = video[:64]
        frames[n, : len(kept)], mask[n, : len(kept)] = kept, True
    mean = np.stack([video.mean(0) for video in videos])
    return {
        "frames": torch.from_numpy(frames),
        "frame_mask": torch.from_numpy(mask),
        "frame_mean": torch.from_numpy(mean),
    }


@pytest.mark.parametrize("which", LEVELS)
def test_videos_equal_the_published_system(which):
    z = arrays("arch_dual_encoding_video.npz")
    config = dual_encoding.Config(**SMALL, **SENTENCE, levels=LEVELS[which], fuse="concatenate", padded=True)
    model = dual_encoding.Model(config).double().eval()
    published(z, f"video_{which}_param__", VIDEO, model)
    batch = collated(z)
    with torch.inference_mode():
        levels = dict(
            zip(
                model.video.sizes,
                model.video(batch["frame_mean"], batch["frames"], batch["frame_mask"], (True, True)),
                strict=True,
            )
        )
        found = model.embed_videos(**batch)
    for level, name in (("gru", "level2_bigru_mean"), ("conv", "level3_conv"), ("mean", "level1_mean")):
        if level in levels:
            np.testing.assert_allclose(levels[level], z[f"{which}_{name}"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found, z[f"{which}_output"], rtol=0, atol=1e-9)
    single = model.float()
    with torch.inference_mode():
        found = single.embed_videos(**{k: v if v.dtype == torch.bool else v.float() for k, v in batch.items()})
    np.testing.assert_allclose(found, z[f"{which}_output"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", LEVELS)
def test_sentences_equal_the_published_system(which):
    z = arrays("arch_dual_encoding_text.npz")
    config = dual_encoding.Config(**SMALL, **SENTENCE, levels=LEVELS[which], fuse="concatenate", padded=True)
    model = dual_encoding.Model(config).double().eval()
    published(z, f"text_{which}_param__", TEXT, model)
    ids = torch.from_numpy(z["token_ids_padded"])
    mask = torch.arange(ids.shape[1]) < torch.from_numpy(z["lengths"])[:, None]
    with torch.inference_mode():
        found = model.embed_texts(ids, mask)
    np.testing.assert_allclose(found, z[f"{which}_output"], rtol=0, atol=1e-9)


def test_size_equals_the_published_system():
    counts = json.loads((fixtures() / "param_counts.json").read_text())
    for name, count in counts.items():
        if not name.startswith("dual_encoding"):
            continue
        side, size = name.split()[1], int(name.split()[1].partition("_D")[2] or name.split()[3])
        facts = {"frame_dim": size} if side != "text" else {"vocab_size": size + 4}
        levels = LEVELS["reduced" if "reduced" in name else "full"]
        with torch.device("meta"):
            model = dual_encoding.Model(dual_encoding.Config(**facts, text="words", fuse="concatenate", levels=levels))
        parts = [model.words, model.sentence, model.text_map] if side == "text" else [model.video, model.video_maps]
        assert sum(p.numel() for part in parts for p in part.parameters()) == count, name
