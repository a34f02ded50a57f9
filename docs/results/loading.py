"""Time and peak memory of loading a full-size network, each way in a process of its own.

    python docs/results/loading.py R50x1
    python docs/results/loading.py R152x4 npz   # only this row

The weights are random and the same everywhere (tests/reference/bit_random_weights.py); they are written to a
temporary folder of twice their size.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS = {
    "write": "write both forms",
    "import": "import only",
    "graph": "build the graph, random weights",
    "npz": "the same, filled from .npz",
    "module": "the same, filled from the SavedModel",
    "compare": "the last, compared with the module on 8 images of 64 px first",
}


def write(name: str, folder: Path) -> None:
    """The released .npz with its head, and a headless SavedModel with the same weights."""
    sys.path.insert(0, str(ROOT / "tests" / "reference"))
    import numpy as np
    from bit_random_weights import random_weights

    from bitkeras.backbones import build_backbone
    from bitkeras.backbones.pretrained import fill, read_pretrained
    from bitkeras.backbones.released import write_hub_module

    np.savez(folder / "bit.npz", **random_weights(name))
    model = build_backbone(name)
    fill(model, read_pretrained(folder / "bit.npz"))
    write_hub_module(model, folder / "module", head=False)


def load(name: str, step: str, folder: Path) -> None:
    """What a command does before its first image, up to `step`."""
    import numpy as np

    from bitkeras.backbones import build_backbone
    from bitkeras.backbones.agreement import agreement_line
    from bitkeras.backbones.pretrained import check_against_module, fill, read_pretrained

    if step == "import":
        return
    if step == "graph":
        build_backbone(name)
        return
    pretrained = read_pretrained(folder / ("bit.npz" if step == "npz" else "module"))
    if step == "compare":
        images = np.random.default_rng(0).uniform(size=[8, 64, 64, 3])
        print(agreement_line(check_against_module(pretrained, name, images)), file=sys.stderr)
    fill(build_backbone(name), pretrained)


def main(name: str, only: str | None = None) -> None:
    """Prints the rows of a table."""
    with tempfile.TemporaryDirectory() as folder:
        for step in ("write", only) if only else STEPS:
            told = subprocess.run(
                [sys.executable, __file__, name, step, folder], check=True, stdout=subprocess.PIPE, text=True
            )
            print(f"| {name} | {STEPS[step]} | {told.stdout.strip()} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) <= 3:
        main(*sys.argv[1:])
    else:
        started = time.perf_counter()
        _, name, step, folder = sys.argv
        (write if step == "write" else lambda *args: load(args[0], step, args[1]))(name, Path(folder))
        # ru_maxrss is in KiB on Linux.
        gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(f"{time.perf_counter() - started:.1f} | {time.process_time():.1f} | {gigabytes:.2f}")
