"""Images per second and memory of `bitkeras ingest` and `embed`, against the number of workers and of images.

    python docs/results/ingest.py --data_dir=HAM10000 --work_dir=/tmp/ingest [--num_images=2000] [--turns=3]

Every arm runs in a process of its own, in turns, and what is told is the median. The time is that of the work: the
start of TensorFlow and Beam, some seconds, is left out. The images are copied to --work_dir first and read once, so
that they come from memory rather than from a disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

WORKERS = (1, 2)

# Times one command and reads the largest memory the process has had, in kilobytes on Linux.
TIMED = """
import json, resource, sys, time
import tensorflow as tf
from bitkeras.archives import beam
from pipelines import cli, embed, ingest
beam._apache_beam()
started = time.perf_counter()
cli.run(sys.argv[1], sys.argv[2:])
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def timed(command: str, *arguments: str) -> dict[str, float]:
    """{"seconds", "megabytes"} of `bitkeras COMMAND ARGUMENTS`."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED, command, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def some_images(data_dir: Path, folder: Path, number: int) -> None:
    """`number` images of `data_dir`, as files without labels."""
    images = sorted(path for path in data_dir.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in images[:number]:
        shutil.copy(path, folder)
        (folder / path.name).read_bytes()


def arms(work: Path, image_size: int) -> dict[str, tuple[str, list[str]]]:
    """Name -> (command, flags)."""
    inputs = {
        "files": ["--dataset=unlabelled_folder", f"--data_dir={work / 'files'}"],
        "records": ["--dataset=tfrecord", f"--data_dir={work / 'records'}"],
    }
    encoder = [f"--encoder={work / 'encoder.keras'}", f"--image_size={image_size}"]
    commands = {
        "ingest": ("ingest", []),
        "ingest, smaller": ("ingest", ["--image_size=100"]),
        "embed": ("embed", encoder),
    }
    return {
        f"{name} | {origin} | {workers}": (command, [*flags, *given, f"--num_workers={workers}"])
        for name, (command, given) in commands.items()
        for origin, flags in inputs.items()
        for workers in WORKERS
    }


def prepare(data_dir: Path, work: Path, num_images: int) -> None:
    """Files, the same as records, and an encoder."""
    from bitkeras.backbones import build_backbone

    some_images(data_dir, work / "files", num_images)
    shutil.rmtree(work / "records", ignore_errors=True)
    timed(
        *("ingest", "--dataset=unlabelled_folder", f"--data_dir={work / 'files'}"),
        *(f"--output_dir={work / 'records'}", "--images_per_shard=200"),
    )
    build_backbone("R26x0.25", norm="batch", stem="imagenet").save(work / "encoder.keras")


def measure(work: Path, command: str, flags: list[str]) -> dict[str, float]:
    """One run of an arm."""
    shutil.rmtree(work / "out", ignore_errors=True)
    return timed(command, *flags, f"--output_dir={work / 'out'}", "--images_per_shard=200")


def main() -> None:
    """Measures and prints two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--work_dir", type=Path, required=True)
    parser.add_argument("--num_images", type=int, default=2000)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    work = given.work_dir
    prepare(given.data_dir, work, given.num_images)
    number = len(list((work / "files").iterdir()))
    table = arms(work, given.image_size)
    found: dict[str, list] = {name: [] for name in table}
    for _ in range(given.turns):
        for name, (command, flags) in table.items():
            found[name].append(measure(work, command, flags))
    print("| command | from | workers | images/s | peak MB |\n|---|---|---|---|---|")
    for name, results in found.items():
        seconds, megabytes = (statistics.median(one[key] for one in results) for key in ("seconds", "megabytes"))
        print(f"| {name} | {number / seconds:.0f} | {megabytes:.0f} |")
    print("\n| images | ingest, peak MB | embed, peak MB |\n|---|---|---|")
    for share in (8, 4, 2, 1):
        some_images(given.data_dir, work / "files", number // share)
        names = ("ingest | files | 1", "embed | files | 1")
        peaks = [measure(work, *table[name])["megabytes"] for name in names]
        print(f"| {number // share} | {peaks[0]:.0f} | {peaks[1]:.0f} |")


if __name__ == "__main__":
    main()
