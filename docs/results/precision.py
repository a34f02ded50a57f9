"""Whether SimSiam in mixed_bfloat16 comes to the same as in float32: the runs behind the last table of speed.md.

    python docs/results/precision.py --data_dir=DIR

Trains twice from `bit-m-mini` and twice from random weights, in each precision, on real HAM10000; scores the nearest
neighbours on the test part. It may be killed and started again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import tensorflow as tf
from norm_swap import CALIBRATION_IMAGES, FLAGS, compared, score

from bitkeras.runs import RunFolder
from pipelines import cli

PRECISIONS = ("float32", "mixed_bfloat16")
STARTS = {
    "bit-m-mini": ["--weights=bit-m-mini", f"--bn_calibrate={CALIBRATION_IMAGES}"],
    "none": ["--backbone=R26x0.25"],
}


def train(options: argparse.Namespace, start: str, seed: int) -> None:
    """Both precisions from one start."""
    data = [f"--dataset={options.dataset}", f"--data_dir={options.data_dir}", f"--seed={seed}"]
    for precision in PRECISIONS:
        run = folder(options, start, seed, precision)
        if not (run.path / "scores.json").exists():
            flags = [*STARTS[start], f"--epochs={options.epochs}", f"--precision={precision}"]
            cli.run("pretrain", [*FLAGS, *data, *flags, f"--run_dir={run.path}"])
            score(run)
            tf.keras.backend.clear_session()


def folder(options: argparse.Namespace, start: str, seed: int, precision: str) -> RunFolder:
    """Where a run lies."""
    return RunFolder(options.runs / f"{start}_{seed}_{precision}")


def row(options: argparse.Namespace, start: str, seed: int) -> str:
    """The scores of both, and the interval of their difference."""
    paths = [folder(options, start, seed, precision).path for precision in PRECISIONS]
    found = [compared(path, paths[0]) for path in paths]
    cells = []
    for kind in ("knn", "probe"):
        for path, of in zip(paths, found):
            low, high = of["intervals"][kind]
            cells.append(f"{score_of(path, kind):.3f} [{low:.3f}, {high:.3f}]")
        low, high = found[1]["differences"][kind]
        cells.append(f"[{low:+.3f}, {high:+.3f}]")
    return "| " + " | ".join([start, str(seed), *cells]) + " |"


def score_of(path: Path, kind: str) -> float:
    """Balanced accuracy, as it was written down."""
    return json.loads((path / "scores.json").read_text())[kind]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/precision"))
    parser.add_argument("--dataset", default="ham10000")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    cases = [(start, seed) for start in STARTS for seed in arguments.seeds]
    for case in cases:
        train(arguments, *case)
    print("| start | seed | kNN float32 | kNN bfloat16 | difference | probe float32 | probe bfloat16 | difference |")
    print("|" + "---|" * 8)
    for case in cases:
        print(row(arguments, *case))
