"""The training loop, one for all systems.

``loop``: options and :class:`Trainer`. ``data``: which examples form which batch, seeds, shards of a batch.
``objective``: weighted objectives and metrics whose arguments are filled by name. ``optimiser``: AdamW's parameter
groups and the running average of the weights. ``callbacks``: what validations decide.
"""
