"""TFX's own libraries on what is written here: records, schema, statistics, exported model, artifacts of a push.

They come with the extra `tfx`, for Python 3.11. `python -m pytest -m tfx` runs these tests alone.
"""

from __future__ import annotations

import importlib.util
import json
import warnings

import numpy as np
import pytest
import tensorflow as tf

from pipelines import cli

MODULES = ("tensorflow_data_validation", "tensorflow_model_analysis", "tfx_bsl", "ml_metadata")
missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.tfx,
    pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} missing; pip install -e '.[tfx]' on Python 3.11"),
]
SPLITS = ("Split-train", "Split-eval")


@pytest.fixture(scope="module")
def records(road, tmp_path_factory):
    """The images of the road's run; Split-eval is the test part of its split."""
    folder = tmp_path_factory.mktemp("records") / "phantoms"
    flags = ["--dataset=phantom", f"--data_dir={road.data_dir}", f"--split={road.run_dir / 'split.csv'}"]
    cli.run("ingest", [*flags, f"--output_dir={folder}"])
    return folder


def files_of(records, split):
    return str(records / split / "data_tfrecord-*.gz")


def examples_of(records, split):
    files = tf.io.gfile.glob(files_of(records, split))
    dataset = tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")
    return [tf.train.Example.FromString(row) for row in dataset.as_numpy_iterator()]


def labels_of(examples):
    return np.array([example.features.feature["image/label"].int64_list.value[0] for example in examples])


@pytest.fixture(scope="module")
def schema(records):
    import tensorflow_data_validation as tfdv

    return tfdv.load_schema_text(str(records / "schema.pbtxt"))


def load_statistics(records, split):
    import tensorflow_data_validation as tfdv

    return tfdv.load_stats_binary(str(records / "stats" / split / "FeatureStats.pb"))


@pytest.mark.parametrize("split", SPLITS)
def test_data_validation_finds_our_statistics_without_anomalies(records, schema, split):
    import tensorflow_data_validation as tfdv

    statistics = load_statistics(records, split)
    assert {feature.name for feature in schema.feature} >= {"image/encoded", "image/label", "image/class"}
    assert dict(tfdv.validate_statistics(statistics, schema).anomaly_info) == {}
    assert statistics.datasets[0].num_examples == len(examples_of(records, split)) > 0


def test_data_validation_counts_what_we_counted(records, schema):
    import tensorflow_data_validation as tfdv

    options = tfdv.StatsOptions(schema=schema)
    theirs = tfdv.generate_statistics_from_tfrecord(files_of(records, "Split-train"), stats_options=options)
    ours = load_statistics(records, "Split-train")
    found, wanted = ({tuple(f.path.step): f for f in stats.datasets[0].features} for stats in (ours, theirs))
    assert set(found) == set(wanted) and ours.datasets[0].num_examples == theirs.datasets[0].num_examples
    for path, feature in wanted.items():
        kind = feature.WhichOneof("stats")
        assert (found[path].type, found[path].WhichOneof("stats")) == (feature.type, kind), path
        ours_of, theirs_of = getattr(found[path], kind), getattr(feature, kind)
        for name in ("num_non_missing", "num_missing", "min_num_values", "max_num_values", "tot_num_values"):
            assert getattr(ours_of.common_stats, name) == getattr(theirs_of.common_stats, name), (path, name)
        if kind == "string_stats":
            assert ours_of.unique == theirs_of.unique, path
            assert ours_of.avg_length == pytest.approx(theirs_of.avg_length), path
            counts = [{top.value: top.frequency for top in one.top_values} for one in (ours_of, theirs_of)]
            # Of more values each lists some of equal frequency, and not the same ones.
            assert counts[0] == counts[1] or theirs_of.unique > len(counts[0]), path
    assert dict(tfdv.validate_statistics(theirs, schema).anomaly_info) == {}


def test_data_validation_refuses_a_class_that_there_is_not(records, schema, tmp_path):
    import tensorflow_data_validation as tfdv

    (example, *_) = examples_of(records, "Split-eval")
    example.features.feature["image/class"].bytes_list.value[0] = b"wart"
    example.features.feature["image/label"].int64_list.value[0] = 99
    with tf.io.TFRecordWriter(str(tmp_path / "odd.gz"), options="GZIP") as writer:
        writer.write(example.SerializeToString())
    statistics = tfdv.generate_statistics_from_tfrecord(
        str(tmp_path / "odd.gz"), stats_options=tfdv.StatsOptions(schema=schema)
    )
    anomalies = tfdv.validate_statistics(statistics, schema).anomaly_info
    assert {"image/class", "image/label"} <= set(anomalies)
    assert "wart" in anomalies["image/class"].description


def test_the_basic_library_reads_the_records_by_the_schema(records, schema):
    from tfx_bsl.public import tfxio

    source = tfxio.TFExampleRecord(files_of(records, "Split-eval"), schema=schema, telemetry_descriptors=["test"])
    options = tfxio.TensorFlowDatasetOptions(batch_size=7, num_epochs=1, shuffle=False)
    batches = list(source.TensorFlowDataset(options))
    found = np.concatenate([np.ravel(batch["image/label"]) for batch in batches])
    assert sorted(found) == sorted(labels_of(examples_of(records, "Split-eval")))


