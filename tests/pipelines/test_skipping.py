"""--on_bad_image: what a run does about images that cannot be used, and that it goes on with the same ones."""

import csv
import shutil

import numpy as np
import pytest
from small_road import pretrain_flags

from bitkeras.data.bad_images import BadImage, save_bad_images
from bitkeras.data.ham10000 import read_ham10000
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines import cli, images


def damage(data_dir, number):
    """The middle of so many photographs taken out; both ends are whole."""
    paths = sorted(data_dir.rglob("*.jpg"))[10 : 10 + number]
    for path in paths:
        encoded = path.read_bytes()
        path.write_bytes(encoded[: len(encoded) // 2] + b"\xff\xd9" + encoded[-20:])
    return paths


@pytest.fixture
def data_dir(phantoms, tmp_path):
    return shutil.copytree(phantoms, tmp_path / "data")


def test_an_error_names_the_image_and_the_way_out(data_dir, tmp_path):
    (path,) = damage(data_dir, 1)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match=f"{path} cannot be used because it is a JPEG that lacks .*on_bad_image=skip"):
        images.usable_images(run, read_ham10000(data_dir), on_bad_image="error")
    assert not run.path.exists()


def test_above_one_percent_it_always_stops(data_dir, tmp_path):
    damage(data_dir, 2)
    with pytest.raises(UserError, match="2 of 120 images cannot be used, and --on_bad_image=skip .* 1% at most"):
        images.usable_images(RunFolder(tmp_path / "run"), read_ham10000(data_dir), on_bad_image="skip")


def test_a_run_that_has_begun_goes_by_its_list(data_dir, tmp_path, monkeypatch, capsys):
    source, run = read_ham10000(data_dir), RunFolder(tmp_path)
    monkeypatch.setattr(images, "find_bad_images", lambda *_, **__: pytest.fail("the images are looked at again"))
    run.split_path.write_text("made when the run began")
    for policy in images.ON_BAD_IMAGE:
        left, bad = images.usable_images(run, source, on_bad_image=policy)
        assert left is source and not bad
    listed = BadImage(str(source.image_ids[7]), "elsewhere.jpg", "it is empty (0 bytes)")
    save_bad_images([listed], run.bad_images_path)
    for policy in images.ON_BAD_IMAGE:
        left, bad = images.usable_images(run, source, on_bad_image=policy)
        assert bad == [listed]
        np.testing.assert_array_equal(left.image_ids, np.delete(source.image_ids, 7))
    assert f"bad images left out: 1, listed in {run.bad_images_path}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_skips_a_bad_image_from_the_first_step_to_the_served_model(data_dir, tmp_path, capsys):
    (path,) = damage(data_dir, 1)
    run, flags = RunFolder(tmp_path / "run"), pretrain_flags(data_dir, tmp_path / "run", "--epochs=1")
    with pytest.raises(UserError, match=str(path)):
        cli.run("pretrain", flags)
    # Nothing is bound to flags under which nothing was begun.
    cli.run("pretrain", [*flags, "--on_bad_image=skip"])
    assert "checked 120 images" in capsys.readouterr().out
    with open(run.bad_images_path, newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["image_id"] == path.stem and row["file"] == str(path) and "lacks part of its data" in row["reason"]
    with open(run.split_path, newline="") as file:
        parts = {row["image_id"]: row["part"] for row in csv.DictReader(file)}
    assert len(parts) == 119 and path.stem not in parts
    # Taken up again, and in the commands that follow, without the flag.
    run.encoder_path.unlink()
    cli.run("pretrain", flags)
    assert run.is_finished
    cli.run("probe", [f"--run_dir={run.path}", "--epochs=2", "--trials=1", "--nobaselines", "--nofind_duplicates"])
    cli.run("push", [f"--run_dir={run.path}", f"--push_dir={tmp_path / 'served'}", "--check_images=2"])
    out = capsys.readouterr().out
    assert out.count("bad images left out: 1") == 3 and "checked 120 images" not in out


@pytest.mark.slow
def test_an_image_that_goes_bad_later_is_told_in_one_sentence(data_dir, tmp_path, monkeypatch):
    """Between the look at all images and the first step."""
    found = images.find_bad_images

    def find_and_damage(source, **options):
        bad = found(source, **options)
        for path in sorted(data_dir.rglob("*.jpg")):
            path.write_bytes(path.read_bytes()[:300])
        return bad

    monkeypatch.setattr(images, "find_bad_images", find_and_damage)
    with pytest.raises(UserError, match=r"has gone bad: .*Restore it and give the same command again"):
        cli.run("pretrain", pretrain_flags(data_dir, tmp_path / "run", "--epochs=1", "--on_bad_image=skip"))


@pytest.mark.slow
def test_another_data_set_to_probe_on_is_looked_at_too(road, data_dir, tmp_path):
    (path,) = damage(data_dir, 1)
    run_dir = shutil.copytree(road.run_dir, tmp_path / "run")
    flags = [f"--run_dir={run_dir}", "--name=other", "--dataset=ham10000", f"--data_dir={data_dir}"]
    flags += ["--epochs=2", "--trials=1", "--nobaselines"]
    with pytest.raises(UserError, match=str(path)):
        cli.run("probe", flags)
    cli.run("probe", [*flags, "--on_bad_image=skip"])
    assert path.stem in (run_dir / "other" / "bad_images.csv").read_text()
    assert not (run_dir / "bad_images.csv").exists()
