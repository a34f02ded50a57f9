"""The HAM10000 reader on small copies of the release's layouts, with real JPEG files."""

import shutil
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data import read_phantom
from bitkeras.data.ham10000 import HAM10000_CLASSES, read_ham10000
from bitkeras.errors import UserError

HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization"
# Not in the order of the ids; two photographs of one lesion; age and sex missing as in the release.
ROWS = (
    "HAM_0000003,ISIC_0000004,nv,histo,,unknown,unknown",
    "HAM_0000001,ISIC_0000002,mel,histo,50.0,male,back",
    "HAM_0000001,ISIC_0000001,mel,histo,50.0,male,back",
    "HAM_0000002,ISIC_0000003,akiec,follow_up,30.0,female,face",
)


def jpeg(seed, size=24):
    image = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return tf.io.encode_jpeg(image).numpy()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_release(
    folder,
    *,
    table="HAM10000_metadata.csv",
    places=("HAM10000_images_part_1", "HAM10000_images_part_2"),
    ending=".jpg",
    header=HEADER,
    rows=ROWS,
):
    put(folder / table, "\n".join([header, *rows, ""]).encode())
    for number in range(1, 5):
        put(folder / places[number % len(places)] / f"ISIC_000000{number}{ending}", jpeg(number))
    return folder


def check_content(source):
    assert source.image_ids.tolist() == [f"ISIC_000000{n}" for n in range(1, 5)]
    assert [source.class_names[label] for label in source.labels] == ["mel", "mel", "akiec", "nv"]
    assert source.groups.tolist() == ["HAM_0000001", "HAM_0000001", "HAM_0000002", "HAM_0000003"]
    assert [source.read(i) for i in range(4)] == [jpeg(n) for n in range(1, 5)]


def test_release_layout(tmp_path):
    source = read_ham10000(write_release(tmp_path))
    check_content(source)
    assert source.name == "ham10000" and source.class_names == HAM10000_CLASSES
    assert HAM10000_CLASSES == tuple(sorted(HAM10000_CLASSES)) and len(HAM10000_CLASSES) == 7
    assert source.labels.dtype == np.int32 and source.official_test is None
    assert "4 images; 7 classes (akiec 1, bcc 0, bkl 0, df 0, mel 2, nv 1, vasc 0); 3 lesions" in source.summary()


@pytest.mark.parametrize(
    "layout",
    [
        {"table": "HAM10000_metadata"},
        {"table": "tables/ham10000_METADATA.CSV"},
        {"places": ["HAM10000_images_part1", "ham10000_images_part_2"]},
        {"places": ["deep/deeper/images", "."]},
        {"ending": ".JPG"},
        {"ending": ".jpeg"},
        {"header": HEADER + ",dataset", "rows": [row + ",vidir_modern" for row in ROWS]},
        {
            "header": "\ufeffImage_ID, DX ,lesion_id",
            "rows": [",".join(np.array(r.split(","))[[1, 2, 0]]) for r in ROWS],
        },
        {
            "header": HEADER.replace(",", "\t"),
            "rows": [r.replace(",", "\t") for r in ROWS],
            "table": "HAM10000_metadata.tab",
        },
        # As the repository of the release hands it out: tabs, and text between quotation marks.
        {
            "table": "HAM10000_metadata.tab",
            "header": HEADER.replace(",", "\t"),
            "rows": ["\t".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS],
        },
        {"rows": [r.replace(",mel,", ", MEL ,") + "\r" for r in ROWS]},
        {"rows": [*ROWS, ",,,,,,"]},
    ],
    ids=lambda layout: "-".join(layout),
)
def test_known_spellings(layout, tmp_path):
    check_content(read_ham10000(write_release(tmp_path, **layout)))


def test_other_files_of_the_downloads_are_left_out(tmp_path):
    write_release(tmp_path)
    put(tmp_path / "hmnist_28_28_RGB.csv", b"pixel0000,label\n1,2\n")
    put(tmp_path / "ISIC2018_Task3_Test_GroundTruth.csv", b"image_id,dx\nISIC_0000009,nv\n")
    put(tmp_path / "masks" / "ISIC_0000001_segmentation.png", tf.io.encode_png(np.zeros([4, 4, 1], np.uint8)).numpy())
    put(tmp_path / "ISIC2018_Task3_Test_Images" / "ISIC_0000009.jpg", b"not even looked at")
    source = read_ham10000(tmp_path)
    check_content(source)
    assert "2 other images, which the table does not name, are left out" in source.summary()


def test_identical_copies_as_in_the_kaggle_archive(tmp_path):
    write_release(tmp_path)
    shutil.copytree(tmp_path / "HAM10000_images_part_1", tmp_path / "ham10000_images_part_1")
    source = read_ham10000(tmp_path)
    check_content(source)
    assert all("HAM10000_images" in path for path in source.paths)
    assert "2 identical copies are left out" in source.summary()


