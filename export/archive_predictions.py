"""A worker that turns the images of a shard into a table of what a pushed model answers."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
from collections.abc import Mapping

import numpy as np

from bitkeras.archives.pictures import Unusable, read_encoded
from bitkeras.archives.shards import Place, read_shard
from bitkeras.archives.stage import Stage
from bitkeras.data import ImageSource
from bitkeras.data.silencing import decoders_silenced
from export.decoding import READABLE, UNREADABLE
from export.predict import Model

# Before the probabilities, `probability_CLASS`; behind them, where the images have labels, `class`.
COLUMNS = ("image_id", "status", "prediction", "ood_score")


@dataclasses.dataclass
class PredictionWriter:
    """Writes one shard after another, a CSV of a row an image; holds a batch of images at a time.

    An image that cannot be used has the status "unreadable" and nothing else, and stands in the report with the reason.

    Attributes:
      stage: where shards and their tables are.
      place: where the images are.
      version_dir: the SavedModel; loaded once.
      batch_size: images that are asked about together.
    """

    stage: Stage
    place: Place
    version_dir: str
    batch_size: int = 32

    def __post_init__(self):
        self._model = Model(self.version_dir)

    def __call__(self, shard: str) -> None:
        """Writes the shard of this name."""
        source, _ = read_shard(self.stage.table_path(shard), self.place)
        file, bad, predictions, classes = io.StringIO(), [], collections.Counter(), collections.Counter()
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header(self._model.class_names, is_labelled=source.labels is not None))
        for start in range(0, len(source), self.batch_size):
            with decoders_silenced():
                rows, reasons = self._rows(source, range(start, min(start + self.batch_size, len(source))))
            for index, row in rows.items():
                label = [] if source.labels is None else [source.class_names[source.labels[index]]]
                table.writerow([source.image_ids[index], *row, *label])
                if index in reasons:
                    bad.append([str(source.image_ids[index]), source.location(index), reasons[index]])
                else:
                    predictions[row[1]] += 1
                    classes.update(label)
        self.stage.write_text(shard, file.getvalue())
        counts = {"classes": dict(classes), "predictions": dict(predictions)}
        self.stage.write_report(shard, {"num_images": sum(predictions.values()), **counts, "bad": bad})

    def _rows(self, source: ImageSource, indices: range) -> tuple[dict[int, list], dict[int, str]]:
        """(image -> its row behind the id, image -> why it cannot be used)."""
        encoded, reasons = {}, {}
        for index in indices:
            try:
                encoded[index] = read_encoded(source, index)
            except Unusable as reason:
                reasons[index] = str(reason)
        rows = {index: [UNREADABLE] + [""] * (2 + len(self._model.class_names)) for index in indices}
        if encoded:
            answer = self._model.ask(list(encoded.values()))
            for place, index in enumerate(encoded):
                if answer["status"][place] == READABLE:
                    rows[index] = row_of(answer, place)
                else:
                    reasons[index] = "the model cannot read it"
        return rows, reasons


def header(class_names: tuple[str, ...], *, is_labelled: bool) -> list[str]:
    """The names of the columns."""
    return [*COLUMNS, *(f"probability_{name}" for name in class_names), *(["class"] if is_labelled else [])]


def row_of(answer: Mapping[str, np.ndarray], place: int) -> list:
    """Status, prediction, score and probabilities of one image of a batch."""
    # Six digits: the seventh of a float32 is rounding, and changes with the batch.
    score = [f"{answer['ood_score'][place]:.6g}"] if "ood_score" in answer else [""]
    return [READABLE, answer["prediction"][place], *score, *(f"{p:.6g}" for p in answer["probabilities"][place])]
