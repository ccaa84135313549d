"""Readers of data sets, one per file: ``datasets: {videos: {corpus: msrvtt, …}}`` is read by ``corpora/msrvtt.py``.

A reader's module has a function ``read(*, raw, **options)``. ``raw`` is the folder of the data set's files; the other
keyword-only arguments are ``datasets.<name>.options`` of the parameters. (``generated``, which makes its own data,
takes the rendered folders instead of ``raw``.) It returns tables of :mod:`videomatch.data.tables` by name, which
``prepare`` checks: ``videos`` (``path`` null where there is no file; what probing fills may be absent), and those of
``texts``, ``splits``, ``relevance``, ``rejected``, ``segments``, ``edits``, ``sources``, ``strata`` that the data set
has. A ValueError names the file and what was expected.

A module may also have a function ``frame_features(raw, ids=None)``, whose data set comes with features of frames
(``extractor: released``): an iterator over the videos of ``ids``, or all, each once, that holds one in memory at a
time: video id, rows (L, D) as stored, start and end of each row (L, 2) in seconds. And ``card(*, seed, options)``,
which gives groups of numbers for its ``card.md``.
"""
