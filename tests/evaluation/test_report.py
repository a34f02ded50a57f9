import json
import re

import numpy as np
import pytest

from bitkeras.evaluation import report
from bitkeras.evaluation.report import summarise, write_report


def row(name, score, low=None, high=None, **more):
    known = {"name": name, "balanced_accuracy": score, "macro_f1": score - 0.02, **more}
    return known if low is None else {**known, "interval": [low, high], "balanced_accuracy_std": 0.01}


CLEAR = [
    row("encoder", 0.5, 0.45, 0.55, knn_balanced_accuracy=0.4),
    row("random weights", 0.3, 0.25, 0.35, baseline=True),
    row("majority", 0.143, 0.143, 0.143, baseline=True),
]
FACTS = {
    "data": "HAM10000, 10,015 images.",
    "split": "by lesion",
    "chance_level": 1 / 7,
    "num_test_images": 2003,
    "num_test_lesions": 1494,
    "commands": ["bitkeras pretrain --run_dir=r", "bitkeras probe --run_dir=r"],
    "Best rate": 0.001,
}


def test_summary_of_a_clear_lead():
    assert summarise(CLEAR, FACTS) == [
        "encoder reaches a balanced accuracy of 0.500 (95 % interval 0.450 to 0.550).",
        "Its interval is clear of random weights and majority.",
        "Chance is 0.143.",
        "The test part holds 2003 images of 1494 lesions.",
        "Data: HAM10000, 10,015 images.",
        "Split: by lesion.",
    ]


def test_summary_of_a_lead_that_may_be_luck():
    scores = [*CLEAR, row("pixels", 0.44, 0.39, 0.451, baseline=True)]
    assert summarise(scores, {})[1:] == [
        "Its interval is clear of random weights and majority.",
        "Its interval overlaps with pixels: that lead may be luck.",
    ]


def test_summary_of_an_encoder_behind_a_baseline():
    scores = [row("encoder", 0.3, 0.25, 0.35), row("pixels", 0.4, 0.3, 0.5, baseline=True)]
    assert summarise(scores, {}) == [
        "encoder reaches a balanced accuracy of 0.300 (95 % interval 0.250 to 0.350).",
        "That does not beat pixels (0.400).",
    ]


def test_summary_without_baselines_compares_encoders():
    scores = [row("a", 0.3, 0.25, 0.35), row("b", 0.5, 0.45, 0.55), row("c", 0.46, 0.4, 0.52)]
    assert summarise(scores, {})[0].startswith("b reaches")
    assert summarise(scores, {})[1:] == [
        "Its interval is clear of a.",
        "Its interval overlaps with c: that lead may be luck.",
    ]


def test_summary_of_little():
    assert summarise([], {}) == []
    assert summarise([row("only", 0.5)], {}) == ["only reaches a balanced accuracy of 0.500."]
    assert summarise(CLEAR[1:], {})[0].startswith("random weights reaches")


def test_leakage_is_said_only_where_there_is_some():
    assert "38.7% of the test images" in summarise(CLEAR, {"leakage_share": 0.387})[-1]
    assert not any("flatter" in sentence for sentence in summarise(CLEAR, {"leakage_share": 0.0}))


def test_json_is_what_was_given(tmp_path):
    facts = {**FACTS, "number": np.float32(0.5), "count": np.int64(3), "folder": tmp_path, "list": np.arange(2)}
    scores = [{**CLEAR[0], "interval": (np.float64(0.45), 0.55)}, *CLEAR[1:]]
    assert write_report(tmp_path / "probe", title="A title", scores=scores, facts=facts) == tmp_path / "probe/report.md"
    content = json.loads((tmp_path / "probe" / "report.json").read_text(encoding="utf-8"))
    assert content["title"] == "A title" and content["scores"] == CLEAR
    assert content["facts"] == {**FACTS, "number": 0.5, "count": 3, "folder": str(tmp_path), "list": [0, 1]}
    assert content["summary"] == summarise(CLEAR, FACTS) and content["figures"] == {}
    assert {"bitkeras", "python", "numpy"} <= set(content["versions"])


