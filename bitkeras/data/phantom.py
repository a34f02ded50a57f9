"""A seeded stand-in for HAM10000: drawn lesions in exactly the release's folders and table.

The phantoms let the whole road be driven without a download: the class shares, several photographs
of a lesion, the missing values and the table are those of HAM10000 (Tschandl 2018, Sci Data 5:180161), so
its reader reads them. They are drawings; a score on them says nothing about patients.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data.phantom_drawing import draw_lesion_photo
from bitkeras.data.phantom_lesions import CLASS_NAMES
from bitkeras.errors import UserError

TABLE = "HAM10000_metadata.csv"
FOLDERS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
RELEASED_COUNTS = {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}

# Fewer, and a lesion-grouped split into three parts could leave a class out of one of them.
MIN_IMAGES_PER_CLASS = 10
MIN_LESIONS_PER_CLASS = 6
MIN_IMAGES = 100

_FIRST_IMAGE_ID = 24306
_NOTICE = """Synthetic drawings, not patients.

Every image in this folder was drawn by a program (bitkeras.data.phantom: seed {seed}, {num_images} images,
{width}x{height} pixels). The table imitates the layout of HAM10000; its ages, sexes, sites and diagnoses are
invented. Nothing learned or measured on these images says anything about people.
"""


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What the release's table says of one class, rounded.

    Attributes:
      photos: shares of lesions with 1, 2, 3, ... photographs.
      age: mean and standard deviation in years.
      male: share of men.
      histo, follow_up, consensus, confocal: shares of `dx_type`. In the release every follow_up is a nevus
        and every melanoma is histo; here each class has a little of what others have, so that no value
        gives the class away.
      sites: the usual localizations; the rest of the lesions lie anywhere.
    """

    photos: tuple[float, ...]
    age: tuple[float, float]
    male: float
    dx_types: tuple[float, float, float, float]
    sites: tuple[str, ...]


_DX_TYPES = ("histo", "follow_up", "consensus", "confocal")
_SITES = (
    *("abdomen", "acral", "back", "chest", "ear", "face", "foot", "genital", "hand", "lower extremity"),
    *("neck", "scalp", "trunk", "upper extremity"),
)
_FACTS = {
    "akiec": _Facts((0.66, 0.27, 0.06, 0.01), (67, 11), 0.66, (0.96, 0.01, 0.02, 0.01), ("face", "upper extremity")),
    "bcc": _Facts((0.55, 0.33, 0.12), (67, 14), 0.63, (0.96, 0.01, 0.02, 0.01), ("back", "face")),
    "bkl": _Facts((0.60, 0.30, 0.08, 0.01, 0.01), (64, 14), 0.57, (0.69, 0.02, 0.23, 0.06), ("face", "back")),
    "df": _Facts((0.54, 0.36, 0.10), (53, 14), 0.54, (0.47, 0.02, 0.50, 0.01), ("lower extremity",)),
    "mel": _Facts((0.37, 0.45, 0.16, 0.01, 0.0, 0.01), (61, 15), 0.62, (0.96, 0.02, 0.01, 0.01), ("back", "chest")),
    "nv": _Facts((0.82, 0.13, 0.05), (47, 15), 0.51, (0.37, 0.55, 0.07, 0.01), ("back", "lower extremity", "trunk")),
    "vasc": _Facts((0.65, 0.27, 0.08), (51, 23), 0.54, (0.45, 0.02, 0.52, 0.01), ("trunk", "lower extremity")),
}


