"""What TensorBoard shows of a run, asked of TensorBoard's own server code."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.graph.graphs_plugin import GraphsPlugin
from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

from bitkeras.backbones import build_backbone
from bitkeras.callbacks import embedding
from bitkeras.callbacks.embedding import MAX_IMAGES, SPRITE_SIZE, projector_indices, write_projector
from bitkeras.callbacks.graph import write_graph
from bitkeras.callbacks.histograms import NormHistograms, write_norm_histograms
from bitkeras.callbacks.hparams import final_scores, probe_scores, write_hparams
from bitkeras.callbacks.profile import StepProfile, read_profile_steps
from bitkeras.errors import UserError
from bitkeras.methods import METHODS

CONFIG = {
    "base_lr": 0.03,
    "deterministic": False,
    "method": "simsiam",
    "num_images": None,
    "seed": 0,
    "list": [64, 48],
}
LAST_EPOCH = {"epoch": 30, "loss": -0.75, "lr": 0.0, "images_per_second": 12.5, "knn_balanced_accuracy": 0.25}


class Board:
    """TensorBoard's server on a folder: its answers without its network."""

    def __init__(self, folder: Path):
        self.events = plugin_event_multiplexer.EventMultiplexer()
        self.events.AddRunsFromDirectory(str(folder))
        self.events.Reload()
        provider = data_provider.MultiplexerDataProvider(self.events, str(folder))
        self.context = TBContext(logdir=str(folder), multiplexer=self.events, data_provider=provider)

    def ask(self, plugin: type, route: str, *, data: dict | None = None, **query) -> bytes:
        client = Client(plugin(self.context).get_plugin_apps()[route])
        answer = client.get(route, query_string=query) if data is None else client.post(route, json=data)
        assert answer.status_code == 200, answer.get_data()
        return answer.get_data()

    def columns(self) -> dict[str, dict]:
        experiment = json.loads(self.ask(HParamsPlugin, "/experiment", data={"experimentName": ""}))
        return {info["name"]: info for info in experiment["hparamInfos"]}

    def rows(self, *, sort_by: dict | None = None) -> dict[str, dict]:
        """Name of the row -> {flag or tag: value}, in the order of the table, largest first."""
        statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
        names = [info["name"] for info in self.metrics()]
        wanted = [{"metric": name} for name in names] + ([{**sort_by, "order": "ORDER_DESC"}] if sort_by else [])
        question = {"experimentName": "", "allowedStatuses": statuses, "colParams": wanted, "sliceSize": 100}
        groups = json.loads(self.ask(HParamsPlugin, "/session_groups", data=question))["sessionGroups"]
        for group in groups:
            group["status"] = [session["status"] for session in group["sessions"]]
        return {
            group["name"]: {
                **group["hparams"],
                **{metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]},
                "status": group["status"],
            }
            for group in groups
        }

    def metrics(self) -> list[dict]:
        return json.loads(self.ask(HParamsPlugin, "/experiment", data={"experimentName": ""}))["metricInfos"]

    def histograms(self, run: str) -> dict[tuple[str, int], np.ndarray]:
        """(tag, step) -> [bars, (left, right, count)]."""
        content = self.events.PluginRunToTagToContent("histograms").get(run, {})
        return {
            (tag, event.step): tf.make_ndarray(event.tensor_proto)
            for tag in content
            for event in self.events.Tensors(run, tag)
        }


@pytest.fixture
def writer(tmp_path):
    return tf.summary.create_file_writer(str(tmp_path / "pretrain"))


# --- the table of runs


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory) -> Board:
    """`a` has only started, though twice; `b` was stopped, has gone on, ended and been probed."""
    folder = tmp_path_factory.mktemp("runs")
    for _ in range(2):
        write_hparams(folder / "a" / "hparams", {**CONFIG, "data_dir": "/x", "bn_init": None})
    config = {**CONFIG, "data_dir": "/y", "num_images": 1000, "seed": 1}
    write_hparams(folder / "b" / "hparams", config)
    write_hparams(folder / "b" / "hparams", {**config, "data_dir": "/moved"})
    scores = final_scores([{"epoch": 0, "knn_balanced_accuracy": 0.125}, {**LAST_EPOCH, "rankme": float("nan")}])
    write_hparams(folder / "b" / "hparams", config, scores, step=30)
    row = {"name": "simsiam from none", "balanced_accuracy": 0.5, "accuracy": 0.625, "interval": [0.25, 0.75]}
    write_hparams(folder / "b" / "hparams", config, probe_scores("probe", row), step=30)
    write_hparams(folder / "c" / "hparams", config, {"probe/balanced_accuracy": 0.75}, step=30)
    return Board(folder)


