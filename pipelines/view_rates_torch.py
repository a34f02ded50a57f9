"""The views of SimSiam as lightly ships them, on one core: batches for each line that comes, and their seconds.

    python view_rates_torch.py FOLDER IMAGE_SIZE BATCH_SIZE BATCHES

Runs in an environment of its own with torch, torchvision and lightly, and imports nothing of bitkeras.
"""

import os
import sys
import time
from pathlib import Path

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import torch
from lightly.transforms import SimSiamTransform
from PIL import Image


class Files(torch.utils.data.Dataset):
    """The JPEGs of a folder, each as two views."""

    def __init__(self, folder: str, image_size: int):
        self.paths = sorted(Path(folder).glob("*.jpg"))
        self.transform = SimSiamTransform(input_size=image_size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def endless(loader):
    """Batches for ever."""
    while True:
        yield from loader


def main() -> None:
    """Says that it is ready, then answers each line."""
    folder, image_size, batch_size, batches = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    files = Files(folder, image_size)
    loader = torch.utils.data.DataLoader(files, batch_size, shuffle=True, num_workers=0, drop_last=True)
    views = endless(loader)
    next(views)
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(batches):
            next(views)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
