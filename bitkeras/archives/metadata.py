"""Schema and statistics of a split of records, in the protos of tensorflow-metadata, as TFX and TFDV read them."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from bitkeras.archives.examples import FORMAT
from bitkeras.data import ImageSource
from bitkeras.data.splits import PARTS
from bitkeras.data.tfrecord import CLASS, ID, IMAGE, LABEL, LESION, PART
from bitkeras.data.tfrecord_shards import FACT

# Of the values of a text feature, the most frequent that are listed, as TFDV does.
_NUM_TOP_VALUES = 20


@dataclasses.dataclass(frozen=True)
class Column:
    """The values of one feature in all records that have it.

    Attributes:
      values: str [n]; of the label its digits.
      num_missing: records without it.
    """

    values: np.ndarray
    num_missing: int


def columns_of(source: ImageSource, parts: np.ndarray, formats: dict[str, int]) -> dict[str, Column]:
    """Name of a feature -> its column, but for the encoded images, of which no process holds all.

    Args:
      source: the images of the records, n of them.
      parts: str [n], their parts in the split.
      formats: format -> number of images.
    """
    texts = {ID: source.image_ids, PART: parts, FORMAT: np.repeat(list(formats), list(formats.values()))}
    if source.groups is not None:
        texts[LESION] = source.groups
    texts |= {FACT + name: values for name, values in source.facts.items()}
    columns = {name: Column(values[values != ""], int((values == "").sum())) for name, values in texts.items()}
    if source.labels is not None:
        columns[LABEL] = Column(source.labels.astype(str), 0)
        columns[CLASS] = Column(np.array(source.class_names)[source.labels], 0)
    return columns


def make_schema(columns: dict[str, Column], class_names: tuple[str, ...]) -> str:
    """The text of a Schema: every feature with its type, how often it is there, and what values it may have."""
    schema = schema_pb2.Schema()
    for name in sorted([*columns, IMAGE]):
        feature = schema.feature.add(name=name, type=schema_pb2.INT if name == LABEL else schema_pb2.BYTES)
        if name in columns and columns[name].num_missing:
            # One value where there is one at all.
            feature.presence.min_count = 0
            feature.value_count.min = feature.value_count.max = 1
        else:
            feature.presence.min_fraction, feature.presence.min_count = 1.0, 1
            feature.shape.SetInParent()
        if name == IMAGE:
            feature.image_domain.SetInParent()
        if name == LABEL:
            feature.int_domain.max, feature.int_domain.is_categorical = len(class_names) - 1, True
        if name in (CLASS, PART):
            feature.domain = name
    for name, values in {CLASS: class_names, PART: PARTS}.items():
        if name in columns:
            schema.string_domain.add(name=name, value=values)
    return text_format.MessageToString(schema)


def make_statistics(name: str, columns: dict[str, Column], num_bytes: np.ndarray) -> bytes:
    """A serialized DatasetFeatureStatisticsList of one split, with the numbers that TFDV would find.

    Args:
      name: of the split.
      columns: its features, but for the encoded images.
      num_bytes: int64 [n], the size of each of these.
    """
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = statistics.datasets.add(name=name, num_examples=len(num_bytes))
    for feature in sorted([*columns, IMAGE]):
        told = dataset.features.add()
        told.path.step.append(feature)
        if feature == IMAGE:
            told.type = statistics_pb2.FeatureNameStatistics.BYTES
            _set_common(told.bytes_stats.common_stats, len(num_bytes), 0)
            _set_sizes(told.bytes_stats, num_bytes)
            continue
        # A label is a category and no quantity, so it has counts of its values and no mean.
        kinds = statistics_pb2.FeatureNameStatistics
        told.type = kinds.INT if feature == LABEL else kinds.STRING
        column = columns[feature]
        _set_common(told.string_stats.common_stats, len(column.values), column.num_missing)
        _set_texts(told.string_stats, column.values.tolist())
    return statistics.SerializeToString(deterministic=True)


def _set_common(common, num_present: int, num_missing: int) -> None:
    common.num_non_missing, common.num_missing = num_present, num_missing
    common.tot_num_values = num_present
    if num_present:
        common.min_num_values = common.max_num_values = 1
        common.avg_num_values = 1.0


def _set_sizes(stats, num_bytes: np.ndarray) -> None:
    if len(num_bytes):
        stats.avg_num_bytes = num_bytes.mean()
        stats.min_num_bytes, stats.max_num_bytes = num_bytes.min(), num_bytes.max()


def _set_texts(stats, values: list[str]) -> None:
    counts = collections.Counter(values)
    stats.unique = len(counts)
    stats.avg_length = sum(map(len, values)) / max(len(values), 1)
    # Among equals by name, so that the file is the same whatever order the images come in.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_NUM_TOP_VALUES]
    for rank, (value, count) in enumerate(ranked):
        stats.top_values.add(value=value, frequency=count)
        stats.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=value, sample_count=count)
