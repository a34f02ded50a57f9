import numpy as np
import pytest
import tensorflow as tf
from reference.bit_random_weights import random_weights, tensor_shapes

from bitkeras.backbones import build_backbone
from bitkeras.backbones.checkpoints import assign_weights, canonical_name, graph_variables, read_weights
from bitkeras.backbones.pretrained import check_against_module, fill, read_pretrained
from bitkeras.backbones.released import released_name, write_hub_module, write_npz
from bitkeras.errors import UserError

NAME = "R14x0.25"
# Counted on the released checkpoints, without the head.
NUM_PARAMETERS = {
    "R50x1": 23_500_352,
    "R50x3": 211_174_080,
    "R101x1": 42_492_480,
    "R101x3": 381_789_888,
    "R152x2": 232_238_208,
    "R152x4": 928_340_224,
}


@pytest.fixture(scope="module")
def network():
    """A small GN network with a head and random weights."""
    model = build_backbone(NAME, num_classes=5)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.normal(loc=float("gamma" in variable.name), scale=0.3, size=variable.shape))
    return model


@pytest.fixture(scope="module")
def weights(network):
    return {name: variable.numpy() for name, variable in graph_variables(network).items()}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(size=(2, 40, 33, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def module(network, tmp_path_factory):
    """The folder of the network as a hub module with its head."""
    folder = tmp_path_factory.mktemp("released") / "hub_module"
    write_hub_module(network, folder, head=True)
    return folder


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == np.float32
        np.testing.assert_array_equal(actual[name], value)


@pytest.mark.slow
@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_every_released_size_has_the_released_names_shapes_and_count(name):
    # In a graph of its own nothing is allocated: R152x4 would take 3.7 GB.
    with tf.Graph().as_default():
        model = build_backbone(name, num_classes=1000)
        shapes = {released_name(n): tuple(variable.shape) for n, variable in graph_variables(model).items()}
    expected = tensor_shapes(name, 1000)
    expected["resnet/head/conv2d/kernel"] = expected["resnet/head/conv2d/kernel"][2:]
    assert shapes == expected
    assert sum(np.prod(shape) for n, shape in shapes.items() if "head" not in n) == NUM_PARAMETERS[name]


def test_released_names_are_read_back(weights):
    assert [canonical_name(released_name(name)) for name in weights] == list(weights)


def test_npz_round_trip(tmp_path, weights):
    write_npz(weights, tmp_path / "bit.npz")
    assert_same(read_weights(tmp_path / "bit.npz"), weights)
    with np.load(tmp_path / "bit.npz") as file:
        assert file["resnet/head/conv2d/kernel"].shape == (1, 1, 512, 5)
        assert file["resnet/block1/unit01/a/proj/standardized_conv2d/kernel"].shape == (1, 1, 16, 64)


def test_npz_without_a_head(tmp_path, weights):
    backbone = {name: value for name, value in weights.items() if "head" not in name}
    write_npz(backbone, tmp_path / "bit.npz")
    assert_same(read_weights(tmp_path / "bit.npz"), backbone)


def test_float16_npz_is_half_as_large_and_rounded(tmp_path, weights):
    write_npz(weights, tmp_path / "half.npz", np.float16)
    write_npz(weights, tmp_path / "bit.npz")
    # Names and file headers, about 300 bytes an array, stay.
    assert (tmp_path / "half.npz").stat().st_size < 0.52 * (tmp_path / "bit.npz").stat().st_size
    expected = {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}
    assert_same(read_weights(tmp_path / "half.npz"), expected)


def test_the_same_weights_give_the_same_file(tmp_path, weights):
    for name in ("first.npz", "second.npz"):
        write_npz(weights, tmp_path / name)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_a_number_too_large_for_float16_is_no_infinity(tmp_path):
    with pytest.raises(ValueError, match="norm/gamma is not finite as float16"):
        write_npz({"norm/gamma": np.full(2, 1e5, np.float32)}, tmp_path / "half.npz", np.float16)
    assert not list(tmp_path.iterdir())


def test_batch_norm_has_no_released_form(tmp_path):
    model = build_backbone(NAME, norm="batch")
    with pytest.raises(UserError, match="has Batch Norm"):
        write_npz({name: variable.numpy() for name, variable in graph_variables(model).items()}, tmp_path / "bn.npz")
    with pytest.raises(UserError, match="has Batch Norm"):
        write_hub_module(model, tmp_path / "module", head=False)
    assert not list(tmp_path.iterdir())


def test_module_bears_the_released_names(module, weights):
    loaded = tf.saved_model.load(str(module))
    names = {variable.name: tuple(variable.shape) for variable in loaded.variables}
    expected = {released_name(name) + ":0": value.shape for name, value in weights.items()}
    assert names == {**expected, "resnet/head/conv2d/kernel:0": (1, 1, 512, 5)}
    assert {variable.ref() for variable in loaded.trainable_variables} == {v.ref() for v in loaded.variables}


def test_module_is_read_back_and_agrees(module, weights, images):
    pretrained = read_pretrained(module)
    assert_same(pretrained.weights, weights)
    agreement = check_against_module(pretrained, NAME, images)
    assert agreement["input_range"] == "[0, 1]" and agreement["output"] == "logits" and agreement["distinct"]
    assert agreement["max_relative_difference"] < 1e-5 < 1e-2 < agreement["other_difference"]


def test_tensorflow_hub_loads_the_module(module, network, images):
    import tensorflow_hub as hub

    expected = network(images * 2 - 1)
    np.testing.assert_allclose(hub.load(str(module))(images), expected, rtol=1e-4, atol=1e-4)
    frozen = hub.KerasLayer(str(module))
    np.testing.assert_allclose(frozen(images), expected, rtol=1e-4, atol=1e-4)
    assert not frozen.trainable_variables


def test_the_module_is_fine_tuned_as_the_network_is(module, network, images):
    import tensorflow_hub as hub

    layer = hub.KerasLayer(str(module), trainable=True)
    gradients = {}
    for model, variables, given in ((layer, layer, images), (network, network, images * 2 - 1)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(given, training=True)))
        found = tape.gradient(loss, variables.trainable_variables)
        gradients[model] = {v.name: gradient.numpy() for v, gradient in zip(variables.trainable_variables, found)}
    assert len(gradients[layer]) == len(gradients[network]) == 45
    expected = {f"{name}:0": gradients[network][v.name] for name, v in graph_variables(network).items()}
    for name, gradient in gradients[layer].items():
        other = expected[canonical_name(name) + ":0"].reshape(gradient.shape)
        np.testing.assert_allclose(gradient, other, atol=1e-4 * np.abs(other).max(), err_msg=name)


@pytest.mark.slow
def test_a_headless_module_of_a_mixed_precision_network_is_float32_and_replaces_another(tmp_path, weights, images):
    backbone = {name: value for name, value in weights.items() if "head" not in name}
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        network = build_backbone(NAME)
        assign_weights(network, backbone)
        tf.saved_model.save(tf.Module(), str(tmp_path / "module"))
        write_hub_module(network, tmp_path / "module", head=False)
        pretrained = read_pretrained(tmp_path / "module")
        agreement = check_against_module(pretrained, NAME, images)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert_same(pretrained.weights, backbone)
    # bfloat16 has three digits.
    assert agreement["output"] == "features" and agreement["max_relative_difference"] < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["module"]


def test_a_folder_of_other_files_is_left_alone(tmp_path, network):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="no SavedModel"):
        write_hub_module(network, tmp_path / "notes", head=True)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "mine"


def test_a_head_has_to_be_there(tmp_path):
    with pytest.raises(ValueError, match="has no head"):
        write_hub_module(build_backbone(NAME), tmp_path / "module", head=True)


@pytest.mark.slow
def test_a_full_size_checkpoint_loads(tmp_path):
    np.savez(tmp_path / "bit.npz", **random_weights("R50x1"))
    pretrained = read_pretrained(tmp_path / "bit.npz")
    assert (pretrained.backbone, pretrained.stem, pretrained.norm) == ("R50x1", "imagenet", "group")
    model = build_backbone("R50x1")
    assert fill(model, pretrained) == ["the head of 1000 classes is left out"]
    kernel = random_weights("R50x1")["resnet/block4/unit03/c/standardized_conv2d/kernel"]
    np.testing.assert_array_equal(model.get_layer("block4_unit03_c_conv").kernel, kernel)
