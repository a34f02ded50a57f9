"""What a probe answered on every test image: all that its scores, and those against other probes, are made of."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bitkeras.errors import UserError
from bitkeras.files import written_atomically


@dataclasses.dataclass(frozen=True)
class Answers:
    """T classifiers on N test images of K classes.

    Attributes:
      image_ids: str [N].
      labels: int [N] in [0, K).
      class_names: K names.
      probabilities: float32 [T, N, K], calibrated where the probe was; rows sum to 1.
      groups: str [N], the lesion of each image; None where every image stands for itself.
      best_trial: index of the classifier that is exported.
      runs: int [T], the pre-training run whose features each classifier is of.
    """

    image_ids: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    groups: np.ndarray | None = None
    best_trial: int = 0
    runs: np.ndarray | None = None

    @property
    def run_of_trial(self) -> np.ndarray:
        """`runs`, zeros where all are of one run."""
        return np.zeros(len(self.probabilities), int) if self.runs is None else self.runs

    def save(self, path: str | Path) -> None:
        """Writes an `.npz` that `load_answers` reads, whole or not at all."""
        held = dataclasses.asdict(self)
        held["class_names"] = np.array(self.class_names)
        with written_atomically(path) as beside, open(beside, "wb") as file:
            np.savez_compressed(file, **{name: value for name, value in held.items() if value is not None})


def load_answers(path: str | Path) -> Answers:
    """Reads what `Answers.save` wrote.

    Raises:
      UserError: the file is missing or is something else.
    """
    try:
        with np.load(path) as held:
            fields = {name: held[name] for name in held.files}
        names = tuple(str(name) for name in fields.pop("class_names"))
        return Answers(class_names=names, **{**fields, "best_trial": int(fields["best_trial"])})
    except FileNotFoundError as error:
        raise UserError(f"There is no {path}; run `bitkeras probe` again under another --name to get it.") from error
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"The file {path} holds no answers of a probe ({error}); run `bitkeras probe` again."
        ) from error


def pooled(answers: Sequence[Answers], names: Sequence[str]) -> Answers:
    """The classifiers of several pre-training runs as one, each keeping the number of its run.

    Args:
      answers: of the runs, on the same test images in any order.
      names: of the runs, for errors.

    Raises:
      UserError: their test images, labels or classes differ.
    """
    first = answers[0]
    aligned = [aligned_with(first, other, names=(names[0], name)) for other, name in zip(answers, names)]
    return dataclasses.replace(
        first,
        probabilities=np.concatenate([other.probabilities for other in aligned]),
        runs=np.concatenate([np.full(len(other.probabilities), index) for index, other in enumerate(aligned)]),
    )


def aligned_with(first: Answers, other: Answers, *, names: tuple[str, str]) -> Answers:
    """`other` with its images in the order of `first`.

    Raises:
      UserError: the two are not about the same test images.
    """
    if first.class_names != other.class_names:
        raise UserError(
            f"{names[0]} and {names[1]} know different classes ({', '.join(first.class_names)}; "
            f"{', '.join(other.class_names)}); only probes of the same classes can be compared."
        )
    place = {image_id: index for index, image_id in enumerate(other.image_ids)}
    if set(place) != set(first.image_ids):
        shared = len(set(place) & set(first.image_ids))
        raise UserError(
            f"{names[0]} and {names[1]} were tested on different images ({len(first.image_ids)} and {len(place)}, "
            f"{shared} of them the same); compare probes of runs with the same split, for example by --split=FILE."
        )
    order = np.array([place[image_id] for image_id in first.image_ids])
    if (other.labels[order] != first.labels).any():
        raise UserError(f"{names[0]} and {names[1]} have different labels for the same images; use one table for both.")
    return dataclasses.replace(
        other,
        image_ids=first.image_ids,
        labels=first.labels,
        groups=first.groups,
        probabilities=other.probabilities[:, order],
    )
