"""Views take no more memory in a later epoch than in an early one."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUM_EPOCHS = 12
PROGRAM = """
import sys
from pathlib import Path

import numpy as np

from bitkeras.data import read_source
from bitkeras.data.augment import make_policy
from bitkeras.data.batches import view_batches
from bitkeras.data.cache import read_from_disk, read_from_memory

folder, cache, scratch = sys.argv[1:]
source = read_source("phantom", folder)
indices = np.arange(len(source))
shrinking = make_policy("simsiam", image_size=64).shrinking
read = None
if cache == "memory":
    read = read_from_memory(source, indices, say=str)
elif cache == "disk":
    read = read_from_disk(source, indices, Path(scratch), shrinking=shrinking, say=str)


def resident():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


batches = view_batches(source, indices, policy="simsiam", image_size=64, batch_size=8, seed=0, read=read)
for step, _ in enumerate(batches.take({epochs} * (len(source) // 8)), start=1):
    if step % (len(source) // 8) == 0:
        print(resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_memory_stays_flat_over_epochs(cache, phantoms, tmp_path):
    """From the fourth epoch on it grows by less than half of what one kept view of each image would add."""
    program = textwrap.dedent(PROGRAM).replace("{epochs}", str(NUM_EPOCHS))
    command = [sys.executable, "-c", program, str(phantoms), cache, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    after = [int(line) for line in done.stdout.split()]
    assert len(after) == NUM_EPOCHS
    views_of_the_epochs = (NUM_EPOCHS - 4) * 120 * 64 * 64 * 3 * 4
    assert after[-1] - after[3] < views_of_the_epochs / 2, after
