import functools
import hashlib
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.agreement import agreement_line, compare
from bitkeras.backbones.checkpoints import graph_variables
from bitkeras.backbones.pretrained import check_against_module, fill, fit_stem, read_pretrained
from bitkeras.backbones.released import released_name, write_npz
from bitkeras.errors import UserError

NAME = "R14x0.25"
HANDLE = "https://tfhub.dev/google/bit/s-r50x1/1"


@functools.cache
def graph(name=NAME, **kwargs):
    """A graph that tests may fill as they like."""
    return build_backbone(name, **kwargs)


def plain_bit(variables, images, *, pool_padding=0.0):
    """The network once more, written from the released description: images in [-1, 1] -> features [B, D].

    R14x0.25: one unit in each of four stages, groups of two channels in the first stage.
    """

    def conv(x, name, padding=0, stride=1):
        kernel = variables[f"resnet/{name}/standardized_conv2d/kernel"]
        mean = tf.reduce_mean(kernel, [0, 1, 2])
        kernel = (kernel - mean) / tf.sqrt(tf.reduce_mean(tf.square(kernel - mean), [0, 1, 2]) + 1e-10)
        return tf.nn.conv2d(tf.pad(x, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]]), kernel, stride, "VALID")

    def norm_relu(x, name):
        shape = tf.shape(x)
        grouped = tf.reshape(x, [shape[0], -1, 8, x.shape[-1] // 8])
        mean, variance = tf.nn.moments(grouped, [1, 3], keepdims=True)
        normal = tf.reshape((grouped - mean) / tf.sqrt(variance + 1e-5), shape)
        return tf.nn.relu(normal * variables[f"{name}/gamma"] + variables[f"{name}/beta"])

    x = conv(images, "root_block", padding=3, stride=2)
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=pool_padding)
    x = tf.nn.max_pool2d(x, 3, 2, "VALID")
    for block, stride in enumerate([1, 2, 2, 2], start=1):
        unit = f"block{block}/unit01"
        h = norm_relu(x, f"resnet/{unit}/a/group_norm")
        shortcut = conv(h, f"{unit}/a/proj", stride=stride)
        h = norm_relu(conv(h, f"{unit}/a"), f"resnet/{unit}/b/group_norm")
        h = norm_relu(conv(h, f"{unit}/b", padding=1, stride=stride), f"resnet/{unit}/c/group_norm")
        x = shortcut + conv(h, f"{unit}/c")
    return tf.reduce_mean(norm_relu(x, "resnet/group_norm"), [1, 2])


def logits(variables, features):
    return features @ variables["resnet/head/conv2d/kernel"][0, 0] + variables["resnet/head/conv2d/bias"]


def write_module(folder, weights, compute, *, prefix="", size=None, signature=None):
    """A SavedModel in the form of the TF Hub modules: a tf.Module with official variable names; returns its path.

    `compute` takes {official name: variable} and images; None makes a module that cannot be called.
    """
    module = tf.Module()
    named = {name: tf.Variable(value, name=prefix + name) for name, value in weights.items()}
    module.all_variables = list(named.values())
    signatures = None
    if compute is not None:
        spec = tf.TensorSpec([None, size, size, 3], tf.float32, name="images")
        function = tf.function(lambda images: compute(named, images), [spec])
        if signature:
            signatures = {signature: tf.function(lambda images: {"default": function(images)}, [spec])}
        else:
            module.__call__ = function
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return str(folder)


def from_01(variables, images):
    """As released: images in [0, 1] -> features."""
    return plain_bit(variables, images * 2 - 1)


@pytest.fixture(scope="module")
def weights():
    """Random weights of a small network with a head for 5 classes, canonical names."""
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(loc=float("gamma" in name), scale=0.3, size=variable.shape).astype(np.float32)
        for name, variable in graph_variables(graph(num_classes=5)).items()
    }


@pytest.fixture(scope="module")
def released(weights):
    arrays = {released_name(name): value for name, value in weights.items()}
    arrays["resnet/head/conv2d/kernel"] = arrays["resnet/head/conv2d/kernel"][np.newaxis, np.newaxis]
    return arrays


@pytest.fixture(scope="module")
def headless(released):
    return {name: value for name, value in released.items() if "head" not in name}


@pytest.fixture(scope="module")
def images(phantoms):
    """Eight real pictures, float32 [8, 48, 48, 3] in [0, 1]."""
    files = sorted(phantoms.rglob("*.jpg"))[:8]
    decoded = [tf.image.resize(tf.io.decode_jpeg(path.read_bytes()), [48, 48]) for path in files]
    return np.stack(decoded) / 255


