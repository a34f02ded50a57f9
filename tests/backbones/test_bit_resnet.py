import numpy as np
import pytest
import tensorflow as tf

from bitkeras.backbones import BACKBONES, build_backbone
from bitkeras.backbones.layers import GroupNormalization, StandardizedConv2D, group_norm
from bitkeras.errors import UserError

# Counted on the released checkpoints, without the head.
RELEASED_SIZES = {"R50x1": (23_500_352, 151), "R101x1": (42_492_480, 304)}


@pytest.fixture
def policy(request):
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("name", RELEASED_SIZES)
def test_released_sizes_have_the_released_number_of_parameters(name):
    model = build_backbone(name)
    assert (model.count_params(), len(model.weights)) == RELEASED_SIZES[name]


@pytest.mark.parametrize(("name", "num_groups"), [("R50x1", 32), ("R26x0.5", 16), ("R26x0.25", 8), ("R152x4", 32)])
def test_narrow_networks_keep_two_channels_in_the_smallest_group(name, num_groups):
    assert BACKBONES[name].num_groups == num_groups
    assert BACKBONES[name].stem_channels % num_groups == 0


def test_unknown_backbone_lists_the_known():
    with pytest.raises(UserError, match="R50x2.*R50x1, R50x3"):
        build_backbone("R50x2")


@pytest.mark.parametrize("argument", [{"norm": "layer"}, {"stem": "tiny"}])
def test_unknown_norm_or_stem_lists_the_known(argument):
    with pytest.raises(ValueError, match="known are"):
        build_backbone("R14x0.25", **argument)


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"], indirect=True)
def test_any_image_size_gives_finite_float32_features(norm, stem, policy):
    encoder = build_backbone("R14x0.25", norm=norm, stem=stem)
    # float16 convolutions on a processor are very slow, so one odd size has to do there.
    for height, width in [(33, 21)] if policy == "mixed_float16" else [(32, 32), (33, 21)]:
        features = encoder(tf.random.stateless_uniform([2, height, width, 3], [0, 1], -1, 1))
        assert features.dtype == tf.float32 and features.shape == [2, 512]
        assert np.isfinite(features).all()


def test_cifar_stem_keeps_the_resolution():
    encoder = build_backbone("R14x0.25", stem="cifar")
    assert encoder.get_layer("root_block_conv").kernel.shape[:2] == [3, 3]
    stage_one = tf.keras.Model(encoder.input, encoder.get_layer("block1_unit01_add").output)
    assert stage_one(tf.zeros([1, 32, 32, 3])).shape == [1, 32, 32, 64]


def test_batch_norm_network_has_pytorch_defaults_and_plain_kernels():
    encoder = build_backbone("R14x0.25", norm="batch")
    norms = [layer for layer in encoder.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    assert len(norms) == 13
    assert {(layer.epsilon, layer.momentum) for layer in norms} == {(1e-5, 0.9)}
    assert not any(isinstance(layer, StandardizedConv2D) for layer in encoder.layers)


def test_zero_initialised_units_are_the_identity():
    encoder = build_backbone("R26x0.25", norm="batch", zero_init_residual=True)
    outputs = [encoder.get_layer(f"block2_unit0{unit}_add").output for unit in (1, 2)]
    first, second = tf.keras.Model(encoder.input, outputs)(tf.random.normal([1, 32, 32, 3]))
    np.testing.assert_array_equal(first, second)


def test_standardized_conv_is_a_convolution_with_standardised_kernels():
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(1, 4, 4, 3)), rng.normal(2.0, 3.0, size=(3, 3, 3, 5))
    layer = StandardizedConv2D(5, 3, use_bias=False)
    layer.build([None, 4, 4, 3])
    layer.kernel.assign(kernel)
    flat = kernel.reshape(-1, 5)
    flat = (flat - flat.mean(axis=0)) / np.sqrt(flat.var(axis=0) + 1e-10)
    expected = [
        [images[0, row : row + 3, column : column + 3].reshape(-1) @ flat for column in range(2)] for row in range(2)
    ]
    np.testing.assert_allclose(layer(tf.constant(images, tf.float32))[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"], indirect=True)
def test_kernels_are_standardised_in_float32(policy):
    layer = StandardizedConv2D(2, 1, use_bias=False)
    layer.build([None, 1, 1, 2])
    # The difference is lost in half precision, and in float16 the epsilon of 1e-10 is zero.
    layer.kernel.assign([[[[1.0, 3.0], [1.0 + 1e-4, 3.0]]]])
    output = layer(tf.constant([[[[0.0, 1.0]]]]))
    np.testing.assert_allclose(tf.cast(output, tf.float32)[0, 0, 0], [0.98, 0.0], atol=0.02)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"], indirect=True)
def test_group_norm_is_the_plain_formula(policy):
    rng = np.random.default_rng(0)
    # A square of 300 is over float16's largest number.
    images = rng.normal(200.0, 100.0, size=(2, 3, 3, 8)).astype(np.float16)
    gamma, beta = rng.normal(size=8), rng.normal(size=8)
    layer = group_norm("norm", groups=4)
    layer.build([None, 3, 3, 8])
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    expected = np.empty(images.shape)
    for image in range(2):
        for group in range(4):
            channels = slice(2 * group, 2 * group + 2)
            part = images[image, :, :, channels].astype(np.float64)
            normal = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
            expected[image, :, :, channels] = normal * gamma[channels] + beta[channels]
    tolerance = 1e-4 if policy == "float32" else 4e-3
    np.testing.assert_allclose(layer(images), expected, atol=tolerance)


def test_group_norm_network_survives_saving(tmp_path):
    encoder = build_backbone("R14x0.25", norm="group")
    encoder.save(tmp_path / "encoder.keras")
    again = tf.keras.models.load_model(tmp_path / "encoder.keras")
    assert any(isinstance(layer, GroupNormalization) for layer in again.layers)
    images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 1], -1, 1)
    np.testing.assert_array_equal(again(images), encoder(images))


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_batch_norm_network_can_standardise_in_float32(policy):
    kept = build_backbone("R14x0.25", norm="batch", weight_standardization=True)
    convolutions = [layer for layer in kept.layers if isinstance(layer, tf.keras.layers.Conv2D)]
    assert convolutions and all(isinstance(layer, StandardizedConv2D) for layer in convolutions)
    # No rounding of a kernel before it is standardised: read as it is, a weight stays float32.
    assert {layer.kernel.dtype for layer in convolutions} == {tf.float32}
    assert not any(isinstance(layer, GroupNormalization) for layer in kept.layers)
    assert kept.count_params() == build_backbone("R14x0.25", norm="batch").count_params()
