import collections
import csv

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data import phantom
from bitkeras.data.phantom_drawing import draw_lesion_photo
from bitkeras.errors import UserError

NUM_IMAGES = 100
SIZE = (80, 60)


def _bytes(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _rows(folder):
    with open(folder / "HAM10000_metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    return phantom.write_phantoms(root / "ham", num_images=NUM_IMAGES, image_size=SIZE)


def test_layout_and_table_are_the_release_s(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "HAM10000_images_part_1",
        "HAM10000_images_part_2",
        "HAM10000_metadata.csv",
        "README.txt",
    ]
    header = (folder / "HAM10000_metadata.csv").read_bytes().split(b"\n")[0]
    assert header == b"lesion_id,image_id,dx,dx_type,age,sex,localization"
    parts = [sorted(path.stem for path in (folder / name).iterdir()) for name in phantom.FOLDERS]
    # As in the release: half in each folder, consecutive ids, the first part the lower ones.
    assert parts[0] + parts[1] == [f"ISIC_{24306 + k:07d}" for k in range(NUM_IMAGES)]
    assert len(parts[0]) == NUM_IMAGES // 2
    assert sorted(row["image_id"] for row in _rows(folder)) == parts[0] + parts[1]
    assert "Synthetic" in (folder / "README.txt").read_text(encoding="utf-8")


def test_files_are_jpegs_of_the_size_asked_for(folder):
    for path in list(folder.glob("*/*.jpg"))[:10]:
        assert tf.image.is_jpeg(path.read_bytes())
        image = tf.io.decode_jpeg(path.read_bytes()).numpy()
        assert image.shape == (60, 80, 3)
        assert image.std() > 5


def test_values_of_the_table_are_the_release_s():
    rows = [row for row, _ in phantom._table(10015, seed=1)]
    assert {row["sex"] for row in rows} == {"male", "female", "unknown"}
    assert {row["dx_type"] for row in rows} == {"histo", "follow_up", "consensus", "confocal"}
    ages = {row["age"] for row in rows}
    assert ages <= {""} | {f"{age}.0" for age in range(0, 90, 5)}
    # The release: 57, 57 and 234 of 10,015. The interval is five standard deviations of a count by lesion.
    assert 10 <= sum(row["age"] == "" for row in rows) <= 120
    assert 10 <= sum(row["sex"] == "unknown" for row in rows) <= 120
    assert 130 <= sum(row["localization"] == "unknown" for row in rows) <= 430


def test_class_counts_follow_the_release():
    counts = collections.Counter(row["dx"] for row, _ in phantom._table(10015, seed=0))
    assert counts == {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
    counts = collections.Counter(row["dx"] for row, _ in phantom._table(1500, seed=0))
    assert counts == {"nv": 1004, "mel": 167, "bkl": 165, "bcc": 77, "akiec": 49, "vasc": 21, "df": 17}


def test_every_class_has_a_handful_of_lesions(folder):
    lesions = collections.defaultdict(set)
    for row in _rows(folder):
        lesions[row["dx"]].add(row["lesion_id"])
    assert set(lesions) == set(phantom.CLASS_NAMES)
    assert min(map(len, lesions.values())) >= 6
    assert max(lesions, key=lambda dx: len(lesions[dx])) == "nv"


def test_photos_of_a_lesion_share_everything_the_table_says(folder):
    facts, photos = collections.defaultdict(set), collections.Counter()
    for row in _rows(folder):
        facts[row["lesion_id"]].add(tuple(row[name] for name in ("dx", "dx_type", "age", "sex", "localization")))
        photos[row["lesion_id"]] += 1
    assert all(len(said) == 1 for said in facts.values())
    assert sum(count > 1 for count in photos.values()) >= 5


def test_lesions_are_as_many_as_in_the_release():
    photos = collections.Counter(row["lesion_id"] for row, _ in phantom._table(10015, seed=0))
    assert abs(len(photos) - 7470) < 400
    assert abs(sum(count > 1 for count in photos.values()) - 1956) < 300
    assert max(photos.values()) <= 6


def test_no_column_gives_a_class_away():
    rows = [row for row, _ in phantom._table(10015, seed=0)]
    for column in ("dx_type", "age", "sex", "localization"):
        classes = collections.defaultdict(set)
        for row in rows:
            classes[row[column]].add(row["dx"])
        assert min(map(len, classes.values())) > 1, column
    # Neither do the order of the rows or the ids: without shuffling |r| is near 1.
    is_nevus = np.array([row["dx"] == "nv" for row in rows])
    ids = np.array([int(row["image_id"][5:]) for row in rows])
    assert abs(np.corrcoef(is_nevus, ids)[0, 1]) < 0.05
    assert abs(np.corrcoef(is_nevus, np.arange(len(rows)))[0, 1]) < 0.05


def test_same_seed_same_bytes_other_seed_other_bytes(folder, tmp_path):
    again = phantom.write_phantoms(tmp_path / "again", num_images=NUM_IMAGES, image_size=SIZE)
    other = phantom.write_phantoms(tmp_path / "other", num_images=NUM_IMAGES, image_size=SIZE, seed=1)
    assert _bytes(again) == _bytes(folder)
    first, second = set(_bytes(folder).values()), set(_bytes(other).values())
    assert not first & second


def test_a_lesion_does_not_depend_on_the_number_of_images():
    few = {seeds: row["dx"] for row, seeds in phantom._table(200, seed=3)}
    many = {seeds: row["dx"] for row, seeds in phantom._table(1000, seed=3)}
    assert few.items() <= many.items()


@pytest.mark.parametrize("dx", phantom.CLASS_NAMES)
def test_a_second_photo_shows_the_same_lesion_otherwise(dx):
    """Colour histograms, blind to framing: two photos of a lesion are closer than photos of two lesions."""

    def histogram(lesion, photo):
        image = draw_lesion_photo(dx, (11, lesion), (12, lesion, photo), image_size=SIZE)
        return np.histogramdd(image.reshape(-1, 3), bins=6, range=[(0, 256)] * 3)[0].ravel() ** 0.5

    pairs = [(histogram(k, 0), histogram(k, 1)) for k in range(12)]
    same = [np.linalg.norm(a - b) for a, b in pairs]
    different = [np.linalg.norm(pairs[k][0] - pairs[k - 1][1]) for k in range(12)]
    assert min(same) > 0
    assert np.mean(same) < 0.8 * np.mean(different)


def test_drawing_has_no_size_of_its_own():
    """The same photograph at two sizes is the same picture."""
    # Even sizes with a whole ratio, so that block means of the large one lie on the pixels of the small one.
    small = draw_lesion_photo("nv", (4, 1), (5, 3), image_size=(100, 76)).astype(float)
    large = draw_lesion_photo("nv", (4, 1), (5, 3), image_size=(300, 228)).astype(float)
    large = large.reshape(76, 3, 100, 3, 3).mean((1, 3))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.9


def test_progress_counts_every_image(tmp_path):
    seen = []
    phantom.write_phantoms(
        tmp_path / "ham", num_images=100, image_size=(40, 32), progress=lambda *numbers: seen.append(numbers)
    )
    assert seen == [(k, 100) for k in range(1, 101)]


def test_interrupted_writing_leaves_nothing(tmp_path):
    def interrupt(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phantom.write_phantoms(tmp_path / "ham", num_images=100, image_size=(40, 32), progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match="not an empty folder"):
        phantom.write_phantoms(tmp_path, num_images=100)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "ham").mkdir()
    phantom.write_phantoms(tmp_path / "ham", num_images=100, image_size=(40, 32))
    assert (tmp_path / "ham" / phantom.TABLE).is_file()


@pytest.mark.parametrize(
    "wrong, said", [({"num_images": 50}, "50"), ({"seed": -1}, "-1"), ({"image_size": (200, 8)}, "200x8")]
)
def test_numbers_out_of_range_are_told(tmp_path, wrong, said):
    with pytest.raises(UserError, match=said):
        phantom.write_phantoms(tmp_path / "ham", **wrong)


@pytest.mark.slow
def test_raw_pixels_tell_something_but_far_from_all():
    """Balanced accuracy of a logistic regression on 16x16 pixels, lesions kept apart; chance is 1/7."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = phantom._table(1200, seed=0)
    images = np.stack([draw_lesion_photo(row["dx"], *seeds, image_size=(64, 48)) for row, seeds in table])
    pixels = tf.image.resize(images, [16, 16], antialias=True).numpy().reshape(len(table), -1) / 255.0
    labels = np.array([row["dx"] for row, _ in table])
    groups = [row["lesion_id"] for row, _ in table]
    predicted = labels.copy()
    for train, test in StratifiedGroupKFold(3, shuffle=True, random_state=0).split(pixels, labels, groups):
        classifier = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500)
        model = make_pipeline(StandardScaler(), classifier).fit(pixels[train], labels[train])
        predicted[test] = model.predict(pixels[test])
    assert 0.19 < balanced_accuracy_score(labels, predicted) < 0.5