def test_numbers_that_json_does_not_have_become_null(tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    facts = {"a": float("nan"), "b": np.array([1.0, np.inf]), "c": [np.float32("nan")], "d": True}
    write_report(tmp_path, title="t", scores=[{**CLEAR[0], "macro_f1": float("nan")}], facts=facts)
    content = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert content["facts"] == {"a": None, "b": [1.0, None], "c": [None], "d": True}
    assert content["scores"][0]["macro_f1"] is None
    assert "nan" not in (tmp_path / "report.md").read_text()


def test_page_has_every_row_best_first(tmp_path):
    scores = [*CLEAR[::-1], row("a|b", 0.2)]
    page = write_report(tmp_path, title="A title", scores=scores, facts=FACTS).read_text(encoding="utf-8")
    assert page.startswith("# A title\n")
    assert [line for line in page.splitlines() if line.startswith("|")] == [
        "| encoder | balanced accuracy | 95 % interval | macro F1 | kNN |",
        "|---|---|---|---|---|",
        "| encoder | 0.500 ± 0.010 | 0.450 to 0.550 | 0.480 | 0.400 |",
        "| random weights (baseline) | 0.300 ± 0.010 | 0.250 to 0.350 | 0.280 |  |",
        "| a\\|b | 0.200 |  | 0.180 |  |",
        "| majority (baseline) | 0.143 ± 0.010 | 0.143 to 0.143 | 0.123 |  |",
    ]
    assert " ".join(summarise(scores, FACTS)) in page
    assert "- Best rate: 0.001" in page and "- chance_level" not in page
    assert "```\nbitkeras pretrain --run_dir=r\nbitkeras probe --run_dir=r\n```" in page
    assert f"numpy {np.__version__}" in page


def test_links_lead_to_the_figures_wherever_the_folder_moves(tmp_path, monkeypatch):
    probe = tmp_path / "run" / "probe"
    (probe / "figures").mkdir(parents=True)
    pictures = {"Scores": probe / "figures" / "scores.png", "Curves": tmp_path / "run" / "curves.png"}
    for path in pictures.values():
        path.write_bytes(b"png")
    monkeypatch.chdir(tmp_path)
    write_report("run/probe", title="t", scores=CLEAR, facts={}, figures={**pictures, "Again": "run/curves.png"})
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "probe"
    links = re.findall(r"!\[(\w+)\]\((.+?)\)", (moved / "report.md").read_text())
    assert dict(links) == {"Scores": "figures/scores.png", "Curves": "../curves.png", "Again": "../curves.png"}
    assert all((moved / link).is_file() for _, link in links)


def test_a_report_of_nothing_is_written(tmp_path):
    page = write_report(tmp_path / "a" / "b", title="Empty", scores=[], facts={}).read_text()
    assert page.startswith("# Empty\n") and "|" not in page


@pytest.mark.parametrize("scores", [[{"name": "no score"}], [row("not a number", float("nan"))]])
def test_a_report_that_cannot_be_told_leaves_the_old_one(tmp_path, scores):
    write_report(tmp_path, title="Old", scores=CLEAR, facts={})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises((KeyError, TypeError)):
        write_report(tmp_path, title="New", scores=scores, facts={})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_write_that_fails_leaves_the_old_report(tmp_path, monkeypatch):
    write_report(tmp_path, title="Old", scores=CLEAR, facts={})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"report.json", "report.md"}

    def half(path, text, **_):
        with open(path, "w") as file:
            file.write(text[:10])
        raise OSError("no space left on device")

    monkeypatch.setattr(report.Path, "write_text", half)
    with pytest.raises(OSError, match="no space"):
        write_report(tmp_path, title="New", scores=CLEAR, facts={})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
