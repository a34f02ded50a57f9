"""A whole study, killed and gone on with; and what it reads off curves, by hand."""

import csv
import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import balanced_accuracy_score
from small_road import DIE_IN_EPOCH_2, run_process

from bitkeras.data import read_source
from bitkeras.data.split_files import save_split
from bitkeras.data.splits import paper_split
from bitkeras.errors import UserError
from bitkeras.evaluation.answers import Answers
from bitkeras.runs import RunFolder
from pipelines import cli
from pipelines.study_arm_findings import worst_verdict
from pipelines.study_curves import _speedup, epochs_to_target, first_epoch, minutes_of
from pipelines.study_findings import owed_to_leakage
from pipelines.study_look import groups_of_classes


def rows(*scores, rate=100.0):
    return [
        {"epoch": epoch, "knn_balanced_accuracy": score, **({"images_per_second": rate} if epoch else {})}
        for epoch, score in enumerate(scores)
    ]


def test_epochs_to_the_score_that_training_from_scratch_ends_with():
    curves = {
        "simsiam": {0: rows(0.1, 0.2, 0.3, 0.4), 1: rows(0.1, 0.3, 0.2, 0.3)},
        "from_bit": {0: rows(0.2, 0.4, 0.3, 0.3), 1: rows(0.2, 0.2, 0.3, 0.5)},
        "never": {0: rows(0.1, 0.1, 0.1, 0.1), 1: rows(0.1, 0.3, 0.3, 0.3)},
        "at_once": {0: rows(0.5), 1: rows(0.5)},
        "half": {0: rows(0.1, 0.4)},
    }
    found = epochs_to_target(curves, 6000, of="simsiam")
    assert found["target"] == pytest.approx(0.35) and found["targets"] == [0.4, 0.3] and found["of"] == "simsiam"
    by_arm = {row["arm"]: row for row in found["rows"]}
    assert by_arm["simsiam"]["epochs"] == [3, 1] and by_arm["simsiam"]["speedup"] == 1
    # A minute an epoch.
    assert by_arm["from_bit"]["epochs"] == [1, 2] and by_arm["from_bit"]["minutes"] == [1, 2]
    assert by_arm["from_bit"]["speedup"] == pytest.approx(2 / 1.5)
    assert by_arm["never"]["epochs"] == [None, 1] and by_arm["never"]["speedup"] is None
    assert by_arm["at_once"]["minutes"] == [0, 0] and by_arm["at_once"]["speedup"] is None
    # A seed whose run failed is not one that never got there.
    assert by_arm["half"]["epochs"] == [1] and by_arm["half"]["speedup"] == 3
    assert epochs_to_target({"other": curves["half"]}, 6000, of="simsiam") is None
    assert first_epoch([{"epoch": 0, "loss": 1.0}], 0.1) is None and minutes_of(rows(0, 0, 0, rate=50), 6000) == 4


def test_a_lucky_epoch_is_neither_a_target_nor_its_reaching():
    """A rise by .001 an epoch, with .03 more in epochs 0, 20 and 40."""
    trend = 0.1 + 0.001 * np.arange(41)
    lucky = trend + np.where(np.arange(41) % 20 == 0, 0.03, 0.0)
    curves = {"simsiam": {0: rows(*lucky)}, "other": {0: rows(*(lucky + 0.0105))}}
    found = epochs_to_target(curves, 6000, of="simsiam")
    # The last five: .138, and a fifth of .03. The last alone would be .17.
    assert found["window"] == 5 and found["targets"] == [pytest.approx(0.144)]
    # By hand: the midst of the last five, and where .1105 + .001 e first is .144; about epoch 20 it is .1365.
    assert {row["arm"]: row["epochs"] for row in found["rows"]} == {"simsiam": [38], "other": [34]}
    assert first_epoch(curves["simsiam"][0], 0.144) == first_epoch(curves["other"][0], 0.144) == 20
    # A lucky start is none where the first epochs fall behind it; a run that keeps it has reached it untrained.
    assert first_epoch(rows(0.5, 0.2, 0.2, 0.2, 0.2, 0.2, 0.5, 0.5, 0.5), 0.4, 2) == 7
    assert first_epoch(rows(0.5, 0.45, 0.5, 0.4), 0.4, 2) == 0


