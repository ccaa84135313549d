"""The multi-modal transformer (MMT; Gabeur et al., ECCV 2020): captions, and videos by the features of several experts.

On the video side the rows of all experts form one sequence: after projection to one width each expert has an aggregate
token (all its rows, pooled) and its rows in order, with embeddings of the expert and of the second. The last states at
the aggregates are the video's embeddings, one per expert. On the text side a gated unit per expert makes an embedding
of the caption's state, which also gives the experts' weights. The similarity is the sum over experts of weight x
cosine.

``B`` examples, ``E`` experts in alphabetical order, their rows side by side. An expert without a row is missing. With
``keep_missing`` (published) it is not a key of attention, but its aggregate (of zero) is a query, so it has an
embedding and its weight.

The inner product of two embeddings is the similarity. With ``keep_missing`` a video is the concatenation of its E unit
vectors, a caption that of its E weighted ones. Without, the sum of weights depends on which experts a video has, one of
2^E - 1 patterns: then a caption's vector holds a version for every pattern, and a video's is zero except at its own.

# Deviation: two poolers and rows of the expert embedding (19 in all) of the published model that nothing reads are left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import BertConfig, PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.models.bert.modeling_bert import BertLayer

from videomatch.common.distributed import all_gather
from videomatch.common.precision import at_least_single
from videomatch.models import SystemModel, _encoders
from videomatch.models._packed import encode, joined, linear
from videomatch.models._shared import clamped_spread

KINDS = ("aggregates", "frames")
#: longest embedding without ``keep_missing``
LONGEST = 1 << 15


class Config(PretrainedConfig):
    """Defaults are the published ones.

    Attributes:
        layers, heads, width, ffn: of the video encoder; ``width`` is also the size of an expert's part of an embedding.
            Without layers tokens do not see each other.
        dropout: of hidden states and of attention on both sides, and before the weights of the experts.
        max_positions: of the temporal embedding: 0 aggregates, 1 unknown time, 2 + n second n; later ones share the
            last.
        aggregate: what an expert's aggregate token starts from; ``max`` and ``mean`` are of all its rows.
        tokens: what an expert contributes: ``both`` aggregate and frame tokens, ``aggregates``, or ``frames`` alone.
            With ``frames`` its embedding is the mean of its last states.
        gated: captions go through gated units (published), else through linear ones.
        centred: fit the projections to examples first (see :meth:`Model.fit_statistics`).
        keep_missing: see the module; else the weights of the experts that a video has are divided by their sum.
        text: text encoder from scratch: ``bert``, or ``words``: the mean of learned vectors of the tokens (in the
            published code word vectors and ``txt_agg: mnp``).
        pretrained: hub id or folder of a BERT-like encoder, or of a CLIP with a text tower: its kind, size and weights
            are taken.
        experts: names and dimensions of the experts; the stage fills this and what follows.
        text_encoder: configuration of the text encoder in a saved configuration; wins over ``pretrained``.
    """

    model_type = "mmt"

    layers: int = 4
    heads: int = 4
    width: int = 512
    ffn: int = 3072
    dropout: float = 0.1
    max_positions: int = 32
    temporal: bool = True
    aggregate: Literal["max", "mean", "zero"] = "max"
    tokens: Literal["both", "aggregates", "frames"] = "both"
    gated: bool = True
    centred: bool = False
    keep_missing: bool = True
    text: Literal["bert", "words"] = "bert"
    text_layers: int = 12
    text_width: int = 768
    text_heads: int = 12
    text_ffn: int = 3072
    pretrained: str | None = None
    experts: Mapping[str, int] | None = None
    text_length: int = 30
    vocab_size: int = 28996
    pad_token_id: int = 0
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    text_encoder: dict[str, Any] | PretrainedConfig | None = None

    def __post_init__(self, **others: Any) -> None:
        if self.width % self.heads:
            raise ValueError(f"mmt: width {self.width} is not a multiple of the {self.heads} heads")
        if (given := self.max_positions) < 3:
            raise ValueError(f"mmt: max_positions {given}, expected at least 3: aggregates, unknown, a second")
        if self.text == "words" and (self.pretrained or self.text_encoder):
            raise ValueError(f"mmt: text words learns its own vectors; pretrained {self.pretrained!r} is of no use")
        encoder = self.text_encoder or self.pretrained
        if encoder is None and self.text != "words":
            encoder = {
                "model_type": "bert",
                "vocab_size": self.vocab_size,
                "hidden_size": self.text_width,
                "num_hidden_layers": self.text_layers,
                "num_attention_heads": self.text_heads,
                "intermediate_size": self.text_ffn,
                "max_position_embeddings": self.text_length,
                "pad_token_id": self.pad_token_id,
            }
        if encoder is not None:
            limits = self.vocab_size, self.text_length
            found = _encoders.configured(encoder, self.dropout, *limits, _encoders.TEXTS)
            # with 2 the largest id is the end (see transformers)
            if found.model_type == _encoders.CLIP and found.eos_token_id not in (2, self.eos_token_id):
                ends = f"{found.eos_token_id} for the text encoder, the tokenizer's with {self.eos_token_id}"
                raise ValueError(f"mmt: texts end with {ends}")
            self.text_encoder = found
        self.experts = dict(sorted((self.experts or {}).items()))
        super().__post_init__(**others)


class _VideoExpert(nn.Module):
    """Projects an expert's rows to unit vectors; ``mark`` is the embedding of the expert."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, width)
        self.mark = nn.Parameter(torch.empty(width))

    def forward(self, rows: Float[Tensor, "n dim"]) -> Float[Tensor, "n width"]:
        return F.normalize(self.projection(rows), dim=-1)


