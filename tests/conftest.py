"""The order of the test files."""

import pytest

#: the files that take minutes: first, so that at the end no process is left alone with one of them
LONG = ("test_workflow", "test_demo", "test_walk", "test_real_copies")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
