"""Words against frames: a dual encoder whose score also compares every token of a text with every frame of a video.

Sources: DMAE (ACM MM 2023) and TPM-CL, published code of Ant Group; token interaction as in FILIP (arXiv:2111.07783),
with learned weights as in DRL (arXiv:2203.07111); frames and text tower of one CLIP as in CLIP4Clip (arXiv:2104.08860).

With unit vectors t_i of a text and f_v of a video, s_iv = <t_i, f_v>, and weights a_i and b_v that sum up to 1, the
score is half of sum_i a_i max_v s_iv + sum_v b_v max_i s_iv. The ``interaction`` takes the ``words`` as t_i, the
``sentence`` alone, or the mean of ``both``.

``visual_attention``  adds to max_v s_iv, at frame v, half of <f_v, f_u> s_iu, where u is the frame most similar to v:
                      what two frames show counts more, in negatives, too.
``content_tokens``    count ``content_weight`` times in a_i (the textual attention).
``learned_weights``   a_i and b_v are softmaxes of a linear layer, times the weight of the token.
``importance``        two small networks tell how much each frame of a pair matters for the sentence, and each word for
                      the video. For :func:`videomatch.objectives.hard_negatives.partial_order` the most important ones
                      are masked. In search they have no part.
``important_ends``    whether the tokens that begin and end a text may be important (published). One of them is the
                      sentence, fits the video best, and takes all importance where the margin can be felt.

A text's own vector is its sentence, a video's the weighted mean of its frames; ``embed`` and the index compare these.

# Deviation: theirs gives padding the product 0, so that it wins over negative ones, and the importance predictors'
weights reach padding. Here padding has no part in either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from videomatch.common.distributed import all_gather
from videomatch.common.precision import at_least_single, running_sum
from videomatch.models import SystemModel, _encoders
from videomatch.models._packed import Packing

#: products (text, video, word, frame) that are in memory at once
CELLS = 1 << 24
#: share of the importance that is masked at most
MASKED = 0.6
#: weight of the second frame of the visual attention
SECOND = 0.5


class Config(PretrainedConfig):
    """A dual encoder with token interaction.

    Attributes:
        pretrained: hub id or folder of a CLIP whose text tower and projection are taken, so that ``dim`` is its own, or
            of a BERT-like encoder.
        dim: of the common space.
        interaction, visual_attention, learned_weights, importance, important_ends: see the module.
        content_weight: of content tokens; others count 1.
        dropout: of the text encoder.
        content_tokens: ids of tokens; the stage fills this and what follows.
        max_frames: of a video at most.
        text_encoder: configuration of the text encoder in a saved configuration; wins over ``pretrained``.
        pooled, projected: whether the text tower ends with a pooler and whether its space is that of the frames.
    """

    model_type = "token_match"

    pretrained: str | None = None
    dim: int = 256
    interaction: Literal["sentence", "words", "both"] = "both"
    visual_attention: bool = False
    learned_weights: bool = False
    importance: bool = False
    important_ends: bool = True
    content_weight: float = 2.0
    dropout: float = 0.1
    content_tokens: Sequence[int] = ()
    frame_dim: int = 512
    max_frames: int = 64
    vocab_size: int = 49408
    text_length: int = 77
    text_encoder: dict[str, Any] | PretrainedConfig | None = None
    pooled: bool = False
    projected: bool = False

    def __post_init__(self, **others: Any) -> None:
        given = self.text_encoder or self.pretrained
        if given is None:
            raise ValueError("token_match needs a `backbone` (or `pretrained`): a CLIP or a BERT-like text encoder")
        whole = _encoders.configuration(given)
        if self.text_encoder is None and hasattr(whole, "text_config"):
            self.dim, self.projected = whole.projection_dim, True
            self.pooled = whole.text_config.model_type != _encoders.CLIP
        limits = self.vocab_size, self.text_length
        self.text_encoder = _encoders.configured(whole, self.dropout, *limits, _encoders.TEXTS)
        if self.content_weight <= 0:
            raise ValueError(f"token_match: content_weight {self.content_weight}, expected above 0")
        super().__post_init__(**others)


class Importance(nn.Module):
    """How much each of ``keys`` tokens matters for a query of ``queries`` tokens; at least one must be there, and the
    weights sum up to 1."""

    def __init__(self, queries: int, keys: int, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(queries, keys, bias=False)
        self.norm = nn.LayerNorm([keys, 2 * dim])
        self.hidden = nn.Linear(2 * dim, dim // 2, bias=False)
        self.weight = nn.Linear(dim // 2, 1, bias=False)

    def forward(
        self, query: Float[Tensor, "batch queries dim"], key: Float[Tensor, "batch keys dim"], mask: Bool[Tensor, "b k"]
    ) -> Float[Tensor, "batch keys"]:
        """Sequences may be shorter than the layers: zeros are added."""
        query = F.pad(query, (0, 0, 0, self.mix.in_features - query.shape[1]))
        tokens = F.pad(key, (0, 0, 0, self.mix.out_features - key.shape[1]))
        both = self.norm(torch.cat([self.mix(query.transpose(1, 2)).transpose(1, 2), tokens], -1))
        weights = self.weight(F.gelu(self.hidden(both)))[:, : key.shape[1], 0].sigmoid() * mask
        return weights / weights.sum(1, keepdim=True)


class Model(PreTrainedModel, SystemModel):
    """Both sides, their vectors and their token interaction."""

    config_class = Config
    main_input_name = "frames"
    is_content: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        text: Any = config.text_encoder
        self.is_clip = text.model_type == _encoders.CLIP
        self.text_model = _encoders.built(text)
        self.text_pooler = nn.Linear(text.hidden_size, text.hidden_size) if config.pooled else None
        self.text_map = nn.Linear(text.hidden_size, config.dim, bias=False)
        self.frame_map = nn.Linear(config.frame_dim, config.dim)
        is_content = torch.zeros(config.vocab_size, dtype=torch.bool)
        is_content[list(config.content_tokens)] = True
        self.register_buffer("is_content", is_content)
        self.word_weight = nn.Linear(config.dim, 1) if config.learned_weights else None
        self.frame_weight = nn.Linear(config.dim, 1) if config.learned_weights else None
        if config.importance:
            self.frame_importance = Importance(1, config.max_frames, config.dim)
            self.word_importance = Importance(config.max_frames, config.text_length, config.dim)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # the predictors of importance start as torch's layers do (published), all else as transformers' do
        predictors = [part for part in self.children() if isinstance(part, Importance)]
        if not any(module is part for predictor in predictors for part in predictor.modules()):
            super()._init_weights(module)
        elif isinstance(module, nn.Linear | nn.LayerNorm):
            module.reset_parameters()

    def forward(
        self,
        frames: Float[Tensor, "batch frames frame_dim"],
        frame_mask: Bool[Tensor, "batch frames"],
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
    ) -> dict[str, Tensor]:
        """``similarity`` (B, videos of all processes), and what :meth:`encode_texts` and :meth:`encode_videos` return;
        with ``importance`` also ``whole_scores`` and ``part_scores`` (B, 3) of matched pairs."""
        texts, videos = self.encode_texts(input_ids, attention_mask), self.encode_videos(frames, frame_mask)
        everyone = {name: all_gather(value) for name, value in videos.items()}
        outputs = {"similarity": self.match(texts, everyone), **texts, **videos}
        if self.config.importance:
            words, seen = (texts["word_tokens"], attention_mask.bool()), (videos["frame_tokens"], frame_mask.bool())
            sentence = texts["text_embeds"]
            weights = self.importance(sentence, words, seen)
            outputs["whole_scores"], outputs["part_scores"] = partial_scores(sentence, words, seen, *weights)
        return outputs

    def encode_texts(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> dict[str, Tensor]:
        """Unit vectors ``text_embeds`` (B, D) and ``word_tokens`` (B, T, D), of all tokens, those that begin and end a
        text included, and their ``word_weights`` (B, T), 0 for padding."""
        mask = attention_mask.bool()
        states = self.text_map(self._text_states(input_ids, mask))
        words = F.normalize(at_least_single(states), dim=-1)
        place = attention_mask.sum(1) - 1 if self.is_clip else torch.zeros_like(attention_mask[:, 0])
        sentence = words[torch.arange(len(words), device=words.device), place]
        counts = torch.where(self.is_content[input_ids], self.config.content_weight, 1.0).to(words.dtype) * mask
        return {
            "text_embeds": sentence,
            "word_tokens": words * mask[..., None],
            "word_weights": token_weights(self.word_weight, words, counts),
        }

    def encode_videos(
        self, frames: Float[Tensor, "batch frames frame_dim"], frame_mask: Bool[Tensor, "batch frames"], **_: Tensor
    ) -> dict[str, Tensor]:
        """Unit vectors ``video_embeds`` (B, D) and ``frame_tokens`` (B, V, D), and ``frame_weights`` (B, V), 0 for
        padding."""
        mask = frame_mask.bool()
        tokens = F.normalize(at_least_single(self.frame_map(frames.to(self.frame_map.weight.dtype))), dim=-1)
        tokens = tokens * mask[..., None]
        weights = token_weights(self.frame_weight, tokens, mask.to(tokens.dtype))
        whole = F.normalize(torch.einsum("bv,bvd->bd", weights, tokens), dim=-1)
        return {"video_embeds": whole, "frame_tokens": tokens, "frame_weights": weights}

    def match(self, texts: dict[str, Tensor], videos: dict[str, Tensor]) -> Float[Tensor, "texts videos"]:
        """The score of every text with every video."""
        words = texts["word_tokens"], texts["word_weights"]
        sentence = texts["text_embeds"][:, None], torch.ones_like(texts["word_weights"][:, :1])
        levels = {"words": [words], "sentence": [sentence], "both": [sentence, words]}[self.config.interaction]
        seen = videos["frame_tokens"], videos["frame_weights"]
        return token_interaction(levels, *seen, attend=self.config.visual_attention)

    def best_frames(
        self, texts: dict[str, Tensor], videos: dict[str, Tensor]
    ) -> tuple[Int[Tensor, "a b tokens"], Float[Tensor, "a b tokens"], Bool[Tensor, "a b tokens"]]:
        """The frame that each token of each text matches best in each video, their cosine, and whether the token is one
        of content, as far as the model knows any."""
        products = torch.einsum("atd,bvd->abtv", texts["word_tokens"], videos["frame_tokens"])
        scores, frames = products.masked_fill(videos["frame_weights"][:, None] == 0, -torch.inf).max(3)
        weights = texts["word_weights"]
        # what begins a text is no content and counts as little as other words
        is_told = bool(self.is_content.any()) and self.word_weight is None
        is_content = weights > (weights[:, :1] if is_told else 0)
        return frames, scores, is_content[:, None].expand(scores.shape)

    def importance(
        self, sentence: Float[Tensor, "batch dim"], words: tuple[Tensor, Tensor], frames: tuple[Tensor, Tensor]
    ) -> tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch frames"]]:
        """How much each word and each frame of matched pairs matters, of tokens and masks of both sides."""
        if not self.config.important_ends:
            words = words[0], without_ends(words[1])
        with torch.autocast(sentence.device.type, enabled=False):
            of_words = self.word_importance(frames[0], *words)
            return of_words, self.frame_importance(sentence[:, None], *frames)

    def embed_videos(self, **inputs: Tensor) -> Float[Tensor, "batch dim"]:
        return self.encode_videos(**inputs)["video_embeds"]

    def embed_texts(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch dim"]:
        return self.encode_texts(input_ids, attention_mask)["text_embeds"]

    def _text_states(self, input_ids: Tensor, mask: Tensor) -> Float[Tensor, "batch tokens hidden"]:
        """The text encoder's last states of all tokens, through its pooler if it has one."""
        if input_ids.shape[1] > self.config.text_length:
            raise ValueError(f"token_match: {input_ids.shape[1]} tokens, expected at most {self.config.text_length}")
        encoder: Any = self.text_model
        if self.is_clip:
            return encoder(input_ids=input_ids, attention_mask=mask.long()).last_hidden_state
        rows = _encoders.states(encoder, input_ids, mask)
        rows = rows if self.text_pooler is None else torch.tanh(self.text_pooler(rows))
        states = Packing.of(mask).pad(rows)
        return F.pad(states, (0, 0, 0, mask.shape[1] - states.shape[1]))

    def initialise(self) -> None:
        if self.config.pretrained is None:
            return
        source: Any = _encoders.pretrained(self.config.pretrained, self.text_model, None)
        if self.config.projected:
            self.text_map.load_state_dict(source.text_projection.state_dict())
            if self.config.frame_dim == self.config.dim:  # frames come from the image side of the same CLIP
                nn.init.eye_(self.frame_map.weight)
        if self.text_pooler is not None:
            self.text_pooler.load_state_dict(source.text_model.pooler.dense.state_dict())


