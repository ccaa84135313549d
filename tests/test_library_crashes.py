"""A library that is killed or finds the disk full at some steps in the file system; `tests/crashes.py` tries all."""

import pytest

import crashes


@pytest.mark.parametrize("way", crashes.WAYS)
@pytest.mark.parametrize("scenario", crashes.SCENARIOS)
def test_the_next_call_mends_all(scenario, way, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tried, wrong = crashes.problems(tmp_path, scenario, way, points=12)
    assert tried == 12 and wrong == []