def test_every_run_is_one_row_with_its_flags_and_its_last_scores(two_runs):
    rows = two_runs.rows()
    flags = {"base_lr": 0.03, "deterministic": False, "method": "simsiam", "list": "64, 48"}
    assert rows["a/hparams"] == {**flags, "seed": 0, "status": ["STATUS_UNKNOWN"]}
    assert rows["b/hparams"] == {
        **{**flags, "seed": 1, "num_images": 1000, "status": ["STATUS_SUCCESS"]},
        **{"training/loss": -0.75, "training/images_per_second": 12.5, "training/knn_balanced_accuracy": 0.25},
        **{"probe/balanced_accuracy": 0.5, "probe/accuracy": 0.625},
    }
    # `c` has the flags of `b`, and yet a row of its own.
    assert list(rows) == ["a/hparams", "b/hparams", "c/hparams"]


def test_columns_are_typed_and_those_that_differ_come_first(two_runs):
    columns = two_runs.columns()
    number, text = "DATA_TYPE_FLOAT64", "DATA_TYPE_STRING"
    assert {name: column["type"] for name, column in columns.items()} == {
        **{"base_lr": number, "num_images": number, "seed": number, "method": text, "list": text},
        "deterministic": "DATA_TYPE_BOOL",
    }
    assert list(columns)[0] == "seed" and columns["seed"]["differs"] and not columns["base_lr"]["differs"]


@pytest.mark.parametrize(
    ("column", "order"),
    [
        ({"metric": {"tag": "probe/balanced_accuracy", "group": ""}}, "cba"),
        # Where only some runs have it: with "none" in the place of the missing number the server fails.
        ({"hparam": "num_images"}, "bca"),
    ],
)
def test_runs_sort_by_score_and_by_flag(two_runs, column, order):
    assert "".join(name[0] for name in two_runs.rows(sort_by=column)) == order


# --- histograms of batch norm


def norm_model() -> tf.keras.Model:
    """Two batch norms, one without scale, whose statistics are 1, 2, 3... and known variances."""
    images = tf.keras.Input([2], name="images")
    x = tf.keras.layers.BatchNormalization(name="first")(images)
    x = tf.keras.layers.Dense(3, name="fc")(x)
    x = tf.keras.layers.BatchNormalization(center=False, scale=False, name="second")(x)
    model = tf.keras.Model(images, x, name="net")
    first, second = model.get_layer("first"), model.get_layer("second")
    first.set_weights([np.float32(v) for v in ([0.5, 0.0], [9, 9], [-1, 3], [1e-4, 1e8])])
    second.set_weights([np.float32(v) for v in ([np.nan, 1, 1], [0, 1, 10])])
    return model


def test_histograms_hold_the_statistics_of_every_batch_norm(tmp_path, writer):
    write_norm_histograms(writer, norm_model(), step=7)
    found = Board(tmp_path).histograms("pretrain")
    kept = ("bn_mean", "bn_log10_variance", "bn_gamma")
    tags = [f"{quantity}/first" for quantity in kept] + [f"{quantity}/second" for quantity in kept[:2]]
    assert set(found) == {(tag, 7) for tag in tags}
    # Lowest and highest edge, and how many values there are; beta, which is 9, is nowhere, and NaN is no value.
    expected = {
        "bn_mean/first": (-1, 3, 2),
        "bn_log10_variance/first": (-4, 8, 2),
        "bn_gamma/first": (0, 0.5, 2),
        "bn_mean/second": (1, 1, 2),
        "bn_log10_variance/second": (np.log10(np.finfo(np.float32).tiny), 1, 3),
    }
    for tag, (low, high, count) in expected.items():
        bars = found[tag, 7]
        np.testing.assert_allclose((bars[0, 0], bars[-1, 1], bars[:, 2].sum()), (low, high, count), rtol=1e-6)
    assert found["bn_gamma/first", 7][[0, -1], 2].tolist() == [1, 1]


