"""The flags about splits, without any training: what they mean together, and when they are refused."""

import json

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data import read_source
from bitkeras.data.batches import view_batches
from bitkeras.data.folds import fold_split
from bitkeras.data.split_files import save_split
from bitkeras.data.splits import PARTS, lesion_split, paper_split
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines import fitting, upstream
from pipelines.job import Job
from pipelines.splitting import find_split, settled_probe_split, settled_split, split_title

FLAGS = {"split": "paper", "num_folds": None, "fold": None, "seed": 3, "num_images": None}


@pytest.fixture(scope="module")
def source(phantoms):
    return read_source("ham10000", phantoms)


def found(run_dir, source, **flags):
    return find_split(RunFolder(run_dir), source, settled_split({**FLAGS, **flags}))[1].parts


def test_kinds_and_folds(source, tmp_path):
    assert (found(tmp_path, source) == paper_split(source, seed=3).parts).all()
    assert (found(tmp_path, source, split="lesion") == lesion_split(source, seed=3).parts).all()
    tested = []
    for fold in range(3):
        parts = found(tmp_path, source, split="lesion", num_folds=3, fold=fold)
        assert (parts == fold_split(source, "lesion", num_folds=3, fold=fold, seed=3).parts).all()
        tested += np.flatnonzero(parts == "test").tolist()
    assert sorted(tested) == list(range(len(source)))
    assert split_title({**FLAGS, "num_folds": 3, "fold": 2}) == "paper, fold 2 of 3"
    assert split_title({"split": "lesion"}) == "lesion"


def test_the_split_of_a_probe_is_its_runs_unless_another_is_asked_for():
    none = {"split": None, "num_folds": None, "fold": None}

    def settled(own_images=True, **flags):
        found = settled_probe_split({**none, **flags}, own_images=own_images)
        return found["split"], found["resplit"]

    # As earlier versions recorded a probe of the run's own images, and as the keys of a study's steps have it.
    assert settled() == ("paper", None) == settled(own_images=False)
    assert settled(split="paper") == ("paper", True) and settled(split="lesion", own_images=False) == ("lesion", None)
    assert settled(split="lesion", num_folds=3, fold=0) == ("lesion", True)
    assert settled(own_images=False, num_folds=3, fold=0) == ("paper", None)
    with pytest.raises(UserError, match="--num_folds and --fold are of a --split"):
        settled(num_folds=3, fold=0)


def test_a_table_goes_from_any_folder_and_is_bound_to_the_run(source, tmp_path, monkeypatch):
    parts = lesion_split(source, seed=8).parts
    run_dir, table = tmp_path / "run", tmp_path / "mine.csv"
    save_split(lesion_split(source, seed=8), source, table)
    monkeypatch.chdir(tmp_path)
    assert settled_split({**FLAGS, "split": "mine.csv"})["split"] == str(table)
    assert (found(run_dir, source, split="mine.csv") == parts).all()
    fewer = found(run_dir, source, split="mine.csv", num_images=20)
    assert (fewer == "pretrain").sum() == 20 and (fewer[parts != "pretrain"] == parts[parts != "pretrain"]).all()
    # Another table in its place, once the run has begun, is no longer what the run was started with.
    save_split(lesion_split(source, seed=8), source, run_dir / "split.csv")
    save_split(lesion_split(source, seed=9), source, table)
    with pytest.raises(UserError, match="mine.csv puts images into other parts than .*split.csv"):
        found(run_dir, source, split="mine.csv")
    # A table that is gone is not missed.
    table.unlink()
    assert (found(run_dir, source, split="mine.csv") == parts).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_folds": 5}, "go together"),
        ({"fold": 0}, "go together"),
        ({"num_folds": 5, "fold": 5}, "--fold=5 is none of the folds 0 to 4"),
        ({"split": "mine.csv", "num_folds": 5, "fold": 0}, "mine.csv names the part of every image itself"),
        ({"split": "lesions"}, "lesions is neither one of paper, lesion nor a file"),
    ],
)
def test_what_is_refused(source, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        found(tmp_path, source, **flags)


def test_a_table_without_a_test_part_is_refused(source, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("image,part\n" + "".join(f"{image},pretrain\n" for image in source.image_ids))
    with pytest.raises(UserError, match="leaves probe_train and probe_val and test without images"):
        found(tmp_path, source, split=str(table))


def test_upstream_trains_on_all_but_test_and_unused_images(source, tmp_path):
    table, config = tmp_path / "mine.csv", {**FLAGS, "split": str(tmp_path / "mine.csv")}
    parts = np.random.default_rng(0).choice([*PARTS, "unused"], len(source))
    rows = "".join(f"{image},{part}\n" for image, part in zip(source.image_ids, parts))
    table.write_text(f"image,part\n{rows}")
    _, split = find_split(RunFolder(tmp_path / "run"), source, config, make=upstream.make_split)
    trained = np.isin(parts, PARTS[:3])
    assert (split.parts == np.where(trained, "pretrain", parts)).all()


def test_the_images_of_a_bad_step_include_those_that_its_own_were_paired_with(source, tmp_path):
    split, pretrained = lesion_split(source, seed=3), lesion_split(source, seed=3).indices("pretrain")
    config = {"batch_size": 16, "seed": 3, "positives": "lesion"}
    run = RunFolder(tmp_path)
    # Step 6 is the third of the second epoch.
    assert "not_finite.json" in fitting._blame(Job(run, config, {}, source, split, tf.distribute.get_strategy()), 6)
    blamed = json.loads((tmp_path / "not_finite.json").read_text())["image_ids"]
    order = {"batch_size": 16, "seed": 3}
    (step,) = view_batches(
        *(source, pretrained), policy="simsiam", image_size=16, start_step=6, positives="lesion", **order
    ).take(1)
    assert blamed[:16] == source.image_ids[step["index"].numpy()].tolist()
    lesion_of = dict(zip(source.image_ids, source.groups))
    with_sister = [name for name in blamed[:16] if (source.groups[pretrained] == lesion_of[name]).sum() > 1]
    assert [lesion_of[name] for name in blamed[16:]] == [lesion_of[name] for name in with_sister]
    assert with_sister and not set(blamed) - set(source.image_ids[pretrained])
    assert all(name != sister for name, sister in zip(with_sister, blamed[16:]))
