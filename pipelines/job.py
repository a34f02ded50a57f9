"""One training run in one process: its flags, its images, its devices, and where it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from bitkeras.data import ImageSource
from bitkeras.data.bad_images import BadImage
from bitkeras.data.batches import image_batches, num_steps_per_epoch
from bitkeras.data.splits import Split
from bitkeras.runs import RunFolder


@dataclasses.dataclass(frozen=True)
class Job:
    """What the parts of a training command share.

    Attributes:
      run: the folder this process writes to.
      config: the flags that decide what comes out; the run is bound to them.
      conduct: the flags that say how it is carried out, which may differ when it goes on.
      source, split: the images, and the part of each.
      strategy: the devices.
      bad_images: what the source does not hold because it cannot be used.
    """

    run: RunFolder
    config: dict
    conduct: dict
    source: ImageSource
    split: Split
    strategy: tf.distribute.Strategy
    bad_images: Sequence[BadImage] = ()

    @property
    def indices(self) -> np.ndarray:
        """The images that are trained on."""
        return self.split.indices("pretrain")

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of an epoch; UserError when there is none."""
        return num_steps_per_epoch(len(self.indices), self.config["batch_size"])

    def images(self, indices: np.ndarray) -> tf.data.Dataset:
        """Batches of images as they are, at the size the run trains on."""
        sizes = {"image_size": self.config["image_size"], "batch_size": self.config["batch_size"]}
        return image_batches(self.source, indices, **sizes)
