"""Every reader on some damaged files; `make fuzz` tries many."""

import fuzz


def test_damaged_files_are_read_or_refused_by_name():
    counts, wrong = fuzz.run(data=4 * len(fuzz.DATA), media=2 * len(fuzz.MEDIA), seed=1)
    assert not wrong, "\n".join(wrong)
    assert counts.total() == 4 * len(fuzz.DATA) + 2 * len(fuzz.MEDIA) and min(counts.values()) > 5
