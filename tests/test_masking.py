"""Which tokens and frames are hidden."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from videomatch.data.tokenize import wrap
from videomatch.examples.video_text import IGNORED, mask_frames, mask_tokens

SPECIAL, MASK, VOCABULARY = [0, 1, 2, 3, 4], 4, 500
WORDS = wrap(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(5, VOCABULARY))])


def masked(ids, rate, seed=0):
    return mask_tokens(ids, WORDS, rate=rate, rng=np.random.default_rng(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6), st.integers(0, 12), st.floats(0, 1), st.integers(0, 2**32))
def test_only_labelled_tokens_change_and_special_ones_never_are(rows, width, rate, seed):
    ids = np.random.default_rng(seed).integers(0, 12, (rows, width))
    before = ids.copy()
    found, labels = masked(ids, rate, seed)
    assert np.array_equal(ids, before)  # the input stays
    drawn = labels != IGNORED
    assert np.array_equal(found[~drawn], ids[~drawn])
    assert np.array_equal(labels[drawn], ids[drawn])
    assert not np.isin(ids[drawn], SPECIAL).any()
    again = masked(ids, rate, seed)
    assert np.array_equal(found, again[0]) and np.array_equal(labels, again[1])
    if rate == 1:
        assert np.array_equal(drawn, ids > max(SPECIAL))


def test_of_the_drawn_tokens_eight_tenths_are_masked_and_one_is_random():
    ids = np.random.default_rng(1).integers(5, VOCABULARY, (400, 500))
    found, labels = masked(ids, 0.15)
    drawn = labels != IGNORED
    assert abs(drawn.mean() - 0.15) < 0.003  # 4 standard deviations of 200,000 draws
    after, before = found[drawn], ids[drawn]
    assert abs((after == MASK).mean() - 0.8) < 0.012
    stayed, other = after == before, (after != before) & (after != MASK)
    assert abs(stayed.mean() - 0.1) < 0.009 and abs(other.mean() - 0.1) < 0.009
    assert np.ptp(after[other]) > 0.95 * VOCABULARY  # over the whole vocabulary
    assert (after[other] < VOCABULARY).all() and (after[other] <= max(SPECIAL)).any()
    assert not np.array_equal(found, masked(ids, 0.15, seed=1)[0])


def test_content_words_are_masked_first_and_replaced_by_content_words():
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 40, 3000)
    ids = np.where(np.arange(40) < lengths[:, None], rng.integers(5, 205, (3000, 40)), 0)
    content = (ids >= 5) & (ids < 45)  # a fifth of the words
    found, labels = mask_tokens(ids, WORDS, rate=0.15, rng=rng, content=content)
    drawn, words = labels != IGNORED, ids >= 5
    count = 0.15 * lengths
    assert np.array_equal(drawn.sum(1), np.floor(count) + (count % 1 >= 0.3))
    # others only where all content words were drawn
    assert np.array_equal((drawn & content).sum(1), np.minimum(drawn.sum(1), content.sum(1)))
    assert (drawn & ~content & words).any() and not drawn[~words].any()
    assert np.array_equal(labels[drawn], ids[drawn])
    after, before = found[drawn], ids[drawn]
    changed = (after != MASK) & (after != before)
    assert abs((after == MASK).mean() - 0.8) < 0.03 and abs(changed.mean() - 0.1) < 0.03
    assert ((after >= 5) & (after < 45))[changed & content[drawn]].all()
    assert (after[changed & ~content[drawn]] >= 45).mean() > 0.8  # any token replaces another word


def test_frames_are_hidden_at_the_rate_and_padding_never_is():
    there = np.arange(32) < np.random.default_rng(0).integers(0, 33, (4000, 1))
    hidden = mask_frames(there, rate=0.135, rng=np.random.default_rng(2))
    assert hidden.dtype == bool and not hidden[~there].any()
    assert abs(hidden[there].mean() - 0.135) < 0.006
    assert np.array_equal(hidden, mask_frames(there, rate=0.135, rng=np.random.default_rng(2)))
    assert not mask_frames(there, rate=0.0, rng=np.random.default_rng(2)).any()
    assert np.array_equal(mask_frames(there, rate=1.0, rng=np.random.default_rng(2)), there)
