"""Puts a pushed version into the package, as the model of `bitkeras demo`.

    bitkeras push --run_dir=runs/best --push_dir=served/ham10000-demo
    python docs/results/ship_demo.py served/ham10000-demo/1

The model card gets the licence of the images; the manifest is shortened as the reports of studies are.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from keep_study import shortened

from export.evaluate import size_mb
from export.inspection import require_whole
from export.push import MODEL_CARD, seal
from pipelines.demo import DEMO

MAX_MB = 8
MORE = """
## Licence, and how it was chosen

It comes with bitkeras so that `predict`, `serve` and `inspect` can be tried without training. The weights were made
from `bit-m-mini` and photographs of HAM10000 (Tschandl, Rosendahl, Kittler 2018), 200x150 px when training began.
HAM10000 is published under CC BY-NC 4.0, so the model is not for commercial use. Encoder and classifier were chosen on
the validation part among those of `docs/results/study.md`, and asked about the test part once. Whoever has larger
images, or fine-tunes a network on the labels, gets more.
"""


def ship(version: Path, demo: Path = DEMO) -> None:
    """Replaces the model of the package by `version`.

    Raises:
      SystemExit: it is larger than a package should carry.
    """
    manifest = require_whole(version)
    size = size_mb(version)
    if size > MAX_MB:
        raise SystemExit(f"{version} has {size:.1f} MB, and the package takes {MAX_MB}.")
    shutil.rmtree(demo, ignore_errors=True)
    shutil.copytree(version, demo)
    del manifest["sha256"]
    seal(demo, shortened(manifest), model_card=(version / MODEL_CARD).read_text() + MORE)
    print(f"{demo}: {size:.1f} MB")


if __name__ == "__main__":
    ship(Path(sys.argv[1]))
