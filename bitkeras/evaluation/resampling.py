"""The bootstrap: which test images, or whole lesions, stand in each of many imagined test sets.

Photos of one lesion are right or wrong together; drawn one by one they would feign a narrower interval. The intervals
tell how a score would vary with other test images, not with another training run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

NUM_SAMPLES = 1000
LEVEL = 0.95
# Entries of the [samples, images] weights held at once: 32 MiB of float64, however large the test set.
_BLOCK_ENTRIES = 2**22


@dataclasses.dataclass(frozen=True)
class Resamples:
    """S resamples of G groups of N images.

    Attributes:
      draws: int [S, G], how often each group was drawn.
      group: int [N], the group of each image.
    """

    draws: np.ndarray
    group: np.ndarray

    @classmethod
    def of(
        cls,
        num_images: int,
        groups: np.ndarray | None = None,
        *,
        num_samples: int = NUM_SAMPLES,
        seed: int | Sequence[int] = 0,
    ) -> Resamples:
        """Draws groups with replacement; the same seed and groups draw the same images.

        Args:
          num_images: N.
          groups: [N], the lesion of each image; None draws single images.
          num_samples: S.
          seed: of the draws.
        """
        group = np.arange(num_images) if groups is None else np.unique(groups, return_inverse=True)[1]
        num_groups = int(group.max()) + 1
        draws = np.random.default_rng(seed).multinomial(num_groups, np.full(num_groups, 1 / num_groups), num_samples)
        return cls(draws, group)

    @classmethod
    def once(cls, num_images: int) -> Resamples:
        """The test set itself: one resample, every image once."""
        return cls(np.ones([1, 1], int), np.zeros(num_images, int))

    @property
    def num_groups(self) -> int:
        """G."""
        return self.draws.shape[1]

    def counts(self, classes: np.ndarray, num_classes: int, *, where: np.ndarray | None = None) -> np.ndarray:
        """How often each class stands in each resample, [S, K].

        Args:
          classes: int [N].
          num_classes: K.
          where: bool [N], the images that count; None: all.
        """
        cells = self.group * num_classes + classes
        cells = cells if where is None else cells[where]
        counts = np.bincount(cells, minlength=self.num_groups * num_classes)
        return self.draws @ counts.reshape(self.num_groups, num_classes).astype(np.float64)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of `values`, float [N], over each resample, [S]."""
        return self.draws @ np.bincount(self.group, values, minlength=self.num_groups)

    def sizes(self) -> np.ndarray:
        """Images in each resample, [S]."""
        return self.sums(np.ones(len(self.group)))

    def blocks(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """How often each of `images` (int [n], in this order) stands in the resamples, [s, n] for some s at a time."""
        step = max(1, _BLOCK_ENTRIES // max(1, len(images)))
        for start in range(0, len(self.draws), step):
            yield self.draws[start : start + step, self.group[images]].astype(np.float64)


def percentile_interval(samples: np.ndarray, *, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of the scores of resamples, [S]; those in which a score is not defined (NaN) are left out.

    Returns:
      (low, high), or None where no resample has a score.
    """
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return None
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
