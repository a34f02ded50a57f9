"""The whole road, on images that the project draws itself.

It needs no data and no network: dermatoscopy-like phantoms in HAM10000's layout, and on them the commands that you
would run on your own images, each printed first. Three encoders stand side by side in the report of a small study: a
BiT network as it came, SimSiam from random weights, and SimSiam from BiT. Run again, it goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

from pipelines import cli
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

ARMS = ("bit_m", "simsiam", "bit_m_simsiam")

FLAGS = CommandFlags()
FLAGS.text("output_dir", "runs/quickstart", "Where images, study and SavedModel go.")
FLAGS.integer("num_images", 1500, "Phantoms to draw.", at_least=100)
FLAGS.text("preset", "quickstart", "Preset or flagfile for `bitkeras pretrain`.")
FLAGS.text("weights", "bit-m-mini", "The BiT network to start from, of the architecture that the preset names.")


def main(_) -> None:
    """Flags become plain arguments."""
    quickstart(Path(FLAGS.output_dir), num_images=FLAGS.num_images, preset=FLAGS.preset, weights=FLAGS.weights)


def quickstart(output_dir: Path, *, num_images: int, preset: str, weights: str) -> None:
    """Images, a study of three encoders, SavedModel of the best and one prediction, all below `output_dir`."""
    started = time.perf_counter()
    data_dir, study_dir, push_dir = (output_dir / name for name in ("phantoms", "study", "served"))
    draw(data_dir, num_images)
    step(
        "study",
        *(f"--study_dir={study_dir}", f"--data_dir={data_dir}", f"--preset={preset}", f"--weights_m={weights}"),
        *(f"--arms={','.join(ARMS)}", "--seeds=0"),
    )
    run_dir, name = best_probe(study_dir)
    step("push", f"--run_dir={run_dir}", f"--name={name}", f"--push_dir={push_dir}")
    image_id, dx = first_test_image(run_dir / "split.csv")
    step("predict", f"--push_dir={push_dir}", str(next(data_dir.rglob(f"{image_id}.jpg"))))
    say(f"That image is of the test part; it was drawn as {dx}.")
    say(f"\nDone in {(time.perf_counter() - started) / 60:.1f} minutes. Look at")
    say(f"  the report     {study_dir / 'report.html'}")
    say(f"  the curves     tensorboard --logdir {study_dir / 'steps'}")
    say(f"  the SavedModel {push_dir}")
    say("and then run the same commands on your own folder; `bitkeras --help` lists them.")


def best_probe(study_dir: Path) -> tuple[Path, str]:
    """(run folder, its probe's name) of the best encoder on the validation part; the test part must not choose."""
    steps = json.loads((study_dir / "plan.json").read_text())["steps"]
    probes = [Path(step["folder"]) for step in steps if (Path(step["folder"]) / "scores.json").is_file()]

    def score(folder: Path) -> float:
        return json.loads((folder / "scores.json").read_text())[0]["val_balanced_accuracy"]

    best = max(probes, key=score)
    return best.parent, best.name


def first_test_image(split_path: Path) -> tuple[str, str]:
    """(image id, class) of the first test image in a saved split."""
    with open(split_path, newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["part"] == "test")
    return row["image_id"], row["class"]


def draw(data_dir: Path, num_images: int) -> None:
    """The phantoms, unless they are there."""
    if data_dir.exists():
        say(f"{data_dir} is there already.")
        return
    # Here, since drawing is the one thing no other command needs.
    from bitkeras.data.phantom import write_phantoms

    say(f"drawing {num_images} phantom images into {data_dir}")
    write_phantoms(data_dir, num_images=num_images, progress=_tell_drawn)


def _tell_drawn(done: int, total: int) -> None:
    if done % max(1, total // 5) == 0:
        say(f"  {done}/{total} images")


def step(command: str, *arguments: str) -> None:
    """Prints the command line and runs it in this process."""
    say(f"\n$ bitkeras {' '.join([command, *arguments])}")
    cli.run(command, list(arguments))


if __name__ == "__main__":
    import sys

    cli.main(["quickstart", *sys.argv[1:]])
