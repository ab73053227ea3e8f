"""Fixtures that every kind of test shares."""

from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SHARED_DATA = PROJECT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the repository."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets and odd pictures that stands beside a developer's checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared test data (../shared/data) are not beside this checkout")
    return SHARED_DATA