def token_weights(
    layer: nn.Linear | None, tokens: Float[Tensor, "batch n dim"], counts: Float[Tensor, "batch n"]
) -> Float[Tensor, "batch n"]:
    """Weights of tokens that count 0 (padding), 1, or more: learned, or in proportion."""
    if layer is None:
        return counts / counts.sum(1, keepdim=True)
    with torch.autocast(tokens.device.type, enabled=False):
        scores = layer(tokens)[..., 0].masked_fill(counts == 0, -torch.inf)
    return counts * scores.softmax(1)


def token_interaction(
    levels: Sequence[tuple[Float[Tensor, "texts _ dim"], Float[Tensor, "texts _"]]],
    frames: Float[Tensor, "videos frames dim"],
    frame_weights: Float[Tensor, "videos frames"],
    *,
    attend: bool = False,
) -> Float[Tensor, "texts videos"]:
    """The score of every text with every video, see the module: the mean over levels of a text, each of tokens and
    their weights; what has the weight 0 is not there. ``attend``: with the visual attention. At most :data:`CELLS`
    products are in memory, or those of one text."""
    found = []
    with torch.autocast(frames.device.type, enabled=False):
        frames = _filled(frames, frame_weights > 0)
        second = _second_frames(frames, frame_weights > 0) if attend else None
        for words, weights in levels:
            words = _filled(words, weights > 0)
            step = max(1, CELLS // max(1, frames.shape[0] * frames.shape[1] * words.shape[1]))
            blocks = zip(words.split(step), weights.split(step), strict=True)
            found.append(torch.cat([_interaction(*block, frames, frame_weights, second) for block in blocks]))
    return sum(found[1:], found[0]) / len(found)


def _filled(tokens: Tensor, is_there: Tensor) -> Tensor:
    """Tokens with the first one of each item that is there in the place of padding: no maximum is another one by it."""
    first = is_there.to(torch.uint8).argmax(1)
    return torch.where(is_there[..., None], tokens, tokens[torch.arange(len(first), device=first.device), None, first])


def _interaction(
    words: Tensor, word_weights: Tensor, frames: Tensor, frame_weights: Tensor, second: tuple[Tensor, Tensor] | None
) -> Tensor:
    products = words.flatten(0, 1) @ frames.flatten(0, 1).T
    products = products.unflatten(1, frames.shape[:2]).unflatten(0, words.shape[:2])  # (text, word, video, frame)
    by_word, best = products.max(3)
    by_frame = products.max(1).values
    if second is not None:
        place, gain = (x.expand(*products.shape[:2], -1, -1).gather(3, best[..., None]) for x in second)
        by_word = by_word + SECOND * (gain * products.gather(3, place))[..., 0]
    along = torch.einsum("at,atb->ab", word_weights, by_word), torch.einsum("bv,abv->ab", frame_weights, by_frame)
    return (along[0] + along[1]) / 2


def _second_frames(frames: Tensor, is_frame: Tensor) -> tuple[Int[Tensor, "videos frames"], Tensor]:
    """Of each frame: the most similar other one, and their similarity, or 0 where that is negative."""
    products = frames @ frames.transpose(1, 2)
    itself = torch.eye(frames.shape[1], dtype=torch.bool, device=frames.device)
    gain, place = products.masked_fill(itself | ~is_frame[:, None], -torch.inf).max(2)
    return place, gain.clamp(min=0)


def partial_scores(
    sentence: Float[Tensor, "batch dim"],
    words: tuple[Float[Tensor, "batch words dim"], Bool[Tensor, "batch words"]],
    frames: tuple[Float[Tensor, "batch frames dim"], Bool[Tensor, "batch frames"]],
    word_importance: Float[Tensor, "batch words"],
    frame_importance: Float[Tensor, "batch frames"],
    *,
    learned_masks: bool = True,
) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch 3"]]:
    """Scores of matched pairs, and of the same pairs with the most important tokens (up to :data:`MASKED` of all
    importance) set to zero: the sentence with the frames, masked frames in the second; the words' weighted mean with
    the frames, masked frames in the second; the same, masked words in the second. Tokens come with masks.

    # Deviation: theirs computes all texts with all videos, of which the diagonal alone is read.
    # Deviation: theirs has no gradient through the masks, so that the importance of frames, which has no other use, is
    never learned. With ``learned_masks`` the gradient is that of a mask which falls linearly with the importance.
    """
    whole = F.normalize(torch.einsum("bt,btd->bd", word_importance, words[0]), dim=-1)
    part_words = without_important(words[0], word_importance, learned=learned_masks)
    part = torch.einsum("bt,btd->bd", word_importance, part_words)
    seen, masked = frames, (without_important(frames[0], frame_importance, learned=learned_masks), frames[1])
    with_sentence, with_mean = _pair_score(sentence, *seen), _pair_score(whole, *seen)
    parts = [_pair_score(sentence, *masked), _pair_score(whole, *masked), _pair_score(part, *seen)]
    return torch.stack([with_sentence, with_mean, with_mean], 1), torch.stack(parts, 1)


def without_important(
    tokens: Float[Tensor, "b n dim"], importance: Float[Tensor, "b n"], *, learned: bool = False
) -> Float[Tensor, "b n dim"]:
    """Tokens, of which the most important ones are set to zero: as many as have less than :data:`MASKED` together.
    ``learned``: with a gradient for the importance (a straight-through estimate)."""
    ordered, order = importance.detach().sort(dim=1, descending=True, stable=True)
    kept = torch.zeros_like(ordered).scatter(1, order, (running_sum(ordered, 1) >= MASKED).to(ordered.dtype))
    if learned:
        falling = importance / ordered[:, :1]
        kept = kept - (falling - falling.detach())
    return tokens * kept[..., None]


def without_ends(mask: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """A mask of tokens without those that begin and end a text, unless it has no others."""
    place = torch.arange(mask.shape[1], device=mask.device)
    inner = mask & (place > 0) & (place < mask.sum(1, keepdim=True) - 1)
    return torch.where(inner.any(1, keepdim=True), inner, mask)


def _pair_score(
    text: Float[Tensor, "b dim"], frames: Float[Tensor, "b v dim"], mask: Bool[Tensor, "b v"]
) -> Float[Tensor, " b"]:
    """The token interaction of one vector with the frames of its own video."""
    products = torch.einsum("bd,bvd->bv", text, frames)
    mean = (products * mask).sum(1) / mask.sum(1)
    return (products.masked_fill(~mask, -torch.inf).amax(1) + mean) / 2