@pytest.fixture(scope="module")
def module(tmp_path_factory, headless):
    """A feature module as released, without a head."""
    return write_module(tmp_path_factory.mktemp("hub") / "module", headless, from_01)


# What the module computes, and what the comparison must find.
FORMS = {
    "logits": (lambda v, x: logits(v, from_01(v, x)), {"prefix": "module/"}, "[0, 1]", "logits"),
    "[-1, 1]": (plain_bit, {"prefix": "a/b/"}, "[-1, 1]", "features"),
    "signature of one size": (from_01, {"signature": "default", "size": 40}, "[0, 1]", "features"),
}


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=pytest.mark.slow if "signature" in form else []) for form in FORMS]
)
def test_the_range_of_a_module_is_found(tmp_path, released, images, form):
    import tensorflow_hub as hub

    compute, options, input_range, output = FORMS[form]
    path = write_module(tmp_path / "module", released, compute, **options)
    pretrained = read_pretrained(path)
    agreement = check_against_module(pretrained, NAME, images)
    assert (agreement["input_range"], agreement["output"]) == (input_range, output)
    assert agreement["other_range"] != input_range and agreement["distinct"]
    assert agreement["max_relative_difference"] < 1e-4 < 1e-2 < agreement["other_difference"]
    assert agreement["num_images"] == 8
    assert f"for its input range {input_range}" in agreement_line(agreement)
    json.dumps(agreement)
    if "signature" not in form:
        model = graph()
        fill(model, pretrained)
        ours = model(images if input_range == "[-1, 1]" else images * 2 - 1)
        ours = logits(released, ours) if output == "logits" else ours
        np.testing.assert_allclose(hub.load(path)(images), ours, rtol=1e-3, atol=1e-4)


def test_a_handle_in_the_cache_of_tensorflow_hub(tmp_path, module, images, monkeypatch):
    import tensorflow_hub as hub

    # tensorflow-hub keeps a module under the hash of its handle.
    shutil.copytree(module, tmp_path / hashlib.sha1(HANDLE.encode()).hexdigest())
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    pretrained = read_pretrained(HANDLE)
    assert (pretrained.origin, pretrained.backbone, pretrained.stem) == (HANDLE, NAME, "imagenet")
    model = graph()
    assert fill(model, pretrained) == []
    np.testing.assert_allclose(hub.load(HANDLE)(images), model(images * 2 - 1), rtol=1e-3, atol=1e-4)
    assert check_against_module(pretrained, NAME, images)["input_range"] == "[0, 1]"


REFUSED = r"do not agree: on \d images .* is \S+ for \[0, 1\] and \S+ for \[-1, 1\]"


def test_a_module_that_computes_something_else_is_refused(tmp_path, headless, images):
    """The usual mistake: max-pooling pads with the smallest number, as the operation of TensorFlow does by itself."""
    folder = write_module(tmp_path / "module", headless, lambda v, x: plain_bit(v, x * 2 - 1, pool_padding=x.dtype.min))
    with pytest.raises(UserError, match=REFUSED):
        check_against_module(read_pretrained(folder), NAME, images)


