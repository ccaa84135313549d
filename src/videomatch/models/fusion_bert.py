"""A joint encoder of a video's frames and its text: the winner of AIAC 2021, track 1 (similarity of videos).

Frame features and the tokens of title or speech form one sequence for a BERT-like encoder of transformers. Up to three
heads serve pretraining: tags, masked tokens, masked frames. An embedding is the pooled state through one linear layer,
of unit length. Source: the winners' slides and published system (jobs 1 to 6).

``B`` examples, or ``B, 2``: pairs, are padded at the end. Attention has no order, so ``layout`` does not change what is
computed: the encoder knows it from the ids. No padding is computed unless the winners' pooling reads it, and in
pretraining the last layer and the heads only where they are read.

# Deviation: the winners' frame embeddings are a whole ``BertEmbeddings``, of which no table of words, second type or
position from ``max_frames`` on is read; these are left out.
# Deviation: the winners pool over padding, too (``mean_all``, ``attention_all``); then the model pads to ``max_frames``
and ``max_tokens`` itself, so that an embedding does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers import initialization as init

from videomatch.common.precision import at_least_single
from videomatch.models import SystemModel, _encoders
from videomatch.models._packed import Packing, encode, joined, numbered

HEADS = ("tags", "tokens", "frames")


class Config(PretrainedConfig):
    """A joint encoder.

    Attributes:
        layers, width, heads_count, ffn: of an encoder (BERT) from scratch.
        pool: ``mean`` or ``attention`` over frames and tokens; ``mean_all`` or ``attention_all`` over padding, too.
        tags_from: the tag head reads the state of [CLS] (``cls``) or the ``embedding`` before its normalisation,
            either through a ReLU.
        heads: which of ``tags``, ``tokens`` and ``frames`` exist.
        pretrained: hub id or folder of a BERT-like encoder whose size and weights are taken.
        vocab_size: of the tokenizer; the stage fills this and what follows.
        num_tags: outputs of the tag head; by default as many as ``id2label`` names.
        encoder: configuration of the encoder in a saved configuration; wins over ``pretrained`` and sizes.
    """

    model_type = "fusion_bert"

    layers: int = 4
    width: int = 128
    heads_count: int = 4
    ffn: int = 512
    dropout: float = 0.1
    embedding_dim: int = 256
    pool: Literal["mean", "attention", "mean_all", "attention_all"] = "mean"
    tags_from: Literal["cls", "embedding"] = "cls"
    heads: Sequence[str] = ()
    pretrained: str | None = None
    vocab_size: int = 21128
    pad_token_id: int = 0
    cls_token_id: int = 101
    sep_token_id: int = 102
    frame_dim: int = 1536
    max_frames: int = 32
    max_tokens: int = 36
    layout: Literal["frames_inside", "frames_first"] = "frames_inside"
    num_tags: int | None = None
    encoder: Any = None

    def __post_init__(self, **others: Any) -> None:
        if odd := [head for head in self.heads if head not in HEADS]:
            raise ValueError(f"fusion_bert: no head {odd[0]!r}; there are {', '.join(HEADS)}")
        if self.num_tags is None:
            self.num_tags = len(self.id2label or ())
        if "tags" in self.heads and not self.num_tags:
            raise ValueError("fusion_bert: a head for tags, but the examples have none (num_tags, id2label)")
        if "frames" in self.heads and not self.max_frames:
            raise ValueError("fusion_bert: a head for frames, but max_frames is 0")
        _encoders.take_encoder(self, self.max_tokens)
        if self.id2label is not None:
            label2id: Any = {name: number for number, name in self.id2label.items()}
            self.label2id = label2id
        super().__post_init__(**others)


class _FrameEmbeddings(nn.Module):
    """Frames as BERT embeds words: projected, plus position and type, normed."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.projection = nn.Linear(config.frame_dim, config.width)
        self.positions = nn.Embedding(config.max_frames, config.width)
        self.kind = nn.Embedding(1, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.encoder.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, frames: Float[Tensor, "n frame_dim"], positions: Int[Tensor, " n"]) -> Float[Tensor, "n hidden"]:
        return self.dropout(self.norm(self.projection(frames) + self.kind.weight + self.positions(positions)))


