"""`bitkeras push --encoder_only`: a run without labels and without a probe becomes a version that serves."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
from small_road import pretrain_flags

from export.serving.remote import connect
from export.serving.server import Server
from pipelines import cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unlabelled(phantoms, tmp_path_factory):
    """A run on a folder of images, and where its encoder was pushed; to be read and not changed."""
    folder = tmp_path_factory.mktemp("unlabelled")
    images = folder / "images"
    shutil.copytree(phantoms / "HAM10000_images_part_1", images)
    run_dir, push_dir = folder / "run", folder / "served"
    cli.run("pretrain", pretrain_flags(images, run_dir, "--dataset=unlabelled_folder", "--epochs=1"))
    cli.run("push", [f"--run_dir={run_dir}", f"--push_dir={push_dir}", "--encoder_only"])
    return images, run_dir, push_dir


def test_it_answers_with_the_features_of_the_encoder(unlabelled):
    images, run_dir, push_dir = unlabelled
    paths = sorted(images.glob("*.jpg"))[:5]
    loaded = tf.saved_model.load(str(push_dir / "1"))
    answer = loaded.signatures["serving_default"](image_bytes=tf.constant([path.read_bytes() for path in paths]))
    assert set(answer) == {"embedding", "ood_score", "status"}
    encoder = tf.keras.models.load_model(run_dir / "encoder.keras")
    pixels = [tf.image.resize(tf.io.decode_jpeg(path.read_bytes()), [32, 32], antialias=True) for path in paths]
    wanted = encoder(tf.stack(pixels) / 127.5 - 1, training=False).numpy()
    np.testing.assert_allclose(answer["embedding"], wanted, atol=1e-3 * np.abs(wanted).max())
    strange = tf.io.encode_png(tf.cast(tf.random.stateless_uniform([64, 64, 3], [0, 1], 0, 256, tf.int32), tf.uint8))
    told = loaded.signatures["serving_default"](image_bytes=tf.stack([strange]))["ood_score"].numpy()
    assert told[0] > answer["ood_score"].numpy().mean()


def test_what_is_recorded_says_that_it_has_no_classes(unlabelled, capsys):
    _, run_dir, push_dir = unlabelled
    manifest = json.loads((push_dir / "1" / "assets.extra" / "export_manifest.json").read_text())
    assert manifest["class_names"] == [] and "metrics" not in manifest and manifest["has_warmup"]
    card = (push_dir / "1" / "assets.extra" / "model_card.md").read_text()
    assert "image-feature-extraction" in card and "names no classes" in card and "## Scores" not in card
    cli.run("versions", [f"--push_dir={push_dir}"])
    assert "an encoder alone  live" in capsys.readouterr().out
    cli.run("inspect", [str(push_dir)])
    assert "classes: none, an encoder alone" in capsys.readouterr().out
    assert (run_dir / "tfx" / "InfraValidator" / "blessing" / "1" / "INFRA_BLESSED").exists()
    cli.run("push", [f"--run_dir={run_dir}", f"--push_dir={push_dir}", "--encoder_only"])
    assert "already holds this encoder; nothing to do" in capsys.readouterr().out


def test_hub_and_a_server_take_it(unlabelled):
    images, _, push_dir = unlabelled
    layer = hub.KerasLayer(str(push_dir / "1"), trainable=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.random.stateless_uniform([2, 32, 32, 3], [0, 1])) ** 2)
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert gradients and all(gradient is not None for gradient in gradients)
    (image, *_) = sorted(images.glob("*.jpg"))
    server = Server({"encoder": push_dir})
    try:
        for address in (f"localhost:{server.rest_port}", f"grpc://localhost:{server.grpc_port}"):
            with connect(address, model_name="encoder") as ask:
                answer = ask([image.read_bytes(), b"none"])
            assert answer["status"].tolist() == ["ok", "unreadable"] and np.any(answer["embedding"][0])
    finally:
        server.stop()


def test_what_it_cannot_do_is_told(unlabelled, capfd):
    images, run_dir, push_dir = unlabelled
    given = [f"--run_dir={run_dir}", f"--push_dir={push_dir}"]
    for command, told in {
        ("push", *given, "--encoder_only", "--floors=balanced_accuracy=0.4"): "--encoder_only has none; leave it out",
        ("push", *given): "or pass --encoder_only",
        ("predict", f"--push_dir={push_dir}", str(next(images.glob("*.jpg")))): "an encoder without classes",
    }.items():
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(command))
        (line,) = capfd.readouterr().err.splitlines()
        assert told in line and stopped.value.code == 1
    with pytest.raises(SystemExit) as stopped:
        cli.main(
            [
                "push",
                f"--run_dir={run_dir}",
                f"--push_dir={push_dir.parent / 'other'}",
                "--encoder_only",
                "--max_mb=0.1",
            ]
        )
    assert stopped.value.code == 3 and "MB wanted" in capfd.readouterr().err
    assert not list((push_dir.parent / "other").glob("[0-9]*"))


def test_frozen_it_answers_alike(unlabelled, tmp_path):
    images, run_dir, push_dir = unlabelled
    cli.run("push", [f"--run_dir={run_dir}", f"--push_dir={tmp_path}", "--encoder_only", "--freeze"])
    image = tf.constant([next(images.glob("*.jpg")).read_bytes()])
    plain, frozen = (tf.saved_model.load(str(folder / "1")).signatures["embed"] for folder in (push_dir, tmp_path))
    wanted = plain(image_bytes=image)["embedding"].numpy()
    np.testing.assert_allclose(frozen(image_bytes=image)["embedding"], wanted, atol=1e-5 * np.abs(wanted).max())
