"""Pushing as a whole: what is published, and that nothing half-done ever is."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf
from small_servable import CLASS_NAMES, build_encoder, build_servable

from bitkeras.errors import UserError
from export import push as push_module
from export import validation, versions
from export.push import MANIFEST, push
from export.signatures import SIGNATURES

ROOT = Path(__file__).resolve().parents[2]
PUSH_SCRIPT = (
    "import sys; from small_servable import build_servable, encode_pictures; from export.push import push\n"
    "print(push(build_servable(), push_dir=sys.argv[1], images=encode_pictures()).name)"
)


def start_push(push_dir):
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, "-c", PUSH_SCRIPT, str(push_dir)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_push_is_a_numbered_folder_and_nothing_beside_it(pushed):
    assert pushed.name == "1"
    assert os.listdir(pushed.parent) == ["1"]
    names = {"saved_model.pb", "fingerprint.pb", "variables", "assets.extra"}
    assert names <= set(os.listdir(pushed)) <= {*names, "assets"}


def test_the_manifest_tells_what_was_pushed(pushed):
    manifest = json.loads((pushed / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["run"] == "r1" and manifest["scores"] == {"kNN": 0.5}
    assert manifest["class_names"] == list(CLASS_NAMES)
    assert (manifest["image_size"], manifest["num_features"], manifest["tensorflow"]) == (32, 8, tf.__version__)
    assert list(manifest["signatures"]) == list(SIGNATURES)
    # Clients of a served model depend on the signatures. Who changes them on purpose changes this number, and says so.
    assert manifest["signature_def_hash"] == "7592630088951344821"
    assert manifest["has_warmup"] and "antialiased" in manifest["preprocessing"]
    inputs = {name: signature["inputs"] for name, signature in manifest["signatures"].items()}
    assert inputs["serving_default"] == {"image_bytes": {"dtype": "string", "shape": [None]}}
    files = [path for path in pushed.rglob("*") if path.is_file() and path.name != MANIFEST.name]
    digests = {path.relative_to(pushed).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert manifest["sha256"] == digests and "saved_model.pb" in digests


def test_no_photograph_goes_with_the_model(pushed, images):
    held = b"".join(path.read_bytes() for path in pushed.rglob("*") if path.is_file())
    assert held.count(b"\xff\xd8\xff") >= 2  # the warm-up's own picture
    assert not [index for index, image in enumerate(images) if image[len(image) // 2 :][:200] in held]


def refuse(*_, **__):
    raise AssertionError("must not be reached")


def test_an_existing_version_is_refused_before_any_work(pushed, servable, images, monkeypatch):
    monkeypatch.setattr(push_module, "write_model", refuse)
    before = (pushed / "saved_model.pb").stat()
    with pytest.raises(UserError, match="Version 1 exists already"):
        push(servable, push_dir=pushed.parent, images=images, version=1)
    assert (pushed / "saved_model.pb").stat() == before


def test_an_unwritable_folder_no_image_and_a_broken_one_are_told(servable, images, tmp_path, monkeypatch):
    monkeypatch.setattr(push_module, "write_model", refuse)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        push(servable, push_dir=tmp_path / "file", images=images)
    with pytest.raises(UserError, match="No image was given"):
        push(servable, push_dir=tmp_path / "model", images=[])
    with pytest.raises(UserError, match="Image 1 of those for the check"):
        push(servable, push_dir=tmp_path / "model", images=[images[0], images[1][:500]])
    assert os.listdir(tmp_path / "model") == []


def test_a_manifest_may_not_contradict_the_push(servable, images, tmp_path):
    with pytest.raises(ValueError, match="class_names, sha256"):
        push(servable, push_dir=tmp_path, images=images, manifest={"sha256": {}, "class_names": []})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "variables/x.data; No space left on device"),
    ],
)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(servable, images, tmp_path, monkeypatch, error):
    def fill_the_disk(_, folder, **__):
        (folder / "saved_model.pb").write_bytes(b"half")
        raise error

    monkeypatch.setattr(push_module, "write_model", fill_the_disk)
    with pytest.raises(UserError, match="disk is full, so nothing was published"):
        push(servable, push_dir=tmp_path, images=images)
    assert os.listdir(tmp_path) == []


def test_other_errors_of_the_system_pass_through(servable, images, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(push_module, "write_model", fail)
    with pytest.raises(OSError, match="Input/output"):
        push(servable, push_dir=tmp_path, images=images)
    assert os.listdir(tmp_path) == []


def save_other_weights(servable, folder, write):
    kernel = servable.encoder.layers[1].kernel
    kernel.assign_add(tf.fill(kernel.shape, 0.01))
    facts = write(servable, folder)
    kernel.assign_sub(tf.fill(kernel.shape, 0.01))
    return facts


def damage_the_file(servable, folder, write):
    facts = write(servable, folder)
    path = folder / "variables" / "variables.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return facts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (save_other_weights, r"check of probabilities: batch differs from Keras by up to .* at image \d"),
        (damage_the_file, r"could not be loaded and run in a fresh process .*[Cc]hecksum"),
    ],
)
def test_wrong_weights_are_not_published(images, tmp_path, monkeypatch, fault, message):
    write = push_module.write_model
    monkeypatch.setattr(push_module, "write_model", lambda servable, folder: fault(servable, folder, write))
    with pytest.raises(validation.ValidationError, match=message):
        push(build_servable(), push_dir=tmp_path, images=images)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_batch_norm_in_training_mode_is_not_published(images, tmp_path):
    servable = build_servable(build_encoder(bn_training=True))
    with pytest.raises(validation.ValidationError, match="check of ops: signature .* reaches Assign"):
        push(servable, push_dir=tmp_path, images=images)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_push_killed_while_it_writes_leaves_no_version_and_is_tidied_up_later(tmp_path):
    process = start_push(tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".tmp-*/saved_model.pb")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert versions.list_versions(tmp_path) == []
    (left,) = os.listdir(tmp_path)
    staged = versions.stage(tmp_path)
    assert os.listdir(tmp_path) == [staged.name] != [left]


@pytest.mark.slow
def test_a_version_published_during_a_push_is_kept_and_the_next_is_taken(servable, images, tmp_path, monkeypatch):
    write = push_module.write_model

    def write_while_another_publishes(servable, folder, **options):
        facts = write(servable, folder, **options)
        other = versions.stage(tmp_path)
        (other / "saved_model.pb").write_text("of another push")
        versions.publish(other, tmp_path)
        return facts

    monkeypatch.setattr(push_module, "write_model", write_while_another_publishes)
    assert push(servable, push_dir=tmp_path, images=images) == tmp_path / "2"
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "of another push"
    assert set(tf.saved_model.load(str(tmp_path / "2")).signatures) == set(SIGNATURES)
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


@pytest.mark.slow
def test_two_processes_export_the_same_bytes(tmp_path):
    processes = [start_push(tmp_path / name) for name in ("one", "two")]
    assert [process.communicate()[0].strip() for process in processes] == ["1", "1"]
    digests = [push_module.file_digests(tmp_path / name / "1") for name in ("one", "two")]
    assert digests[0] == digests[1] and len(digests[0]) >= 5
    manifests = [(tmp_path / name / "1" / MANIFEST).read_bytes() for name in ("one", "two")]
    assert manifests[0] == manifests[1]
