"""Tokenizers: a published one by name, or a vocabulary of pieces or of words made from the texts at hand; encoding.

Only fast tokenizers are used, called as ``tokenizer(texts, …)``: slow ones treat a list of two texts differently from
fast ones, and ``encode_plus`` is gone from transformers 5.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from videomatch.common.vectors import padded

Style = Literal["bert", "clip", "words"]

#: the special tokens of each style in the order of their ids; in "clip" the last one gets the last id
SPECIALS: dict[str, dict[str, str]] = {
    "bert": {
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    },
    "clip": {
        "pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
    },
    "words": {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unk>"},
}  # fmt: skip
#: characters may fill this share of a vocabulary, the rarest are left to [UNK]
_CHARACTERS = 0.8


def tokenizer(
    pretrained: str | None = None,
    texts: Iterable[str] = (),
    *,
    vocab_size: int = 8000,
    style: Style = "bert",
    lowercase: bool = True,
    min_count: int = 5,
) -> PreTrainedTokenizerFast:
    """A fast tokenizer: ``pretrained`` (hub name, folder, or ``vocab.txt``), or one trained on ``texts``, or for the
    style "words" counted (:func:`words`). ``vocab_size`` counts special entries, too; ``lowercase`` also strips
    accents."""
    if pretrained is None:
        if style == "words":
            return words(texts, min_count)
        return wrap(_train(texts, vocab_size, style, lowercase), style=style, lowercase=lowercase)
    if Path(pretrained).is_file():
        # published vocabularies hold U+2028 and the like as tokens, at which splitlines would break
        vocabulary = Path(pretrained).read_text(encoding="utf-8").rstrip("\n").split("\n")
        return wrap([token.removesuffix("\r") for token in vocabulary], style=style, lowercase=lowercase)
    found = AutoTokenizer.from_pretrained(pretrained)
    if not getattr(found, "is_fast", False):
        raise ValueError(f"tokenizer {pretrained!r} has no fast version, which encoding relies on")
    return found


def words(texts: Iterable[str], min_count: int = 5) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that encodes ``<start> text <end>``, as dual encoding reads sentences (Dong et al.,
    CVPR 2019, published system): words are runs of ASCII letters and digits, case is folded, words that occur less than
    ``min_count`` times become ``<unk>``.

    # Deviation: numbers are given to the most frequent words first, equally frequent ones by name, not as they come.
    """
    normaliser = normalizers.Sequence([normalizers.Replace(Regex("[^A-Za-z0-9]"), " "), normalizers.Lowercase()])
    counts = Counter(word for text in texts for word in normaliser.normalize_str(text).split())
    kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
    if not kept:
        raise ValueError(f"none of the {len(counts)} words occurs {min_count} times: no vocabulary")
    ids = {token: number for number, token in enumerate([*SPECIALS["words"].values(), *kept])}
    inner = Tokenizer(models.WordLevel(ids, unk_token=SPECIALS["words"]["unk_token"]))
    inner.normalizer, inner.pre_tokenizer = normaliser, pre_tokenizers.WhitespaceSplit()
    return _fast(inner, "words")


