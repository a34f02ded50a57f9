import math
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.callbacks import (
    Diverged,
    FeatureMonitor,
    PlainProgress,
    RunLog,
    Throughput,
    make_progress,
    monitors,
    progress,
)
from bitkeras.callbacks.monitors import KeptImages, evenly
from bitkeras.runs import RunFolder

NUMBERS = {"loss": -0.5, "images_per_second": 12.0, "mean_pairwise_cosine": 0.25}


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """(tag, step) -> value of every scalar in a folder of event files."""
    found = {}
    for file in folder.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars" or value.tensor.dtype == 1:
                    found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.fixture
def clock(monkeypatch):
    """Seconds that stand still unless a test moves them."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def model():
    layer = tf.keras.layers.Dense(1, use_bias=False, input_shape=[2])
    made = tf.keras.Sequential([layer])
    made.compile(optimizer=tf.keras.optimizers.SGD(0.125, momentum=0.9), loss="mse")
    return made


def test_throughput_counts_the_epoch_alone(clock):
    throughput, logs = Throughput(20), {}
    throughput.set_params({"steps": 3})
    throughput.on_epoch_begin(0)
    clock[0] += 4
    throughput.on_epoch_end(0, logs)
    assert logs == {"images_per_second": 15.0}


def test_the_monitor_measures_what_is_plainly_there():
    # Two classes at two points: every neighbour is right, and half of the pairs agree.
    images = np.zeros([4, 1, 1, 3], np.float32)
    images[:2, ..., 0] = images[2:, ..., 1] = 1
    labels = np.array([0, 0, 1, 1], np.int32)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(3)
    encoder = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=[1, 1, 3])])
    known = {"bank": batches, "bank_labels": labels, "query_labels": labels, "num_classes": 4, "k": 1}
    numbers = FeatureMonitor(encoder, queries=batches, **known).measure()
    assert numbers["knn_balanced_accuracy"] == 1 and numbers["knn_chance"] == 0.25
    assert numbers["mean_pairwise_cosine"] == pytest.approx(2 / 6)
    assert numbers["rankme"] == pytest.approx(2)
    assert numbers["uniformity"] == pytest.approx(math.log((2 + 4 * math.exp(-4)) / 6))
    # Around their mean two points lie on a line.
    assert numbers["explained_variance_auc"] == pytest.approx(1)
    unlabelled = FeatureMonitor(encoder, queries=batches).measure()
    assert not [name for name in unlabelled if name.startswith("knn")]
    assert unlabelled["spread"] == numbers["spread"] > 0.5


class Reads:
    """Batches that count how often they are read."""

    def __init__(self, *batches):
        self.batches, self.count = batches, 0

    def __iter__(self):
        self.count += 1
        return iter(self.batches)


@pytest.fixture
def flatten():
    return tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=[2, 2, 3])])


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, [7, 2, 2, 3]).astype(np.float32)


# 7 images are 168 bytes as float16; the batch of 4 is 96 of them.
@pytest.mark.parametrize(("max_bytes", "reads"), [(168, 1), (167, 3), (95, 3), (0, 3)])
def test_the_monitor_reads_once_what_it_can_hold_and_measures_the_same_each_time(flatten, images, max_bytes, reads):
    labels = np.array([0, 1, 0, 1, 0, 1, 0], np.int32)
    queries, bank = Reads(images[:4], images[4:]), Reads(tf.constant(images[3::-1]), images[:3:-1])
    pairs = Reads({"views_a": images[:4], "views_b": images[1:5]})
    known = {"bank_labels": labels, "query_labels": labels, "num_classes": 2, "k": 1, "view_pairs": pairs}
    monitor = FeatureMonitor(flatten, queries=queries, bank=bank, **known, max_bytes=max_bytes)
    assert monitor.measure() == monitor.measure() == monitor.measure()
    assert queries.count == bank.count == reads
    # Four pairs are 192 bytes.
    assert pairs.count == 3


def test_what_is_kept_is_finer_than_the_grey_levels_it_came_from(images):
    kept = KeptImages([images, images / 100], max_bytes=10**6)
    for _ in range(2):
        coarse, fine = kept
        assert coarse.dtype == fine.dtype == np.float32
        assert np.abs(coarse - images).max() <= 2**-12 < 1 / 255 / 15
        assert np.abs(fine - images / 100).max() <= 2**-18


def test_the_two_views_of_an_image_are_compared_with_each_other(flatten):
    axes = np.eye(12, dtype=np.float32).reshape(12, 2, 2, 3)
    # Squared distances 0, 2 and 4, in two batches.
    batches = [
        {"views_a": axes[[0, 1]], "views_b": axes[[0, 2]]},
        {"views_a": tf.constant(axes[[3]]), "views_b": tf.constant(-axes[[3]])},
    ]
    monitor = FeatureMonitor(flatten, queries=[axes], view_pairs=batches)
    assert monitor.measure()["alignment"] == pytest.approx((0 + 2 + 4) / 3)
    one_batch = FeatureMonitor(flatten, queries=[axes], view_pairs=batches[0])
    assert one_batch.measure()["alignment"] == pytest.approx(1)
    assert "alignment" not in FeatureMonitor(flatten, queries=[axes]).measure()


def test_projections_are_measured_of_the_first_queries_and_nothing_moves(flatten, monkeypatch):
    monkeypatch.setattr(monitors, "PROJECTED_IMAGES", 4)
    # The first four images lie in two directions, the others in all twelve.
    axes = np.eye(12, dtype=np.float32)
    images = np.concatenate([[axes[0], -axes[0], axes[1], -axes[1]], axes]).reshape(-1, 2, 2, 3)
    projector = tf.keras.Sequential([tf.keras.layers.BatchNormalization(input_shape=[12])])
    before = projector.get_weights()
    numbers = FeatureMonitor(flatten, queries=[images[:3], images[3:]], projector=projector).measure()
    assert numbers["projector_rankme"] == pytest.approx(2, abs=1e-3)
    # Two of twelve dimensions have a deviation, sqrt(1/2) each.
    assert numbers["projector_spread"] == pytest.approx(2 / 12 * math.sqrt(0.5) * math.sqrt(12), rel=1e-5)
    assert numbers["num_images"] == 16
    for old, new in zip(before, projector.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("limit", "taken"), [(10, [0, 1, 2, 3, 4, 5, 6]), (7, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (4, [0, 2, 4, 6])]
)
def test_fewer_images_are_spread_over_all(limit, taken):
    assert evenly(np.arange(7) * 10, limit).tolist() == [10 * place for place in taken]


def test_an_order_by_class_keeps_its_shares():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    assert np.bincount(evenly(labels, 50)).tolist() == pytest.approx([30, 15, 5], abs=1)


def test_features_that_are_no_numbers_stop_the_run_with_one_sentence():
    encoder = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=[1, 1, 3])])
    queries = tf.data.Dataset.from_tensor_slices(np.full([4, 1, 1, 3], np.nan, np.float32)).batch(2)
    with pytest.raises(Diverged, match="In epoch 3 the features.*NaN") as error:
        FeatureMonitor(encoder, queries=queries).on_epoch_end(2, {"loss": math.nan})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_and_is_not_recorded(tmp_path, model, loss):
    log = RunLog(RunFolder(tmp_path))
    log.set_model(model)
    with pytest.raises(Diverged, match=f"epoch 5 the loss became {loss}"):
        log.on_epoch_end(4, {**NUMBERS, "loss": loss})
    assert RunFolder(tmp_path).metrics() == []


def test_a_dead_weight_stops_the_run_though_the_loss_is_finite(tmp_path, model):
    log = RunLog(RunFolder(tmp_path))
    log.set_model(model)
    model.set_weights([np.float32([[0.5], [np.nan]])])
    with pytest.raises(Diverged, match="In epoch 2 the weights became .*NaN .1 variables.*kernel"):
        log.on_epoch_end(1, NUMBERS)
    assert RunFolder(tmp_path).metrics() == []


def test_the_log_writes_the_same_numbers_to_both_places(tmp_path, model):
    run = RunFolder(tmp_path)
    log = RunLog(run)
    log.set_model(model)
    log.record(0, {"spread": 0.5})
    log.on_epoch_end(0, {**NUMBERS, "knn_balanced_accuracy": 0.75, "knn_chance": 0.25})
    assert [row["epoch"] for row in run.metrics()] == [0, 1]
    assert run.metrics()[1] == {
        **{"epoch": 1, **NUMBERS, "lr": 0.125},
        **{"knn_balanced_accuracy": 0.75, "knn_chance": 0.25},
    }
    assert scalars(run.tensorboard_path / "pretrain") == {
        ("features/spread", 0): 0.5,
        ("train/loss", 1): -0.5,
        ("train/learning_rate", 1): 0.125,
        ("train/images_per_second", 1): 12.0,
        ("knn/balanced_accuracy", 1): 0.75,
        ("features/mean_pairwise_cosine", 1): 0.25,
    }
    assert scalars(run.tensorboard_path / "chance") == {("knn/balanced_accuracy", 1): 0.25}


def test_plain_progress_tells_what_is_left(clock):
    lines = []
    progress = PlainProgress(5, write=lines.append)
    progress.on_train_begin()
    # Goes on after epoch 2: 40 s an epoch, two epochs to come.
    clock[0] += 40
    progress.on_epoch_end(2, NUMBERS)
    assert lines == ["epoch 3/5  loss -0.5000  cosine 0.250  12 images/s  1 min 20 s left"]
    clock[0] += 40
    progress.on_epoch_end(3, {**NUMBERS, "knn_balanced_accuracy": 0.5, "knn_chance": 0.143})
    assert re.search(r"kNN 0.500 \(chance 0.143\).*40 s left", lines[1])


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.2, "1 min 00 s"), (3600 * 30 + 61, "30 h 01 min")])
def test_durations_are_for_people(seconds, text):
    assert progress._duration(seconds) == text


@pytest.mark.parametrize("on_terminal", [True, False])
def test_a_bar_on_a_terminal_and_lines_elsewhere(on_terminal, monkeypatch):
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(getattr(progress.sys, stream), "isatty", lambda: on_terminal, raising=False)
    names = [type(callback).__name__ for callback in make_progress(3)]
    assert names == (["PlainProgress", "ProgressBar"] if on_terminal else ["PlainProgress"])
