"""These tests judge somebody else's decoder, so they are there only where one is named."""

import importlib.metadata

import pytest

TWICE = "transformers 5.23.0 applies temperature, top-k and top-p twice in its draft model (docs/engines.md)"


def pytest_ignore_collect(config):
    return True if config.getoption("--specdec-engine") in (None, "replay") else None


def pytest_collection_modifyitems(config, items):
    """A known defect is expected in the version that has it, and in no other."""
    if config.getoption("--specdec-engine") == "transformers" and importlib.metadata.version("transformers") == "5.23.0":
        for item in items:
            if item.cls and item.cls.__name__ in ("TestTopK", "TestTopP") and item.originalname.startswith("test_counts"):
                item.add_marker(pytest.mark.xfail(reason=TWICE, strict=True))


@pytest.fixture
def samples(specdec_case):
    if specdec_case.temperature == 0:
        pytest.skip("this case samples; leave out --specdec-temperature=0 to run it, if the engine can sample")
