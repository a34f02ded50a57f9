"""The benchmark measures, writes down what it measured, and refuses what it cannot measure."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from bitkeras.data import read_source
from bitkeras.errors import UserError
from pipelines import cli, serving_rates, view_rates

# Answers its Nth line with `first + N * step` seconds, and looks whether the makers that came before it are stopped.
MAKER = """
import os, pathlib, sys, time

folder, first, step = pathlib.Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
(folder / str(os.getpid())).touch()


def is_stopped(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def others_are_stopped():
    return all(is_stopped(path.name) for path in folder.iterdir() if path.name != str(os.getpid()))


print("hello")
print("ready", flush=True)
for number, _ in enumerate(sys.stdin):
    patience = time.monotonic() + 5
    while not others_are_stopped():
        if time.monotonic() > patience:
            sys.exit("others are at work")
        time.sleep(0.01)
    print(first + number * step, flush=True)
"""
TINY = ["--backbone=R14x0.25", "--image_size=16", "--batch_size=8", "--num_projections=8", "--num_predictor_hidden=4"]


@pytest.mark.slow
def test_training_is_measured_in_all_its_parts(phantoms, tmp_path, capsys):
    flags = ["--dataset=phantom", f"--data_dir={phantoms}", *TINY, "--steps=2", "--turns=1", "--precision=float32"]
    cli.run("benchmark", [*flags, f"--output={tmp_path / 'numbers.json'}"])
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    rates = {name: numbers[f"{name}_images_per_second"] for name in ("step", "memory", "real")}
    assert all(rate > 0 for rate in rates.values()) and numbers["views_per_second"] > 0
    assert numbers["loop_to_step"] == pytest.approx(rates["memory"] / rates["step"])
    assert numbers["real_to_memory"] == pytest.approx(rates["real"] / rates["memory"])
    assert 0 <= numbers["waiting_share"] <= 1 and numbers["peak_memory_gb"] > 0.1
    assert f"{numbers['views_per_second']:.1f} views/s" in capsys.readouterr().out


@pytest.mark.slow
def test_views_are_measured_beside_those_of_keras_cv(phantoms, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(view_rates, "CASES", ((40, 30, 16),))
    flags = ["--what=views", "--dataset=phantom", f"--data_dir={phantoms}", "--turns=1", "--steps=2"]
    cli.run("benchmark", [*flags, f"--output={tmp_path / 'views.json'}"])
    rows = json.loads((tmp_path / "views.json").read_text())["views"]
    assert [row["maker"] for row in rows] == ["bitkeras", "keras-cv"]
    ours, theirs = rows
    assert ours["to_keras_cv"] == pytest.approx(ours["views_per_second"] / theirs["views_per_second"])
    assert theirs["to_keras_cv"] == 1 and ours["to_torchvision"] is None and ours["kilobytes"] > 0.5
    told = capsys.readouterr().out
    assert "| 40x30, " in told and "pass --peer_python" in told


def maker(folder: Path, first: float, step: float = 0.0) -> list[str]:
    folder.mkdir(exist_ok=True)
    return [sys.executable, "-c", MAKER, str(folder), str(first), str(step)]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the makers look at each other through /proc")
def test_one_works_at_a_time_and_its_first_turn_does_not_count(tmp_path):
    makers = {"one": maker(tmp_path / "pids", 10, 1), "two": maker(tmp_path / "pids", 20, 2)}
    assert view_rates.take_turns(makers, turns=3) == {"one": [11, 12, 13], "two": [22, 24, 26]}
    for path in (tmp_path / "pids").iterdir():
        assert not os.path.exists(f"/proc/{path.name}")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes through /proc")
def test_stopped_makers_end_with_a_command_that_is_killed(tmp_path):
    makers = {name: maker(tmp_path / "pids", 1) for name in ("one", "two")}
    code = f"""
import contextlib, time
from pipelines import view_rates
with contextlib.ExitStack() as at_the_end:
    for name, command in {makers}.items():
        view_rates.start(name, command, at_the_end)
    print("started", flush=True)
    time.sleep(600)
"""
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert command.stdout.readline() == "started\n"
    pids = [path.name for path in (tmp_path / "pids").iterdir()]
    assert len(pids) == 2
    command.kill()
    command.communicate()
    patience = time.monotonic() + 20
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < patience
        time.sleep(0.05)


def is_alive(pid: str) -> bool:
    """Whether it is there and no zombie that nobody has looked after."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the makers look at each other through /proc")
