"""The commands and the server: find videos by texts and videos, and find where parts of a video come from.

Search of the workflow's embeddings: ``catalogue`` (which systems can be searched), ``query_encoder`` (texts as vectors
of a system), ``query_file`` (a file that is not in the corpus), ``search`` (``find`` and ``similar``), ``server`` (the
page, and answers as JSON) and ``client`` (ask a running server). Search for copies: ``video_library`` (own files),
``descriptors`` (how their frames are described) and ``copies``. ``results`` and ``copies_commands`` print; ``leaks``
compares splits.

A request that cannot be answered raises a ValueError, whose message is for the user.
Nothing here writes a result of the workflow: what is cached is below ``.scratch/`` and can be deleted.
"""