@pytest.mark.parametrize("identical", [False, True])
def test_two_files_of_one_id(tmp_path, identical):
    write_release(tmp_path)
    first = tmp_path / "HAM10000_images_part_2" / "ISIC_0000001.jpg"
    second = put(tmp_path / "more" / "ISIC_0000001.jpg", first.read_bytes() if identical else jpeg(99))
    with pytest.raises(UserError) as caught:
        read_ham10000(tmp_path)
    assert str(first) in str(caught.value) and str(second) in str(caught.value)


def test_one_folder_of_the_release_in_place_of_all(tmp_path):
    write_release(tmp_path)
    with pytest.raises(UserError, match=f"it lies beside HAM10000_images_part_1, so pass the folder {tmp_path}"):
        read_ham10000(tmp_path / "HAM10000_images_part_1")


def test_no_table(tmp_path):
    (write_release(tmp_path) / "HAM10000_metadata.csv").unlink()
    with pytest.raises(UserError, match="no table HAM10000_metadata"):
        read_ham10000(tmp_path)
    put(tmp_path / "ISIC2018_Task3_Training_GroundTruth.csv", b"image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n")
    with pytest.raises(UserError, match="one-hot table .*Training_GroundTruth.csv"):
        read_ham10000(tmp_path)


def test_table_kept_under_both_names(tmp_path):
    write_release(tmp_path)
    shutil.copy(tmp_path / "HAM10000_metadata.csv", tmp_path / "HAM10000_metadata")
    check_content(read_ham10000(tmp_path))


def test_facts_are_those_of_the_table_and_taken_along(tmp_path):
    rows = [f"{row},vidir_modern" for row in ROWS]
    source = read_ham10000(write_release(tmp_path, header=HEADER + ",dataset", rows=rows))
    # By hand from ROWS, ordered by image; what is not known is empty, and 50.0 is 50.
    assert {name: values.tolist() for name, values in source.facts.items()} == {
        "age": ["50", "50", "30", ""],
        "sex": ["male", "male", "female", ""],
        "site": ["back", "back", "face", ""],
        "source": ["vidir_modern"] * 4,
        "dx_type": ["histo", "histo", "follow_up", "histo"],
    }
    assert source.take([3, 0]).facts["age"].tolist() == ["", "50"]


def test_two_tables(tmp_path):
    write_release(tmp_path)
    put(tmp_path / "old" / "HAM10000_metadata", b"")
    with pytest.raises(UserError, match="two HAM10000 tables"):
        read_ham10000(tmp_path)


@pytest.mark.parametrize(
    "changes, expected",
    [
        (
            {"header": HEADER.replace("dx,", "diagnosis,")},
            "no column dx; it has lesion_id, image_id, diagnosis, dx_type",
        ),
        ({"rows": ()}, "has a header but no rows"),
        ({"rows": (*ROWS, ROWS[1])}, "image id ISIC_0000002 stands 2 times in .*HAM10000_metadata.csv"),
        ({"rows": (ROWS[0], ROWS[1].replace(",mel,", ",scc,"))}, "label scc of image ISIC_0000002 .* akiec, bcc, bkl"),
        ({"rows": (*ROWS, ",ISIC_0000001,nv,,,,")}, "no lesion_id in line 6 of"),
        ({"rows": (*ROWS, "HAM_0000009,ISIC_0000009")}, "no dx in line 6 of"),
        ({"rows": (*ROWS, ROWS[0] + ",back, left")}, "Line 6 of .* has 9 cells and the header 7"),
        ({"header": HEADER.replace("dx_type", "dx")}, "2 columns named dx"),
        ({"rows": (*ROWS, "HAM_0000009,ISIC_0000009,nv,,,,")}, "The image ISIC_0000009 named by .* is not below"),
        (
            {"rows": (*ROWS, "HAM_0000009,ISIC_0000009,nv,,,,", "HAM_0000010,ISIC_0000008,nv,,,,")},
            "ISIC_0000008 and 1 more named",
        ),
    ],
)
def test_table_errors(changes, expected, tmp_path):
    write_release(tmp_path, **changes)
    with pytest.raises(UserError, match=expected):
        read_ham10000(tmp_path)


def test_table_that_is_no_text(tmp_path):
    write_release(tmp_path)
    put(tmp_path / "HAM10000_metadata.csv", b"\xff\xfe\x00binary\x80")
    with pytest.raises(UserError, match="cannot be read"):
        read_ham10000(tmp_path)


def test_phantoms_are_written_once(tmp_path, monkeypatch):
    calls = []

    def write_phantoms(folder, **settings):
        calls.append(folder)
        write_release(folder)

    monkeypatch.setitem(sys.modules, "bitkeras.data.phantom", types.SimpleNamespace(write_phantoms=write_phantoms))
    first = read_phantom(tmp_path / "new")
    again = read_phantom(tmp_path / "new")
    assert calls == [tmp_path / "new"]
    assert first.name == again.name == "phantom"
    check_content(again)


@pytest.mark.real_data
def test_real_release(real_ham10000):
    source = read_ham10000(real_ham10000)
    assert len(source) == 8512 and not source.notes
    assert len(np.unique(source.groups)) == 6352
    assert np.bincount(source.labels).tolist() == [279, 440, 925, 105, 959, 5694, 110]