def wrap(vocabulary: Sequence[str], *, style: Style = "bert", lowercase: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of a WordPiece vocabulary, whose ids are the positions in it. In "clip" ``<|endoftext|>`` must be the
    last: CLIP pools the text at its end token; with the id 2 transformers takes the largest id instead."""
    ids = {token: number for number, token in enumerate(vocabulary)}
    missing = [token for token in SPECIALS[style].values() if token not in ids]
    if missing:
        raise ValueError(f"vocabulary of {len(ids)} entries lacks {missing}, which the style {style!r} needs")
    end = ids[SPECIALS["clip"]["eos_token"]] if style == "clip" else None
    if end is not None and (end != len(vocabulary) - 1 or end == 2):
        raise ValueError(f"<|endoftext|> has the id {end}, expected the last one, {len(vocabulary) - 1}, and not 2")
    inner = _pieces(ids, SPECIALS[style]["unk_token"], lowercase)
    inner.decoder = decoders.WordPiece()
    return _fast(inner, style)


def _fast(inner: Tokenizer, style: Style) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a text between the special tokens of a style."""
    names = SPECIALS[style]
    roles = ("cls_token", "sep_token") if style == "bert" else ("bos_token", "eos_token")
    begin, end = (names[role] for role in roles)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:1 {end}:1",
        special_tokens=[(token, inner.token_to_id(token)) for token in (begin, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **names,
    )


def encode_parts(
    tokenizer: PreTrainedTokenizerFast,
    parts: Sequence[Sequence[str]],
    budgets: Sequence[int],
    *,
    start: Sequence[int],
) -> dict[str, torch.Tensor]:
    """Encode texts of several parts as ``start`` part ``[SEP]`` part ``[SEP]`` …: input_ids and attention_mask, (B, T)
    int64, padded to the longest of the batch.

    Each part (title, ASR) has B texts, perhaps empty (its end token stays), of ``budgets`` tokens at most without the
    end token; ``start`` are the first ids of every row, like ``[CLS]`` or the AIAC 2021 winners' ``[CLS] [SEP]``.
    """
    end = tokenizer.sep_token_id
    rows = []
    for of_parts in zip(*(plain_ids(tokenizer, texts) for texts in parts), strict=True):
        kept = ((*ids[:budget], end) for ids, budget in zip(of_parts, budgets, strict=True))
        rows.append([*start, *itertools.chain.from_iterable(kept)])
    return token_batch(tokenizer, rows)


def plain_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts, uncut and without special tokens."""
    inner = tokenizer.backend_tokenizer
    inner.no_truncation()  # a call of the tokenizer leaves its own settings behind, and sets them anew
    inner.no_padding()
    return [encoding.ids for encoding in inner.encode_batch_fast(list(texts), add_special_tokens=False)]


def token_batch(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Rows of ids as ``input_ids`` and ``attention_mask``, (B, T) int64, padded to the longest."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    ids, mask = padded(np.fromiter(itertools.chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths)
    ids[~mask] = tokenizer.pad_token_id
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def _pieces(ids: dict[str, int], unknown: str, lowercase: bool) -> Tokenizer:
    inner = Tokenizer(models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=100))
    inner.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=lowercase, lowercase=lowercase
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return inner


def _train(texts: Iterable[str], vocab_size: int, style: Style, lowercase: bool) -> list[str]:
    """A WordPiece vocabulary, the same for the same texts in any order and any process.

    The trainer of the tokenizers library meets words in the order of a hash table seeded by chance, and breaks ties
    between equally frequent merges by the ids that word-inner characters got in that order. So they get theirs here.
    """
    specials, unknown = list(SPECIALS[style].values()), SPECIALS[style]["unk_token"]
    shell = _pieces({unknown: 0}, unknown, lowercase)
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in shell.pre_tokenizer.pre_tokenize_str(shell.normalizer.normalize_str(text)))
    if not words:
        raise ValueError("no text to train a tokenizer on")
    characters: Counter[str] = Counter()
    for word, count in words.items():
        characters.update(dict.fromkeys(word, count))
    inner = {character for word in words for character in word[1:]}
    room = int((vocab_size - len(specials)) * _CHARACTERS)
    kept: set[str] = set()
    for character, _ in sorted(characters.items(), key=lambda item: (-item[1], item[0])):
        room -= 2 if character in inner else 1
        if room < 0:
            break
        kept.add(character)
    if not kept:
        raise ValueError(f"vocab_size {vocab_size} leaves no room for characters beside {len(specials)} special tokens")
    fixed = [*specials, *sorted(kept), *(f"##{c}" for c in sorted(inner & kept))]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=fixed, min_frequency=2, show_progress=False
    )
    usable = (word for word, count in sorted(words.items()) if kept.issuperset(word) for _ in range(count))
    shell.train_from_iterator(usable, trainer)
    found = shell.get_vocab(with_added_tokens=True)
    vocabulary = sorted(found, key=lambda token: found[token])
    if style == "clip":
        vocabulary.remove(specials[-1])
        vocabulary.append(specials[-1])
    return vocabulary
