"""The challenges of 2018 and 2019 in small copies of their releases, tables by `csv` and photographs by Pillow."""

import csv

import numpy as np
import pytest
from PIL import Image

from bitkeras.data.ham10000 import HAM10000_CLASSES
from bitkeras.data.isic import ISIC2019_CLASSES, read_isic2018, read_isic2019
from bitkeras.errors import UserError

HEADER_2018 = ("image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
HEADER_2019 = ("image", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
# Not in the order of the ids.
TRAINING_2018 = {"ISIC_0024307": "NV", "ISIC_0024306": "MEL", "ISIC_0024308": "AKIEC", "ISIC_0024309": "NV"}
LESIONS_2018 = {"ISIC_0024306": "HAM_1", "ISIC_0024307": "HAM_2", "ISIC_0024308": "HAM_3", "ISIC_0024309": "HAM_2"}
TRAINING_2019 = {"ISIC_0000000": "NV", "ISIC_0000002_downsampled": "MEL", "ISIC_0000004": "SCC", "ISIC_0053453": "AK"}


def write_table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def one_hot(header, classes, more=()):
    return [
        [image, *(float(name == of) for name in header[1:] if name.isupper()), *more] for image, of in classes.items()
    ]


def write_images(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.new("RGB", (12, 9), (number, 100, 200)).save(folder / f"{image}.jpg")


def write_2018(folder):
    name = "ISIC2018_Task3_Training"
    write_table(
        folder / f"{name}_GroundTruth" / f"{name}_GroundTruth.csv", HEADER_2018, one_hot(HEADER_2018, TRAINING_2018)
    )
    write_images(folder / f"{name}_Input", TRAINING_2018)
    groupings = [[image, lesion, "histopathology"] for image, lesion in LESIONS_2018.items()]
    write_table(folder / f"{name}_LesionGroupings.csv", ("image", "lesion_id", "diagnosis_confirm_type"), groupings)
    return folder


def write_2019(folder):
    write_table(folder / "ISIC_2019_Training_GroundTruth.csv", HEADER_2019, one_hot(HEADER_2019, TRAINING_2019))
    write_images(folder / "ISIC_2019_Training_Input" / "ISIC_2019_Training_Input", TRAINING_2019)
    header = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
    rows = [
        ("ISIC_0000000", "55.0", "anterior torso", "", "female"),
        ("ISIC_0000002_downsampled", "30.0", "", "MSK4_0011169", "female"),
        ("ISIC_0000004", "", "upper extremity", "BCN_0003390", ""),
        ("ISIC_0053453", "80", "head/neck", "HAM_0000550", "male"),
    ]
    write_table(folder / "ISIC_2019_Training_Metadata.csv", header, rows)
    return folder


def classes_of(source):
    return dict(zip(source.image_ids.tolist(), (source.class_names[label] for label in source.labels)))


def lower(classes):
    return {image: name.lower() for image, name in classes.items()}


def test_2018_training_part(tmp_path):
    source = read_isic2018(write_2018(tmp_path))
    assert classes_of(source) == lower(TRAINING_2018) and source.class_names == HAM10000_CLASSES
    assert source.image_ids.tolist() == sorted(TRAINING_2018)
    assert dict(zip(source.image_ids, source.groups)) == LESIONS_2018
    assert source.official_test is None and source.labels.dtype == np.int32
    assert set(source.facts) == {"dx_type", "released_part"}
    assert "4 images; 7 classes" in source.summary() and "3 lesions" in source.summary()


def add_2018_test(folder, *, as_ham=False, images=("ISIC_0034524", "ISIC_0034525")):
    classes = dict(zip(images, ("NV", "DF")))
    write_images(folder / "ISIC2018_Task3_Test_Input", classes)
    table = folder / "ISIC2018_Task3_Test_GroundTruth.csv"
    if as_ham:
        header = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset")
        rows = [
            ("TEST_1", image, of.lower(), "histo", "40.0", "male", "back", "rosendahl") for image, of in classes.items()
        ]
        write_table(table, header, rows)
    else:
        write_table(table, HEADER_2018, one_hot(HEADER_2018, classes))
    return classes


@pytest.mark.parametrize("as_ham", [False, True])
def test_2018_with_validation_and_test_parts(as_ham, tmp_path):
    tested = add_2018_test(write_2018(tmp_path), as_ham=as_ham)
    validated = {"ISIC_0034321": "BCC"}
    table = tmp_path / "ISIC2018_Task3_Validation_GroundTruth.csv"
    write_table(table, HEADER_2018, one_hot(HEADER_2018, validated))
    write_images(tmp_path / "ISIC2018_Task3_Validation_Input", validated)
    source = read_isic2018(tmp_path)
    assert classes_of(source) == lower({**TRAINING_2018, **validated, **tested})
    assert source.image_ids[source.official_test].tolist() == sorted(tested)
    parts = dict(zip(source.image_ids, source.facts["released_part"]))
    assert parts["ISIC_0034321"] == "validation" and parts["ISIC_0034524"] == "test"
    groups = dict(zip(source.image_ids, source.groups))
    # The challenge groups its training part only; HAM10000's release groups the test part too.
    assert groups["ISIC_0034321"] == "ISIC_0034321"
    assert [groups[image] for image in tested] == (["TEST_1"] * 2 if as_ham else list(tested))
    assert f"{1 if as_ham else 3} images without a lesion" in source.summary()


def test_2018_with_the_table_of_ham10000(tmp_path):
    """What the repository of HAM10000 holds: its own table, and the test part of the challenge."""
    header = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    rows = [
        (LESIONS_2018[image], image, of.lower(), "histo", "50.0", "male", "back") for image, of in TRAINING_2018.items()
    ]
    write_table(tmp_path / "HAM10000_metadata", header, rows)
    write_images(tmp_path / "HAM10000_images_part_1", TRAINING_2018)
    add_2018_test(tmp_path, as_ham=True)
    source = read_isic2018(tmp_path)
    assert source.official_test.sum() == 2 and len(source) == 6
    assert dict(zip(source.image_ids, source.groups)).items() >= LESIONS_2018.items()
    assert source.facts["source"].tolist() == [""] * 4 + ["rosendahl"] * 2
    assert source.facts["age"].tolist() == ["50"] * 4 + ["40"] * 2


def test_2018_without_groupings_says_so(tmp_path):
    (write_2018(tmp_path) / "ISIC2018_Task3_Training_LesionGroupings.csv").unlink()
    source = read_isic2018(tmp_path)
    assert source.groups is None and "no table of lesions" in source.summary()


def test_2019_training_part(tmp_path):
    source = read_isic2019(write_2019(tmp_path))
    assert classes_of(source) == lower(TRAINING_2019) and source.class_names == ISIC2019_CLASSES
    assert source.groups.tolist() == ["ISIC_0000000", "MSK4_0011169", "BCN_0003390", "HAM_0000550"]
    assert {name: values.tolist() for name, values in source.facts.items()} == {
        "age": ["55", "30", "", "80"],
        "sex": ["female", "female", "", "male"],
        "site": ["anterior torso", "", "upper extremity", "head/neck"],
        "source": ["", "MSK4", "BCN", "HAM"],
        "released_part": ["training"] * 4,
    }
    assert "1 images without a lesion" in source.summary()


def test_2019_test_part_brings_the_unknown_class(tmp_path):
    write_2019(tmp_path)
    header = (*HEADER_2019, "score_weight", "validation_weight")
    rows = one_hot(header, {"ISIC_0034321": "UNK"}, more=(1.0, 0.0)) + one_hot(
        header, {"ISIC_0034322": "MEL"}, more=(0.0, 0.0)
    )
    write_table(tmp_path / "ISIC_2019_Test_GroundTruth.csv", header, rows)
    write_images(tmp_path / "ISIC_2019_Test_Input", ("ISIC_0034321", "ISIC_0034322"))
    source = read_isic2019(tmp_path)
    assert source.class_names == (*ISIC2019_CLASSES, "unk")
    assert classes_of(source).items() >= {"ISIC_0034321": "unk", "ISIC_0034322": "mel"}.items()
    assert source.image_ids[source.official_test].tolist() == ["ISIC_0034321", "ISIC_0034322"]
    assert source.facts["score_weight"][source.official_test].tolist() == ["1", "0"]


def test_test_images_without_their_truth_are_left_out(tmp_path):
    write_images(write_2018(tmp_path) / "ISIC2018_Task3_Test_Input", ["ISIC_0034524"])
    source = read_isic2018(tmp_path)
    assert len(source) == 4 and "1 other images" in source.summary()


BROKEN = {
    "no class": (["ISIC_0024306", *[0.0] * 7], "image ISIC_0024306 has 0 classes in line 2"),
    "two classes": (["ISIC_0024306", 1, 1, 0, 0, 0, 0, 0], "image ISIC_0024306 has 2 classes in line 2"),
    "half a class": (["ISIC_0024306", 1, 0.5, 0, 0, 0, 0, 0], "ISIC_0024306 has 1 classes in line 2"),
    "no number": (["ISIC_0024306", 1, "", 0, 0, 0, 0, 0], "In line 2 of .* stands '' where 0 or 1"),
    "no id": (["", 1, 0, 0, 0, 0, 0, 0], "no image in line 2"),
    "no file": (["ISIC_0099999", 1, 0, 0, 0, 0, 0, 0], "image ISIC_0099999 named by .*GroundTruth.csv is not below"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_row_is_named(case, tmp_path):
    row, expected = BROKEN[case]
    write_2018(tmp_path)
    write_table(next(tmp_path.rglob("*GroundTruth.csv")), HEADER_2018, [row])
    with pytest.raises(UserError, match=expected):
        read_isic2018(tmp_path)


def test_the_other_year_and_two_tables_are_refused(tmp_path):
    with pytest.raises(UserError, match="no column ak and no column scc; .*ISIC 2019 is needed"):
        write_2018(tmp_path / "a")
        read_isic2019(tmp_path / "a")
    write_2018(tmp_path / "b")
    write_2019(tmp_path / "b")
    with pytest.raises(UserError, match="two tables of the classes of one part.*one challenge"):
        read_isic2018(tmp_path / "b")
    with pytest.raises(UserError, match="no table ISIC2018_Task3_Training_GroundTruth.csv"):
        read_isic2018(tmp_path / "b" / "ISIC2018_Task3_Training_Input")


def test_an_image_in_two_parts_is_named(tmp_path):
    add_2018_test(write_2018(tmp_path), images=("ISIC_0024306", "ISIC_0034525"))
    with pytest.raises(UserError, match="id ISIC_0024306 stands 2 times in the tables .*Training.*Test"):
        read_isic2018(tmp_path)
