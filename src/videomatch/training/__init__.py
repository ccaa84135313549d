"""The training loop, one for all systems."""
