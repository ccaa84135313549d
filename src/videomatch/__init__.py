"""videomatch: which videos are alike, which show what a sentence says, which reuse the same footage, and where.

The package in one picture; imports only go down::

    Snakefile workflow/rules     one rule per stage
      __main__  cli              python -m videomatch STAGE … (jobs), the command videomatch (people)
        app                      find, similar, serve, library, copies: questions to systems and own videos
        pipeline                 parameters in, current results out: checks, paths and settings, manifests, jobs
        stages                   render prepare extract select_key_frames train embed combine search shortlist tune
                                 align evaluate tabulate illustrate submit: one function each, from files to files
          models  experts  corpora  aligners
                                 one architecture, feature extractor, data set, alignment algorithm per file
          synthetic              the generated corpus: latent factors, pictures, sound, texts
          training  reports      the training loop; tables, pages and challenges' files
          examples               what one training example is
          localisation  media    similarity maps, intervals, key frames; decoding of pictures and sound
          retrieval              exact search, faiss indices, score normalisation
          data                   tables (parquet), store (ragged memory-mapped arrays), texts, folds
          objectives  metrics  specs
                                 what is minimised; what is measured; the entries of params.yaml as types
          common                 files, digests, names, checkpoints, distributed

A name in ``params.yaml`` is the name of a file or function in here. Every result is a folder that appears whole, with a
``manifest.json`` that records what it was made from.
"""
