import numpy as np
import pytest
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.checkpoints import HEAD, assign_weights, canonical_name, graph_variables, read_weights
from bitkeras.errors import UserError

NAME = "R14x0.25"


def released_name(canonical: str) -> str:
    """The name a released file gives to one of ours; written out again here, not derived from the code."""
    name = "resnet/" + canonical.replace("head/", "head/conv2d/")
    return name.replace("conv/kernel", "standardized_conv2d/kernel").replace("norm/", "group_norm/")


@pytest.fixture(scope="module")
def released():
    """Random weights of a small network under the released names, with a head for 5 classes."""
    rng = np.random.default_rng(0)
    model = build_backbone(NAME, num_classes=5)
    weights = {
        released_name(name): rng.normal(size=variable.shape).astype(np.float32)
        for name, variable in graph_variables(model).items()
    }
    weights["resnet/head/conv2d/kernel"] = weights["resnet/head/conv2d/kernel"][np.newaxis, np.newaxis]
    return weights


def write_module(folder, weights):
    """A SavedModel in the form of the TF Hub modules: official variable names, images in [0, 1]."""
    module = tf.Module()
    module.variables_ = [tf.Variable(value, name=name) for name, value in weights.items()]
    module.__call__ = tf.function(lambda images: images * 2 - 1, [tf.TensorSpec([None, None, None, 3])])
    tf.saved_model.save(module, str(folder))
    return str(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet/root_block/standardized_conv2d/kernel", "root_block/conv/kernel"),
        ("resnet/block1/unit01/a/proj/standardized_conv2d/kernel", "block1/unit01/a/proj/conv/kernel"),
        ("module/resnet/block4/unit03/c/standardized_conv2d_1/kernel:0", "block4/unit03/c/conv/kernel"),
        ("resnet/group_norm/gamma", "norm/gamma"),
        ("resnet/head/conv2d/bias:0", "head/bias"),
    ],
)
def test_canonical_names(name, expected):
    assert canonical_name(name) == expected


def test_graph_and_released_names_are_the_same_set(released):
    assert {canonical_name(name) for name in released} == set(graph_variables(build_backbone(NAME, num_classes=5)))


def test_npz_fills_every_variable(tmp_path, released):
    np.savez(tmp_path / "bit.npz", **released)
    model = build_backbone(NAME, num_classes=5)
    assign_weights(model, read_weights(tmp_path / "bit.npz"))
    kernel = model.get_layer("block2_unit01_b_conv").kernel
    np.testing.assert_array_equal(kernel, released["resnet/block2/unit01/b/standardized_conv2d/kernel"])
    np.testing.assert_array_equal(model.get_layer("head").kernel, released["resnet/head/conv2d/kernel"][0, 0])


@pytest.mark.parametrize("prefix", ["", "module/"])
@pytest.mark.parametrize("with_head", [True, False])
def test_hub_module_on_disk_gives_the_same_arrays(tmp_path, released, prefix, with_head):
    kept = {prefix + name: value for name, value in released.items() if with_head or "head" not in name}
    weights = read_weights(write_module(tmp_path / "module", kept))
    model = build_backbone(NAME)
    assign_weights(model, weights, skip=HEAD)
    np.testing.assert_array_equal(
        model.get_layer("block1_unit01_a_proj_conv").kernel,
        released["resnet/block1/unit01/a/proj/standardized_conv2d/kernel"],
    )


def test_leftovers_on_both_sides_are_listed_and_nothing_is_assigned(released):
    weights = {canonical_name(name): value for name, value in released.items()}
    weights["block9/unit01/a/conv/kernel"] = weights.pop("block1/unit01/a/conv/kernel")
    weights["norm/beta"] = np.zeros(7, np.float32)
    model = build_backbone(NAME)
    before = model.get_weights()
    with pytest.raises(UserError) as error:
        assign_weights(model, weights, skip=HEAD)
    told = str(error.value)
    assert "only in the graph: block1/unit01/a/conv/kernel" in told
    assert "only in the checkpoint: block9/unit01/a/conv/kernel" in told
    assert "of another shape: norm/beta (graph (512,), checkpoint (7,))" in told
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_a_head_is_left_out_only_where_it_is_asked_for(released):
    weights = {canonical_name(name): value for name, value in released.items()}
    with pytest.raises(UserError, match="only in the checkpoint: head/bias, head/kernel"):
        assign_weights(build_backbone(NAME), weights)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(UserError, match="absent.npz does not exist"):
        read_weights(tmp_path / "absent.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match="broken.npz is damaged"):
        read_weights(tmp_path / "broken.npz")


def test_one_name_twice_is_refused(tmp_path):
    np.savez(tmp_path / "two.npz", **{"resnet/group_norm/gamma": np.ones(2), "a/resnet/group_norm/gamma": np.ones(2)})
    with pytest.raises(UserError, match="norm/gamma twice"):
        read_weights(tmp_path / "two.npz")


def test_what_is_no_module_is_told(tmp_path):
    with pytest.raises(UserError, match="no .npz file, no SavedModel folder and no URL"):
        read_weights(str(tmp_path))


def test_a_handle_out_of_reach_names_the_offline_ways(monkeypatch, tmp_path):
    import tensorflow_hub as hub

    def unreachable(handle):
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr(hub, "resolve", unreachable)  # the network is the one thing that is not real here
    with pytest.raises(UserError, match="TFHUB_CACHE_DIR"):
        read_weights("https://tfhub.dev/google/bit/s-r50x1/1")


def test_a_cached_handle_needs_no_network(monkeypatch, tmp_path, released):
    import hashlib

    handle = "https://tfhub.dev/google/bit/s-r50x1/1"
    # tensorflow-hub keeps a module under the hash of its compressed handle.
    cached = tmp_path / hashlib.sha1(handle.encode()).hexdigest()
    write_module(cached, released)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "COMPRESSED")
    weights = read_weights(handle)
    np.testing.assert_array_equal(weights["norm/gamma"], released["resnet/group_norm/gamma"])
