"""The synthetic corpus: videos drawn from latent factors, so that the truth of every task is known.

Read in this order: ``options``; ``latent`` (factors, families, similarity, scenes) with its ``vocabulary``; ``texts``;
``pictures`` with ``places``; ``openings`` (frames that strangers share); ``speech``; ``copies`` with
``edits`` (same-source queries); ``video`` (files); ``annotations`` (tables); ``card``. The stage ``render`` writes the
files, ``corpora/generated.py`` reads them.
"""