def test_the_parts_of_a_method_are_told_apart_and_the_file_stays_small(tmp_path, writer):
    encoder = build_backbone("R14x0.25", norm="batch", stem="cifar")
    method = METHODS["simsiam"](encoder, num_projections=8, num_predictor_hidden=4)
    written = []
    for step in (1, 2, 3):
        write_norm_histograms(writer, method, step=step)
        written.append(sum(path.stat().st_size for path in (tmp_path / "pretrain").iterdir()))
    tags = {tag for tag, _ in Board(tmp_path).histograms("pretrain")}
    # Four units of three norms and the last, each with three histograms; three norms, one without scale; one.
    assert len(tags) == 13 * 3 + 3 * 3 - 1 + 3
    assert {"bn_mean/R14x0.25/block1_unit01_a_norm", "bn_mean/projector/bn3", "bn_gamma/predictor/bn1"} <= tags
    assert "bn_gamma/projector/bn3" not in tags
    assert written[2] - written[1] == written[1] - written[0] < 860 * len(tags)


def test_histograms_are_written_25_times_a_run_and_at_its_end(tmp_path, writer):
    steps = {}
    for num_epochs in (3, 25, 52, 400):
        folder = tmp_path / f"of{num_epochs}"
        histograms = NormHistograms(tf.summary.create_file_writer(str(folder)), num_epochs=num_epochs)
        histograms.set_model(norm_model())
        for epoch in range(num_epochs):
            histograms.on_epoch_end(epoch)
        steps[num_epochs] = sorted({step for _, step in Board(tmp_path).histograms(folder.name)})
    assert steps[3] == [1, 2, 3] and steps[25] == list(range(1, 26))
    assert steps[52] == [*range(3, 52, 3), 52]
    assert steps[400] == list(range(16, 401, 16)) and len(steps[400]) == 25


def test_a_network_without_batch_norm_writes_no_histograms(tmp_path, writer):
    write_norm_histograms(writer, build_backbone("R14x0.25", norm="group", stem="cifar"), step=1)
    assert Board(tmp_path).histograms("pretrain") == {}


# --- the graph


