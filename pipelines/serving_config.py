"""Write the configuration of TensorFlow Serving for pushed models: models, monitoring, batching.

--labels=stable:3,canary:4 names versions, for a rollout in steps: the server then serves these and no others, until the
file is written again; it reads it anew by itself.
"""

from __future__ import annotations

from pathlib import Path

from export.serving.server import find_models
from export.serving.tfs_config import write_configuration
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say
from pipelines.serve import parse_labels

FLAGS = CommandFlags()
FLAGS.text("push_dir", None, "A folder that `bitkeras push` published into, or one of several such.", required=True)
FLAGS.text("output_dir", None, "Where the three files go, beside the models for the server to see.", required=True)
FLAGS.text("model_name", None, "What requests call the model; none: the folder's name.")
FLAGS.text("base_path", "/models", "Where the server sees the folders of the models.")
FLAGS.text("labels", None, "Names of versions, as stable:3,canary:4; none: the newest is served.")
FLAGS.integer("num_batch_threads", 2, "Cores of the server, for --enable_batching.", at_least=1)


def main(_) -> None:
    """Flags become plain arguments."""
    options = FLAGS.values(only=["base_path", "num_batch_threads"])
    write(FLAGS.push_dir, FLAGS.output_dir, FLAGS.model_name, labels=parse_labels(FLAGS.labels), **options)


def write(push_dir: str, output_dir: str, model_name: str | None, **options) -> None:
    """Writes the files and tells how the server is started.

    Raises:
      UserError: no model, or a label for a version that is not there.
    """
    files = write_configuration(find_models(push_dir, model_name), output_dir, **options)
    say(f"wrote {', '.join(map(str, files))}")
    base = options["base_path"]
    # Else a server that starts refuses every label, since nothing is loaded yet.
    more = " --allow_version_labels_for_unavailable_models=true" if options["labels"] else ""
    say(
        f"docker run -p 8500:8500 -p 8501:8501 -v {Path(output_dir).resolve()}:{base} tensorflow/serving:2.15.1 "
        f"--model_config_file={base}/models.config --model_config_file_poll_wait_seconds=60 "
        f"--monitoring_config_file={base}/monitoring.config{more}"
    )


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["serving_config", *sys.argv[1:]])
