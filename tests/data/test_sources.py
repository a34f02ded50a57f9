"""What all sources share: options, facts, and images that a function gives."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data import DATASETS, OPTIONS, read_source
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError


def test_options_are_those_the_readers_take():
    for name, read in DATASETS.items():
        keywords = [p.name for p in inspect.signature(read).parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert tuple(keywords) == OPTIONS.get(name, ()), name


@pytest.mark.parametrize("name", sorted(set(DATASETS) - set(OPTIONS)))
def test_an_option_of_another_reader_is_refused_by_name(name, tmp_path):
    with pytest.raises(UserError, match=f"--label_column=dx is for --dataset=csv, --dataset=tfrecord, .*={name};"):
        read_source(name, tmp_path / "absent", label_column="dx", image_column=None)


def test_an_option_that_is_none_is_as_good_as_not_given(tmp_path):
    (tmp_path / "t.csv").write_text("image\nnowhere.png\n")
    with pytest.raises(UserError, match="nowhere.png in line 2"):
        read_source("csv", tmp_path / "t.csv", label_column=None, dicom_window=None)


def test_taking_from_images_that_a_function_gives():
    def image(index):
        return tf.io.encode_png(np.full((2, 2, 3), index, np.uint8)).numpy()

    facts = {"sex": np.array(["a", "b", "c", "d"])}
    source = ImageSource("f", np.array(list("wxyz")), facts=facts, converted=image)
    taken = source.take([3, 1, 2]).take(np.array([2, 0]))
    assert [taken.read(0), taken.read(1)] == [image(2), image(3)]
    assert taken.image_ids.tolist() == ["y", "z"] and taken.facts["sex"].tolist() == ["c", "d"]
    assert taken.location(1) == "z" and source.read(0) == image(0)
