"""The parts of the training loop (:mod:`videomatch.training.loop`), each of which can be understood alone.

``batches``: which examples come when, and the seeds. ``objective``: an objective with its weight, and means over
processes. ``weights``: the optimiser's groups, averages, initial weights. ``validation``: one pass without gradients.
``machine``: device, precision, determinism.
"""
