"""Ask a pushed SavedModel, or a server of one, about images.

The images follow the flags: --push_dir=DIR IMAGE [IMAGE ...], or --server=HOST:PORT IMAGE [IMAGE ...]. Only the
SavedModel is used, as a server would. One broken image refuses them all.
"""

from __future__ import annotations

import json

from absl import flags
from tqdm import tqdm

from bitkeras.errors import UserError
from export.predict import predict_files
from export.serving.remote_predict import predict_by_server
from export.versions import version_path
from pipelines.command_flags import CommandFlags

TAKES_ARGUMENTS = True

FLAGS = CommandFlags()
FLAGS.text("push_dir", None, "A folder that `bitkeras push` published into.")
FLAGS.text("server", None, "In place of it a model server: host:8501 for REST, grpc://host:8500 for gRPC.")
FLAGS.text("model_name", None, "The server's model; none: its only one, which TensorFlow Serving does not tell.")
FLAGS.integer("version", None, "Which version; none: the latest.", at_least=1)
FLAGS.switch("json", False, "One JSON object a line, with the embedding.")


def main(images: list[str]) -> None:
    """Flags become plain arguments."""
    if (FLAGS.push_dir is None) == (FLAGS.server is None):
        raise flags.Error("either --push_dir or --server must be given, and not both")
    if FLAGS.model_name and not FLAGS.server:
        raise flags.Error("--model_name is a server's name for a model; pass it with --server")
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
    import sys

    from pipelines.cli import main as command_line

    command_line(["predict", *sys.argv[1:]])
