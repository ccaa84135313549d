"""A short random walk over both engines; `make walk` is the long one."""

from pathlib import Path

import pytest
import yaml

from walk import CHOICES, Walk


@pytest.mark.parametrize("params", ["toy/params.yaml", "tiny.yaml"])
def test_every_choice_of_the_walk_is_in_its_projects(params: str):
    for key in CHOICES:
        entry = yaml.safe_load((Path(__file__).parent / params).read_text())
        for name in key.split("."):
            entry = entry[name]
        assert type(entry) in (int, float), key


def test_every_build_of_a_random_walk_equals_a_cold_run(tmp_path: Path):
    walk = Walk(tmp_path, seed=4)
    for step in (walk.edit_stage, walk.repro, walk.set_param, walk.kill, walk.checkout_without_dvc, walk.delete):
        step()
    walk.build("snakemake")
    assert len(walk.cold_metrics) > 1
