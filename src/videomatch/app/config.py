"""The parameters as they were typed: files and values laid over params.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from videomatch.pipeline import params as parameters
from videomatch.pipeline.plan import Plan


def read_config(files: Sequence[Path], values: Sequence[str] = ()) -> dict:
    """params.yaml with further files and values laid over it, as Snakemake does it.

    Raises:
        ParamsError: there is no params.yaml here.
    """
    config: dict = {}
    if not Path("params.yaml").is_file():
        raise parameters.ParamsError(
            "what was asked for is of the parameters, and there is no params.yaml here: go to the project's folder"
        )
    for file in (Path("params.yaml"), *files):
        config = parameters.overlay(config, yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    for value in values:
        key, _, text = value.partition("=")
        config = parameters.overlay(config, {key: yaml.safe_load(text)})
    return config


def plan_of(files: Sequence[Path], values: Sequence[str] = ()) -> Plan:
    """All paths and settings of these parameters.

    Raises:
        ParamsError: listing every mistake.
    """
    return Plan(parameters.resolved(read_config(files, values), [Path("params.yaml"), *files]))
