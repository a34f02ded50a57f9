"""What several tests share: real images where they are at hand, and one folder of small phantoms."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest  # noqa: E402

REAL_DATA = Path(os.environ.get("BITKERAS_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_configure(config):
    """In the processes that run tests, graphs stay as traced: most run a few times, and optimising takes longer.

    The commands that tests start in processes of their own have them optimised, as users do.
    """
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        import tensorflow as tf

        # Has an effect only before TensorFlow's first operation.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def pytest_collection_modifyitems(items):
    """Fast tests first: a broken import is told in seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def _unpacked(archive: str, folder: str, tmp_path_factory) -> Path:
    """The data set in the folder of real data, unpacked there already or in an archive."""
    if (REAL_DATA / folder).is_dir():
        return REAL_DATA / folder
    if not (REAL_DATA / archive).is_file():
        pytest.skip(f"no real images: {REAL_DATA} holds neither {folder}/ nor {archive} (set BITKERAS_REAL_DATA)")
    target = tmp_path_factory.mktemp(folder)
    with tarfile.open(REAL_DATA / archive) as tar:
        tar.extractall(target, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(target)
    return target / folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data itself."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data: {REAL_DATA} does not exist (set BITKERAS_REAL_DATA)")
    return REAL_DATA


@pytest.fixture(scope="session")
def real_ham10000(tmp_path_factory) -> Path:
    """8,512 real images in the layout of the release."""
    return _unpacked("ham10000_200x150.tar.gz", "ham10000", tmp_path_factory)


@pytest.fixture(scope="session")
def real_cifar10(tmp_path_factory) -> Path:
    """CIFAR-10 as folders of JPEGs."""
    return _unpacked("cifar10_jpg.tar.gz", "cifar10", tmp_path_factory)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """A folder of 120 small phantoms, to be read and not changed."""
    from bitkeras.data.phantom import write_phantoms

    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "data", num_images=120, seed=0, image_size=(64, 48))