@pytest.mark.parametrize(("norm", "policy"), [("batch", "float32"), ("group", "mixed_bfloat16")])
def test_the_graph_has_a_node_for_each_layer_and_an_edge_for_each_connection(tmp_path, writer, norm, policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        encoder = build_backbone("R14x0.25", norm=norm, stem="imagenet")
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    write_graph(writer, encoder)
    board = Board(tmp_path)
    info = GraphsPlugin(board.context).info_impl(RequestContext(), "")
    assert info["pretrain"]["tags"]["R14x0.25"]["conceptual_graph"]
    text, _ = GraphsPlugin(board.context).graph_impl(RequestContext(), "pretrain", "R14x0.25", True, "")
    nodes = re.findall(r'^  name: "R14x0.25/(.+)"$', text, re.MULTILINE)
    assert nodes == [layer.name for layer in encoder.layers]
    # An add has two inputs, the images none, all else one.
    num_adds = sum(isinstance(layer, tf.keras.layers.Add) for layer in encoder.layers)
    assert num_adds == 4 and text.count("input: ") == len(nodes) - 1 + num_adds
    sources = re.search(r'name: "R14x0.25/block1_unit01_add"\n((?:  input: .+\n)+)', text).group(1)
    assert re.findall('R14x0.25/([^"]+)', sources) == ["block1_unit01_a_proj_conv", "block1_unit01_c_conv"]
    # R152, with ten times as many layers, stays far below a megabyte.
    assert sum(path.stat().st_size for path in (tmp_path / "pretrain").iterdir()) < 1000 * len(nodes)


# --- the embedding projector


def colours(num_images: int, size: int = 6) -> np.ndarray:
    """[N, S, S, 3] in [-1, 1], each image of one colour that tells its number."""
    values = np.zeros([num_images, size, size, 3], np.float32)
    values[..., 0] = np.arange(num_images)[:, None, None] / 255 * 2 - 1
    return values


def show(folder: Path, features: np.ndarray, *, images: np.ndarray | None = None, **kwargs) -> None:
    images = colours(len(features)) if images is None else images
    write_projector(folder, features, tf.data.Dataset.from_tensor_slices(images).batch(4), **kwargs)


def projector(folder: Path) -> dict:
    """What the browser gets: shape, points, lines of the table, picture."""
    board = Board(folder)
    assert json.loads(board.ask(ProjectorPlugin, "/runs")) == ["pretrain"]
    info = json.loads(board.ask(ProjectorPlugin, "/info", run="pretrain"))["embeddings"]
    assert len(info) == 1
    known = {"run": "pretrain", "name": info[0]["tensorName"]}
    points = np.frombuffer(board.ask(ProjectorPlugin, "/tensor", **known), np.float32)
    picture = board.ask(ProjectorPlugin, "/sprite_image", **known)
    return {
        "points": points.reshape(info[0]["tensorShape"]),
        "lines": board.ask(ProjectorPlugin, "/metadata", **known).decode().splitlines(),
        "sprite": info[0]["sprite"]["singleImageDim"],
        "picture": np.asarray(Image.open(io.BytesIO(picture))),
    }


@pytest.fixture
def board_run(tmp_path, writer) -> Path:
    """A run that TensorBoard lists, as it does only with an event file."""
    writer.flush()
    return tmp_path / "pretrain"


def test_the_projector_shows_points_classes_and_pictures(tmp_path, board_run):
    features = np.random.default_rng(0).normal(size=[7, 5]) * 1e3
    ids = ["a", "b\tc", "d\ne", "f g", "ü", "h", "i"]
    show(board_run, features, image_ids=ids, labels=np.int32([0, 1, 1, 0, 0, 0, 1]), class_names=("mel", "nv"))
    shown = projector(tmp_path)
    np.testing.assert_allclose(shown["points"], features, rtol=1e-5)
    assert shown["lines"] == [
        "class\timage_id",
        "mel\ta",
        "nv\tb c",
        "nv\td e",
        "mel\tf g",
        "mel\tü",
        "mel\th",
        "nv\ti",
    ]
    # 3 x 3 pictures of 6 px; the number of each is its red, and the two that are missing are white.
    assert shown["sprite"] == [6, 6] and shown["picture"].shape == (18, 18, 3)
    numbers = shown["picture"].reshape(3, 6, 3, 6, 3)
    assert (numbers.min((1, 3)) == numbers.max((1, 3))).all()
    np.testing.assert_allclose(numbers[:, 0, :, 0, 0].ravel(), [*range(7), 255, 255], atol=1)
    assert (numbers[2, 0, 1:, 0] == 255).all() and set(numbers[:2, 0, :, 0, 1].ravel()) == {127}


def test_the_projector_of_unlabelled_images_has_their_ids_alone_and_replaces_what_was_there(tmp_path, board_run):
    show(board_run, np.ones([9, 4]), image_ids=list("abcdefghi"), labels=np.zeros(9, int), class_names=("one",))
    show(board_run, np.zeros([3, 4]), image_ids=["x", "y", "z"])
    shown = projector(tmp_path)
    assert shown["lines"] == ["x", "y", "z"] and shown["picture"].shape == (12, 12, 3)
    assert shown["points"].shape == (3, 4) and not shown["points"].any()


@pytest.mark.parametrize("shape", [(40, 300), (320, 260)])
def test_many_dimensions_become_200_that_keep_the_most(tmp_path, board_run, shape):
    features = np.random.default_rng(1).normal(size=shape) * np.linspace(2, 0.1, shape[1]) + 1
    show(board_run, features, images=np.zeros([shape[0], 2, 2, 3], np.float32), image_ids=list(range(shape[0])))
    points = projector(tmp_path)["points"].astype(np.float64)
    assert points.shape == (shape[0], min(200, shape[0]))
    # Eckart and Young: no matrix of rank 200 is nearer than this in all inner products.
    lost = np.linalg.svd(features, compute_uv=False)[200:]
    products = features @ features.T
    distance = np.linalg.norm(points @ points.T - products) / np.linalg.norm(products)
    np.testing.assert_allclose(distance, np.sqrt((lost**4).sum()) / np.linalg.norm(products), atol=1e-5)


def test_images_are_thinned_out_evenly_and_their_picture_fits():
    assert projector_indices(np.arange(7)).tolist() == list(range(7)) and projector_indices(np.arange(0)).size == 0
    kept = projector_indices(np.arange(10, 10 + 3 * MAX_IMAGES + 1))
    assert len(kept) == MAX_IMAGES and kept[0] == 10 and set(np.diff(kept)) <= {3, 4}
    assert MAX_IMAGES == 50**2 and 50 * SPRITE_SIZE <= 8192


def test_a_projector_that_does_not_fit_together_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="numbers"):
        show(tmp_path, np.ones([3, 4]), image_ids=["a", "b"])
    assert embedding._MAX_SIDE == 8192
    monkeypatch.setattr(embedding, "_MAX_SIDE", 17)
    with pytest.raises(ValueError, match="5 images of 6 px make a picture of 18 px"):
        show(tmp_path, np.ones([5, 4]), image_ids=list("abcde"))
    assert not list(tmp_path.iterdir())


# --- the profile


