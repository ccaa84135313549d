"""Tokenizers: trained on a corpus's own texts, or taken from a checkpoint.

``tokenizer: {style: clip, vocab_size: 2000}`` names a function of this file; ``tokenizer: {pretrained: <hub id or
folder>}`` loads one. Training is deterministic: the same texts in any order give the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast


def make(
    texts: Iterable[str], *, style: str | None = None, pretrained: str | None = None, vocab_size: int = 2000
) -> PreTrainedTokenizerBase:
    """The tokenizer a system asks for; exactly one of ``style`` and ``pretrained`` is given.

    Raises:
        ValueError: both or none are given, or there is no such style.
    """
    if (style is None) == (pretrained is None):
        raise ValueError(f"tokenizer: style {style!r} and pretrained {pretrained!r}, expected exactly one of them")
    if pretrained is not None:
        return AutoTokenizer.from_pretrained(pretrained)
    if style != "clip":
        raise ValueError(f"tokenizer: no style {style!r}; there is: clip")
    return clip(texts, vocab_size=vocab_size)


def clip(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Lower-cased byte-level BPE with a start and an end token, as CLIP's (Radford et al. 2021, section 2.4).

    Bytes make every language spellable, so there is no unknown token. The end token has the largest id, which pools
    rightly under both of transformers' readings of a CLIP configuration.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [normalizers.NFC(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=["<pad>", "<start>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="<start> $A <end>",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("<start>", "<end>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<start>", eos_token="<end>", pad_token="<pad>", padding_side="right"
    )
