"""Tables as people have them: written by `csv` in several dialects, with photographs by Pillow."""

import csv

import numpy as np
import pytest
from PIL import Image

from bitkeras.data.csv_table import read_csv
from bitkeras.errors import UserError

# File, class, patient, age, remark with the separators in it.
ROWS = (
    ("scans/b.png", "mel", "P2", "50", "large, brown; new"),
    ("scans/a.jpg", "nv", "P1", "", ""),
    ("c.png", "mel", "P2", "61", "tab\there"),
)
HEADER = ("image", "diagnosis", "patient", "age", "remark")


def write_images(folder, names=("scans/b.png", "scans/a.jpg", "c.png")):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9), (50 * number, 100, 200)).save(folder / name)


def write(folder, *, name="table.csv", header=HEADER, rows=ROWS, encoding="utf-8", **dialect):
    write_images(folder)
    with open(folder / name, "w", newline="", encoding=encoding) as file:
        csv.writer(file, **dialect).writerows([header, *rows])
    return folder / name


def file_names(source):
    return [path.rpartition("/")[2] for path in source.paths]


def test_labels_groups_and_facts(tmp_path):
    table = write(tmp_path)
    source = read_csv(table, label_column="diagnosis", group_column="patient", fact_columns="age, remark")
    assert source.image_ids.tolist() == [row[0] for row in ROWS] and file_names(source) == ["b.png", "a.jpg", "c.png"]
    assert source.class_names == ("mel", "nv") and source.labels.tolist() == [0, 1, 0]
    assert source.groups.tolist() == ["P2", "P1", "P2"]
    assert {name: values.tolist() for name, values in source.facts.items()} == {
        "age": ["50", "", "61"],
        "remark": ["large, brown; new", "", "tab\there"],
    }
    assert source.summary() == "csv: 3 images; 2 classes (mel 2, nv 1); 2 lesions"


def test_only_what_is_asked_for_is_kept(tmp_path):
    source = read_csv(write(tmp_path))
    assert source.labels is None and source.groups is None and source.facts == {} and source.class_names == ()


@pytest.mark.parametrize(
    "dialect",
    [
        {"delimiter": ";"},
        {"delimiter": "\t", "name": "table.tsv"},
        {"encoding": "utf-8-sig"},
        {"lineterminator": "\n"},
        {"quoting": csv.QUOTE_ALL},
        {"rows": [*ROWS, ("",) * 5]},
        {"rows": [("scans\\b.png", *ROWS[0][1:]), *ROWS[1:]]},
    ],
    ids=str,
)
def test_dialects(dialect, tmp_path):
    source = read_csv(write(tmp_path, **dialect), label_column="diagnosis", fact_columns="remark")
    assert file_names(source) == ["b.png", "a.jpg", "c.png"]
    assert source.labels.tolist() == [0, 1, 0] and source.facts["remark"][0] == "large, brown; new"


@pytest.mark.parametrize("spell", ["absolute", "without ending", "name", "name without ending"])
def test_ways_to_name_a_file(spell, tmp_path):
    cells = {
        "absolute": [str(tmp_path / row[0]) for row in ROWS],
        "without ending": ["scans/b", "scans/a", "c"],
        "name": ["b.png", "a.jpg", "c.png"],
        "name without ending": ["b", "a", "c"],
    }[spell]
    source = read_csv(write(tmp_path, rows=[(cell, *row[1:]) for cell, row in zip(cells, ROWS)]))
    assert file_names(source) == ["b.png", "a.jpg", "c.png"] and source.image_ids.tolist() == cells


def test_a_name_that_two_files_have_is_refused(tmp_path):
    table = write(tmp_path, rows=[("b", *ROWS[0][1:])])
    write_images(tmp_path, ["other/b.png"])
    with pytest.raises(
        UserError, match="image b in line 2 of .* two files have that name, .*other/b.png and .*scans/b.png"
    ):
        read_csv(table)


def test_columns_of_other_names(tmp_path):
    table = write(tmp_path, header=("File", "Diagnosis", "patient", "isic_id", "remark"))
    source = read_csv(table, image_column="file", label_column="diagnosis", fact_columns="PATIENT")
    assert file_names(source) == ["b.png", "a.jpg", "c.png"] and source.facts["PATIENT"].tolist() == ["P2", "P1", "P2"]
    with pytest.raises(UserError, match="no column image; it has File, Diagnosis, .*--image_column"):
        read_csv(table)
    with pytest.raises(UserError, match="no column dx; .*--label_column"):
        read_csv(table, image_column="File", label_column="dx")


