"""TFRecords of tf.Example: those that `bitkeras ingest` writes, in TFX's layout, and those of others.

Labels and ids stand in all records or in none, as half of them are nearly always a mistake of the writer; groups and
facts may be missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitkeras.data import ingested
from bitkeras.data.source import ImageSource, require_unique
from bitkeras.data.tables import facts_of, labels_of, split_names
from bitkeras.data.tfrecord_shards import FACT, Record, find_shards, index_shards
from bitkeras.errors import UserError

IMAGE, ID, LABEL, CLASS = "image/encoded", "image/id", "image/label", "image/class"
LESION, PART = "image/lesion", "image/part"

# Splits of TFX's layout whose images were never to be trained on.
_TEST_SPLITS = ("Split-eval", "Split-test")
# More classes than anything is sorted into: what holds such numbers is no label.
_MAX_CLASSES = 100_000


def read_tfrecord(
    data_dir: str | Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    fact_columns: str | None = None,
) -> ImageSource:
    """The images of all records, ordered by id, or by shard and record where they have none.

    The shards are the files with "tfrecord" in their names in the folders `Split-*`, or without such folders at any
    depth. Where records say of their part which is the test, or else the folder `Split-eval` or `Split-test` does
    beside another, that is the released test. Facts are the features `image/fact/*` and `fact_columns`.

    Args:
      data_dir: a folder, or one shard.
      image_column: the feature of the encoded image; None: "image/encoded".
      label_column: the feature of the class, a number or a name; None: "image/label" where there is one, with its name
        in "image/class". Names of classes without a record come from the `ingest.json` of `bitkeras ingest`.
      group_column: the feature of the lesion or patient; None: "image/lesion" where there is one.
      id_column: the feature of the id; None: "image/id" where there is one, else the shard and the record's number.
      fact_columns: further features for `ImageSource.facts`, with commas between them.

    Raises:
      UserError: a shard is missing or damaged, or a record lacks what others have or what was named.
    """
    place = Path(data_dir)
    shards = find_shards(place)
    facts = split_names(fact_columns)
    named = list(filter(None, (label_column, group_column, id_column, *facts)))
    records, encoded = index_shards(shards, place, image_column or IMAGE, {ID, LABEL, CLASS, LESION, PART, *named})
    if not place.is_file():
        ingested.require_all(shards, [record.shard for record in records])
    for column in named:
        if not any(column in record.features for record in records):
            raise UserError(
                f"There is no feature {column} in any of the {len(records)} records; name one that is there."
            )
    ids, order = _ids(records, id_column or ID)
    records = [records[number] for number in order]
    labels, class_names = _labels(records, label_column, shards)
    return ImageSource(
        name="tfrecord",
        image_ids=np.array(ids),
        labels=labels,
        class_names=class_names,
        groups=_groups(records, group_column or LESION, ids),
        official_test=_official_test(records, shards),
        facts=_facts(records, facts),
        converted=encoded.take(order),
    )


def _ids(records: list[Record], column: str) -> tuple[list[str], np.ndarray]:
    """The ids in the order that the images are to have, and which record each of them is (int64 [N])."""
    if not any(column in record.features for record in records):
        return [record.where for record in records], np.arange(len(records))
    ids = _texts(records, column)
    require_unique(ids, f"the feature {column} of the records")
    # By id, since whoever shuffles records on writing has put them into another order than their source's.
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return [ids[number] for number in order], np.array(order)


def _labels(records: list[Record], column: str | None, shards: list[Path]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    given = [name for name in (LABEL, CLASS) if any(name in record.features for record in records)]
    if not (column := column or next(iter(given), None)):
        return None, ()
    texts = _texts(records, column)
    values = [record.features[column] for record in records]
    if all(isinstance(value, bytes) for value in values):
        return labels_of(texts)
    for record, value in zip(records, values):
        if not isinstance(value, int) or not 0 <= value < _MAX_CLASSES:
            raise UserError(
                f"The label {_text(value)} in the feature {column} of {record.where} is no number of a class from 0 to "
                f"{_MAX_CLASSES - 1:,}; take such records out, or name another feature with --label_column."
            )
    told = ingested.class_names(shards) if column == LABEL else ()
    names = _class_names(records, values, told)
    return np.array(values, np.int32), tuple(names.get(label, str(label)) for label in range(max(names) + 1))


def _class_names(records: list[Record], labels: list[int], told: tuple[str, ...]) -> dict[int, str]:
    """Label -> the name that `CLASS` gives it in each of its records; of labels without a record, as `told`."""
    names = dict(enumerate(told))
    for record, label in zip(records, labels):
        name = _text(record.features.get(CLASS, str(label)))
        if names.setdefault(label, name) != name:
            raise UserError(
                f"Label {label} is called {names[label]} in some records and {name} in {record.where}; records of "
                "different sets cannot be read together, so pass the folder of one."
            )
    return names


def _groups(records: list[Record], column: str, ids: list[str]) -> np.ndarray | None:
    if not any(column in record.features for record in records):
        return None
    groups = (record.features.get(column) for record in records)
    return np.array([f"alone:{own}" if group is None else _text(group) for group, own in zip(groups, ids)])


def _official_test(records: list[Record], shards: list[Path]) -> np.ndarray | None:
    if any(PART in record.features for record in records):
        tested = np.array([record.features.get(PART) == b"test" for record in records])
    else:
        in_test = [any(folder.name in _TEST_SPLITS for folder in shard.parents) for shard in shards]
        tested = np.array([in_test[record.shard] for record in records])
    return tested if tested.any() and not tested.all() else None


def _facts(records: list[Record], columns: list[str]) -> dict[str, np.ndarray]:
    carried = sorted({name for record in records for name in record.features if name.startswith(FACT)})
    names = {**{name[len(FACT) :]: name for name in carried}, **{name: name for name in columns}, "part": PART}
    rows = ({name: _text(record.features.get(name, "")) for name in names.values()} for record in records)
    return facts_of(rows, names)


def _texts(records: list[Record], column: str) -> list[str]:
    """The feature of every record, as text.

    Raises:
      UserError: some records lack it.
    """
    lacking = [record.where for record in records if column not in record.features]
    if lacking:
        raise UserError(
            f"There is no feature {column} in {lacking[0]} ({len(lacking)} of {len(records)} records lack it); write "
            "it into all records or none."
        )
    return [_text(record.features[column]) for record in records]


def _text(value: bytes | float | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
