"""Dual encoding: a video read at three levels, a sentence, and one space for both; and its use in DMT_CUC_01.

Sources: Dong et al., "Dual Encoding for Zero-Example Video Retrieval", CVPR 2019 (arXiv:1809.06181) and the published
system; the notebook paper of DMT_CUC_01 at TRECVID 2021 (ad-hoc video search).

Levels of a video: the ``mean`` of all its frames; a bidirectional GRU (``gru``, mean over time); convolutions over the
GRU's outputs (``conv``, maximum over time). Two ways to the common space (``fuse``):

``concatenate``  side by side (gru, conv, mean) through one linear layer and BatchNorm: dual encoding as published.
``mean``         each through its own; the score is the mean of their cosines with the one sentence (DMT_CUC_01).

Two ways to read a sentence (``text``):

``clip``         by the frozen text tower of the CLIP that the frames' features come from, then one more linear layer
                 and BatchNorm (``map_text``).
``words``        at the same three levels: bag of words, GRU over word vectors, convolutions.

Padding is not computed: the GRU reads the sequences packed; its outputs are rows of one matrix with zeros between
sequences, so that a convolution over time is one sum of shifted matrix products.

# Deviation: DMT_CUC_01's paper does not say how levels are mapped into the space, nor which CLIP it was; here these are
dual encoding's own layers and defaults, of any CLIP.
# Deviation: the published video side reads its padding, so that a vector depends on the longest sequence of its batch:
the backward GRU of a short clip starts in the padding, and windows of padding take part in the maximum. With ``padded``
so does ours; a window of padding alone gives ``ReLU(bias)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils import rnn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers import initialization as init

from videomatch.common.precision import at_least_single
from videomatch.models import SystemModel, _encoders
from videomatch.models._recurrent import gru_states
from videomatch.models._shared import clamped_spread

#: in the order in which they are concatenated
LEVELS = ("gru", "conv", "mean")
#: texts whose vectors are cached at most
CACHED_TEXTS = 1 << 20


class Config(PretrainedConfig):
    """A dual encoder.

    Attributes:
        levels: of the video (and of the sentence, with ``words``): some of ``mean``, ``gru`` and ``conv``.
        map_text: with ``clip``: map the sentence, too; otherwise the common space is the tower's.
        kernels: sizes of the convolutions' windows, in frames.
        dropout: of the levels ``gru`` and ``conv``, and in the common space.
        centred: bring frames to mean 0 and variance 1, see :meth:`Model.fit_statistics`.
        padded: read padding, as published.
        word_dim, word_hidden, word_filters, word_kernels: of the sentence, with ``words``.
        pretrained: with ``clip``: hub id or folder of the CLIP whose text tower is taken.
        frame_dim: dimensions of a frame; the stage fills this and what follows.
        special_tokens: with ``words``: the number of ids at the beginning that are not words.
        tower: configuration of the tower in a saved configuration; wins over ``pretrained``.
    """

    model_type = "dual_encoding"

    levels: Sequence[str] = ("mean", "gru", "conv")
    fuse: Literal["mean", "concatenate"] = "mean"
    text: Literal["clip", "words"] = "clip"
    map_text: bool = True
    dim: int = 2048
    hidden: int = 1024
    filters: int = 512
    kernels: Sequence[int] = (2, 3, 4, 5)
    dropout: float = 0.2
    batch_norm: bool = True
    centred: bool = False
    padded: bool = False
    word_dim: int = 500
    word_hidden: int = 512
    word_filters: int = 512
    word_kernels: Sequence[int] = (2, 3, 4)
    pretrained: str | None = None
    frame_dim: int = 512
    vocab_size: int = 49408
    special_tokens: int = 4
    tower: dict[str, Any] | PretrainedConfig | None = None

    def __post_init__(self, **others: Any) -> None:
        if not self.levels or not set(self.levels) <= set(LEVELS):
            raise ValueError(f"dual_encoding: levels {list(self.levels)}, expected some of {', '.join(LEVELS)}")
        self.levels = [level for level in LEVELS if level in self.levels]
        kernels = [*self.kernels, *self.word_kernels]
        if min(kernels, default=0) < 1:
            raise ValueError(f"dual_encoding: kernels and word_kernels {kernels}, expected sizes above 0")
        if self.text == "clip":
            encoder = self.tower or self.pretrained
            if encoder is None:
                need = "a `backbone` (or `pretrained`): the CLIP of the frames"
                raise ValueError(f"dual_encoding: text clip needs {need}")
            tower = self.tower = _encoders.configuration(encoder)
            if not hasattr(tower, "text_config"):
                given = f"{encoder} is a {tower.model_type!r}"
                raise ValueError(f"dual_encoding: {given}, expected a CLIP with a text tower")
            _encoders.check_vocabulary(tower.text_config, self.vocab_size)
            self.dim = self.dim if self.map_text else tower.projection_dim
        elif self.pretrained is not None:
            given = f"pretrained {self.pretrained!r}"
            raise ValueError(f"dual_encoding: text words learns its own vectors; {given} is of no use")
        super().__post_init__(**others)


def _text_side(clip: Any) -> Any:
    """A CLIP without its image side."""
    clip.vision_model = clip.visual_projection = None
    return clip


class Convolutions(nn.ModuleList):
    """Filters over 2, 3, … neighbouring rows, ReLU, and the maximum over time: ``(B, kernels x filters)``. A window may
    begin before a sequence and end after it (``k - 1`` zeros on either side)."""

    def __init__(self, inputs: int, filters: int, kernels: Sequence[int]) -> None:
        super().__init__(nn.Linear(k * inputs, filters) for k in kernels)
        self.inputs, self.kernels = inputs, list(kernels)

    def forward(
        self, rows: Float[Tensor, "n inputs"], mask: Bool[Tensor, "batch time"], padded: bool
    ) -> Float[Tensor, "batch outputs"]:
        gap, lengths = max(self.kernels) - 1, mask.sum(1)
        owner, time = mask.nonzero(as_tuple=True)
        starts = (lengths + gap).cumsum(0) - lengths
        apart = rows.new_zeros(len(rows) + gap * (len(mask) + 1), self.inputs)
        apart = apart.index_copy(0, starts[owner] + time, rows)
        is_short = (lengths < mask.shape[1])[:, None]
        found = []
        layers: Any = list(self)
        for k, layer in zip(self.kernels, layers, strict=True):
            windows = len(apart) - k + 1
            outputs = layer.bias.expand(windows, -1)
            for step, weight in enumerate(layer.weight.split(self.inputs, dim=1)):
                outputs = torch.addmm(outputs, apart[step : step + windows], weight.T)
            pooled = _max_over_runs(outputs, starts - (k - 1), lengths + k - 1)
            if padded:
                pooled = torch.where(is_short, torch.maximum(pooled, layer.bias), pooled)
            found.append(F.relu(pooled))
        return torch.cat(found, dim=1)


def _max_over_runs(
    values: Float[Tensor, "n dim"], first: Int[Tensor, " batch"], count: Int[Tensor, " batch"]
) -> Float[Tensor, "batch dim"]:
    """The maximum over runs of rows."""
    with torch.no_grad():
        step = torch.arange(int(count.max()), device=values.device)
        rows = (first[:, None] + step).clamp(max=len(values) - 1)
        each = values[rows].masked_fill((step >= count[:, None])[..., None], -torch.inf)
        best = first[:, None] + each.argmax(1)
    return values.gather(0, best)


class _Levels(nn.Module):
    """The levels of a sequence; that of ``mean`` is given."""

    def __init__(
        self, config: Config, inputs: int, first: int, hidden: int, filters: int, kernels: Sequence[int]
    ) -> None:
        super().__init__()
        reads = {"gru", "conv"} & set(config.levels)
        self.gru = nn.GRU(inputs, hidden, batch_first=True, bidirectional=True) if reads else None
        self.convolutions = Convolutions(2 * hidden, filters, kernels) if "conv" in reads else None
        self.dropout = nn.Dropout(config.dropout)
        sizes = {"gru": 2 * hidden, "conv": len(kernels) * filters, "mean": first}
        self.sizes = {level: sizes[level] for level in config.levels}

    def forward(
        self, first: Tensor | None, rows: Tensor | None, mask: Tensor, padded: tuple[bool, bool]
    ) -> list[Tensor]:
        """``(B, size)`` of every level; ``padded``: whether the GRU and the convolutions read padding."""
        found: dict[str, Any] = {"mean": first}
        if self.gru is not None and rows is not None:
            mask = mask.bool()
            states = self._states(self.gru, rows, mask, padded[0])
            if "gru" in self.sizes:
                total = states.new_zeros(len(mask), states.shape[1]).index_add(0, mask.nonzero()[:, 0], states)
                found["gru"] = self.dropout(total / mask.sum(1, keepdim=True))
            if self.convolutions is not None:
                found["conv"] = self.dropout(self.convolutions(states, mask, padded[1]))
        return [found[level] for level in self.sizes]

    @staticmethod
    def _states(gru: nn.GRU, rows: Tensor, mask: Tensor, padded: bool) -> Float[Tensor, "n both"]:
        """The GRU's outputs at the rows, sequence by sequence; with ``padded`` it reads the zeros of the padding."""
        lengths, width = mask.sum(1), mask.shape[1]
        if not lengths.all() or not torch.equal(mask, torch.arange(width, device=mask.device) < lengths[:, None]):
            raise ValueError("a sequence is empty or has a gap; expected at least one row each, and padding at the end")
        weight: Any = gru.weight_hh_l0
        lengths = torch.full_like(lengths, width) if padded else lengths
        packed = rnn.pack_padded_sequence(rows.to(weight.dtype), lengths.cpu(), batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(gru_states(gru, packed), batch_first=True, total_length=width)[0][mask]


class _Mapping(nn.Module):
    """Into the common space: linear, BatchNorm, dropout."""

    def __init__(self, config: Config, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, config.dim)
        self.norm = nn.BatchNorm1d(config.dim) if config.batch_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch dim"]:
        return F.normalize(at_least_single(self.dropout(self.norm(self.linear(x)))), dim=-1)


class _TextCache(dict[bytes, Tensor]):
    """Vectors of texts by a frozen network. Copies of a model share it."""

    def __deepcopy__(self, memo: Any) -> _TextCache:
        return self


class Model(PreTrainedModel, SystemModel):
    """Both sides of dual encoding."""

    config_class = Config
    main_input_name = "frames"
    frame_centre: Tensor
    frame_spread: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.centred:
            self.register_buffer("frame_centre", torch.zeros(config.frame_dim))
            self.register_buffer("frame_spread", torch.ones(config.frame_dim))
        self.video = _Levels(config, config.frame_dim, config.frame_dim, config.hidden, config.filters, config.kernels)
        sizes = self.video.sizes.values()
        sizes = [sum(sizes)] if config.fuse == "concatenate" else sizes
        self.video_maps = nn.ModuleList(_Mapping(config, size) for size in sizes)
        if config.text == "clip":
            tower: Any = config.tower
            self.tower = _text_side(AutoModel.from_config(tower)).requires_grad_(False)
            self.text_map = _Mapping(config, tower.projection_dim) if config.map_text else None
        else:
            words = config.vocab_size - config.special_tokens
            reads = {"gru", "conv"} & set(config.levels)
            self.words = nn.Embedding(config.vocab_size, config.word_dim) if reads else None
            self.sentence = _Levels(
                config, config.word_dim, words, config.word_hidden, config.word_filters, config.word_kernels
            )
            self.text_map = _Mapping(config, sum(self.sentence.sizes.values()))
        self._cache = _TextCache()
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # as published: Xavier's uniform for what maps into the space, small word vectors, torch's own for the rest
        if isinstance(module, _Mapping):
            init.xavier_uniform_(module.linear.weight)
            init.zeros_(module.linear.bias)
        elif isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -0.1, 0.1)
        elif isinstance(module, nn.Linear | nn.GRU | nn.BatchNorm1d):
            module.reset_parameters()

    def train(self, mode: bool = True) -> Model:
        """Set the mode of all but the frozen text tower."""
        super().train(mode)
        if self.config.text == "clip":
            self.tower.eval()
        return self

    def forward(
        self,
        frames: Float[Tensor, "batch frames frame_dim"],
        frame_mask: Bool[Tensor, "batch frames"],
        frame_mean: Float[Tensor, "batch frame_dim"],
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Bool[Tensor, "batch tokens"],
    ) -> dict[str, Tensor]:
        """Unit vectors ``video_embeds`` (B, levels, dim), one level if they are concatenated, and ``text_embeds``
        (B, dim): a score is the mean of a video's inner products with the sentence. ``frame_mean`` is of all frames."""
        return {
            "video_embeds": self._videos(frames, frame_mask, frame_mean),
            "text_embeds": self._texts(input_ids, attention_mask),
        }

    def embed_videos(self, **inputs: Tensor) -> Float[Tensor, "batch wide"]:
        """Unit vectors of ``levels x dim``: the levels side by side, divided by the square root of their number."""
        each = self._videos(**inputs)
        return each.flatten(1) / each.shape[1] ** 0.5

    def embed_texts(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch wide"]:
        """Unit vectors whose inner product with a video's is the score: the sentence, once for each level."""
        levels = len(self.video_maps)
        return self._texts(input_ids, attention_mask).repeat(1, levels) / levels**0.5

    def _videos(self, frames: Tensor, frame_mask: Tensor, frame_mean: Tensor) -> Float[Tensor, "batch levels dim"]:
        mean = frame_mean.to(self.video_maps[0].linear.weight.dtype)  # pyright: ignore
        if self.config.centred:
            frames, mean = ((rows - self.frame_centre) / self.frame_spread for rows in (frames, mean))
            frames = frames.masked_fill(~frame_mask.bool()[..., None], 0.0)  # padding remains zero
        found = self.video(mean, frames, frame_mask, (self.config.padded, self.config.padded))
        groups = [torch.cat(found, dim=1)] if self.config.fuse == "concatenate" else found
        return torch.stack([mapping(x) for mapping, x in zip(self.video_maps, groups, strict=True)], dim=1)

    def _texts(self, input_ids: Tensor, attention_mask: Tensor) -> Float[Tensor, "batch dim"]:
        if self.config.text == "clip":
            vectors = self._clip(input_ids, attention_mask)
            return F.normalize(vectors, dim=-1) if self.text_map is None else self.text_map(vectors)
        weight, special = self.text_map.linear.weight, self.config.special_tokens  # pyright: ignore
        is_word = attention_mask.bool() & (input_ids >= special)
        bag = weight.new_zeros(len(input_ids), self.config.vocab_size)
        bag = bag.scatter_add(1, input_ids, is_word.to(bag.dtype))[:, special:]
        rows = None if self.words is None else self.words(input_ids)
        # as published: a packed GRU, but convolutions over padding
        found = self.sentence(bag, rows, attention_mask, (False, self.config.padded))
        return self.text_map(torch.cat(found, dim=1))  # pyright: ignore[reportOptionalCall]

    @torch.no_grad()
    def _clip(self, input_ids: Tensor, attention_mask: Tensor) -> Float[Tensor, "batch projection"]:
        """Vectors by the frozen tower, each text once: every epoch needs the same captions."""
        lengths = attention_mask.sum(1).tolist()
        ids = input_ids.cpu().numpy()
        keys = [row[:n].tobytes() for row, n in zip(ids, lengths, strict=True)]
        new, fresh = [at for at, key in enumerate(keys) if key not in self._cache], {}
        if new:
            at = torch.tensor(new, device=input_ids.device)
            with torch.autocast(input_ids.device.type, enabled=False):
                found = self.tower.get_text_features(input_ids=input_ids[at], attention_mask=attention_mask[at])
                vectors = found.pooler_output.float()
            fresh = dict(zip([keys[n] for n in new], vectors.cpu(), strict=True))
            if len(self._cache) < CACHED_TEXTS:
                self._cache.update(fresh)
        found = torch.stack([fresh[key] if key in fresh else self._cache[key] for key in keys])
        return found.to(input_ids.device)

    def initialise(self) -> None:
        if self.config.text != "clip" or self.config.pretrained is None:
            return
        source = AutoModel.from_pretrained(self.config.pretrained, dtype=torch.float32)
        _encoders.copy_weights(self.config.pretrained, _text_side(source), self.tower)

    @torch.no_grad()
    def fit_statistics(self, sample: Callable[[], Mapping[str, Tensor]]) -> None:
        """Set by examples how frames are brought to mean 0 and variance 1, if ``config.centred``.

        # Deviation: the published system reads frames as they are. Those of a small network are in a narrow cone, where
        a GRU with fresh weights hardly tells them apart. (Such a start from data: Salimans and Kingma, "Weight
        Normalization", NeurIPS 2016.)
        """
        if not self.config.centred:
            return
        batch = sample()
        rows = batch["frames"][batch["frame_mask"]].double()
        if len(rows) > 1:
            self.frame_centre.copy_(rows.mean(0))
            self.frame_spread.copy_(clamped_spread(rows))
