"""`bitkeras COMMAND --flags`: finds the command, reads its flags, and tells errors in one sentence."""

from __future__ import annotations

import difflib
import importlib
import sys
import warnings
from pathlib import Path

from absl import flags

import bitkeras
from bitkeras.errors import Interrupted, UserError

COMMANDS = {
    "quickstart": "Draw phantom images and run the whole road on them: study, push, predict.",
    "demo": "Publish the model that comes along, to try predict, serve and inspect.",
    "study": "Compare BiT, SimSiam and both: all runs, seeds, probes and figures, and one report.",
    "finetune": "Train a whole network on the labels, the supervised rival of a probe.",
    "upstream": "Train a BiT network by its own supervised recipe on labelled images.",
    "pretrain": "Train a BiT network by SimSiam, or another method, on unlabelled images.",
    "probe": "Score a pre-trained encoder: kNN, linear probe, baselines, t-SNE, report.",
    "compare": "Set probed runs side by side: scores, paired differences, curves, clinical cards.",
    "push": "Publish encoder and probe as a versioned SavedModel.",
    "versions": "List the versions of a pushed model, with their scores.",
    "rollback": "Publish an older version again, as a new one.",
    "inspect": "Say what a pushed version is, and whether its files are as they were pushed.",
    "predict": "Ask a pushed SavedModel for the class of image files.",
    "serve": "Answer requests by TensorFlow Serving's protocol, for laptops and tests.",
    "serving_config": "Write the configuration of TensorFlow Serving for pushed models.",
    "ingest": "Turn an archive of images into TFRecords, on one machine or a cluster.",
    "embed": "Compute the features of an archive of images, likewise.",
    "benchmark": "Measure how fast this machine trains, and what holds it back.",
}
PRESETS = Path(__file__).parent / "presets"


def main(argv: list[str] | None = None) -> None:
    """Entry point; exits with 0, 1 for a user's mistake, 2 for a bad flag, 3 for a refused model, 130, 143 stopped."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(usage())
        sys.exit(0)
    if argv[0] == "--version":
        print(f"bitkeras {bitkeras.__version__}")
        sys.exit(0)
    command, *arguments = argv
    if command not in COMMANDS:
        alike = difflib.get_close_matches(command, COMMANDS, n=1)
        meant = f"did you mean {alike[0]}? There are" if alike else "there are"
        told = f"there is no command {command!r}; {meant} {', '.join(COMMANDS)}"
        print(f"bitkeras: {told}; `bitkeras --help` says what they do.", file=sys.stderr)
        sys.exit(2)
    sys.exit(_guarded(command, arguments))


def usage() -> str:
    """What `bitkeras --help` prints."""
    listed = "\n".join(f"  {name:<16}{what}" for name, what in COMMANDS.items())
    presets = ", ".join(_preset_names())
    return (
        "usage: bitkeras COMMAND [--flag=value ...]\n\n"
        f"Commands:\n{listed}\n\n"
        "`bitkeras COMMAND --help` explains every flag with its default; --flagfile=FILE reads flags from a file.\n"
        f"Presets that come along, named without path or ending (those of upstream begin with bit-, of study "
        f"with study): {presets}."
    )


def run(command: str, arguments: list[str]) -> None:
    """Runs one command in this process; errors pass through.

    Raises:
      flags.Error: for a flag that does not parse.
      UserError: for a mistake in the input.
    """
    # TensorFlow imports it where the extra `tfx` is installed; which Pythons Google will support is no concern of ours.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
    module = importlib.import_module(f"pipelines.{command}")
    if "--help" in arguments or "-h" in arguments:
        print(f"usage: bitkeras {command} --flag=value ...\n\n{module.__doc__}\n{module.FLAGS.help()}")
        return
    positional = module.FLAGS.parse(with_presets(arguments))
    if positional and not getattr(module, "TAKES_ARGUMENTS", False):
        raise flags.Error(f"{' '.join(positional)} stands without a flag; every value is given as --flag=value")
    module.main(positional)


def with_presets(arguments: list[str]) -> list[str]:
    """`--flagfile=smoke` -> the preset that comes along, unless a file of that name exists."""
    resolved = []
    for argument in arguments:
        if resolved and resolved[-1] == "--flagfile":
            argument = f"{resolved.pop()}={argument}"
        name, _, value = argument.partition("=")
        preset = PRESETS / f"{value}.flags"
        if name == "--flagfile" and not Path(value).is_file() and preset.is_file():
            argument = f"{name}={preset}"
        elif name == "--flagfile" and value and not Path(value).is_file():
            raise flags.Error(f"--flagfile={value} is no file and none of the presets {', '.join(_preset_names())}")
        resolved.append(argument)
    return resolved


def _preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.flags"))


def _guarded(command: str, arguments: list[str]) -> int:
    try:
        run(command, arguments)
    except flags.Error as error:
        return _tell(command, f"{str(error).removeprefix('ERROR:: ')}; `bitkeras {command} --help` lists the flags.", 2)
    except (UserError, FloatingPointError) as error:
        return _tell(command, str(error), getattr(error, "exit_status", 1))
    except OSError as error:
        return _tell(
            command, f"{error.filename or 'A file'}: {error.strerror or error}; make room or access and run again.", 1
        )
    except Interrupted as stopped:
        return _tell(command, str(stopped), stopped.exit_status)
    except KeyboardInterrupt:
        return _tell(
            command, "interrupted; nothing is half-done, and the same command goes on after what was finished.", 130
        )
    return 0


def _tell(command: str, sentence: str, status: int) -> int:
    print(f"bitkeras {command}: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