@pytest.mark.parametrize(
    "text", ["", "100", "1,2,3", "5,5", "7,3", "0,4", "-1,4", "1.5,4", "a,b", "1e2,110", "100;110"]
)
def test_profile_steps_that_are_none_are_refused(text):
    with pytest.raises(UserError, match=f"--profile_steps={re.escape(text)} is not two whole numbers, the first small"):
        read_profile_steps(text)


def test_profile_steps_are_read():
    assert read_profile_steps("100,110") == (100, 110) and read_profile_steps(" 1, 2") == (1, 2)
    assert read_profile_steps(None) is None


def run_fit(folder: Path, steps: tuple[int, int], *, spans=((0, 2, 5),), lines: list | None = None) -> None:
    """Fits of (first epoch, epoch to end before, steps an epoch), where an epoch has 5 steps."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[2])])
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensors((np.ones([4, 2]), np.ones([4, 1]))).repeat()
    say = (lambda _: None) if lines is None else lines.append
    profile = StepProfile(folder, steps, steps_per_epoch=5, say=say)
    for epoch, epochs, num_steps in spans:
        model.fit(data, steps_per_epoch=num_steps, initial_epoch=epoch, epochs=epochs, verbose=0, callbacks=[profile])


def profiled_steps(folder: Path) -> list[tuple[int, int]]:
    """(epoch, batch) that Keras marked, from 0, in every profile below a folder."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    found = []
    for path in sorted(folder.glob("plugins/profile/*/*.xplane.pb")):
        for plane in XSpace.FromString(path.read_bytes()).planes:
            names = {number: metadata.name for number, metadata in plane.event_metadata.items()}
            stats = {number: metadata.name for number, metadata in plane.stat_metadata.items()}
            for event in (event for line in plane.lines for event in line.events):
                if names[event.metadata_id] == "train":
                    values = {stats[s.metadata_id]: s.int64_value or s.uint64_value for s in event.stats}
                    found.append((values["epoch_num"], values["step_num"]))
    return sorted(found)


@pytest.mark.parametrize(
    ("steps", "spans", "expected"),
    [
        # Counted from 1, over the whole run, both included.
        ((3, 4), [(0, 2, 5)], [(0, 2), (0, 3)]),
        ((1, 2), [(0, 1, 5)], [(0, 0), (0, 1)]),
        ((4, 7), [(0, 2, 5)], [(0, 3), (0, 4), (1, 0), (1, 1)]),
        # Shorter than asked for.
        ((4, 100), [(0, 1, 5)], [(0, 3), (0, 4)]),
        # Goes on after step 2 of epoch 2, whose next is step 8 of the run and Keras's first.
        ((9, 10), [(1, 2, 3), (2, 3, 5)], [(1, 1), (1, 2)]),
        # Goes on in the middle of what was to be profiled, or after it.
        ((6, 9), [(1, 2, 3)], [(1, 0), (1, 1)]),
        ((1, 2), [(1, 2, 3)], []),
    ],
)
def test_exactly_the_steps_asked_for_are_profiled(tmp_path, steps, spans, expected):
    run_fit(tmp_path, steps, spans=spans)
    assert profiled_steps(tmp_path) == expected


def test_the_profile_says_where_it_is_and_a_second_profiler_does_not_end_the_run(tmp_path):
    lines = []
    tf.profiler.experimental.start(str(tmp_path / "other"))
    try:
        run_fit(tmp_path / "mine", (2, 3), lines=lines)
    finally:
        tf.profiler.experimental.stop(save=False)
    assert len(lines) == 1 and re.search("steps 2 to 3 are not profiled .*profiler", lines[0])
    run_fit(tmp_path / "mine", (2, 3), lines=lines)
    assert lines[1:] == [f"profiled steps 2 to 3, in {tmp_path / 'mine' / 'plugins' / 'profile'}"]
    assert profiled_steps(tmp_path / "mine") == [(0, 1), (0, 2)]
    # No event file of the profiler's: TensorBoard would stop reading the run's own.
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["plugins"]


def test_a_training_that_ends_in_an_exception_leaves_no_profiler_running(tmp_path):
    profile = StepProfile(tmp_path, (1, 9), steps_per_epoch=5, say=lambda _: None)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[2])])
    model.compile("sgd", "mse")
    failing = tf.keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: 1 // (1 - batch))
    with pytest.raises(ZeroDivisionError):
        model.fit(np.ones([20, 2]), np.ones([20, 1]), batch_size=4, verbose=0, callbacks=[profile, failing])
    profile.stop()
    profile.stop()
    assert profiled_steps(tmp_path) == [(0, 0), (0, 1)]
