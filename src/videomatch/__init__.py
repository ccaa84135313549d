"""videomatch: which videos are alike, which show what a sentence says, which reuse the same footage, and where.

The whole in one picture (imports only go down)::

    workflow/rules/*.smk         in which order: one rule a stage, content decides what is current
      python -m videomatch       the glue: settings file in, finished result folder out
        stages/                  VERBS: render prepare extract select_key_frames train embed combine search shortlist
                                 tune align evaluate tabulate illustrate submit
          models/ experts/ corpora/ aligners/ world/
                                 one file an architecture, a feature extractor, a data set, an alignment; the
                                 generated world
            media/ page/         decoding: pictures on an exact grid, and sound; charts and the page of a run
              data/              tables (parquet), Store (ragged memory-mapped arrays), texts, folds, examples
                objectives similarity rescoring metrics/ …
                                 maths that knows no files

Beside the stages: ``training`` (the loop, on ``fitting`` and ``distributed``), ``submissions`` (challenges' files),
``params``, ``checks`` and ``signatures`` (what may be said in params.yaml), ``plan`` (where each result lies),
``provenance`` (whether it is current, by ``digests`` and the code that is ``reached``), and ``dvcfile``, ``cli``,
``named``, ``progress`` and ``workers``. People's questions come by ``cli`` and ``door``: find, similar and
serve answer from an ``index`` over the embeddings, copies from a ``library`` of frames.

A name in ``params.yaml`` is the name of a file or function in here. Every result is a folder that appears whole, with a
``manifest.json`` that says what it was made from.
"""
