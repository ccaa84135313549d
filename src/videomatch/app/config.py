"""The parameters of a command: ``params.yaml``, or the files of the command line, with its values laid over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from videomatch.pipeline import params as parameters
from videomatch.pipeline.plan import Plan

PARAMS = Path("params.yaml")


def load_plan(files: Sequence[Path] = (), values: Sequence[str] = ()) -> Plan:
    """All paths and settings of the parameters in some files, each laid over the one before (``params.yaml`` by
    default), with values ``KEY=VALUE``."""
    if not PARAMS.is_file():
        raise ValueError("this needs the parameters, and there is no params.yaml here: go to the project's folder")
    config, read = parameters.load(files or [PARAMS])
    for value in values:
        key, _, text = value.partition("=")
        config = parameters.overlay(config, {key: yaml.safe_load(text)})
    return Plan(parameters.resolved(config, read))
