import hashlib
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.checkpoints import HEAD, assign_weights, canonical_name, graph_variables, read_weights
from bitkeras.errors import UserError

NAME = "R14x0.25"
HANDLE = "https://tfhub.dev/google/bit/s-r50x1/1"


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


@pytest.mark.parametrize(("prefix", "with_head"), [("", False), ("module/", True)])
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


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="absent.npz does not exist"):
        read_weights(tmp_path / "absent.npz")


def write_text_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes.txt", "no array")


def write_damaged(path, save):
    save(path, **{"resnet/block1/unit01/a/standardized_conv2d/kernel": np.linspace(0, 1, 1000)})
    content = bytearray(path.read_bytes())
    content[400:500] = bytes(100)
    path.write_bytes(content)


def write_npy(path):
    with open(path, "wb") as file:
        np.save(file, np.ones(3))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"PK\x03\x04 cut short"),
        lambda path: path.write_bytes(b""),
        lambda path: write_damaged(path, np.savez),
        lambda path: write_damaged(path, np.savez_compressed),
        lambda path: np.savez(path, **{"resnet/group_norm/gamma": np.array(["a", "b"])}),
        lambda path: np.savez(path, **{"resnet/group_norm/gamma": np.array([{}])}),
        write_text_zip,
        write_npy,
    ],
    ids=["cut", "empty", "damaged", "damaged_compressed", "text", "objects", "zip", "npy"],
)
def test_a_damaged_file_is_told_in_one_sentence(tmp_path, write):
    write(tmp_path / "broken.npz")
    with pytest.raises(UserError, match=r"^The weights file .*broken.npz is damaged or no .npz .*again\.$"):
        read_weights(tmp_path / "broken.npz")


@pytest.mark.parametrize("content", [b"", b"no table" * 20])
@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_damaged_variables_are_told_in_one_sentence(tmp_path, name, content):
    folder = write_module(tmp_path / "module", {"resnet/group_norm/gamma": np.ones(3)})
    (tmp_path / "module" / "variables" / name).write_bytes(content)
    with pytest.raises(UserError, match=r"^The variables of .*module cannot be read \(.*\); fetch .* again\.$"):
        read_weights(folder)


def test_float16_becomes_float32(tmp_path, released):
    np.savez(tmp_path / "half.npz", **{name: value.astype(np.float16) for name, value in released.items()})
    weights = read_weights(tmp_path / "half.npz")
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(weights["norm/gamma"], released["resnet/group_norm/gamma"], rtol=1e-3)


@pytest.mark.parametrize("head_shape", [(512, 5), (1, 1, 512, 5)])
def test_a_head_of_either_form_becomes_dense(tmp_path, released, head_shape):
    name = "resnet/head/conv2d/kernel"
    np.savez(tmp_path / "bit.npz", **{**released, name: released[name].reshape(head_shape)})
    model = build_backbone(NAME, num_classes=5)
    assign_weights(model, read_weights(tmp_path / "bit.npz"))
    np.testing.assert_array_equal(model.get_layer("head").kernel, released[name][0, 0])


def test_a_head_that_is_no_1x1_kernel_is_not_cut_to_one(tmp_path, released):
    name = "resnet/head/conv2d/kernel"
    np.savez(tmp_path / "bit.npz", **{**released, name: np.ones([2, 1, 512, 5])})
    with pytest.raises(UserError, match=r"of another shape: head/kernel \(graph \(512, 5\), checkpoint \(2, 1, 512, 5"):
        assign_weights(build_backbone(NAME, num_classes=5), read_weights(tmp_path / "bit.npz"))


def respelled(name, number):
    """Another spelling found in released files, with a prefix."""
    name = name.replace("standardized_conv2d/", f"standardized_conv2d_{number}/")
    return "models/bit/" + name.replace("group_norm/", f"group_norm_{number}/") + ":0"