def test_a_module_that_cannot_be_run_is_refused(tmp_path, headless, images):
    stem = {name: value for name, value in headless.items() if "root_block" in name}
    failing = write_module(tmp_path / "failing", stem, lambda v, x: tf.reshape(x, [-1, 7]))
    with pytest.raises(UserError, match=r"cannot be called on images \(8, 48, 48, 3\)"):
        check_against_module(read_pretrained(failing), NAME, images)
    (tmp_path / "failing" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(UserError, match="failing cannot be loaded"):
        check_against_module(read_pretrained(failing), NAME, images)


def test_comparison_by_the_form_of_the_output(headless, released, images):
    features = plain_bit(headless, images * 2 - 1).numpy()
    ours = {"features": features, "logits": np.asarray(logits(released, features))}
    for shape, output in (([8, 512], "features"), ([8, 1, 1, 512], "features"), ([8, 1, 1, 5], "logits")):
        theirs = {"[0, 1]": ours[output].reshape(shape), "[-1, 1]": ours[output].reshape(shape) + 1}
        agreement = compare(theirs, ours, origin="m", backbone="b")
        assert (agreement["output"], agreement["input_range"]) == (output, "[0, 1]")
    with pytest.raises(UserError, match=r"m gives \(8, 2, 2, 512\), where features \(8, 512\) or logits \(8, 5\) were"):
        compare({"[0, 1]": np.ones([8, 2, 2, 512])}, ours, origin="m", backbone="b")
    unconverted = {"[0, 1]": plain_bit(headless, images), "[-1, 1]": plain_bit(headless, images * 1.5)}
    for wrong in (unconverted, {"[0, 1]": features * np.nan, "[-1, 1]": features * np.nan}):
        with pytest.raises(UserError, match=REFUSED):
            compare({name: np.asarray(value) for name, value in wrong.items()}, ours, origin="m", backbone="b")


def test_what_cannot_be_compared_gives_none(tmp_path, weights, headless, images):
    write_npz(weights, tmp_path / "bit.npz")
    assert check_against_module(read_pretrained(tmp_path / "bit.npz"), NAME, images) is None
    stem = {name: value for name, value in headless.items() if "root_block" in name}
    variables_only = read_pretrained(write_module(tmp_path / "module", stem, None))
    assert check_against_module(variables_only, NAME, images) is None


def test_images_have_to_be_in_0_1(module, images):
    with pytest.raises(ValueError, match="not in .0, 1."):
        check_against_module(read_pretrained(module), NAME, images * 2 - 1)


def test_images_that_do_not_tell_the_ranges_apart_are_told():
    same = np.array([[1.0, 2.0]])
    agreement = compare({"[0, 1]": same, "[-1, 1]": same}, {"features": same}, origin="m", backbone="b")
    assert not agreement["distinct"] and "do not tell" in agreement_line(agreement)


def test_comparison_counts_by_the_largest_value():
    theirs = {"[0, 1]": np.array([[10.0, 5.0]]), "[-1, 1]": np.array([[10.0, 5.008]])}
    agreement = compare(theirs, {"features": np.array([[10.0, 5.01]])}, origin="m", backbone="b")
    assert (agreement["input_range"], agreement["output"]) == ("[-1, 1]", "features")
    assert agreement["max_relative_difference"] == pytest.approx(0.0002)
    assert agreement["other_difference"] == pytest.approx(0.001)
    assert not agreement["distinct"]


def test_a_renamed_stem_is_listed_on_both_sides(tmp_path, headless):
    renamed = {name.replace("root_block", "root"): value for name, value in headless.items()}
    pretrained = read_pretrained(write_module(tmp_path / "module", renamed, None))
    with pytest.raises(UserError, match="only in the graph: root_block/.*only in the checkpoint: root/conv/kernel"):
        fill(graph(), pretrained)


def save_encoder(folder, **kwargs):
    """A finished run folder, as pretrain and upstream leave it; returns its encoder."""
    encoder = graph(**kwargs)
    for variable in encoder.variables:
        variable.assign(np.random.default_rng(3).uniform(0.5, 1, variable.shape))
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"backbone": NAME}))
    encoder.save(folder / "encoder.keras")
    return encoder


KINDS = {
    "group": {"norm": "group"},
    "batch": {"norm": "batch", "stem": "cifar"},
    "batch that standardises": {"norm": "batch", "weight_standardization": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_folder_or_keras_file_gives_its_encoder_back(tmp_path, kind, images):
    given = KINDS[kind]
    encoder = save_encoder(tmp_path / "run", **given)
    origin = str(tmp_path / "run" / ("encoder.keras" if "weight_standardization" in given else ""))
    pretrained = read_pretrained(origin)
    assert (pretrained.origin, pretrained.backbone, pretrained.module) == (origin, NAME, None)
    assert (pretrained.norm, pretrained.stem) == (given["norm"], given.get("stem", "imagenet"))
    assert pretrained.weight_standardization == given.get("weight_standardization", kind == "group")
    assert ("norm/moving_variance" in pretrained.weights) == (given["norm"] == "batch")
    expected = encoder(images)
    for variable in encoder.variables:
        variable.assign(tf.zeros_like(variable))
    assert fill(encoder, pretrained) == []
    np.testing.assert_array_equal(encoder(images), expected)
    assert check_against_module(pretrained, NAME, images) is None


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is not finished .it has no encoder.keras.*again"):
        read_pretrained(tmp_path)


def foreign_model(path):
    images = tf.keras.Input([8, 8, 3])
    tf.keras.Model(images, tf.keras.layers.Dense(2)(images)).save(path)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"no zip"), "cannot be loaded .* damaged or not of bitkeras"),
        (foreign_model, "is no BiT encoder of bitkeras"),
    ],
)
def test_a_keras_file_of_others_is_told_in_one_sentence(tmp_path, write, told):
    write(tmp_path / "other.keras")
    with pytest.raises(UserError, match=rf"other.keras .*{told}") as error:
        read_pretrained(tmp_path / "other.keras")
    assert "\n" not in str(error.value)


