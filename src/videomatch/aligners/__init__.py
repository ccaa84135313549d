"""Temporal alignment, one file an algorithm: ``align(similarity, *, …)`` finds the segments that two videos share.

What goes in
    ``similarity (Q, R)``: cosines of the query's frames with the reference's, any float type; the map is not changed.
    Thresholds are cosines. Add a bias to the map beforehand where scores were normalised below 0 (VSC 2022 adds 0.5).

What comes out
    ``(N, 5)`` float64: ``query_start, query_end, reference_start, reference_end, score``, best found first. Times are
    frames, half open: a segment holds frames ``start`` to ``end - 1``. ``data.intervals.to_seconds`` makes them
    seconds. The score is the mean similarity along what was matched.

``published=True`` and :data:`PUBLISHED`
    Every file has ``PUBLISHED``: named sets of parameters as VCSL (He et al., CVPR 2022; ``vcsl/vta.py``) and the
    papers after it report them. They set ``published=True``, which gives the boxes of that code exactly: its ends are
    the *last* frames of a segment, and read as seconds they lie a frame short on both axes (on VCSL's test labels that
    alone brings a perfect F1 down to 0.951). The other peculiarities stand in each file.
"""
