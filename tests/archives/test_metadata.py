"""Schema and statistics of records, counted by hand and read as TFX's own libraries read them."""

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from small_archive import png
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from bitkeras.archives.examples import make_example
from bitkeras.archives.metadata import columns_of, make_schema, make_statistics
from bitkeras.data.source import ImageSource

SOURCE = ImageSource(
    name="made",
    image_ids=np.array(["a", "b", "cc", "dd"]),
    labels=np.array([0, 2, 2, 0], np.int32),
    class_names=("akiec", "bcc", "mel"),
    groups=np.array(["HAM_1", "HAM_1", "HAM_2", "HAM_3"]),
    facts={"age": np.array(["45", "", "45", "7"])},
)
PARTS = np.array(["pretrain", "pretrain", "probe_val", "test"])
COLUMNS = columns_of(SOURCE, PARTS, {"jpeg": 3, "png": 1})


def statistics_of(columns=COLUMNS, num_bytes=(10, 20, 40, 50)):
    written = make_statistics("train", columns, np.array(num_bytes, np.int64))
    (dataset,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(written).datasets
    assert dataset.name == "train" and dataset.num_examples == len(num_bytes)
    return {feature.path.step[0]: feature for feature in dataset.features}


def top(stats):
    return [(value.value, value.frequency) for value in stats.top_values]


def test_statistics_are_those_of_a_hand_count():
    found = statistics_of()
    names = ("encoded", "format", "id", "label", "class", "lesion", "part", "fact/age")
    assert set(found) == {f"image/{name}" for name in names}
    sizes = found["image/encoded"].bytes_stats
    assert (sizes.avg_num_bytes, sizes.min_num_bytes, sizes.max_num_bytes) == (30, 10, 50)
    assert sizes.common_stats.num_non_missing == 4
    label = found["image/label"]
    assert label.type == statistics_pb2.FeatureNameStatistics.INT and label.string_stats.unique == 2
    assert top(label.string_stats) == [("0", 2), ("2", 2)]
    part = found["image/part"].string_stats
    assert top(part) == [("pretrain", 2), ("probe_val", 1), ("test", 1)]
    assert [(bucket.label, bucket.sample_count) for bucket in part.rank_histogram.buckets] == top(part)
    assert found["image/id"].string_stats.unique == 4 and found["image/id"].string_stats.avg_length == 1.5
    age = found["image/fact/age"].string_stats
    assert (age.common_stats.num_missing, age.common_stats.num_non_missing, age.unique) == (1, 3, 2)
    assert age.common_stats.tot_num_values == 3 and age.common_stats.max_num_values == 1
    assert top(found["image/format"].string_stats) == [("jpeg", 3), ("png", 1)]


def test_an_empty_split_has_statistics_too():
    found = statistics_of(columns_of(SOURCE.take([]), PARTS[:0], {}), ())
    assert found["image/encoded"].bytes_stats.common_stats.num_non_missing == 0
    assert found["image/class"].string_stats.unique == 0


def test_the_schema_says_what_there_is_and_parses_the_records():
    schema = text_format.Parse(make_schema(COLUMNS, SOURCE.class_names), schema_pb2.Schema())
    features = {feature.name: feature for feature in schema.feature}
    assert features["image/label"].int_domain.max == 2 and features["image/label"].type == schema_pb2.INT
    domains = {domain.name: list(domain.value) for domain in schema.string_domain}
    assert domains[features["image/class"].domain] == ["akiec", "bcc", "mel"]
    assert domains[features["image/part"].domain] == ["pretrain", "probe_train", "probe_val", "test"]
    assert features["image/encoded"].HasField("image_domain")
    # As tensorflow-transform makes a parsing spec of a schema: fixed where all have one value, else variable.
    kinds = {schema_pb2.INT: tf.int64, schema_pb2.BYTES: tf.string}
    spec = {}
    for name, feature in features.items():
        kind = kinds[feature.type]
        spec[name] = tf.io.FixedLenFeature([], kind) if feature.HasField("shape") else tf.io.VarLenFeature(kind)
    (variable,) = (name for name, one in spec.items() if isinstance(one, tf.io.VarLenFeature))
    assert variable == "image/fact/age" and features[variable].value_count.max == 1
    parsed = tf.io.parse_example([make_example(SOURCE, n, png(n), part=PARTS[n]) for n in range(4)], spec)
    assert parsed["image/label"].numpy().tolist() == [0, 2, 2, 0]
    assert tf.sparse.to_dense(parsed["image/fact/age"]).numpy()[:, 0].tolist() == [b"45", b"", b"45", b"7"]


def test_what_is_not_known_of_any_image_is_not_promised():
    bare = ImageSource(name="made", image_ids=np.array(["a"]))
    columns = columns_of(bare, np.array(["pretrain"]), {"png": 1})
    schema = text_format.Parse(make_schema(columns, ()), schema_pb2.Schema())
    names = [feature.name for feature in schema.feature]
    assert names == ["image/encoded", "image/format", "image/id", "image/part"]
    assert [domain.name for domain in schema.string_domain] == ["image/part"]
