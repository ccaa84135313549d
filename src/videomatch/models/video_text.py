"""A text encoder that also reads a video: a dual encoder of texts and videos, and a joint encoder of both with the same
BERT (SNP of SNP-S3, Dong et al., IEEE T-CSVT 2023; the model of CNVid, Gan et al., CVPR 2023, published code).

A clip is the projected mean of its frames, of any expert, or of an image network that is trained with the rest. Alone,
clips go through two more layers; with a text, they follow its tokens as words of the second type, and one sequence is
[CLS] words [SEP] clips [SEP]. Texts and videos are embedded by the first way and searched with; pairs get a score by
the second (``match``), by which a search can be ranked again.

A step encodes each text once as it is and once with masks, and then in one pass all joint sequences: masked texts with
their videos, pairs of texts and videos, false texts. No padding is computed, of the last layer only the rows that a
head reads, words only where one was hidden (:mod:`videomatch.models._packed`).

# Deviation: the published code pairs all examples of a GPU (128); here pairs are within groups of ``group`` examples,
of which a GPU may hold several.
# Deviation: in half of the steps it draws the masked words of the joint encoder by the attention that they get; here
both encoders see the same masks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, PretrainedConfig, PreTrainedModel

from videomatch.common.distributed import all_gather, rank_offset
from videomatch.common.precision import at_least_single
from videomatch.models import SystemModel, _encoders
from videomatch.models._packed import encode, numbered
from videomatch.models._shared import normalise

HEADS = ("pairs", "tokens", "match")
#: pairs that a search scores at once
PAIRS = 1024
#: least weight of a row
FLOOR = 0.2


class Config(PretrainedConfig):
    """A dual and joint encoder of texts and videos.

    Attributes:
        layers, width, heads_count, ffn: of an encoder (BERT) from scratch.
        heads: what is trained beside the dual encoder: ``pairs`` (scores), ``tokens`` (masked words), ``match`` (false
            texts).
        group: examples among which texts and videos are paired.
        mining: pair a text with the videos of the whole batch whose similarity is ``nearest`` to that of its own, or
            the largest (``top_k``); null: with those of its group.
        mining_every, mining_rise: mining in a growing share of the steps: ``mining_rise`` more after each
            ``mining_every`` of all steps. Published: 0.15 more after every 5,000 steps.
        queue: entries of texts and videos that a momentum encoder computed, published 16,384; 0 for none.
        momentum: of that encoder.
        pretrained: hub id or folder of a BERT, or of a CLIP with one, whose size and weights are taken, those of its
            pooler for both poolers.
        vision: hub id or folder of an image network, or of a model with one as CLIP, that reads frames which are
            pictures of its size; its weights are trained, too.
        vocab_size: of the tokenizer; the stage fills this and what follows.
        encoder: configuration of the encoder in a saved configuration; wins over ``pretrained`` and sizes.
        vision_encoder, image_mean, image_std: likewise, of ``vision``.
    """

    model_type = "video_text"

    layers: int = 4
    width: int = 128
    heads_count: int = 4
    ffn: int = 512
    dropout: float = 0.1
    heads: Sequence[str] = HEADS
    group: int = 8
    mining: Literal["nearest", "top_k"] | None = None
    mining_every: float = 0.0365
    mining_rise: float = 0.15
    queue: int = 0
    momentum: float = 0.9999
    pretrained: str | None = None
    vision: str | None = None
    vocab_size: int = 21128
    pad_token_id: int = 0
    sep_token_id: int = 102
    frame_dim: int = 2048
    max_clips: int = 4
    max_tokens: int = 50
    encoder: Any = None
    vision_encoder: Any = None
    image_mean: Sequence[float] = ()
    image_std: Sequence[float] = ()

    def __post_init__(self, **others: Any) -> None:
        if odd := [head for head in self.heads if head not in HEADS]:
            raise ValueError(f"video_text: no head {odd[0]!r}; there are {', '.join(HEADS)}")
        if self.group < 2 or self.queue < 0 or not 0 <= self.momentum <= 1 or self.mining_every <= 0:
            given = (
                f"group {self.group}, queue {self.queue}, momentum {self.momentum}, mining_every {self.mining_every}"
            )
            raise ValueError(f"video_text: {given}, expected groups of 2, a size, and shares of 1")
        if self.mining is not None and "pairs" not in self.heads:
            raise ValueError("video_text: mining chooses pairs, but there is no head for pairs")
        _encoders.take_encoder(self, max(self.max_tokens, self.max_clips + 1), kinds=("bert",))
        if self.vision_encoder is not None:
            self.vision_encoder = _encoders.configuration(self.vision_encoder)
        elif self.vision is not None:
            given = _encoders.configuration(self.vision)
            self.vision_encoder = getattr(given, "vision_config", given)
            processor: Any = AutoImageProcessor.from_pretrained(self.vision)
            self.image_mean, self.image_std = list(processor.image_mean), list(processor.image_std)
        if self.vision_encoder is not None:
            found = self.vision_encoder
            self.frame_dim = found.hidden_sizes[-1] if hasattr(found, "hidden_sizes") else found.hidden_size
        super().__post_init__(**others)


class _Towers(nn.Module):
    """The dual encoder: BERT with its pooler, and the layers of clips."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.encoder = _encoders.built(config.encoder)
        self.text_pooler = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.vision = None if config.vision_encoder is None else AutoModel.from_config(config.vision_encoder)
        self.statistics = config.image_mean, config.image_std
        self.frames = nn.Linear(config.frame_dim, width)
        self.clip_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    @property
    def layers(self) -> Any:
        encoder: Any = self.encoder
        return encoder.encoder.layer

    def words(self, input_ids: Tensor, mask: Tensor) -> Float[Tensor, "texts tokens hidden"]:
        """What the first layer reads of texts; padding is not computed."""
        rows = _encoders.embedded(self.encoder, input_ids, mask)
        return rows.new_zeros(*mask.shape, rows.shape[1]).masked_scatter(mask[..., None], rows)

    def clip_words(self, clips: Tensor, sep: int) -> Float[Tensor, "videos clips+1 hidden"]:
        """What the first layer reads of videos: their clips and [SEP]."""
        encoder: Any = self.encoder
        end = encoder.get_input_embeddings().weight[sep].expand(len(clips), 1, -1)
        rows = torch.cat((clips, end.to(clips.dtype)), 1)
        return encoder.embeddings(inputs_embeds=rows, token_type_ids=rows.new_ones(rows.shape[:2], dtype=torch.long))

    def clips(self, frames: Tensor) -> Float[Tensor, "videos clips hidden"]:
        """The projected means of the frames of each clip; frames are vectors, or pictures for the image network."""
        if (self.vision is None) != (frames.ndim == 4):
            found = "vectors" if frames.ndim == 4 else "pictures"
            raise ValueError(f"video_text: frames are {found}; `vision` is the network that reads pictures")
        if self.vision is not None:
            pooled: Any = self.vision(pixel_values=normalise(frames.flatten(0, 2), *self.statistics)).pooler_output
            frames = pooled.flatten(1).unflatten(0, frames.shape[:3])
        return self.frames(frames.to(self.frames.weight.dtype).mean(2))

    def texts(self, first: Tensor) -> Float[Tensor, "texts dim"]:
        """Unit vectors of texts, from the last states of [CLS]."""
        return F.normalize(at_least_single(self.text_pooler(first)), dim=-1)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Float[Tensor, "texts dim"]:
        """Unit vectors of texts alone."""
        return self.texts(encode(self.layers, self.words(input_ids, mask)[mask], mask, wanted=_first(mask)))

    def videos(self, clips: Tensor) -> tuple[Float[Tensor, "videos clips dim"], Float[Tensor, "videos dim"]]:
        """Unit vectors of clips, and of their means."""
        each = F.normalize(at_least_single(self.clip_head(clips)), dim=-1)
        return each, F.normalize(each.mean(1), dim=-1)


