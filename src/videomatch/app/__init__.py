"""The commands and the server: find videos by texts and videos, and find where parts of a video come from.

A request that cannot be answered raises a ValueError, whose message is for the user. Nothing here writes a result of
the workflow: what is cached is below ``.scratch/`` and can be deleted.
"""
