import re
import sys
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from made_content import made_content, score
from PIL import Image

from bitkeras.evaluation.figures.canvas import COLOURS, drawn, look, save
from bitkeras.evaluation.figures.catalogue import draw_figures
from bitkeras.evaluation.figures.confusion import plot_confusion
from bitkeras.evaluation.figures.labels import in_lines, spread_apart
from bitkeras.evaluation.figures.training import curve

CONTENT = {"title": "t", "kind": "study"}


@pytest.fixture(autouse=True)
def no_warnings():
    # Some releases of Matplotlib warn about their own dependencies when they are imported.
    import matplotlib.backends.backend_agg  # noqa: F401

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Folder and pictures of everything."""
    folder = tmp_path_factory.mktemp("figures")
    return folder, {picture.name: picture for picture in draw_figures(made_content(), folder)}


def words(path) -> str:
    """The text of an SVG file, which must be XML."""
    root = ElementTree.parse(path).getroot()
    return " ".join("".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text"))


# What must be read in each figure: names, axes with units, numbers.
READ = {
    "scores": [
        "BiT-M + SimSiam",
        "raw pixels",
        "balanced accuracy on the test part (fraction)",
        "chance 0.143",
        "0.243",
    ],
    "training": ["kNN balanced accuracy (fraction)", "loss (negative cosine", "epoch of pre-training", "SimSiam"],
    "health": ["std of normalised features (0 = collapsed)", "RankMe (1 = collapsed)"],
    "collapse": ["Group Norm", "kNN", "Loss", "Spread", "epoch", "chance 0.143"],
    "epochs_to_target": ["not reached", "4.6×", "epochs of pre-training"],
    "label_efficiency": ["1,001", "labelled images", "balanced accuracy on the test part (fraction)", "BiT-M"],
    "map_binary": ["epoch 10", "epoch 60", "benign", "malignant", "no unit"],
    "map_sub_classes": ["akiec", "vasc", "epoch 60"],
    "neighbours": ["test image", "= akiec 0.97", "≠ nv 0.95"],
    "roc": ["mel", "AUC", "sensitivity", "1 − specificity", "at specificity 0.80, 0.90, 0.95", "vasc"],
    "reliability": ["Before", "After (temperature 0.55)", "ECE", "probability of the answer", "images"],
    "confusion": ["answer", "true class", "mel", "100 %"],
}


def test_every_figure_of_a_study_is_there(full):
    folder, pictures = full
    assert set(pictures) == set(READ)
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in READ for kind in ("svg", "png")}


@pytest.mark.parametrize("name", READ)
def test_a_figure_is_small_and_says_what_it_shows(full, name):
    folder, pictures = full
    text = re.sub(r"\s+", " ", words(folder / f"{name}.svg"))
    for expected in READ[name]:
        assert expected in text
    assert (folder / f"{name}.svg").stat().st_size < 200_000
    with Image.open(folder / f"{name}.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[1] == 1080 and 300 < pixels.shape[0] < 2000 and pixels.std() > 5
    picture = pictures[name]
    assert len(picture.caption) > 80 and len(picture.alt) > 60 and picture.title
    assert picture.section in ("scores", "training", "labels", "features", "clinical")


def test_numbers_in_alt_texts_are_those_of_the_content(full):
    content, pictures = made_content(), full[1]
    for arm in content["arms"]:
        assert f"{arm['name']} {arm['scores']['balanced_accuracy']['value']:.3f}" in pictures["scores"].alt
    card = next(arm for arm in content["arms"] if arm["id"] == "bit_m_simsiam")["card"]
    right = int(card["confusion"][4][4]), int(sum(card["confusion"][4]))
    assert f"mel {right[0]} of {right[1]}" in pictures["confusion"].alt
    assert "BiT-M + SimSiam, Group Norm never, never, never" in pictures["epochs_to_target"].alt


@pytest.mark.parametrize(
    "key", ["arms", "curves", "card", "maps", "neighbours", "epochs_to_target", "label_efficiency"]
)
def test_what_is_absent_is_not_drawn(tmp_path, key, monkeypatch):
    # Which are drawn is asked here, not what they look like: it takes a quarter of the time.
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, path, **_: path.write_text("drawn"))
    content = {key: value for key, value in made_content().items() if key != "chance_level"}
    gone = {
        "curves": {"training", "health", "collapse"},
        "card": {"roc", "reliability", "confusion"},
        "maps": {"map_binary", "map_sub_classes"},
        "arms": set(READ) - {"map_binary", "map_sub_classes", "neighbours"},
    }.get(key, {key})
    if key in ("curves", "card"):
        content["arms"] = [{name: value for name, value in arm.items() if name != key} for arm in content["arms"]]
    elif key == "arms":
        content = {**content, "arms": [], "epochs_to_target": None, "label_efficiency": []}
    else:
        del content[key]
    assert {picture.name for picture in draw_figures(content, tmp_path)} == set(READ) - gone


@pytest.mark.parametrize("scores", [{}, {"balanced_accuracy": score(0.5)}, {"balanced_accuracy": score(0.5, 0.1)}])
@pytest.mark.parametrize("baseline", [True, False])
def test_scores_with_whatever_is_known(tmp_path, scores, baseline):
    arm = {"id": "a", "name": "only", "baseline": baseline, "scores": scores}
    assert len(draw_figures({**CONTENT, "arms": [arm]}, tmp_path)) == bool(scores)


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_curves_of_few_and_many_epochs(tmp_path, epochs):
    rows = [{"epoch": epoch, "loss": -0.1 * epoch, "lr": 0.1} for epoch in range(1, epochs + 1)]
    arm = {"id": "a", "name": "only", "scores": {}, "curves": [rows]}
    (picture,) = draw_figures({**CONTENT, "arms": [arm]}, tmp_path)
    assert picture.name == "training" and "kNN" not in words(tmp_path / "training.svg")
    with Image.open(tmp_path / "training.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    wanted = [int(COLOURS[0][place : place + 2], 16) for place in (1, 3, 5)]
    assert (np.abs(pixels - wanted).max(axis=-1) < 12).sum() > 20


def test_chance_is_that_of_the_images_of_the_curve(tmp_path):
    rows = [{"epoch": epoch, "knn_balanced_accuracy": 0.4, "knn_chance": 0.25, "loss": 1.0} for epoch in range(3)]
    arm = {"id": "a", "name": "only", "scores": {"balanced_accuracy": score(0.7)}, "curves": [rows]}
    draw_figures({**CONTENT, "arms": [arm], "chance_level": 0.5}, tmp_path)
    assert "chance 0.250" in words(tmp_path / "training.svg") and "chance 0.500" in words(tmp_path / "scores.svg")


def test_a_curve_is_what_the_seeds_have():
    rows = [
        [{"epoch": 0, "x": 1.0}, {"epoch": 1, "x": None}],
        [{"epoch": 0, "x": 3.0}, {"epoch": 2, "x": float("nan")}],
    ]
    assert curve({"curves": rows}, "x") == {0: [1.0, 3.0]} and curve({}, "x") == {}


@pytest.mark.parametrize("num_classes", [2, 17, 120])
def test_a_matrix_of_few_and_many_classes(tmp_path, num_classes):
    card = {
        "class_names": [f"class number {i}" for i in range(num_classes)],
        "confusion": np.eye(num_classes) * 3 + 0.5,
    }
    plot_confusion(card, tmp_path)
    assert ("3.5" in words(tmp_path / "confusion.svg")) == (num_classes < 17)
    assert (tmp_path / "confusion.svg").stat().st_size < 200_000


def test_arms_look_different_and_classes_too():
    assert len({look(index) for index in range(49)}) == 49


@pytest.mark.parametrize("places", [[0.5], [0.5, 0.5, 0.5], [0.0, 0.01, 0.9], [1.0, 0.99, 0.98, 0.0], [0.2, 0.9, 0.1]])
def test_labels_are_apart_in_order_and_inside(places):
    found = spread_apart(places, 0.2, low=0.0, high=1.0)
    assert min(found) >= -1e-9 and max(found) <= 1 + 1e-9
    ordered = sorted(found)
    assert all(b - a >= 0.2 - 1e-9 for a, b in zip(ordered, ordered[1:]))
    for one, at in zip(places, found):
        for other, place in zip(places, found):
            assert one >= other or at < place


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("short", ["short"]),
        ("simsiam from random weights, 2 epochs", ["simsiam from random", "weights, 2 epochs"]),
        ("x" * 30, ["x" * 20, "x" * 10]),
        ("", [""]),
    ],
)
def test_names_in_lines(name, lines):
    assert in_lines(name, 20) == lines


def test_of_long_names_both_ends_are_seen():
    for length in range(41, 120):
        lines = in_lines(("one " * 60)[: length - 4] + "last", 20)
        assert len(lines) == 2 and all(len(line) <= 20 for line in lines)
        assert lines[0].startswith("one one") and lines[1].endswith("last")


def test_random_labels_are_apart():
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = rng.integers(1, 10)
        found = sorted(spread_apart(list(rng.random(count)), 0.1, low=0.0, high=1.0))
        assert np.diff(found).min(initial=1) >= 0.1 - 1e-9 and found[0] >= -1e-9 and found[-1] <= 1 + 1e-9
    # What is apart already stays where it is.
    assert spread_apart([0.3, 0.7], 0.1, low=0.0, high=1.0) == pytest.approx([0.3, 0.7])


def test_dollar_signs_in_names_are_no_mathematics(tmp_path):
    name = r"$\frac{$ of a cohort"
    arm = {"id": "a", "name": name, "scores": {"balanced_accuracy": score(0.4, 0.1)}}
    shown = {"title": name, "points": [[0, 0], [1, 1]], "labels": [0, 1], "class_names": [name, "nv"], "arm": "a"}
    draw_figures({**CONTENT, "arms": [arm], "maps": [shown]}, tmp_path)
    assert name in words(tmp_path / "scores.svg") and name[:10] in words(tmp_path / "map_sub_classes.svg")


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    def half(_, path, **__):
        path.write_text("half a")
        raise OSError("no space left on device")

    (tmp_path / "x.svg").write_text("old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError, match="no space"), drawn(1, 1) as figure:
        save(figure, tmp_path, "x")
    assert (tmp_path / "x.svg").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_nothing_global_is_touched(tmp_path):
    import matplotlib

    before, loaded = dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    draw_figures({**CONTENT, "arms": [{"id": "a", "name": "a", "scores": {"balanced_accuracy": score(0.4)}}]}, tmp_path)
    assert dict(matplotlib.rcParams) == before and ("matplotlib.pyplot" in sys.modules) == loaded