def test_metadata_keeps_what_a_push_leaves(road):
    """Types, properties and layouts as TFX's pipelines know them, in a store of their own."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    store = metadata_store.MetadataStore(metadata_store_pb2.ConnectionConfig(fake_database={}))
    root = road.run_dir / "tfx"
    for name, component, key in (
        ("Model", "Trainer", "model"),
        ("ModelEvaluation", "Evaluator", "evaluation"),
        ("ModelBlessing", "Evaluator", "blessing"),
        ("InfraBlessing", "InfraValidator", "blessing"),
        ("PushedModel", "Pusher", "pushed_model"),
    ):
        kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name=name))
        artifact = metadata_store_pb2.Artifact(type_id=kind, uri=str(root / component / key / "1"))
        artifact.custom_properties["state"].string_value = "published"
        store.put_artifacts([artifact])
    (model,), (blessing,) = store.get_artifacts_by_type("Model"), store.get_artifacts_by_type("ModelBlessing")
    assert tf.saved_model.contains_saved_model(f"{model.uri}/Format-Serving")
    assert tf.io.gfile.exists(f"{blessing.uri}/BLESSED") and not tf.io.gfile.exists(f"{blessing.uri}/NOT_BLESSED")
    assert tf.io.gfile.exists(f"{store.get_artifacts_by_type('InfraBlessing')[0].uri}/INFRA_BLESSED")
    assert all(tf.io.gfile.isdir(artifact.uri) for artifact in store.get_artifacts())


def manifest_of(road):
    return json.loads((road.push_dir / "1" / "assets.extra" / "export_manifest.json").read_text())


def test_model_analysis_agrees_with_our_scores(road, records, tmp_path):
    """The model that was pushed, by its signature `examples`, on Split-eval; ours by `serving_default` on the files."""
    import tensorflow_model_analysis as tfma
    from google.protobuf import text_format

    manifest = manifest_of(road)
    class_names, ours = manifest["class_names"], {name: found["value"] for name, found in manifest["metrics"].items()}
    config = text_format.Parse(
        f"""
        model_specs {{ signature_name: "examples" label_key: "image/label" prediction_key: "probabilities" }}
        slicing_specs {{}}
        slicing_specs {{ feature_keys: "image/class" }}
        metrics_specs {{
          metrics {{ class_name: "ExampleCount" }}
          metrics {{
            class_name: "SparseCategoricalAccuracy"
            threshold {{ value_threshold {{ lower_bound {{ value: {ours["accuracy"] + 0.01} }} }} }}
          }}
          metrics {{ class_name: "SparseCategoricalCrossentropy" }}
        }}
        metrics_specs {{
          metrics {{ class_name: "AUC" config: '"num_thresholds": 10000' }}
          binarize {{ class_ids {{ values: {list(range(len(class_names)))} }} }}
        }}
        """,
        tfma.EvalConfig(),
    )
    model = tfma.default_eval_shared_model(eval_saved_model_path=str(road.push_dir / "1"), eval_config=config)
    files = files_of(records, "Split-eval")
    with warnings.catch_warnings():
        # Thousands of the library's own, of NumPy's.
        warnings.simplefilter("ignore", (DeprecationWarning, RuntimeWarning))
        found = tfma.run_model_analysis(
            eval_shared_model=model, eval_config=config, data_location=files, output_path=str(tmp_path)
        )
    metrics = {slice_key: by_output[""] for slice_key, by_output in found.slicing_metrics}
    overall = {name: value["doubleValue"] for name, value in metrics[()][""].items()}
    assert overall["example_count"] == manifest["data"]["num_test_images"] == len(examples_of(records, "Split-eval"))
    assert overall["sparse_categorical_accuracy"] == pytest.approx(ours["accuracy"], abs=1e-6)
    # Recall of a class is the accuracy of its slice.
    recalls = [
        metrics[(("image/class", name),)][""]["sparse_categorical_accuracy"]["doubleValue"] for name in class_names
    ]
    assert np.mean(recalls) == pytest.approx(ours["balanced_accuracy"], abs=1e-6)
    areas = [metrics[()][f"classId:{k}"]["auc"]["doubleValue"] for k in range(len(class_names))]
    # Theirs has 10,000 thresholds, and probabilities of so short a training lie close together.
    assert np.mean(areas) == pytest.approx(ours["roc_auc"], abs=0.01)
    probabilities, labels = our_answers(road, records)
    ours_in_nats = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert overall["sparse_categorical_crossentropy"] == pytest.approx(ours_in_nats, abs=1e-5)
    # The threshold is above what the model has, so their validator must not bless it.
    assert not tfma.load_validation_result(str(tmp_path)).validation_ok


def our_answers(road, records):
    """Probabilities of `serving_default` [N, K] and labels [N]."""
    examples = examples_of(records, "Split-eval")
    images = [example.features.feature["image/encoded"].bytes_list.value[0] for example in examples]
    loaded = tf.saved_model.load(str(road.push_dir / "1"))
    return loaded.signatures["serving_default"](image_bytes=tf.constant(images))["probabilities"].numpy(), labels_of(
        examples
    )
