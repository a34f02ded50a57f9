"""The whole road, on images that the project draws itself.

It needs no data and no network: dermatoscopy-like phantoms in HAM10000's layout, and on them the commands that you
would run on your own images, each printed first. Three encoders stand side by side in the report: a BiT network as it
came, SimSiam from random weights, and SimSiam from BiT. Run again, it goes on where it stopped.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

from pipelines import cli
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

FLAGS = CommandFlags()
FLAGS.text("output_dir", "runs/quickstart", "Where images, run and SavedModel go.")
FLAGS.integer("num_images", 1500, "Phantoms to draw.", at_least=100)
FLAGS.text("preset", "quickstart", "Preset or flagfile for `bitkeras pretrain`.")
FLAGS.text("weights", "bit-m-mini", "The BiT network to start from, of the architecture that the preset names.")


def main(_) -> None:
    """Flags become plain arguments."""
    quickstart(Path(FLAGS.output_dir), num_images=FLAGS.num_images, preset=FLAGS.preset, weights=FLAGS.weights)


def quickstart(output_dir: Path, *, num_images: int, preset: str, weights: str) -> None:
    """Images, three encoders, their probe, SavedModel and one prediction, all below `output_dir`."""
    started = time.perf_counter()
    names = ("phantoms", "bit_frozen", "from_scratch", "run", "served")
    data_dir, frozen_dir, scratch_dir, run_dir, push_dir = (output_dir / name for name in names)
    draw(data_dir, num_images)
    common = [f"--flagfile={preset}", f"--data_dir={data_dir}"]
    step("pretrain", *common, f"--weights={weights}", "--norm=group", "--epochs=0", f"--run_dir={frozen_dir}")
    step("pretrain", *common, f"--run_dir={scratch_dir}")
    step("pretrain", *common, f"--weights={weights}", f"--run_dir={run_dir}")
    step("probe", f"--run_dir={run_dir}", f"--beside={frozen_dir},{scratch_dir}")
    step("push", f"--run_dir={run_dir}", f"--push_dir={push_dir}")
    image_id, dx = first_test_image(run_dir / "split.csv")
    step("predict", f"--push_dir={push_dir}", str(next(data_dir.rglob(f"{image_id}.jpg"))))
    say(f"That image is of the test part; it was drawn as {dx}.")
    say(f"\nDone in {(time.perf_counter() - started) / 60:.1f} minutes. Look at")
    say(f"  the report     {run_dir / 'probe' / 'report.html'}")
    say(f"  the curves     tensorboard --logdir {run_dir / 'tensorboard'}")
    say(f"  the SavedModel {push_dir}")
    say("and then run the same commands on your own folder; `bitkeras --help` lists them.")


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