def test_every_spelling_of_a_name_at_once(tmp_path, released):
    np.savez(tmp_path / "bit.npz", **{respelled(name, i): value for i, (name, value) in enumerate(released.items())})
    np.savez(tmp_path / "plain.npz", **released)
    plain, other = read_weights(tmp_path / "plain.npz"), read_weights(tmp_path / "bit.npz")
    assert plain.keys() == other.keys()
    for name in plain:
        np.testing.assert_array_equal(plain[name], other[name])


def test_names_that_are_not_bits_are_listed(tmp_path, released):
    extra = {"global_step": np.ones([]), "resnet/block1/unit01/a/standardized_conv2d/kernel/Momentum": np.ones(3)}
    np.savez(tmp_path / "bit.npz", **{**released, **extra})
    with pytest.raises(UserError, match="only in the checkpoint: block1/unit01/a/conv/kernel/Momentum, global_step"):
        assign_weights(build_backbone(NAME, num_classes=5), read_weights(tmp_path / "bit.npz"))


def test_a_file_without_any_name_of_bit_is_told(tmp_path):
    np.savez(tmp_path / "other.npz", conv1=np.ones(3), dense=np.ones(2))
    with pytest.raises(UserError, match=r"other.npz holds no BiT network: of its 2 arrays \(conv1, dense\)"):
        read_weights(tmp_path / "other.npz")


def test_numbers_that_are_none_are_refused(tmp_path, released):
    np.savez(tmp_path / "bit.npz", **{**released, "resnet/group_norm/beta": np.full(512, np.nan)})
    with pytest.raises(UserError, match="NaN or infinity in resnet/group_norm/beta"):
        read_weights(tmp_path / "bit.npz")


def test_one_name_twice_is_refused(tmp_path):
    np.savez(tmp_path / "two.npz", **{"resnet/group_norm/gamma": np.ones(2), "a/resnet/group_norm/gamma": np.ones(2)})
    with pytest.raises(UserError, match="norm/gamma twice"):
        read_weights(tmp_path / "two.npz")


def test_two_variables_of_a_module_under_one_name_are_refused(tmp_path):
    module = tf.Module()
    module.variables_ = [tf.Variable(value, name="resnet/group_norm/gamma") for value in (1.0, 2.0)]
    tf.saved_model.save(module, str(tmp_path / "module"))
    with pytest.raises(UserError, match="norm/gamma twice"):
        read_weights(tmp_path / "module")


def test_what_is_no_module_is_told(tmp_path):
    with pytest.raises(UserError, match="no .npz file, no SavedModel folder and no URL"):
        read_weights(str(tmp_path))


def test_a_handle_out_of_reach_names_the_offline_ways(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("[Errno -2] Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)  # the network is the one thing that is not real here
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(UserError) as error:
        read_weights(HANDLE)
    told = str(error.value)
    assert HANDLE in told and f"TFHUB_CACHE_DIR ({tmp_path / 'cache'})" in told and "Name or service" in told
    for way in ("folder of a downloaded module", ".npz", "run folder", ".keras", "shipped model"):
        assert way in told
    assert "\n" not in told and told.count(". ") == 0


def test_a_cached_handle_needs_no_network(monkeypatch, tmp_path, released):
    # tensorflow-hub keeps a module under the hash of its handle.
    name = "resnet/root_block/standardized_conv2d/kernel"
    write_module(tmp_path / hashlib.sha1(HANDLE.encode()).hexdigest(), {name: released[name]})
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    np.testing.assert_array_equal(read_weights(HANDLE)["root_block/conv/kernel"], released[name])


def test_a_cached_handle_without_a_module_is_told(monkeypatch, tmp_path):
    cached = tmp_path / hashlib.sha1(HANDLE.encode()).hexdigest()
    cached.mkdir()
    (cached / "index.html").write_text("a page instead of an archive")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with pytest.raises(UserError, match="which holds no SavedModel"):
        read_weights(HANDLE)
