"""What commands share: data flags, precision, and the log."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf

from bitkeras.data import OPTIONS, ImageSource, read_source
from bitkeras.data.source import require_folder
from bitkeras.errors import UserError, first_line
from bitkeras.runs import RunFolder
from pipelines.command_flags import CommandFlags

PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")


READER_OPTIONS = tuple(dict.fromkeys(option for options in OPTIONS.values() for option in options))


def define_data_flags(flags: CommandFlags, datasets: Iterable[str], *, required: bool = True) -> None:
    """--dataset, --data_dir (which may be `required`) and what some data sets can be told."""
    flags.choice("dataset", "ham10000", datasets, "How the images lie on disk.")
    flags.text("data_dir", None, "The folder of the images, or the file where all are in one.", required=required)
    define_reader_flags(flags)


def define_reader_flags(flags: CommandFlags) -> None:
    """The flags `READER_OPTIONS`."""
    flags.text("image_column", None, "csv: column of the files (none: image); tfrecord: feature of the encoded image.")
    flags.text("label_column", None, "csv, tfrecord: column or feature of the class; none: csv has no labels.")
    flags.text("group_column", None, "csv, tfrecord: column or feature of the lesion or patient.")
    flags.text(
        "id_column", None, "csv, tfrecord: column or feature of the image's id; none: csv takes the image column."
    )
    flags.text("fact_columns", None, "csv, tfrecord: further columns to keep for evaluation, with commas.")
    flags.text("dicom_window", None, "DICOM: CENTRE,WIDTH or percentile for all files; none: the window of each.")


def read_images(config: dict, data_dir: str | None = None) -> ImageSource:
    """The images that the data flags in `config` name, or those of the same kind in `data_dir`."""
    # Runs of earlier versions recorded no such flags.
    options = {option: config.get(option) for option in READER_OPTIONS}
    return read_source(config["dataset"], data_dir or config["data_dir"], **options)


def refuse_reader_options(options: dict) -> None:
    """UserError naming a flag of `READER_OPTIONS` that was given for images that a run has read already."""
    for option in READER_OPTIONS:
        if options.get(option) is not None:
            raise UserError(
                f"--{option}={options[option]} is for another --dataset, and the run's own images are read as they "
                "were; leave it out or pass --dataset too."
            )


def read_existing(config: dict, data_dir: str | None = None) -> ImageSource:
    """`read_images`, told in a line, of a place that must be there: phantoms are not drawn anew."""
    place = data_dir or config["data_dir"]
    if not Path(place).is_file():
        require_folder(place)
    source = read_images(config, place)
    say(source.summary())
    return source


def choose_precision(precision: str) -> tuple[str, str]:
    """(policy, reason): what "auto" means on this machine, or `precision` itself."""
    if precision != "auto":
        return precision, "asked for"
    for gpu in tf.config.list_physical_devices("GPU"):
        capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        if capability >= (7, 0):
            return "mixed_float16", f"the GPU has compute capability {capability[0]}.{capability[1]}"
        return "float32", "the GPU has no tensor cores"
    processor = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    for feature in ("avx512_bf16", "amx_bf16"):
        if feature in processor:
            return "mixed_bfloat16", f"the processor has {feature}"
    return "float32", "there is no GPU, and the processor has no bfloat16 arithmetic"


def settled(run: RunFolder, config: dict) -> tuple[dict, str]:
    """(`config` with precision and data folder as the run records them, the reason for the precision)."""
    policy, reason = choose_precision(config["precision"])
    if config["precision"] == "auto" and run.config_path.exists():
        # A run goes on in the precision it was started in, also on another machine.
        policy, reason = run.config()["precision"], "as this run was started"
    return {**config, "precision": policy, "data_dir": str(Path(config["data_dir"]).absolute())}, reason


@contextlib.contextmanager
def naming_shortage(config: dict) -> Iterator[None]:
    """Turns TensorFlow's word for a memory and for a disk that is full into a UserError that says which it is."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        # The system's text for ENOSPC, which its file system puts behind the name of the file.
        if "No space left" in str(error.message):
            raise UserError(
                f"The disk is full ({first_line(error)}); make room and give the same command again, which goes on "
                "from the last checkpoint."
            ) from error
        raise UserError(
            f"The memory does not hold a step of {config['batch_size']} images at {config['image_size']} px; pass a "
            "smaller --batch_size, --image_size or --backbone, with another --run_dir, or to a training --recompute."
        ) from error
    except tf.errors.OpError as error:
        # What a writer of summaries fails with, whatever its file system says.
        if "events to" not in str(error.message):
            raise
        raise UserError(
            f"TensorBoard's file could not be written ({first_line(error)}). Make room or access and give the same "
            "command again, which goes on from the last checkpoint."
        ) from error


def silence_compiler() -> None:
    """Keeps the two lines off the screen that XLA writes when a process compiles something for the first time."""
    # They come from below TensorFlow's own log, where TF_CPP_MIN_LOG_LEVEL does not reach.
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        # The views are what gets compiled, and they are made on the processor.
        with tf.device("/CPU:0"):
            tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(0.0))
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def say(line: str) -> None:
    """One line of log a stage, out at once even into a pipe."""
    print(line, flush=True)
