"""A short random walk over both engines; `make walk` is the long one."""

from pathlib import Path

from walk import Walk


def test_every_build_of_a_random_walk_equals_a_cold_run(tmp_path: Path):
    walk = Walk(tmp_path, seed=4)
    for step in (walk.edit_stage, walk.repro, walk.set_param, walk.kill, walk.checkout_without_dvc, walk.delete):
        step()
    walk.build("snakemake")
    assert walk.cold_metrics