class Model(PreTrainedModel, SystemModel):
    """The dual and the joint encoder with its heads."""

    config_class = Config
    main_input_name = "frames"
    queue_video: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width = config.width
        self.towers = _Towers(config)
        self.pair_pooler = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.token_head = self.match_head = self.pair_head = self.slow_towers = None
        if "pairs" in config.heads:
            parts = (nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(2 * width, 1))
            self.pair_head = nn.Sequential(*parts)
        if "match" in config.heads:
            self.match_head = nn.Linear(width, 1)
        if "tokens" in config.heads:
            eps = config.encoder.layer_norm_eps
            self.token_head = _encoders.MaskedHead(width, config.encoder.vocab_size, eps)
        if config.queue:
            self.slow_towers = copy.deepcopy(self.towers).requires_grad_(False)
            for name in ("text_queue", "video_queue"):
                self.register_buffer(name, torch.zeros(config.queue, width))
            self.register_buffer("queue_video", torch.full((config.queue,), -1))
        self.post_init()

    def forward(
        self,
        frames: Float[Tensor, "batch clips clip_frames frame_dim"] | UInt8[Tensor, "batch clips clip_frames h w 3"],
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
        video: Int[Tensor, " batch"],  # pyright: ignore[reportUndefinedVariable]
        masked_ids: Int[Tensor, "batch tokens"] | None = None,
        token_labels: Int[Tensor, "batch tokens"] | None = None,
        false_ids: Int[Tensor, "batch false_tokens"] | None = None,
        false_mask: Int[Tensor, "batch false_tokens"] | None = None,
        content_words: Int[Tensor, "batch words"] | None = None,
        progress: Float[Tensor, ""] | None = None,
        uniform: Float[Tensor, ""] | None = None,
    ) -> dict[str, Tensor]:
        """Embeddings, and the outputs of the heads whose inputs are given: those of a batch of
        :class:`videomatch.examples.clip_text.ClipText`, and the scalars of :mod:`videomatch.training.loop`.

        Returns:
            ``text_embeds`` (B, D), ``clip_embeds`` (B, C, D) and ``video_embeds`` (B, D) unit vectors; ``word_embeds``
            (B, K, D); ``pair_scores`` (B, columns) with ``own_column`` (B,), and ``row_weight`` (B,) where columns were
            mined row by row (:func:`videomatch.objectives.contrast.vtm`); ``match_logits`` (B, 2) of the true and the
            false text; ``token_logits`` and ``fused_logits`` of masked tokens with ``token_targets`` and
            ``fused_targets``; ``text_keys``, ``video_keys``, ``text_queue``, ``video_queue`` and ``queue_video``.
        """
        towers, mask = self.towers, attention_mask.bool()
        if input_ids.shape[1] > self.config.max_tokens or frames.shape[1] > self.config.max_clips:
            came = f"{input_ids.shape[1]} tokens and {frames.shape[1]} clips"
            expected = f"{self.config.max_tokens} and {self.config.max_clips}"
            raise ValueError(f"video_text: {came}, expected at most {expected}")
        words, clips = towers.words(input_ids, mask), towers.clips(frames)
        clip_embeds, video_embeds = towers.videos(clips)
        outputs = {"clip_embeds": clip_embeds, "video_embeds": video_embeds}
        if self.slow_towers is not None:
            outputs |= self._keys(input_ids, mask, frames, video)
        # texts alone: as they are, and with masks
        wanted, hidden, masked = _first(mask), None, None
        if content_words is not None:
            wanted = wanted.scatter(1, content_words, value=True) & mask
        if self.token_head is not None and masked_ids is not None and token_labels is not None:
            hidden, masked = (token_labels != -100) & mask, towers.words(masked_ids, mask)
        texts = [(words, wanted)] + ([] if hidden is None or masked is None else [(masked, hidden)])
        states = _encoded(towers.layers, [w for w, _ in texts], [mask] * len(texts), [w for _, w in texts])
        number = numbered(wanted)[0]
        outputs["text_embeds"] = towers.texts(states[0].index_select(0, number[:, 0]))
        if content_words is not None:
            outputs["word_embeds"] = states[0][number.gather(1, content_words)]
        if hidden is not None and token_labels is not None and self.token_head is not None:
            outputs |= {"token_logits": self.token_head(states[1]), "token_targets": token_labels[hidden]}
        # texts with videos: with masks, pairs, false texts
        seen = towers.clip_words(clips, self.config.sep_token_id)
        joint: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {}  # words, their mask, clips, wanted words
        if hidden is not None and masked is not None:
            joint["masked"] = masked, mask, seen, hidden
        exists = None
        if self.pair_head is not None or self.match_head is not None:
            sources = all_gather(seen) if self.config.mining else seen
            text, columns, exists, about = self._columns(outputs, video, progress, uniform)
            seen_of = sources.index_select(0, columns)
            joint["pairs"] = words.index_select(0, text), mask[text], seen_of, _first(mask)[text]
            outputs |= about
        if self.match_head is not None and false_ids is not None and false_mask is not None:
            false = false_mask.bool()
            joint["false"] = towers.words(false_ids, false), false, seen, _first(false)
        states = dict(zip(joint, self._fused(list(joint.values())) if joint else [], strict=True))
        if hidden is not None and token_labels is not None and self.token_head is not None:
            outputs |= {"fused_logits": self.token_head(states["masked"]), "fused_targets": token_labels[hidden]}
        if exists is not None:
            pooled = self.pair_pooler(states["pairs"])
            if self.pair_head is not None:
                scores = at_least_single(self.pair_head(pooled)[:, 0])
                outputs["pair_scores"] = scores.new_full(exists.shape, -torch.inf).masked_scatter(exists, scores)
            if self.match_head is not None and "false" in states:
                own = exists.flatten().cumsum(0).view(exists.shape).gather(1, outputs["own_column"][:, None])[:, 0] - 1
                both = (pooled[own], self.pair_pooler(states["false"]))
                outputs["match_logits"] = torch.cat([self.match_head(pooled) for pooled in both], 1)
        return outputs

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Float[Tensor, "batch dim"]:
        return self.towers(input_ids, attention_mask.bool())

    def embed_videos(self, frames: Tensor) -> Float[Tensor, "batch dim"]:
        return self.towers.videos(self.towers.clips(frames))[1]

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """What :meth:`match` reads of texts, a row each."""
        mask = attention_mask.bool()
        return {"words": self.towers.words(input_ids, mask), "word_mask": mask}

    def encode_videos(self, frames: Tensor) -> dict[str, Tensor]:
        """What :meth:`match` reads of videos, a row each."""
        return {"clips": self.towers.clip_words(self.towers.clips(frames), self.config.sep_token_id)}

    def match(self, texts: dict[str, Tensor], videos: dict[str, Tensor]) -> Float[Tensor, "texts videos"]:
        """Scores of all pairs by the joint encoder, :data:`PAIRS` at once."""
        if self.pair_head is None:
            raise ValueError("video_text: a model without the head `pairs` scores no pairs")
        words, clips = texts["words"], videos["clips"]
        pairs = torch.cartesian_prod(*(torch.arange(len(x), device=x.device) for x in (words, clips)))
        found = []
        for text, video in (part.unbind(1) for part in pairs.split(PAIRS)):
            mask = texts["word_mask"][text]
            (states,) = self._fused([(words[text], mask, clips[video], _first(mask))])
            found.append(self.pair_head(self.pair_pooler(states))[:, 0])
        return torch.cat(found).view(len(words), len(clips))

    def best_frames(
        self, texts: dict[str, Tensor], videos: dict[str, Tensor]
    ) -> tuple[Int[Tensor, "a b tokens"], Float[Tensor, "a b tokens"], Bool[Tensor, "a b tokens"]]:
        """The clip that each token of each text attends to most in each video, in the joint encoder's last layer; its
        share of the attention on clips, the mean over heads; and which tokens are words."""
        words, clips = texts["words"], videos["clips"]
        shape = len(words), len(clips)
        pairs = torch.cartesian_prod(*(torch.arange(n, device=words.device) for n in shape))
        mask = F.pad(texts["word_mask"][pairs[:, 0]], (0, clips.shape[1]), value=True)
        rows = torch.cat((words[pairs[:, 0]], clips[pairs[:, 1]].to(words.dtype)), 1)
        *before, last = self.towers.layers
        states = torch.zeros_like(rows).masked_scatter(mask[..., None], encode(before, rows[mask], mask))
        attention = last.attention.self
        heads = (attention.num_attention_heads, attention.attention_head_size)
        query = attention.query(states[:, : words.shape[1]]).unflatten(2, heads)
        key = attention.key(states[:, words.shape[1] : -1]).unflatten(2, heads)  # without [SEP]
        share = torch.einsum("nthd,nchd->nhtc", query, key).div(heads[1] ** 0.5).softmax(3).mean(1)
        scores, place = share.unflatten(0, shape).max(3)
        return place, scores, (texts["word_mask"] & ~_first(texts["word_mask"]))[:, None].expand(scores.shape)

    def initialise(self) -> None:
        if self.config.pretrained is not None:
            _encoders.pretrained(self.config.pretrained, self.towers.encoder, self.token_head)
            source: Any = AutoModel.from_pretrained(self.config.pretrained, dtype=torch.float32)
            pooler = getattr(source, "text_model", source).pooler.dense.state_dict()
            for mine in (self.towers.text_pooler, self.pair_pooler):
                mine[0].load_state_dict(pooler)
        if self.config.vision is not None and self.towers.vision is not None:
            source = AutoModel.from_pretrained(self.config.vision, dtype=torch.float32)
            source = getattr(source, "vision_model", source)
            _encoders.copy_weights(self.config.vision, source, self.towers.vision)

    def _fused(self, joint: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> list[Tensor]:
        """States of the wanted words of several lots of texts and videos, after one pass over all of them."""
        rows, present, wanted = [], [], []
        for words, mask, clips, want in joint:
            there = torch.ones(clips.shape[:2], dtype=torch.bool, device=clips.device)
            rows.append(torch.cat((words, clips.to(words.dtype)), 1))
            present.append(torch.cat((mask, there), 1))
            wanted.append(torch.cat((want, ~there), 1))
        return _encoded(self.towers.layers, rows, present, wanted)

    def _columns(
        self, outputs: dict[str, Tensor], video: Tensor, progress: Tensor | None, uniform: Tensor | None
    ) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Bool[Tensor, "batch columns"], dict[str, Tensor]]:
        """The texts and videos of all pairs, which columns of a text exist, and the outputs that say what they are."""
        config, count = self.config, len(video)
        own = torch.arange(count, device=video.device)
        size = 1 if self.pair_head is None else min(config.group, count)
        options = {"every": config.mining_every, "rise": config.mining_rise}
        hard = config.mining and progress is not None and uniform is not None
        if hard and is_hard_step(float(progress), float(uniform), **options):  # pyright: ignore[reportArgumentType]
            own = own + rank_offset(video)
            similarity = (outputs["text_embeds"] @ all_gather(outputs["video_embeds"]).T).detach()
            is_negative = video[:, None] != all_gather(video)
            mined = hard_negatives(similarity, own, is_negative, size - 1, config.mining)
            columns = torch.cat((own[:, None], mined), 1)
            exists = torch.ones_like(columns, dtype=torch.bool)
            weight = row_weights(similarity.gather(1, own[:, None])[:, 0])
            about = {"own_column": torch.zeros_like(video), "row_weight": weight}
        else:
            place = own % size
            columns = (own - place)[:, None] + torch.arange(size, device=video.device)
            exists = columns < count
            columns = columns + (rank_offset(video) if config.mining else 0)
            about = {"own_column": place}
        return exists.nonzero()[:, 0], columns[exists], exists, about

    @torch.no_grad()
    def _keys(self, input_ids: Tensor, mask: Tensor, frames: Tensor, video: Tensor) -> dict[str, Tensor]:
        """The momentum encoder's vectors of this batch, and the queue before it. In training the encoder moves first,
        and the batch enters the queue last."""
        slow: Any = self.slow_towers
        slow.eval()  # without dropout
        if self.training:
            # what it starts from is not known before the first step
            keep = self.config.momentum if (self.queue_video >= 0).any() else 0.0
            for mine, theirs in zip(slow.parameters(), self.towers.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)
        found = {"text_keys": slow(input_ids, mask), "video_keys": slow.videos(slow.clips(frames))[1]}
        queues = {name: getattr(self, name) for name in ("text_queue", "video_queue", "queue_video")}
        if self.training:
            new = (found["text_keys"], found["video_keys"], video)
            for (name, queue), rows in zip(queues.items(), new, strict=True):
                setattr(self, name, torch.cat((all_gather(rows).to(queue.dtype), queue))[: self.config.queue])
        return found | queues


