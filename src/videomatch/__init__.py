"""videomatch: which videos are alike, which match a sentence, which reuse the same footage, and where.

The package in one picture; imports only go down::

    Snakefile workflow/rules     the rules, made from pipeline/rules.py
      __main__  cli              python -m videomatch STAGE … (jobs), the command videomatch (people)
        folders                  Library: a person's own folder of videos, its index, its duplicates
        app                      find, similar, serve, library, copies, leaks: questions of people
        pipeline                 parameters in, current results out: checks, paths and settings, manifests, jobs
        stages                   render prepare check_leaks extract add_texts select_key_frames score_pairs train embed
                                 combine search shortlist tune align evaluate tabulate illustrate submit: one function
                                 each, from files to files
          models  experts  aligners
                                 one architecture, feature extractor, alignment algorithm per file
          corpora                readers of data sets, one per file
          synthetic              the generated corpus: latent factors, pictures, sound, texts
          training  reports      the training loop; pages, charts and challenges' files
          examples               what one training example is
          localisation  media    similarity maps, intervals, key frames; decoding of pictures and sound
          retrieval              exact search, faiss indices, score normalisation
          specs                  the entries of params.yaml as types
          data                   tables (parquet), store (ragged memory-mapped arrays), texts, folds
          objectives  metrics    what is minimised; what is measured
          common                 files, digests, names, checkpoints, distributed

Where ``params.yaml`` names code, the name is that of a file or function in here. Every result is a folder that appears
whole, with a ``manifest.json`` that records what it was made from.

For programs: :class:`videomatch.folders.library.Library`, as ``from videomatch import Library``.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """``Library`` is imported with torch once it is asked for; its type is in ``__init__.pyi``."""
    if name == "Library":
        from videomatch.folders.library import Library

        return Library
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
