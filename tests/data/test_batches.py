"""Batches told apart by colour: each image has one of its own, so a view says which image it came from."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data import augment
from bitkeras.data import batches as batches_module
from bitkeras.data.augment import Recipe
from bitkeras.data.batches import (
    Share,
    batch_indices,
    image_batches,
    naming_bad_images,
    num_steps_per_epoch,
    require_different_views,
    view_batches,
)
from bitkeras.data.ham10000 import read_ham10000
from bitkeras.data.pictures import EncodedPictures
from bitkeras.data.preprocess import preprocess
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError

pytestmark = pytest.mark.usefixtures("small_groups")
NUMBER, BATCH, SIZE = 22, 5, 16
STEPS = NUMBER // BATCH


def colour(index):
    return np.array([10 * index, 255 - 10 * index, 7 * index], np.uint8)


@pytest.fixture(scope="module")
def encoded_source():
    """PNGs of constant colour, of several sizes, in memory."""
    images = [np.broadcast_to(colour(n), (12 + n, 30 - n, 3)) for n in range(NUMBER)]
    return ImageSource(
        name="colours",
        image_ids=np.array([f"colour_{n}" for n in range(NUMBER)]),
        encoded=np.array([tf.io.encode_png(image).numpy() for image in images], object),
        labels=np.arange(NUMBER, dtype=np.int32) % 3,
        class_names=("a", "b", "c"),
    )


def as_files(source, folder):
    paths = [folder / f"{image_id}.png" for image_id in source.image_ids]
    for path, data in zip(paths, source.encoded):
        path.write_bytes(data)
    return dataclasses.replace(source, encoded=None, paths=np.array([str(path) for path in paths]))


@pytest.fixture(autouse=True)
def crop_only(monkeypatch):
    """A policy that leaves the colours alone."""
    quiet = Recipe(jitter_probability=0.0, grey_probability=0.0, blur_probability=0.0)
    monkeypatch.setitem(augment.RECIPES, "crop_only", quiet)


def batches(source, number, *, policy="crop_only", indices=None, **kwargs):
    options = {"image_size": SIZE, "batch_size": BATCH, "seed": 1, **kwargs}
    indices = np.arange(NUMBER) if indices is None else indices
    return list(view_batches(source, indices, policy=policy, **options).take(number).as_numpy_iterator())


def order_of(source, number=STEPS, **kwargs):
    return [int(index) for batch in batches(source, number, **kwargs) for index in batch["index"]]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_shapes_and_types(encoded_source):
    dataset = view_batches(
        encoded_source, np.arange(NUMBER), policy="simsiam", image_size=SIZE, batch_size=BATCH, seed=0
    )
    views = tf.TensorSpec([BATCH, SIZE, SIZE, 3], tf.float32)
    assert dataset.element_spec == {"views_a": views, "views_b": views, "index": tf.TensorSpec([BATCH], tf.int64)}


def test_an_epoch_takes_full_batches_of_different_images(encoded_source):
    epochs = np.reshape(order_of(encoded_source, 6 * STEPS), (6, STEPS * BATCH))
    for epoch in epochs:
        assert len(set(epoch)) == STEPS * BATCH
        assert set(epoch) <= set(range(NUMBER))
    assert len({tuple(epoch) for epoch in epochs}) == 6
    # Those left over are others each time, so all are seen in the end.
    assert len({frozenset(epoch) for epoch in epochs}) > 1
    assert set(epochs.ravel()) == set(range(NUMBER))


def test_only_the_given_images_are_taken(encoded_source):
    wanted = np.array([20, 3, 5, 8, 13, 1])
    seen = order_of(encoded_source, 20, indices=wanted, batch_size=2)
    assert set(seen) == set(wanted)
    for epoch in np.reshape(seen[:36], (6, 6)):
        assert sorted(epoch) == sorted(wanted)


def test_the_seed_decides_order_and_pixels(encoded_source):
    assert order_of(encoded_source) == order_of(encoded_source)
    assert order_of(encoded_source) != order_of(encoded_source, seed=2)
    # The order does not hang on the policy, nor the pixels on the batch size.
    assert order_of(encoded_source) == order_of(encoded_source, policy="cifar")
    views = [
        {int(i): view for batch in some for i, view in zip(batch["index"], batch["views_a"])}
        for some in (
            batches(encoded_source, 2, policy="cifar", batch_size=11),
            batches(encoded_source, 11, policy="cifar", batch_size=2),
            batches(encoded_source, 2, policy="cifar", batch_size=11, seed=2),
        )
    ]
    for index in range(NUMBER):
        np.testing.assert_array_equal(views[0][index], views[1][index])
    assert sum(np.array_equal(views[0][index], views[2][index]) for index in range(NUMBER)) < 3


def test_batches_are_the_policys_views_of_the_seed_the_epoch_and_the_image(encoded_source, monkeypatch):
    """Batches larger and smaller than the groups in which views are made, and groups that reach over epochs."""
    monkeypatch.setattr(batches_module, "GROUP", augment.GROUP)
    make_views = augment.make_policy("simsiam", image_size=SIZE).make_views
    for batch_size in (3, 11):
        steps = NUMBER // batch_size
        for step, batch in enumerate(batches(encoded_source, 2 * steps, policy="simsiam", batch_size=batch_size)):
            for place in (step % batch_size, batch_size - 1):
                index = batch["index"][place]
                image = EncodedPictures([tf.constant(encoded_source.encoded[index])])
                views = make_views(image, tf.constant([[1, step // steps, index]], tf.int64), num_views=2)
                np.testing.assert_array_equal(views[0, 0], batch["views_a"][place])
                np.testing.assert_array_equal(views[1, 0], batch["views_b"][place])


@pytest.mark.parametrize("start_step", [STEPS - 1, STEPS, 2 * STEPS + 1])
def test_going_on_at_a_step_gives_the_same_batches(encoded_source, start_step):
    whole = batches(encoded_source, start_step + STEPS + 1, policy="simsiam")
    assert_same(batches(encoded_source, STEPS + 1, policy="simsiam", start_step=start_step), whole[start_step:])


@pytest.mark.parametrize("policy", list(augment.RECIPES))
def test_threads_do_not_change_anything(phantoms, policy, monkeypatch):
    monkeypatch.setattr(batches_module, "GROUP", augment.GROUP)
    source = read_ham10000(phantoms)
    dataset = view_batches(source, np.arange(len(source)), policy=policy, image_size=SIZE, batch_size=30, seed=3)
    first, second = (list(dataset.take(3).as_numpy_iterator()) for _ in range(2))
    assert_same(first, second)
    single = tf.data.Options()
    single.threading.private_threadpool_size = 1
    assert_same(first, list(dataset.with_options(single).take(3).as_numpy_iterator()))


def test_both_views_show_the_image_the_index_names(encoded_source):
    for batch in batches(encoded_source, 2 * STEPS):
        expected = np.array([colour(int(index)) for index in batch["index"]]) / 127.5 - 1
        for key in ("views_a", "views_b"):
            np.testing.assert_allclose(
                batch[key], np.broadcast_to(expected[:, None, None], batch[key].shape), atol=1e-5
            )


def test_labels_are_found_by_the_index(phantoms):
    """One constant grey level per class instead of pictures: what a view shows must be the label at its index."""
    source = read_ham10000(phantoms)
    levels = np.array([[[20 + 30 * label] * 3] for label in source.labels], np.uint8)
    pictures = np.array([tf.io.encode_png(np.tile(level, (8, 8, 1))).numpy() for level in levels], object)
    painted = dataclasses.replace(source, paths=None, encoded=pictures)
    for batch in batches(painted, 4, indices=np.arange(len(painted)), batch_size=20):
        shown = (batch["views_b"][:, 0, 0, 0] + 1) * 127.5
        np.testing.assert_allclose(shown, 20 + 30 * source.labels[batch["index"]], atol=1e-3)


def test_the_two_views_of_an_image_differ_and_change_from_epoch_to_epoch(phantoms):
    source = read_ham10000(phantoms)
    for policy in ("crop_only", "simsiam"):
        first, second = batches(source, 2, policy=policy, indices=np.arange(20), batch_size=20)
        order_first, order_second = np.argsort(first["index"]), np.argsort(second["index"])
        pictures = [first["views_a"][order_first], first["views_b"][order_first], second["views_a"][order_second]]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            differences = np.abs(pictures[one] - pictures[other]).max(axis=(1, 2, 3))
            assert differences.min() > 1e-3


def test_files_and_memory_give_the_same(encoded_source, tmp_path):
    files = as_files(encoded_source, tmp_path)
    assert_same(batches(files, STEPS, policy="simsiam"), batches(encoded_source, STEPS, policy="simsiam"))
    indices = np.array([4, 2, 9])
    first, second = (
        list(image_batches(source, indices, image_size=SIZE, batch_size=2).as_numpy_iterator())
        for source in (files, encoded_source)
    )
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)


def test_image_batches_keep_the_order_and_the_rest(phantoms):
    source = read_ham10000(phantoms)
    indices = np.random.default_rng(0).permutation(len(source))[:11]
    dataset = image_batches(source, indices, image_size=24, batch_size=4)
    assert dataset.element_spec == tf.TensorSpec([None, 24, 24, 3], tf.float32)
    found = list(dataset.as_numpy_iterator())
    assert [len(batch) for batch in found] == [4, 4, 3]
    expected = np.stack([preprocess(tf.constant(source.read(index)), 24) for index in indices])
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)
    again = np.concatenate(list(dataset.as_numpy_iterator()))
    np.testing.assert_array_equal(np.concatenate(found), again)


def test_image_batches_of_nothing_are_none(encoded_source):
    none = image_batches(encoded_source, np.array([], np.int64), image_size=SIZE, batch_size=4)
    assert list(none.as_numpy_iterator()) == []


@pytest.mark.parametrize(("number", "size", "steps"), [(10, 5, 2), (11, 5, 2), (14, 5, 2), (5, 5, 1)])
def test_steps_are_full_batches(number, size, steps):
    assert num_steps_per_epoch(number, size) == steps


def test_fewer_images_than_a_batch_are_refused(encoded_source):
    for refused in (
        lambda: num_steps_per_epoch(4, 5),
        lambda: batches(encoded_source, 1, indices=np.arange(4)),
        lambda: num_steps_per_epoch(0, 1),
    ):
        with pytest.raises(UserError, match="fewer than one batch"):
            refused()


def scrambled(jpeg):
    """Whole at both ends, so that the check of a folder passes it, and no picture in between."""
    return jpeg[:20] + b"\x00" * (len(jpeg) - 40) + jpeg[-20:]


@pytest.fixture
def jpegs(tmp_path):
    paths = [tmp_path / f"lesion_{n}.jpg" for n in range(6)]
    for n, path in enumerate(paths):
        picture = np.random.default_rng(n).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        path.write_bytes(tf.io.encode_jpeg(picture).numpy())
    source = ImageSource(
        name="files", image_ids=np.array([path.stem for path in paths]), paths=np.array([str(path) for path in paths])
    )
    return source, paths


@pytest.mark.parametrize("damage", ["scrambled", "cut", "emptied", "deleted"])
@pytest.mark.parametrize("kind", ["views", "images"])
def test_a_file_gone_bad_is_named(jpegs, damage, kind):
    source, paths = jpegs
    whole = paths[3].read_bytes()
    if damage == "deleted":
        paths[3].unlink()
    else:
        paths[3].write_bytes({"scrambled": scrambled(whole), "cut": whole[: len(whole) // 2], "emptied": b""}[damage])
    with pytest.raises(UserError) as error, naming_bad_images(source):
        if kind == "views":
            batches(source, 2, indices=np.arange(6), batch_size=6)
        else:
            list(image_batches(source, np.arange(6), image_size=SIZE, batch_size=6))
    assert str(paths[3]) in str(error.value)
    assert "\n" not in str(error.value) and "{{" not in str(error.value)


def test_a_bad_record_in_memory_is_named_by_its_id(encoded_source):
    encoded = encoded_source.encoded.copy()
    encoded[7] = encoded[7][:30]
    broken = dataclasses.replace(encoded_source, encoded=encoded)
    with pytest.raises(UserError, match="colour_7 "), naming_bad_images(broken):
        list(image_batches(broken, np.arange(NUMBER), image_size=SIZE, batch_size=BATCH))


def test_errors_that_are_not_the_images_pass_unchanged(jpegs):
    source, _ = jpegs
    with pytest.raises(tf.errors.InvalidArgumentError, match="of its own"), naming_bad_images(source):
        raise tf.errors.InvalidArgumentError(None, None, "of its own")
    with pytest.raises(ZeroDivisionError), naming_bad_images(source):
        raise ZeroDivisionError
    with naming_bad_images(source):
        batches(source, 1, indices=np.arange(6), batch_size=6)


@pytest.mark.real_data
def test_real_photographs_make_views(real_ham10000):
    paths = sorted(real_ham10000.rglob("*.jpg"))[:24]
    source = ImageSource(
        name="real", image_ids=np.array([path.stem for path in paths]), paths=np.array([str(path) for path in paths])
    )
    for policy in ("simsiam", "dermatoscopy"):
        for batch in batches(source, 2, policy=policy, indices=np.arange(24), batch_size=12, image_size=64):
            for key in ("views_a", "views_b"):
                assert np.isfinite(batch[key]).all() and np.abs(batch[key]).max() <= 1 + 1e-5
                assert batch[key].std(axis=(1, 2, 3)).min() > 0.01


def test_the_shares_of_processes_and_replicas_make_up_the_batch(encoded_source):
    whole = batches(encoded_source, 5, batch_size=8, start_step=1)
    parts = [
        batches(encoded_source, 10, batch_size=8, start_step=1, share=Share(process, 2, 4)) for process in range(2)
    ]
    for step, batch in enumerate(whole):
        # Two processes with two replicas each: the elements of a process go to its replicas in turn.
        pieces = [parts[process][2 * step + replica] for process in range(2) for replica in range(2)]
        for key in batch:
            np.testing.assert_array_equal(np.concatenate([piece[key] for piece in pieces]), batch[key])


def test_the_images_of_a_step_are_known_without_making_it(encoded_source):
    for step, batch in enumerate(batches(encoded_source, 6)):
        asked = batch_indices(np.arange(NUMBER), batch_size=BATCH, seed=1, step=step)
        np.testing.assert_array_equal(asked, batch["index"])


def test_views_that_teach_nothing_are_no_views():
    rng = np.random.default_rng(0)
    views_a, views_b = rng.uniform(-1, 1, (2, 6, 4, 4, 3)).astype(np.float32)
    one_draw = np.repeat(views_a[:1], 6, axis=0)
    grey = np.zeros_like(views_a)
    half_grey = np.concatenate([views_a[:2], grey[:4]])

    def check(views_a, views_b):
        require_different_views({"views_a": tf.constant(views_a), "views_b": tf.constant(views_b)})

    check(views_a, views_b)
    # Black frames are the same whatever is drawn for them.
    check(grey, grey)
    check(half_grey, np.concatenate([views_b[:2], grey[:4]]))
    for same in (views_a, half_grey):
        with pytest.raises(RuntimeError, match="two views of an image are the same pixel for pixel in 100% of a batch"):
            check(same, same)
    with pytest.raises(RuntimeError, match="views of different images are the same"):
        check(one_draw, views_b)