def test_ids_of_their_own(tmp_path):
    source = read_csv(
        write(
            tmp_path,
            header=("image", "diagnosis", "patient", "age", "remark"),
            rows=[(*row[:3], f"id_{number}", "") for number, row in enumerate(ROWS)],
        ),
        id_column="age",
    )
    assert source.image_ids.tolist() == ["id_0", "id_1", "id_2"]


def test_numbers_are_ordered_as_numbers(tmp_path):
    rows = [(row[0], of) for row, of in zip(ROWS, ("10", "9", "-1"))]
    source = read_csv(write(tmp_path, header=("image", "grade"), rows=rows), label_column="grade")
    assert source.class_names == ("-1", "9", "10") and source.labels.tolist() == [2, 1, 0]


def test_two_signs_are_no_number(tmp_path):
    rows = [(row[0], of) for row, of in zip(ROWS, ("10", "9", "--1"))]
    source = read_csv(write(tmp_path, header=("image", "grade"), rows=rows), label_column="grade")
    assert source.class_names == ("--1", "10", "9") and source.labels.tolist() == [1, 2, 0]


def test_an_image_without_a_patient_is_alone(tmp_path):
    rows = [ROWS[0], (*ROWS[1][:2], "", *ROWS[1][3:]), ROWS[2]]
    groups = read_csv(write(tmp_path, rows=rows), group_column="patient").groups
    assert groups[0] == groups[2] == "P2" and groups[1] not in ("", "P2")


def test_a_folder_with_one_table(tmp_path):
    write(tmp_path)
    assert len(read_csv(tmp_path)) == 3
    write(tmp_path, name="second.tsv", delimiter="\t")
    with pytest.raises(UserError, match=r"2 tables \(second.tsv, table.csv\); pass the table itself"):
        read_csv(tmp_path)
    with pytest.raises(UserError, match="holds no table"):
        read_csv(tmp_path / "scans")


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([("nowhere.png", "nv", "P1", "", "")], "nowhere.png in line 2 of .*table.csv is neither a path"),
        ([ROWS[0], ("", *ROWS[1][1:])], "no image in line 3"),
        ([ROWS[0], ("a" * 300, *ROWS[1][1:])], r"column image in line 3 of .*table.csv names no file .*too long"),
        ([ROWS[0], ("c.png", "", "P1", "", "")], "no diagnosis in line 3"),
        ([ROWS[0], ROWS[1], ROWS[0]], "id scans/b.png stands 2 times in column image"),
        ([ROWS[0], ("scans/../scans/b.png", *ROWS[0][1:])], "2 lines of .* mean the file"),
        ([(*ROWS[0], "more")], "Line 2 of .* has 6 cells and the header 5"),
        ([], "has a header but no rows"),
    ],
)
def test_rows_that_are_wrong(rows, expected, tmp_path):
    table = write(tmp_path, rows=rows)
    with pytest.raises(UserError, match=expected):
        read_csv(table, label_column="diagnosis")


def test_a_table_in_another_encoding_and_an_empty_one(tmp_path):
    table = write(tmp_path, encoding="utf-16")
    with pytest.raises(UserError, match="cannot be read as comma-separated text"):
        read_csv(table)
    table.write_text("")
    with pytest.raises(UserError, match="is empty"):
        read_csv(table)


def test_a_window_without_dicom_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="--dicom_window=40,400 is for DICOM files, and the table lists none"):
        read_csv(write(tmp_path), dicom_window="40,400")


def test_a_table_of_damaged_text_is_an_error_or_the_same(tmp_path):
    """Cut at every length: an error, or fewer rows, each as it was."""
    content = write(tmp_path).read_bytes()
    whole = read_csv(tmp_path / "table.csv", label_column="diagnosis")
    known = dict(zip(whole.image_ids, whole.labels))
    for length in range(len(content)):
        (tmp_path / "table.csv").write_bytes(content[:length])
        try:
            source = read_csv(tmp_path / "table.csv", label_column="diagnosis")
        except UserError:
            continue
        names = np.array(source.class_names)[source.labels]
        # A cell that is cut off in its middle cannot be told from a shorter one, which is the last.
        for image, name in list(zip(source.image_ids, names))[:-1]:
            assert name == whole.class_names[known[image]]
