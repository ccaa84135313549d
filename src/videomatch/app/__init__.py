"""Doors for people: questions in words and by video, asked of embeddings that the workflow made.

``library`` answers (which systems there are, what they find), with ``asking`` (texts as a system's vectors) and
``newcomer`` (a file that is not in the corpus on its way to one); ``warm`` keeps a process with everything loaded
behind a private socket, and ``web`` serves a page on this machine. Same-source search has doors of its own:
``footage`` is a library of people's own files, ``descriptors`` how their frames are described, ``copies`` (and
``copies_page``) where each part of a video comes from, ``commands`` what is typed for it.

Nothing here writes a result: what is kept lies below ``.scratch/`` and can be deleted, or in the library that was
asked for.

Nothing is imported here: asking a warm process must not cost the seconds that its libraries take.
"""