def test_the_epoch_of_a_noisy_run_is_that_of_its_trend():
    """Over redrawn scatter of the size of HAM10000's, against where the trend itself crosses."""
    rng, epochs = np.random.default_rng(0), np.arange(61)
    slow, fast = (0.2 + 0.06 * (1 - np.exp(-epochs / scale)) for scale in (25.0, 10.0))
    true = int(np.argmax(fast >= slow[-3]))
    missed = {0: [], 2: []}
    for _ in range(300):
        scores = [mean + rng.normal(0, 0.008, 61) for mean in (slow, fast)]
        for half, found in missed.items():
            epoch = first_epoch(rows(*scores[1]), np.mean(scores[0][-1 - 2 * half :]), half)
            found.append((61 if epoch is None else epoch) - true)
    assert np.abs(missed[2]).mean() < 0.75 * np.abs(missed[0]).mean()


def test_the_interval_of_a_speed_up_holds_as_often_as_it_says():
    """Of three seeds around 60 and 20 epochs: the truth, 3, lies within in 95 of 100 studies."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        of, epochs = (np.maximum(1, rng.normal(mean, 0.15 * mean, 3).round()) for mean in (60, 20))
        ratio, (low, high) = _speedup(of.tolist(), epochs.tolist())
        assert low <= ratio <= high
        held += low <= 3 <= high
    assert 0.92 < held / 400 < 0.99
    assert _speedup([60], [20]) == (3.0, None) and _speedup([60, 50], [20, None]) == (None, None)


def test_of_several_seeds_the_worst_verdict_is_told():
    ends = [[{"verdict": name, "evidence": name}] for name in ("healthy", "complete collapse", "not optimising")]
    found = worst_verdict(ends)
    assert found["state"] == found["evidence"] == "complete collapse" and "base_lr" in found["remedy"]
    assert worst_verdict([[{"epoch": 0}], []]) is None


def test_benign_and_malignant_only_where_every_class_is_known():
    names = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    binary = groups_of_classes(names)["Binary"]
    assert binary == {"benign": ["bkl", "df", "nv", "vasc"], "malignant": ["akiec", "bcc", "mel"]}
    assert groups_of_classes(("cat", "mel", "nv")) == {} and groups_of_classes(("nv", "df")) == {}


def made(printed: str) -> list[str]:
    return [line.removeprefix("step ") for line in printed.splitlines() if line.startswith("step ")]


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_and_tells_what_its_steps_found(phantoms, tmp_path, capsys, study_contents):
    folder = tmp_path / "study"
    pretrain = "--backbone=R26x0.25 --image_size=32 --batch_size=16 --epochs=2 --num_projections=64"
    pretrain += " --num_predictor_hidden=16 --precision=float32"
    flags = [f"--study_dir={folder}", f"--data_dir={phantoms}", "--arms=bit_m,simsiam", "--seeds=0"]
    flags += ["--label_fractions=0.5,1", f"--pretrain_flags={pretrain}", "--probe_flags=--epochs=10 --trials=2"]
    flags.append("--other_split=lesion")
    killed = run_process("study", *flags, code=DIE_IN_EPOCH_2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    probes = ["bit_m/seed0-labels-0.5", "bit_m/seed0-labels-1", "bit_m/seed0-labels-1-split-lesion"]
    assert made(killed.stdout) == ["bit_m", *probes, "simsiam-seed0"]

    cli.run("study", flags)
    said = capsys.readouterr().out
    rest = ["simsiam-seed0", *(probe.replace("bit_m", "simsiam-seed0") for probe in probes), "simsiam-seed0/look"]
    assert made(said) == [*rest, "report"] and "going on after epoch 1 of 2" in said
    assert "partly done" in said and "were measured" in said
    (run,) = folder.glob("steps/simsiam-seed0-*")
    early, last = (
        tf.keras.models.load_model(path).get_weights()
        for path in (run / "snapshots" / "epoch_0001.keras", run / "encoder.keras")
    )
    assert len(early) == len(last) and any((a != b).any() for a, b in zip(early, last))
    (content,) = study_contents
    check_content(content, run)

    cli.run("study", flags)
    assert made(capsys.readouterr().out) == [] and len(study_contents) == 1
    (probe,) = run.glob("seed0-labels-0.5-*")
    (probe / "scores.json").write_text("[]")
    cli.run("study", flags)
    assert made(capsys.readouterr().out) == ["simsiam-seed0/seed0-labels-0.5", "report"]


def check_content(content: dict, run) -> None:
    """Of a study of bit_m and simsiam against the files of the latter."""
    arms = {arm["id"]: arm for arm in content["arms"] if not arm["baseline"]}
    assert list(arms) == ["bit_m", "simsiam"] and content["kind"] == "study"
    assert [arm["name"] for arm in content["arms"] if arm["baseline"]][-1] == "majority class"
    (probe,) = (folder for folder in run.glob("seed0-labels-1-*") if "split" not in folder.name)
    with np.load(probe / "predictions.npz") as held:
        by_hand = [balanced_accuracy_score(held["labels"], one.argmax(1)) for one in held["probabilities"]]
    score = arms["simsiam"]["scores"]["balanced_accuracy"]
    assert score["value"] == pytest.approx(np.mean(by_hand)) and score["interval"][0] <= score["value"]
    assert len(arms["simsiam"]["curves"][0]) == 3 and "curves" not in arms["bit_m"]
    assert arms["simsiam"]["verdict"]["state"] and arms["simsiam"]["minutes"] > 0
    assert arms["bit_m"]["card"]["class_names"] == content["maps"][0]["class_names"]
    assert {(row["a"], row["b"]) for row in content["differences"]} <= {("bit_m", "simsiam"), ("simsiam", "bit_m")}
    assert [one["title"] for one in content["maps"]] == ["epoch 1", "epoch 2"]
    assert len(content["maps"][0]["points"]) == content["num_test_images"] == len(content["maps"][0]["labels"])
    points = {row["arm"]: row["points"] for row in content["label_efficiency"]}
    assert [point["fraction"] for point in points["simsiam"]] == [0.5, 1.0]
    few, all_labels = (point["num_labels"] for point in points["simsiam"])
    assert few < all_labels == (run / "split.csv").read_text().count(",probe_train")
    query = content["neighbours"][0]
    cosines = [found["cosine"] for found in query["found"]]
    assert cosines == sorted(cosines, reverse=True) and query["query"]["png"].startswith(b"\x89PNG")
    assert content["epochs_to_target"]["rows"][0]["arm"] == "simsiam" and content["leakage"]
    assert [line.split()[1] for line in content["commands"]].count("probe") == 6
    check_other_split(content["other_split"], run, own=probe)
    json.dumps({name: value for name, value in content.items() if name != "neighbours"}, allow_nan=False)


def check_other_split(found: dict, run, *, own) -> None:
    """Against the predictions of both probes, and a count of the tables."""
    (other,) = run.glob("seed0-labels-1-split-lesion-*")
    assert [(row["arm"], row["metric"]) for row in found["rows"][::2]] == [
        (arm, "balanced_accuracy") for arm in ("bit_m", "simsiam")
    ]
    row = found["rows"][2]
    for kind, folder in (("own", own), ("other", other)):
        with np.load(folder / "predictions.npz") as held:
            by_hand = [balanced_accuracy_score(held["labels"], one.argmax(1)) for one in held["probabilities"]]
        assert row[kind]["value"] == pytest.approx(np.mean(by_hand))
    assert row["difference"] == pytest.approx(row["other"]["value"] - row["own"]["value"])
    # By lesion nobody has seen a test lesion, so nothing is owed to that.
    owed = row["of_seen_lesions"]
    assert owed["difference"] == 0 and owed["unseen"]["value"] == pytest.approx(row["other"]["value"])
    parts = [
        {row["image_id"]: row["part"] for row in csv.DictReader((folder / "split.csv").open())}
        for folder in (run, other)
    ]
    seen = [image for image, part in parts[1].items() if part == "test" and parts[0][image] == "pretrain"]
    assert (
        f"has seen {len(seen)} of {list(parts[1].values()).count('test')} test images" in found["leakage"][-1] and seen
    )
    assert found["own"] == "paper" and found["other"] == "lesion, where pre-training had paper"


def test_a_lesion_is_seen_where_a_labelled_photo_shows_it(phantoms, tmp_path):
    source, run = read_source("ham10000", phantoms), RunFolder(tmp_path)
    split = paper_split(source, seed=0)
    save_split(split, source, run.split_path)
    tested = split.indices("test")
    answers = Answers(
        **{"image_ids": source.image_ids[tested], "labels": source.labels[tested], "groups": source.groups[tested]},
        class_names=source.class_names,
        probabilities=np.random.default_rng(0).random([1, len(tested), len(source.class_names)], np.float32),
    )
    table = list(csv.DictReader(run.split_path.open()))
    shown = {row["lesion_id"] for row in table if row["part"] in ("probe_train", "probe_val")}
    unseen = np.array([lesion not in shown for lesion in answers.groups])
    assert 0 < unseen.sum() < len(tested)
    right = answers.probabilities[0].argmax(1)
    by_hand = balanced_accuracy_score(answers.labels[unseen], right[unseen])
    owed = owed_to_leakage(answers, split, source)["balanced_accuracy"]
    assert owed["unseen"]["value"] == pytest.approx(by_hand)
    assert owed["difference"] == pytest.approx(balanced_accuracy_score(answers.labels, right) - by_hand)


@pytest.mark.slow
def test_a_study_tells_what_fine_tuning_gives(phantoms, tmp_path, capsys, study_contents):
    pretrain = "--backbone=R26x0.25 --image_size=32 --batch_size=16 --precision=float32"
    flags = [f"--study_dir={tmp_path / 'study'}", f"--data_dir={phantoms}", "--arms=bit_m,bit_m_finetuned", "--seeds=0"]
    flags += [f"--pretrain_flags={pretrain}", "--probe_flags=--epochs=5 --trials=1", "--label_fractions=0.5,1"]
    flags += ["--finetune_flags=--epochs=2 --lr_grid=0.1 --batch_size=4 --precision=float32"]
    cli.run("study", flags)
    tuning = [f"bit_m/finetune-seed0-labels-{share}" for share in (0.5, 1)]
    assert made(capsys.readouterr().out)[-3:] == [*tuning, "report"]
    (content,) = study_contents
    frozen, tuned = [arm for arm in content["arms"] if not arm["baseline"]]
    assert tuned["name"] == "BiT-M, fine-tuned" and "curves" not in tuned
    assert tuned["flags"]["finetune --lr_grid"] == "0.1" and "probe --epochs" in frozen["flags"]
    assert not [flag for flag in tuned["flags"] if flag.startswith("probe")]
    (folder,) = tmp_path.glob("study/steps/bit_m-*/finetune-seed0-labels-1-*")
    with np.load(folder / "predictions.npz") as held:
        by_hand = balanced_accuracy_score(held["labels"], held["probabilities"][0].argmax(1))
    assert tuned["scores"]["balanced_accuracy"]["value"] == pytest.approx(by_hand)
    assert {frozenset((row["a"], row["b"])) for row in content["differences"]} == {
        frozenset(("bit_m", "bit_m_finetuned"))
    }
    points = {row["arm"]: [point["num_labels"] for point in row["points"]] for row in content["label_efficiency"]}
    assert points["bit_m_finetuned"] == points["bit_m"] and len(points["bit_m"]) == 2
    assert [arm["name"] for arm in content["arms"]].count("colour histograms, logistic regression") == 1
    (folder / "encoder.keras").unlink()
    cli.run("study", flags)
    assert made(capsys.readouterr().out) == [tuning[1], "report"]


@pytest.mark.slow
def test_a_step_that_fails_leaves_a_report_of_the_rest(phantoms, tmp_path, capsys, study_contents, monkeypatch):
    """The weights of one arm are no weights; what does not need them is made."""
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, nothing=np.zeros(1))
    flags = [f"--study_dir={tmp_path / 'study'}", f"--data_dir={phantoms}", "--seeds=0", "--keep_going"]
    flags += ["--preset=smoke", "--arms=bit_m", f"--weights_m={wrong}", "--probe_flags=--epochs=5 --trials=1"]
    flags += ["--extra_arms=mini: --weights=bit-m-mini --norm=group --epochs=0 --backbone=R26x0.25"]
    with pytest.raises(UserError, match="1 of 4 steps failed .bit_m., and 1 that need them were left out"):
        cli.run("study", flags)
    (content,) = study_contents
    assert [arm["id"] for arm in content["arms"] if not arm["baseline"]] == ["mini"]
    assert "bit_m (failed)" in content["facts"]["Not in this report"]
    assert os.listdir(tmp_path / "study" / "steps" / ".locks") and "epochs_to_target" not in content
