"""The complete table of HAM10000, and quicker views."""

import numpy as np
import pytest

from bitkeras.data import batches
from bitkeras.data.ham10000 import HAM10000_CLASSES, read_ham10000_table
from bitkeras.data.source import ImageSource


@pytest.fixture(scope="session")
def full_table(real_data) -> ImageSource:
    """All 10,015 rows of HAM10000 as a source without images."""
    table = real_data / "HAM10000_metadata_full.csv"
    if not table.is_file():
        pytest.skip(f"{table} is not here")
    rows = read_ham10000_table(table)
    return ImageSource(
        "ham10000",
        np.array([row["image_id"] for row in rows]),
        labels=np.array([HAM10000_CLASSES.index(row["dx"]) for row in rows], dtype=np.int32),
        class_names=HAM10000_CLASSES,
        groups=np.array([row["lesion_id"] for row in rows]),
    )


@pytest.fixture
def small_groups(monkeypatch):
    """Views are made of two images at once and not of eight: a graph of a quarter of the size."""
    monkeypatch.setattr(batches, "GROUP", 2)