def write_phantoms(
    folder: str | Path,
    *,
    num_images: int = 1500,
    seed: int = 0,
    image_size: tuple[int, int] = (200, 150),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draws phantoms into the new folder `folder`, laid out like the HAM10000 release.

    The classes have the release's shares, but each at least `MIN_IMAGES_PER_CLASS` images of at least
    `MIN_LESIONS_PER_CLASS` lesions. The same arguments give the same bytes. A lesion looks the same
    whatever `num_images` is; ids and order do not carry over.

    Args:
      folder: must not exist or be empty; appears only once everything is in it.
      num_images: images in all, at least `MIN_IMAGES`.
      seed: a non-negative integer.
      image_size: (width, height) in pixels; the release has (600, 450).
      progress: called with (done, total) after every image.

    Returns:
      `folder` as a Path.

    Raises:
      UserError: `folder` holds something, or a number is out of range.
    """
    folder = Path(folder)
    _check(folder, num_images, seed, image_size)
    beside = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        _write_release(beside, num_images, seed, image_size, progress)
        if folder.is_dir():
            folder.rmdir()
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _check(folder: Path, num_images: int, seed: int, image_size: tuple[int, int]) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists and is not an empty folder; pass a new folder for the phantoms, or remove it."
        )
    if num_images < MIN_IMAGES:
        raise UserError(f"Cannot draw {num_images} phantoms; at least {MIN_IMAGES} are needed for seven classes.")
    if seed < 0:
        raise UserError(f"The phantom seed {seed} is negative; pass 0 or more.")
    if min(image_size) < 32:
        raise UserError(f"Phantoms of {image_size[0]}x{image_size[1]} pixels are too small; pass at least 32 a side.")


def _write_release(root: Path, num_images: int, seed: int, image_size, progress) -> None:
    """Everything the finished folder holds, into `root`."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    rows = _table(num_images, seed)
    for done, (row, seeds) in enumerate(rows, start=1):
        image = draw_lesion_photo(row["dx"], *seeds, image_size=image_size)
        number = int(row["image_id"][len("ISIC_") :]) - _FIRST_IMAGE_ID
        part = FOLDERS[int(number >= num_images // 2)]
        (root / part / f"{row['image_id']}.jpg").write_bytes(tf.io.encode_jpeg(image, quality=90).numpy())
        if progress:
            progress(done, num_images)
    with open(root / TABLE, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row, _ in rows)
    notice = _NOTICE.format(seed=seed, num_images=num_images, width=image_size[0], height=image_size[1])
    (root / "README.txt").write_text(notice, encoding="utf-8")


def _class_counts(num_images: int) -> dict[str, int]:
    """Images a class: the release's shares, small classes raised to the minimum at the nevi's expense."""
    total = sum(RELEASED_COUNTS.values())
    counts = {dx: max(MIN_IMAGES_PER_CLASS, round(num_images * n / total)) for dx, n in RELEASED_COUNTS.items()}
    counts["nv"] += num_images - sum(counts.values())
    return counts


def _table(num_images: int, seed: int) -> list[tuple[dict, tuple]]:
    """One (table row, (lesion seed, photo seed)) an image, the lesions and image ids in random order."""
    lesions = []
    for dx, left in _class_counts(num_images).items():
        lesion = 0
        while left:
            lesion_seed = (seed, CLASS_NAMES.index(dx), lesion)
            # A stream of its own, so that a change to the drawing leaves the table alone.
            facts, num_photos = _invent(dx, np.random.default_rng((*lesion_seed, 1)))
            spare = left - max(0, MIN_LESIONS_PER_CLASS - lesion - 1)
            num_photos = min(num_photos, spare)
            lesions.append((facts, [((*lesion_seed, 0), (*lesion_seed, 2, photo)) for photo in range(num_photos)]))
            left, lesion = left - num_photos, lesion + 1
    rng = np.random.default_rng((seed, len(CLASS_NAMES)))
    # Neither an id nor a folder nor the order of the rows may tell the class.
    numbers = iter(_FIRST_IMAGE_ID + rng.permutation(num_images))
    rows = []
    for index, position in enumerate(rng.permutation(len(lesions))):
        facts, photos = lesions[position]
        for seeds in photos:
            ids = {"lesion_id": f"HAM_{index:07d}", "image_id": f"ISIC_{next(numbers):07d}"}
            rows.append(({**ids, **facts}, seeds))
    return rows


def _invent(dx: str, rng: np.random.Generator) -> tuple[dict[str, str], int]:
    """The table's facts of one lesion of class `dx`, and how many photographs it has."""
    known = _FACTS[dx]
    num_photos = 1 + int(rng.choice(len(known.photos), p=known.photos))
    age = f"{5.0 * np.clip(round(rng.normal(*known.age) / 5), 0, 17):.1f}"
    sex = "male" if rng.random() < known.male else "female"
    site = str(rng.choice(known.sites if rng.random() < 0.5 else _SITES))
    # 57, 57 and 234 of the release's 10,015 rows lack age, sex and site, age and sex mostly together.
    nothing_known, no_site = rng.random() < 57 / 10015, rng.random() < 234 / 10015
    facts = {
        "dx": dx,
        "dx_type": str(rng.choice(_DX_TYPES, p=known.dx_types)),
        "age": "" if nothing_known else age,
        "sex": "unknown" if nothing_known else sex,
        "localization": "unknown" if no_site or nothing_known else site,
    }
    return facts, num_photos