class _TextExpert(nn.Module):
    """A caption's gated embedding unit for an expert with batch norm, or a linear one, and the expert's weight."""

    def __init__(self, dim: int, width: int, gated: bool) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, width)
        self.gate = nn.Linear(width, width) if gated else None
        self.norm = nn.BatchNorm1d(width) if gated else None
        self.weight = nn.Linear(dim, 1)

    def forward(self, unit: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """Of projected states."""
        if self.gate is None or self.norm is None:
            return unit
        return unit * torch.sigmoid(self.norm(self.gate(unit)))


class Model(PreTrainedModel, SystemModel):
    """Both sides and their similarity."""

    config_class = Config
    main_input_name = "features"
    comparison: ClassVar[Literal["cosine", "dot"]] = "dot"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not config.experts:
            raise ValueError("mmt: no experts, expected at least one with its dimension")
        width = config.width
        self.video_experts = nn.ModuleDict({name: _VideoExpert(dim, width) for name, dim in config.experts.items()})
        self.start = nn.Parameter(torch.empty(width))
        self.times = nn.Embedding(config.max_positions, width) if config.temporal else None
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)
        bert = BertConfig(
            hidden_size=width,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
        )
        self.layer = nn.ModuleList(BertLayer(bert) for _ in range(config.layers))
        text: Any = config.text_encoder
        self.is_clip = text is not None and text.model_type == _encoders.CLIP
        words = (config.vocab_size, config.text_width)
        self.text_model = nn.Embedding(*words) if text is None else _encoders.built(text)
        text_dim = config.text_width if text is None else text.hidden_size
        self.text_experts = nn.ModuleDict({name: _TextExpert(text_dim, width, config.gated) for name in config.experts})
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # N(0, 0.02) for the transformer and its embeddings, torch's own for the layers before and after it
        if isinstance(module, nn.Linear) and any(
            module is m for part in (self.video_experts, self.text_experts) for m in part.modules()
        ):
            module.reset_parameters()
            return
        super()._init_weights(module)
        if module is self:
            init.normal_(self.start, std=0.02)
        if module is self.text_model and isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.3)  # so that their mean is not smaller than the biases of the next layer
        if isinstance(module, _VideoExpert):
            init.normal_(module.mark, std=0.02)

    def forward(
        self,
        features: Float[Tensor, "batch rows dims"],
        feature_mask: Bool[Tensor, "batch rows experts"],
        positions: Int[Tensor, "batch rows experts"],
        maxima: Float[Tensor, "batch dims"],
        means: Float[Tensor, "batch dims"],
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
    ) -> dict[str, Tensor]:
        """``similarity`` (B, videos of all processes), ``text_vectors`` and ``video_vectors`` (B, E * width),
        concatenations; the former are weighed. Without ``keep_missing`` also ``text_weights`` and ``available`` (B, E):
        the similarity is the vectors' product over that of these two. A caption's first token always exists."""
        videos, available = self._videos(features, feature_mask, positions, maxima, means)
        units, weights = self._texts(input_ids, attention_mask)
        with torch.autocast(units.device.type, enabled=False):
            texts = (weights[..., None] * units).flatten(1)
            outputs = {"text_vectors": texts, "video_vectors": videos.flatten(1)}
            similarity = texts @ all_gather(outputs["video_vectors"]).T
            if not self.config.keep_missing:
                outputs |= {"text_weights": weights, "available": available.to(weights.dtype)}
                total = weights @ all_gather(outputs["available"]).T
                similarity = similarity / torch.where(total == 0, 1e-5, total)
        return {"similarity": similarity, **outputs}

    def embed_videos(self, **inputs: Tensor) -> Float[Tensor, "batch dim"]:
        """See the module's docstring. Without ``keep_missing`` zero for a video without any expert, and a
        ``ValueError`` if there are too many experts."""
        videos, available = self._videos(**inputs)
        if self.config.keep_missing:
            return videos.flatten(1)
        patterns = self._patterns(videos.device)
        is_own = (available[:, None] == patterns).all(-1)
        return (videos[:, None] * is_own[..., None, None]).flatten(1)

    def embed_texts(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch dim"]:
        units, weights = self._texts(input_ids, attention_mask)
        texts = weights[..., None] * units
        if self.config.keep_missing:
            return texts.flatten(1)
        total = weights @ self._patterns(weights.device).to(weights.dtype).T
        return (texts[:, None] / torch.where(total == 0, 1e-5, total)[..., None, None]).flatten(1)

    def _patterns(self, device: torch.device) -> Bool[Tensor, "patterns experts"]:
        """Which experts a video may have: all sets but the empty one."""
        count = len(self.config.experts)
        size = (2**count - 1) * count * self.config.width
        if size > LONGEST:
            raise ValueError(
                f"mmt: without keep_missing, an embedding of {count} experts of width {self.config.width} has {size} "
                f"numbers, expected at most {LONGEST}: take fewer experts, a smaller width, or keep_missing"
            )
        return (torch.arange(1, 2**count, device=device)[:, None] >> torch.arange(count, device=device)) % 2 == 1

    def _videos(
        self, features: Tensor, feature_mask: Tensor, positions: Tensor, maxima: Tensor, means: Tensor
    ) -> tuple[Float[Tensor, "batch experts width"], Bool[Tensor, "batch experts"]]:
        """Unit vectors of the experts, zero without any token; and which experts the video has."""
        config, mask = self.config, feature_mask.bool()
        available = mask.any(1)
        has_aggregate = torch.ones_like(available) if config.keep_missing else available
        pooled = maxima if config.aggregate == "max" else means
        whole = torch.ones_like(available[:, :1])
        tokens = [(whole, whole, False, self.start.expand(len(mask), -1), positions.new_zeros(len(mask)))]
        edge = 0
        for number, (name, dim) in enumerate(config.experts.items()):
            expert: Any = self.video_experts[name]
            part, at = slice(edge, edge + dim), mask[..., number]
            has_rows, has_token = available[:, number, None], has_aggregate[:, number, None]
            edge += dim
            both = [torch.where(has_rows, pooled[:, part], 0.0)[has_token[:, 0]], features[..., part][at]]
            both = [x if config.tokens in ("both", kind) else x[:0] for x, kind in zip(both, KINDS, strict=True)]
            aggregates, frames = expert(torch.cat(both).to(self.start.dtype)).split([len(x) for x in both])
            if config.tokens != "frames":
                aggregates = torch.zeros_like(aggregates) if config.aggregate == "zero" else aggregates
                times = positions.new_zeros(len(aggregates))
                tokens.append((has_token, has_rows, True, aggregates + expert.mark, times))
            if config.tokens != "aggregates":
                wanted = config.tokens == "frames"
                tokens.append((at, at, wanted, frames + expert.mark, positions[..., number][at]))
        rows = self._states(tokens)
        if config.tokens == "frames":  # by example, then by expert
            owner = mask.transpose(1, 2).reshape(-1, mask.shape[1]).nonzero()[:, 0]
            states = rows.new_zeros(available.numel(), config.width).index_add(0, owner, rows)
            return F.normalize(at_least_single(states), dim=-1).unflatten(0, available.shape), available
        units = F.normalize(at_least_single(rows), dim=-1)
        states = units.new_zeros(*available.shape, config.width)
        return states.masked_scatter(has_aggregate[..., None], units), available

    def _states(self, tokens: list[tuple[Tensor, Tensor, bool, Tensor, Tensor]]) -> Float[Tensor, "n width"]:
        """Last states of those tokens that are wanted, by example. Of each kind of tokens (as the aggregates of an
        expert): (B, n) which are present, which are keys, and if wanted; (N, width) rows and (N,) positions of those
        present."""
        presents, keys, wanted, rows, times = zip(*tokens, strict=True)
        rows = torch.cat(rows)
        if self.times is not None:
            rows = rows + self.times(torch.cat(times).clamp(0, self.config.max_positions - 1))
        rows = joined(self.dropout(self.norm(rows)), presents)
        present, keys = torch.cat(presents, 1), torch.cat(keys, 1)
        wanted = torch.cat([mask & is_wanted for mask, is_wanted in zip(presents, wanted, strict=True)], 1)
        missing = bool((present & ~keys).any())
        return encode(list(self.layer), rows, present, keys=keys if missing else None, wanted=wanted)

    def _texts(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> tuple[Float[Tensor, "batch experts width"], Float[Tensor, "batch experts"]]:
        """Unit vectors of captions, one per expert, and the experts' weights."""
        states = self.text_states(input_ids, attention_mask)
        experts: list[Any] = list(self.text_experts.values())
        projected = linear(states, *(e.projection for e in experts)).chunk(len(experts), 1)
        units = torch.stack([expert(x) for expert, x in zip(experts, projected, strict=True)], 1)
        dropped = F.dropout(states, self.config.dropout, self.training)
        scores = linear(dropped, *(e.weight for e in experts))
        return F.normalize(at_least_single(units), dim=-1), at_least_single(scores).softmax(1)

    def text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Float[Tensor, "batch dim"]:
        """The text encoder's states of captions: of the first token (BERT), of the last (CLIP), the mean (words)."""
        if input_ids.shape[1] > self.config.text_length:
            raise ValueError(f"mmt: {input_ids.shape[1]} tokens, expected at most {self.config.text_length}")
        encoder: Any = self.text_model
        mask = attention_mask.bool()
        if isinstance(encoder, nn.Embedding):
            lengths = mask.sum(1)
            return F.embedding_bag(input_ids[mask], encoder.weight, lengths.cumsum(0) - lengths, mode="mean")
        if self.is_clip:
            return encoder(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        return _encoders.states(encoder, input_ids, mask, wanted=first & mask)

    def initialise(self) -> None:
        if self.config.pretrained is not None:
            _encoders.pretrained(self.config.pretrained, self.text_model, None)

    @torch.no_grad()
    def fit_statistics(self, sample: Callable[[], Mapping[str, Tensor]]) -> None:
        """Set the projections by examples, if ``config.centred``: as if experts' rows came with mean 0 and variance 1.

        # Deviation: the published projections start at random. Rows of small networks are in a narrow cone; as unit
        vectors they are then nearly equal, for thousands of steps. (See ``dual_encoding`` for the source.)
        """
        if not self.config.centred:
            return
        batch, edge = sample(), 0
        for number, (name, dim) in enumerate(self.config.experts.items()):
            rows = batch["features"][..., edge : edge + dim][batch["feature_mask"][..., number]].double()
            edge += dim
            if len(rows) < 2:
                continue
            spread = clamped_spread(rows)
            projection: Any = self.video_experts[name].projection  # pyright: ignore[reportAttributeAccessIssue]
            weight = projection.weight.double() / spread.to(projection.weight.device)
            projection.weight.copy_(weight)
            projection.bias.sub_((weight @ rows.mean(0).to(weight.device)).to(projection.bias.dtype))