@pytest.fixture
def models(tmp_path, weights):
    """A folder of shipped models with one in it."""
    write_npz(weights, tmp_path / "bit-x-mini.npz", np.float16)
    card = {"sha256": hashlib.sha256((tmp_path / "bit-x-mini.npz").read_bytes()).hexdigest()}
    (tmp_path / "bit-x-mini.json").write_text(json.dumps(card))
    return tmp_path


def test_a_shipped_model_goes_by_its_name(models, weights):
    pretrained = read_pretrained("bit-x-mini", models=models)
    assert (pretrained.origin, pretrained.backbone, pretrained.norm) == ("bit-x-mini", NAME, "group")
    np.testing.assert_allclose(pretrained.weights["norm/gamma"], weights["norm/gamma"], rtol=1e-3)


@pytest.mark.parametrize("given", ["bit-y-mini", "folder", "no/such/place"])
def test_what_is_unknown_gets_all_the_ways_in(models, given, monkeypatch):
    (models / "folder").mkdir()
    monkeypatch.chdir(models)
    with pytest.raises(UserError) as error:
        read_pretrained(given, models=models)
    told = str(error.value)
    assert told.startswith(f"--weights={given} is ")
    for way in ("none", "bit-x-mini", HANDLE, "SavedModel", ".npz", "finished bitkeras run", ".keras"):
        assert way in told


def test_a_file_behind_a_url_has_to_be_downloaded():
    with pytest.raises(UserError, match="download it"):
        read_pretrained("https://storage.googleapis.com/bit_models/BiT-S-R50x1.npz")


@pytest.fixture
def gn(models):
    """Group Norm weights with a head and the 7x7 stem."""
    return read_pretrained("bit-x-mini", models=models)


def test_fill_skips_a_head_and_says_so(gn):
    assert fill(graph(), gn) == ["the head of 5 classes is left out"]
    classifier = graph(num_classes=5)
    assert fill(classifier, gn) == []
    np.testing.assert_array_equal(classifier.get_layer("head").kernel, gn.weights["head/kernel"])


@pytest.mark.parametrize(
    ("name", "kwargs", "told"),
    [
        (NAME, {"norm": "batch"}, "group norm, and --norm=batch was asked for; pass --norm=group, or swap"),
        ("R26x0.25", {}, "weights of R14x0.25, and --backbone=R26x0.25 was asked for; pass --backbone=R14x0.25"),
    ],
)
def test_fill_refuses_another_network(gn, name, kwargs, told):
    model = graph(name, **kwargs)
    before = model.get_weights()
    with pytest.raises(UserError, match=told):
        fill(model, gn)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_fill_refuses_to_drop_weight_standardisation(tmp_path):
    save_encoder(tmp_path / "run", norm="batch", weight_standardization=True)
    with pytest.raises(UserError, match="standardised at every call .--ws=keep., and the network to fill has plain"):
        fill(graph(norm="batch"), read_pretrained(tmp_path / "run"))


def test_the_cifar_stem_starts_at_random_or_from_the_centre(gn):
    seven = gn.weights["root_block/conv/kernel"]
    model = graph(stem="cifar")
    own = model.get_layer("root_block_conv").kernel.numpy()
    for stem_init, expected in ((None, own), ("random", own), ("crop", seven[2:5, 2:5])):
        weights, message = fit_stem(gn.weights, model, stem_init)
        np.testing.assert_array_equal(weights["root_block/conv/kernel"], expected)
        assert f"--stem_init={stem_init or 'random'}" in message
        assert gn.weights["root_block/conv/kernel"].shape == (7, 7, 3, 16)
    assert fill(model, gn, stem_init="crop")[0] == message
    np.testing.assert_array_equal(model.get_layer("root_block_conv").kernel, seven[2:5, 2:5])


def test_a_stem_that_fits_is_left_alone_and_a_small_one_is_not_enlarged(gn):
    imagenet, cifar = graph(), graph(stem="cifar")
    assert fit_stem(gn.weights, imagenet, "random") == (gn.weights, None)
    small, _ = fit_stem(gn.weights, cifar)
    assert fit_stem(small, cifar, "crop") == (small, None)
    with pytest.raises(UserError, match="--stem=cifar"):
        fit_stem(small, imagenet)
    with pytest.raises(ValueError, match="stem_init is 'zoom'"):
        fit_stem(gn.weights, cifar, "zoom")