def hard_negatives(
    similarity: Float[Tensor, "texts videos"],
    positive: Int[Tensor, " texts"],
    is_negative: Bool[Tensor, "texts videos"],
    count: int,
    how: Literal["nearest", "top_k"] = "nearest",
) -> Int[Tensor, "texts mined"]:
    """Columns of the ``count`` hardest negatives of each row, the hardest first: those whose similarity is ``nearest``
    to the positive's, or the largest. Fewer where a row has fewer negatives. (HSCL, CVPR 2023, as what follows.)"""
    scores = similarity.detach()
    if how == "nearest":
        scores = -(scores - scores.gather(1, positive[:, None])).abs()
    count = min(count, int(is_negative.sum(1).min()))
    return scores.masked_fill(~is_negative, -torch.inf).topk(count, dim=1).indices


def row_weights(positives: Float[Tensor, " texts"]) -> Float[Tensor, " texts"]:
    """Weights by the similarity of each text and its own video: 1 up to the mean, above it less, the inverse of the
    distance from the smallest in units of the mean's, at least :data:`FLOOR`."""
    above = positives.detach() - positives.detach().min()
    return torch.where(above <= above.mean(), 1.0, (above.mean() / above.clamp(min=1e-12)).clamp(min=FLOOR))


def is_hard_step(progress: float, uniform: float, *, every: float, rise: float) -> bool:
    """Whether a step takes hard negatives: with a chance of 0 at first, which grows by ``rise`` after each ``every``
    share of all steps. ``uniform`` is one number of the step for all processes.

    # Deviation: theirs is the mean of a number of each process, which turns the slope into a switch.
    """
    return uniform < min(math.floor(progress / every + 1e-9) * rise, 1.0)


def _first(mask: Bool[Tensor, "texts tokens"]) -> Bool[Tensor, "texts tokens"]:
    """True at [CLS]."""
    return torch.arange(mask.shape[1], device=mask.device).expand(mask.shape) == 0


def _encoded(
    layers: Any, rows: Sequence[Tensor], present: Sequence[Tensor], wanted: Sequence[Tensor]
) -> list[Float[Tensor, "n hidden"]]:
    """The wanted states of several lots of sequences (n, length, hidden), after one pass over all of them."""
    width = max(mask.shape[1] for mask in present)
    there, want = (
        torch.cat([F.pad(mask, (0, width - mask.shape[1])) for mask in masks]) for masks in (present, wanted)
    )
    packed = torch.cat([lot[mask] for lot, mask in zip(rows, present, strict=True)])
    states = encode(layers, packed, there, wanted=want)
    return list(states.split([int(mask.sum()) for mask in wanted]))
