"""What a model has to guess: which tokens of a text and which frames of a video are hidden.

Masks are (B, T) of tokens and (B, F) of frames, a row an example. Each token or frame is drawn on its own, so a row may
lose none, or all. All randomness comes in by argument.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

#: label of a token that is not to be guessed (what PyTorch's cross entropy leaves out)
IGNORED = -100
#: of the tokens to guess, this share becomes the mask token, and this share a random one; the rest stays
MASKED, RANDOM = 0.8, 0.1


def mask_tokens(
    input_ids: np.ndarray,
    *,
    rate: float,
    special: Collection[int],
    mask_id: int,
    vocab_size: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """BERT's masked language modelling (Devlin et al. 2019, arXiv:1810.04805) as transformers' collator does it.

    Args:
        input_ids: (B, T) int64.
        rate: probability of each token that is not special.
        special: ids that are never drawn. The AIAC 2021 winners count the unknown token among them, as transformers
            does (``tokenizer.all_special_ids``).
        mask_id: what 80 % of the drawn tokens become; 10 % become any id of the vocabulary (special ones included),
            10 % stay.
        vocab_size: ids are below it.
        rng: the draws.

    Returns:
        ids with the masks, (B, T), and labels (B, T): the original id where drawn, else -100.
    """
    drawn = (rng.random(input_ids.shape) < rate) & ~np.isin(input_ids, np.fromiter(special, np.int64))
    labels = np.where(drawn, input_ids, IGNORED)
    count = int(drawn.sum())
    fate, other = rng.random(count), rng.integers(0, vocab_size, count)
    masked = input_ids.copy()
    masked[drawn] = np.where(fate < MASKED, mask_id, np.where(fate < MASKED + RANDOM, other, input_ids[drawn]))
    return masked, labels


def mask_frames(frame_mask: np.ndarray, *, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Which frames are hidden (the model sees zeros in their place), (B, F) bool.

    Args:
        frame_mask: (B, F) bool, True where there is a frame.
        rate: probability of each frame, the effective one: the AIAC 2021 winners' README says 0.15, their code draws
            with 0.9 x 0.15 = 0.135 (and 0.225 in the member with more masks).
        rng: the draws.
    """
    return (rng.random(frame_mask.shape) < rate) & frame_mask
