"""Views a second on one core: ours, the same recipe from keras-cv's layers, and torchvision's as lightly ships it.

Each maker is a process on the same core. One works at a time and the others are stopped, so that what else the machine
does hits all of them. All read the same JPEGs, and what is counted is the whole way from the file to both views.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from PIL import Image

from bitkeras.data import ImageSource
from bitkeras.data.decoding import decode_image
from bitkeras.errors import UserError
from pipelines.runtime import say

# (width, height) of the files and side of the views, px: HAM10000 as released, and a quarter of it in area per side.
CASES = ((600, 450, 224), (200, 150, 64))
OURS, KERAS_CV, TORCHVISION = "bitkeras", "keras-cv", "torchvision"
POLICIES = {OURS: "simsiam", KERAS_CV: "keras_cv"}
NUM_FILES, BATCH_SIZE = 256, 32
# 260 KB for 600x450 px, as the released photographs have about 270. All decode with the same library, so fewer bytes
# would flatter whoever is fast at the rest (docs/results/views.md).
QUALITY, GRAIN = 99, 16.0
_PEER = Path(__file__).with_name("view_rates_torch.py")


class Maker(NamedTuple):
    """A process that makes views when it is told to.

    Attributes:
      complaints: what it writes to stderr.
    """

    name: str
    process: subprocess.Popen
    complaints: TextIO


def compare(
    source: ImageSource, *, peer_python: str | None, turns: int, batches: int, num_files: int = NUM_FILES
) -> list[dict]:
    """Runs all makers on files made of the first images of `source`.

    Args:
      source: images; those of another size than the case's are resized.
      peer_python: interpreter of an environment with torch, torchvision and lightly; None: without that maker.
      turns: of each maker, whose median counts.
      batches: of `BATCH_SIZE` images, or of all where there are fewer, in each turn.
      num_files: at most.

    Returns:
      For each of `CASES` and each maker: width, height, image_size, kilobytes (mean of the files), maker,
      views_per_second, and the ratios to_keras_cv and to_torchvision, how many times as fast it is (or None).

    Raises:
      UserError: `peer_python` cannot do it.
    """
    rows, batch_size = [], min(BATCH_SIZE, num_files, len(source))
    for width, height, image_size in CASES:
        with tempfile.TemporaryDirectory() as folder:
            kilobytes = write_files(source, Path(folder), width=width, height=height, num_files=num_files)
            say(f"{width}x{height} px ({kilobytes:.0f} KB a file) to {image_size} px")
            work = [folder, str(image_size), str(batch_size), str(batches)]
            seconds = take_turns(commands(work, peer_python), turns=turns)
        rates = {maker: 2 * batch_size * batches / statistics.median(found) for maker, found in seconds.items()}
        files = {"width": width, "height": height, "image_size": image_size, "kilobytes": kilobytes}
        for maker, rate in rates.items():
            rows.append({**files, "maker": maker, "views_per_second": rate, **_ratios(rate, rates)})
    return rows


def write_files(source: ImageSource, folder: Path, *, width: int, height: int, num_files: int) -> float:
    """JPEGs of one size: the source's own where they are, else resized ones; returns their mean kilobytes."""
    rng = np.random.default_rng(0)
    for index in range(min(num_files, len(source))):
        encoded = source.read(index)
        image = Image.fromarray(decode_image(encoded).numpy())
        is_as_wanted = encoded.startswith(b"\xff\xd8") and image.size == (width, height)
        written = encoded if is_as_wanted else _resized(image, width, height, rng)
        (folder / f"{index:05}.jpg").write_bytes(written)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return sum(sizes) / len(sizes) / 1000


def _resized(image: Image.Image, width: int, height: int, rng: np.random.Generator) -> bytes:
    """A JPEG with the grain that a resized photograph lacks."""
    grainy = np.asarray(image.resize((width, height), Image.BICUBIC)) + rng.normal(0, GRAIN, (height, width, 1))
    file = io.BytesIO()
    Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY, subsampling=2)
    return file.getvalue()


def commands(work: list[str], peer_python: str | None) -> dict[str, list[str]]:
    """Maker -> the command that does `work`: the folder, the side of the views, images a batch and batches a turn."""
    found = {maker: [sys.executable, "-m", __name__, policy, *work] for maker, policy in POLICIES.items()}
    return found if peer_python is None else {**found, TORCHVISION: [peer_python, str(_PEER), *work]}