class Model(PreTrainedModel, SystemModel):
    """The joint encoder with its heads."""

    config_class = Config
    main_input_name = "frames"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width, eps = config.width, config.encoder.layer_norm_eps
        self.encoder = _encoders.built(config.encoder)
        self.frames = _FrameEmbeddings(config) if config.max_frames else None
        attention = (nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        self.attention_pool = nn.Sequential(*attention) if config.pool.startswith("attention") else None
        self.projection = nn.Linear(width, config.embedding_dim)
        read = width if config.tags_from == "cls" else config.embedding_dim
        self.tag_head = nn.Linear(read, config.num_tags or 0) if "tags" in config.heads else None
        vocabulary = config.encoder.vocab_size
        self.token_head = _encoders.MaskedHead(width, vocabulary, eps) if "tokens" in config.heads else None
        self.frame_head = _encoders.MaskedHead(width, config.frame_dim, eps) if "frames" in config.heads else None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # as the winners: N(0, 0.02) for modules of BERT's, torch's own for the other heads
        others = (self.projection, self.tag_head, self.attention_pool, self.frame_head)
        if isinstance(module, nn.Linear) and any(module is m for o in others if o is not None for m in o.modules()):
            module.reset_parameters()
            return
        super()._init_weights(module)
        if self.token_head is not None and module is self.token_head.decoder:
            words: Any = self.encoder.get_input_embeddings()  # pyright: ignore[reportCallIssue]
            if words.weight.shape == self.token_head.decoder.weight.shape:  # equal at the start, but not tied
                init.copy_(self.token_head.decoder.weight, words.weight)

    def forward(
        self,
        frames: Float[Tensor, "*batch frames frame_dim"],
        frame_mask: Bool[Tensor, "*batch frames"],
        input_ids: Int[Tensor, "*batch tokens"],
        attention_mask: Bool[Tensor, "*batch tokens"],
        token_labels: Int[Tensor, "*batch tokens"] | None = None,
        masked_frames: Bool[Tensor, "*batch frames"] | None = None,
    ) -> dict[str, Tensor]:
        """Embeddings, and the outputs of the heads.

        Args:
            input_ids: with masked tokens already replaced; the first token always exists.
            token_labels: the true ids of masked tokens, -100 elsewhere.
            masked_frames: frames to hide: they are set to zero.

        Returns:
            ``embedding`` (*batch, dim) unit vectors, left out when masks are given and the tag head does not read it;
            ``similarity`` (B,) cosines of pairs; ``logits`` (*batch, tags); ``token_logits`` and ``token_targets`` of
            the masked tokens; ``frame_outputs`` of the masked frames, ``frame_candidates`` (V, D) of all frames, and
            ``frame_targets`` the candidate that each masked frame is.
        """
        config, lead = self.config, input_ids.shape[:-1]
        labels = torch.full_like(input_ids, -100) if token_labels is None else token_labels
        hidden = torch.zeros_like(frame_mask) if masked_frames is None else masked_frames
        given = (frames, frame_mask.bool(), input_ids, attention_mask.bool(), labels, hidden.bool())
        frames, seen, input_ids, text, labels, hidden = (value.flatten(0, len(lead) - 1) for value in given)
        if seen.shape[1] > config.max_frames or text.shape[1] > config.max_tokens:
            came = f"{seen.shape[1]} frames and {text.shape[1]} tokens"
            raise ValueError(f"fusion_bert: {came}, expected at most {config.max_frames} and {config.max_tokens}")
        is_masked = token_labels is not None or masked_frames is not None
        embeds = not is_masked or (self.tag_head is not None and config.tags_from == "embedding")
        pads = embeds and config.pool.endswith("_all")
        if pads:
            t, f = (0, config.max_tokens - text.shape[1]), (0, config.max_frames - seen.shape[1])
            frames, seen, hidden = F.pad(frames, (0, 0, *f)), F.pad(seen, f), F.pad(hidden, f)
            input_ids = F.pad(input_ids.masked_fill(~text, config.pad_token_id), t, value=config.pad_token_id)
            text, labels = F.pad(text, t), F.pad(labels, t, value=-100)
        # where the heads read
        masked = (
            (labels != -100) & text & (self.token_head is not None),
            hidden & seen & (self.frame_head is not None),
        )
        present = (torch.ones_like(text), torch.ones_like(seen)) if pads else (text, seen)
        is_first = torch.arange(text.shape[1], device=text.device) == 0
        chosen = present if embeds else (masked[0] | is_first & present[0], masked[1])
        keys, wanted = torch.cat((text, seen), 1) if pads else None, None if embeds else torch.cat(chosen, 1)
        rows = self._states(input_ids, frames, hidden | ~seen, present, keys, wanted)
        tokens, shown = numbered(*chosen)
        outputs: dict[str, Tensor] = {}
        state = rows.index_select(0, tokens[:, 0])  # of [CLS]
        if embeds:
            pooled = self.projection(self._pooled(rows, Packing.of(torch.cat(present, 1))))
            state = pooled if config.tags_from == "embedding" else state
            outputs["embedding"] = F.normalize(at_least_single(pooled), dim=-1).unflatten(0, lead)
            if len(lead) == 2:
                query, reference = outputs["embedding"].unbind(1)
                outputs["similarity"] = (query * reference).sum(-1)
        if self.tag_head is not None:
            outputs["logits"] = self.tag_head(F.relu(state)).unflatten(0, lead)
        if self.token_head is not None and token_labels is not None:
            outputs["token_logits"] = self.token_head(rows.index_select(0, tokens[masked[0]]))
            outputs["token_targets"] = labels[masked[0]]
        if self.frame_head is not None and masked_frames is not None:
            outputs["frame_outputs"] = self.frame_head(rows.index_select(0, shown[masked[1]]))
            outputs["frame_candidates"] = frames[seen].to(self.projection.weight.dtype)
            outputs["frame_targets"] = hidden[seen].nonzero()[:, 0]
        return outputs

    def embed_videos(self, **inputs: Tensor) -> Float[Tensor, "batch dim"]:
        return self(**inputs)["embedding"]

    def _states(
        self,
        input_ids: Tensor,
        frames: Tensor,
        blank: Tensor,
        present: tuple[Tensor, Tensor],
        keys: Tensor | None,
        wanted: Tensor | None,
    ) -> Float[Tensor, "n hidden"]:
        """Last hidden states of the tokens and frames ``present``, frames that are ``blank`` set to zero."""
        rows = _encoders.embedded(self.encoder, input_ids, present[0])
        if self.frames is not None:
            raw = frames[present[1]].to(self.projection.weight.dtype).masked_fill(blank[present[1]][:, None], 0.0)
            rows = joined(torch.cat([rows, self.frames(raw, present[1].nonzero()[:, 1])]), present)
        layers: Any = self.encoder.encoder.layer  # pyright: ignore[reportAttributeAccessIssue]
        return encode(layers, rows, torch.cat(present, 1), keys=keys, wanted=wanted)

    def _pooled(self, rows: Tensor, packing: Packing) -> Tensor:
        """A state per example: the mean of its rows, or their sum weighted by attention."""
        if self.attention_pool is None:
            return packing.pad(rows).sum(1) / packing.taken.sum(1, keepdim=True)
        scores = packing.pad(self.attention_pool(rows)).squeeze(-1).masked_fill(~packing.taken, -torch.inf)
        return (packing.pad(rows) * scores.softmax(-1)[..., None]).sum(1)

    def initialise(self) -> None:
        if self.config.pretrained is not None:
            _encoders.pretrained(self.config.pretrained, self.encoder, self.token_head)