def test_rates_and_ratios_are_those_of_the_views_that_were_made(phantoms, tmp_path, monkeypatch):
    """Of 5 images a batch holds 5 and not BATCH_SIZE: two batches of two views each are 20 views."""
    seconds = {"bitkeras": 0.5, "keras-cv": 2.0, "torchvision": 1.0}
    asked = []

    def commands(work, peer_python):
        asked.append((*work[1:], peer_python))
        return {name: maker(tmp_path / work[1], one) for name, one in seconds.items()}

    monkeypatch.setattr(view_rates, "commands", commands)
    source = read_source("phantom", phantoms)
    rows = view_rates.compare(source, peer_python="python", turns=1, batches=2, num_files=5)
    assert asked == [("224", "5", "2", "python"), ("64", "5", "2", "python")]
    assert [(row["width"], row["height"], row["image_size"]) for row in rows[::3]] == [(600, 450, 224), (200, 150, 64)]
    for case in (rows[:3], rows[3:]):
        assert [row["views_per_second"] for row in case] == [40, 10, 20]
        assert [row["to_keras_cv"] for row in case] == [4, 1, 2]
        assert [row["to_torchvision"] for row in case] == [2, 0.5, 1]
    assert "| 600x450, " in view_rates.lines(rows)[2] and view_rates.lines(rows)[2].endswith("| 40 | 4.00x | 2.00x |")


@pytest.mark.parametrize("python", ["no/such/python", sys.executable])
def test_a_peer_that_cannot_do_it_is_refused(python):
    """Here it is no program, or a Python without torch."""
    command = [python, str(view_rates._PEER), "folder", "16", "8", "2"]
    told = r"^--peer_python=.* pass the Python of an environment with torch"
    with contextlib.ExitStack() as at_the_end, pytest.raises(UserError, match=told):
        view_rates.start(view_rates.TORCHVISION, command, at_the_end)


def test_files_are_of_the_size_and_number_that_is_told(phantoms, tmp_path):
    kilobytes = view_rates.write_files(read_source("phantom", phantoms), tmp_path, width=60, height=45, num_files=5)
    files = read_source("unlabelled_folder", tmp_path)
    assert len(files) == 5
    assert kilobytes == pytest.approx(sum(len(files.read(index)) for index in range(5)) / 5000)
    assert {Image.open(path).size for path in files.paths} == {(60, 45)}


def test_files_that_have_the_size_stay_as_they_are(tmp_path):
    (tmp_path / "source").mkdir()
    Image.new("RGB", (60, 45), "teal").save(tmp_path / "source" / "one.jpg")
    source = read_source("unlabelled_folder", tmp_path / "source")
    for width in (60, 61):
        (tmp_path / str(width)).mkdir()
        view_rates.write_files(source, tmp_path / str(width), width=width, height=45, num_files=1)
        is_same = (tmp_path / str(width) / "00000.jpg").read_bytes() == source.read(0)
        assert is_same == (width == 60)


def test_each_batch_size_gets_its_own_turns():
    """An engine that answers with the number of its turn, of which the first is left out, as `take_turns` does."""
    turns = list(range(1, 7))
    assert serving_rates._by_batch(turns, [1, 16]) == {1: [2, 4, 6], 16: [1, 3, 5]}
    assert serving_rates._by_batch(turns, [1, 8, 16]) == {1: [3, 6], 8: [1, 4], 16: [2, 5]}
    assert serving_rates._by_batch(turns, [4]) == {4: turns}


def test_times_are_held_against_onnxruntime():
    seconds = {"TensorFlow, as pushed": {1: [0.03, 0.02, 0.09]}, "onnxruntime float32": {1: [0.02, 0.02, 0.01]}}
    ours, reference = serving_rates._rows(seconds)
    assert (ours["milliseconds"], ours["fastest_milliseconds"]) == (30, 20)
    assert ours["to_onnxruntime"] == pytest.approx(1.5) and reference["to_onnxruntime"] == 1
    assert serving_rates.lines([ours])[-1] == "| TensorFlow, as pushed | 1 | 30.0 | 20.0 | 33.3 | 1.50x |"
    (alone,) = serving_rates._rows({"TensorFlow, as pushed": {16: [0.5]}})
    assert alone["to_onnxruntime"] is None and alone["images_per_second"] == 32


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--serving_batches=1,x", "pass numbers of images from 1 on"), ("--model=nowhere", "holds no saved_model.pb")],
)
def test_what_cannot_be_served_is_refused_before_any_work(flag, message):
    with pytest.raises(UserError, match=message):
        cli.run("benchmark", ["--what=serving", flag])


def test_images_are_asked_for_where_they_are_needed():
    with pytest.raises(UserError, match="--data_dir must be given: --what=training works on images"):
        cli.run("benchmark", [])


@pytest.mark.slow
def test_serving_is_measured_in_every_engine_that_is_there(tmp_path, capsys):
    flags = ["--what=serving", "--backbone=R14x0.25", "--image_size=32", "--serving_batches=1,2", "--turns=1"]
    cli.run("benchmark", [*flags, f"--output={tmp_path / 'numbers.json'}"])
    rows = json.loads((tmp_path / "numbers.json").read_text())["serving"]
    told = capsys.readouterr().out
    # TensorFlow brings TFLite; the others are told where they are missing.
    engines = {*serving_rates.FORMS, "TFLite float32"}
    engines |= {label for label, (_, name) in serving_rates.OTHERS.items() if f"without {name}:" not in told}
    assert {(row["engine"], row["batch_size"]) for row in rows} == {(name, size) for name in engines for size in (1, 2)}
    assert all(0 < row["fastest_milliseconds"] <= row["milliseconds"] for row in rows)
    assert "| TensorFlow, frozen, bfloat16 | 2 | " in told