def take_turns(makers: dict[str, list[str]], *, turns: int) -> dict[str, list[float]]:
    """Maker -> seconds of its turns; a first one, in which caches fill, is not among them."""
    seconds = {name: [] for name in makers}
    with contextlib.ExitStack() as at_the_end:
        # The peer, which alone may not be what it should be, is the last one and found out first.
        started = [start(name, command, at_the_end) for name, command in reversed(makers.items())]
        for turn in range(turns + 1):
            for maker in started:
                found = _turn(maker)
                if turn:
                    seconds[maker.name].append(found)
    return seconds


def start(name: str, command: list[str], at_the_end: contextlib.ExitStack) -> Maker:
    """A maker that is ready and stopped; `at_the_end` it is killed."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    # A file, since nobody reads a pipe while the maker works, and a full one would stop it.
    complaints = at_the_end.enter_context(tempfile.TemporaryFile("w+"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": complaints}
    try:
        # In a group of its own, a stopped process is ended by the system when this one is killed.
        process = subprocess.Popen(command, **pipes, text=True, env=environment, preexec_fn=os.setpgrp)
    except OSError as error:
        raise UserError(
            f"--peer_python={command[0]} cannot be run ({error.strerror}); pass the Python of an environment with "
            "torch, torchvision and lightly."
        ) from error
    at_the_end.callback(_end, process)
    maker = Maker(name, process, complaints)
    # keras-cv greets before it.
    if "ready" not in map(str.strip, iter(process.stdout.readline, "")):
        _refuse(maker)
    process.send_signal(signal.SIGSTOP)
    return maker


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def _turn(maker: Maker) -> float:
    process = maker.process
    process.send_signal(signal.SIGCONT)
    process.stdin.write("go\n")
    process.stdin.flush()
    told = process.stdout.readline()
    if not told:
        _refuse(maker)
    process.send_signal(signal.SIGSTOP)
    return float(told)


def _refuse(maker: Maker) -> None:
    maker.process.wait()
    maker.complaints.seek(0)
    lines = maker.complaints.read().strip().splitlines() or ["it ended without a word"]
    if maker.name == TORCHVISION:
        raise UserError(
            f"--peer_python={maker.process.args[0]} cannot make torchvision's views ({lines[-1]}); pass the Python of "
            "an environment with torch, torchvision and lightly."
        )
    raise RuntimeError(f"{maker.name} failed: " + "\n".join(lines[-20:]))


def _ratios(rate: float, rates: dict[str, float]) -> dict[str, float | None]:
    others = {"to_keras_cv": KERAS_CV, "to_torchvision": TORCHVISION}
    return {name: rate / rates[other] if other in rates else None for name, other in others.items()}


def lines(rows: list[dict]) -> list[str]:
    """A table in Markdown."""
    told = ["| files | views | maker | views/s on a core | to keras-cv | to torchvision |", "|---|---|---|---|---|---|"]
    for row in rows:
        files = f"{row['width']}x{row['height']}, {row['kilobytes']:.0f} KB"
        ratios = [f"{row[name]:.2f}x" if row[name] else "" for name in ("to_keras_cv", "to_torchvision")]
        cells = [files, f"{row['image_size']} px", row["maker"], f"{row['views_per_second']:.0f}", *ratios]
        told.append(f"| {' | '.join(cells)} |")
    if not any(row["maker"] == TORCHVISION for row in rows):
        told.append("torchvision is not among them; for it, pass --peer_python, an environment with torch and lightly.")
    return told


def serve(policy: str, folder: str, image_size: int, batch_size: int, batches: int) -> None:
    """Makes `batches` batches for each line that comes, and answers with the seconds."""
    if hasattr(os, "sched_setaffinity"):
        # Before TensorFlow starts its threads, of which it makes as many as it has cores.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from bitkeras.data import read_source
    from bitkeras.data.batches import view_batches

    source = read_source("unlabelled_folder", folder)
    sizes = {"image_size": image_size, "batch_size": batch_size}
    views = iter(view_batches(source, np.arange(len(source)), policy=policy, **sizes, seed=0))
    next(views)
    print("ready", flush=True)
    for _ in sys.stdin:
        # What lay ready since the last turn; more than tf.data keeps for one core.
        for _ in range(4):
            next(views)
        started = time.perf_counter()
        for _ in range(batches):
            next(views)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:3], *map(int, sys.argv[3:]))
