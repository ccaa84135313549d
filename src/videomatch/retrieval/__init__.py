"""Retrieval: which references score best for a query.

``exact`` (all scores, ranks and exact ties), ``rescoring`` (the same ranks of scores that also use frames or other
queries), ``ann`` (faiss's inverted files on disk), ``index`` (nearest embeddings of one query, by ``ann`` where there
are many), ``frame_index`` (videos that frames vote for, by ``ann``), ``score_normalisation``.
"""
