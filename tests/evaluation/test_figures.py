import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from bitkeras.evaluation.figures import COLOURS, plot_curves, plot_scores, plot_tsne


@pytest.fixture(autouse=True)
def no_warnings():
    # Some releases of Matplotlib warn about their own dependencies when they are imported.
    import matplotlib.backends.backend_agg  # noqa: F401

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def picture(path):
    """The pixels of a PNG file, which is not a blank page and alone in its folder."""
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert 100 < pixels.shape[0] < 4000 and 300 < pixels.shape[1] < 4000
    assert (pixels < 128).any()
    return pixels


def has_colour(pixels, colour, opacity=1.0):
    wanted = [opacity * int(colour[i : i + 2], 16) + (1 - opacity) * 255 for i in (1, 3, 5)]
    return (np.abs(pixels.astype(int) - wanted).max(axis=-1) < 12).sum() > 20


def epoch_row(epoch):
    row = {"epoch": epoch, "loss": -0.1 * epoch, "lr": 0.01, "images_per_second": 100.0, "minutes": 3}
    return {**row, "knn_balanced_accuracy": 0.3, "knn_chance": 0.14, "spread": 0.9, "rankme": 7.0}


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_curves_of_few_and_many_epochs(tmp_path, epochs):
    plot_curves([epoch_row(epoch) for epoch in range(1, epochs + 1)], tmp_path / "new" / "curves.png")
    assert has_colour(picture(tmp_path / "new" / "curves.png"), COLOURS[0])


def test_curves_leave_out_what_the_rows_do_not_have(tmp_path):
    full = [epoch_row(epoch) for epoch in range(1, 5)]
    few = [{"epoch": row["epoch"], "loss": row["loss"]} for row in full]
    mixed = [*few, {"epoch": 5, "loss": float("nan"), "spread": None, "rankme": 3.0}, {"epoch": 6}]
    sizes = {}
    for name, rows in {"full": full, "few": few, "mixed": mixed, "none": [], "only epochs": [{"epoch": 1}]}.items():
        path = tmp_path / name / "curves.png"
        plot_curves(rows, path)
        with Image.open(path) as image:
            sizes[name] = image.size
    # Six panels, one, and two side by side.
    assert sizes["full"][1] > 2.5 * sizes["few"][1]
    assert sizes["mixed"][0] == 2 * sizes["few"][0]
    assert (tmp_path / "none" / "curves.png").stat().st_size > 0


@pytest.mark.parametrize("present", [[0], [0, 1, 2], [2, 8]])
def test_tsne_shows_the_classes_that_are_there(tmp_path, present):
    labels = np.repeat(present, 10)
    points = np.random.default_rng(0).normal(0, 1, [len(labels), 2])
    plot_tsne(points, labels, [f"class {i}" for i in range(9)], tmp_path / "tsne.png")
    pixels = picture(tmp_path / "tsne.png")
    shown = {COLOURS[index % len(COLOURS)] for index in present}
    for colour in COLOURS[:6]:
        assert has_colour(pixels, colour, opacity=0.75) == (colour in shown)


def test_tsne_of_a_single_point(tmp_path):
    plot_tsne(np.zeros([1, 2]), [1], ["a", "b"], tmp_path / "tsne.png")
    assert has_colour(picture(tmp_path / "tsne.png"), COLOURS[1], opacity=0.75)


SCORES = [
    {"name": "an encoder", "balanced_accuracy": 0.5, "interval": [0.45, 0.55], "knn_balanced_accuracy": 0.4},
    {"name": "random weights", "balanced_accuracy": 0.3, "interval": [0.25, 0.35], "baseline": True},
    {"name": "majority", "balanced_accuracy": 0.14, "baseline": True, "interval": None},
    {"name": "bare", "balanced_accuracy": 0.2},
]


@pytest.mark.parametrize("rows", [SCORES, SCORES[:1], SCORES[2:3], SCORES[3:], []])
@pytest.mark.parametrize("chance", [None, 0.14])
def test_scores_with_whatever_is_known(tmp_path, rows, chance):
    before = [dict(row) for row in rows]
    plot_scores(rows, tmp_path / "scores.png", chance=chance)
    pixels = picture(tmp_path / "scores.png")
    assert rows == before
    assert has_colour(pixels, COLOURS[0]) == any(not row.get("baseline") for row in rows)
    assert has_colour(pixels, COLOURS[3]) == any("knn_balanced_accuracy" in row for row in rows)


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    def half(_, path, **__):
        path.write_text("half a")
        raise OSError("no space left on device")

    path = tmp_path / "scores.png"
    path.write_text("old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError, match="no space"):
        plot_scores(SCORES, path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_nothing_global_is_touched(tmp_path):
    loaded = "matplotlib.pyplot" in sys.modules
    plot_scores(SCORES, tmp_path / "scores.png")
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_dollar_signs_in_names_are_no_mathematics(tmp_path):
    rows = [{"name": r"$\frac{$ of a cohort", "balanced_accuracy": 0.4, "interval": [0.3, 0.5]}]
    plot_scores(rows, tmp_path / "scores" / "scores.png", chance=0.2)
    plot_tsne(np.eye(2), np.array([0, 1]), [r"$\bad{$", "nv"], tmp_path / "tsne" / "tsne.png")
    for path in tmp_path.rglob("*.png"):
        picture(path)
