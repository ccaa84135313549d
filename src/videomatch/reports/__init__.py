"""Pages, charts and the files of challenges.

``pages`` renders the templates of ``templates/``, with ``charts`` for the page of a run, of what ``drawn_table`` reads
in tables, and ``segment_maps`` for pages of similarity maps. A file ``submission_<challenge>`` writes and checks what
that challenge asks for.
"""
