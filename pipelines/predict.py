"""Ask a pushed SavedModel, or a server of one, about images.

The images follow the flags: --push_dir=DIR IMAGE [IMAGE ...], or --server=HOST:PORT IMAGE [IMAGE ...]. Only the
SavedModel is used, as a server would. One broken image refuses them all.

A whole archive: --push_dir=DIR --input=FOLDER --output_dir=NEW, where --input may be a table of files (.csv) or
TFRecords too. Apache Beam shares it out, and its own flags follow after a --. OUTPUT_DIR gets
predictions-00000-of-00012.csv and so on, a row an image: image_id, status, prediction, ood_score, a probability for
each class, and the class where it is known. Images that cannot be used are listed in bad_images.csv. Stopped, the same
command goes on with the shards that are missing; nothing is seen in OUTPUT_DIR before all of it is there.
"""

from __future__ import annotations

import json
import sys

from absl import flags
from tqdm import tqdm

from bitkeras.errors import UserError
from export.predict import predict_files
from export.serving.remote import is_listening
from export.serving.remote_predict import predict_by_server
from export.versions import version_path
from pipelines import archive, predict_archive
from pipelines.command_flags import CommandFlags
from pipelines.runtime import define_reader_flags

TAKES_ARGUMENTS = True

FLAGS = CommandFlags()
FLAGS.text("push_dir", None, "A folder that `bitkeras push` published into.")
FLAGS.text("server", None, "In place of it a model server: host:8501 for REST, grpc://host:8500 for gRPC.")
FLAGS.text("model_name", None, "The server's model; none: its only one, which TensorFlow Serving does not tell.")
FLAGS.integer("version", None, "Which version; none: the latest.", at_least=1)
FLAGS.switch("json", False, "One JSON object a line, with the embedding.")
FLAGS.text("input", None, "In place of images an archive of them: a folder, a .csv table, or TFRecords.")
FLAGS.text("output_dir", None, "With --input: a new or empty folder; it appears when all is there.")
FLAGS.choice("dataset", "auto", ["auto", *predict_archive.INPUTS], "How --input lies on disk; auto: see there.")
define_reader_flags(FLAGS)
archive.define_job_flags(
    FLAGS,
    images_per_shard=1000,
    num_workers=1,
    workers="one keeps all cores of a machine busy where the network is deep",
    images="--input",
)
FLAGS.integer("batch_size", 32, "With --input: images that are asked about together, by each worker.", at_least=1)


def main(images: list[str]) -> None:
    """Flags become plain arguments."""
    if (FLAGS.push_dir is None) == (FLAGS.server is None):
        raise flags.Error("either --push_dir or --server must be given, and not both")
    if FLAGS.model_name and not FLAGS.server:
        raise flags.Error("--model_name is a server's name for a model; pass it with --server")
    if FLAGS.input is not None:
        if FLAGS.server is not None or FLAGS.json:
            raise flags.Error("--input is for a model on disk, and writes tables; leave --server and --json out")
        if FLAGS.output_dir is None:
            raise flags.Error("--output_dir must be given with --input")
        predict_archive.predict_archive(FLAGS.values(), archive.beam_options(images))
        return
    if FLAGS.output_dir is not None:
        raise flags.Error("--output_dir is for --input; the answers about single images are printed")
    predict(images, **FLAGS.values(only=["push_dir", "server", "model_name", "version"]), as_json=FLAGS.json)


def predict(
    images: list[str],
    *,
    push_dir: str | None,
    server: str | None = None,
    model_name: str | None = None,
    version: int | None,
    as_json: bool,
) -> None:
    """Prints the classes of `images`, the likeliest first.

    Raises:
      UserError: no image, no such version, no server, or a file that is no image.
    """
    if not images:
        raise UserError("No image was given; name one or more image files after the flags.")
    if server is None:
        answers = predict_files(version_path(push_dir, version), images)
    else:
        if not is_listening(server):
            print(f"{server} does not answer yet; trying for half a minute, in case it is starting", file=sys.stderr)
        answers = predict_by_server(server, images, model_name=model_name, version=version)
    # The bar is drawn on a terminal only.
    for answer in tqdm(answers, total=len(images), unit="image", leave=False, disable=None):
        tqdm.write(_line(answer, as_json))


def _line(answer: dict, as_json: bool) -> str:
    if as_json:
        return json.dumps(answer)
    ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
    return f"{answer['path']}: " + ", ".join(f"{name} {probability:.3f}" for name, probability in ranked)


if __name__ == "__main__":
    from pipelines.cli import main as command_line

    command_line(["predict", *sys.argv[1:]])
