"""One pushed version that the tests here share."""

from __future__ import annotations

import pytest
import tensorflow as tf
from small_servable import build_servable, encode_pictures

from export.push import push
from export.servable import Servable


@pytest.fixture(scope="session")
def servable() -> Servable:
    return build_servable()


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    return encode_pictures()


@pytest.fixture(scope="session")
def pushed(servable, images, tmp_path_factory):
    """The folder of version 1; nobody may change it."""
    push_dir = tmp_path_factory.mktemp("served") / "deep" / "model"
    return push(servable, push_dir=push_dir, images=images, manifest={"run": "r1", "scores": {"kNN": 0.5}})


@pytest.fixture(scope="session")
def loaded(pushed):
    return tf.saved_model.load(str(pushed))


@pytest.fixture(scope="session")
def paths(images, tmp_path_factory):
    """`images` as files; nobody may change them."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{index}.jpg" for index in range(len(images))]
    for path, image in zip(paths, images):
        path.write_bytes(image)
    return paths
