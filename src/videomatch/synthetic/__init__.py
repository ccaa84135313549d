"""The generated world: stories whose every fact is known, and all that is seen, heard, written and copied of them.

Read in this order: ``options`` (what may be chosen), ``story`` (latents, families, likeness), ``scenes``, ``language``
(what is written and said), ``draw`` with ``places`` and ``faces`` (pictures), ``sound`` with ``speech``, ``copies``
with ``edits`` (same-source queries), ``pairs`` (graded similarity), ``film`` with ``encode`` (files), ``annotate``
(tables), ``card``.
"""
