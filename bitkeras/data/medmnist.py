"""MedMNIST (Yang et al., Scientific Data 10, 41, 2023): the two-dimensional sets.

Releases come as `dermamnist.npz` (28 px), `dermamnist_64.npz`, `_128` and `_224`, with the arrays `train_images`,
`train_labels` and the same for `val` and `test`.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np

from bitkeras.data.byte_ranges import ByteRanges, nameless_file
from bitkeras.data.png import stored_png
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError

_PARTS = ("train", "val", "test")

_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)
# The files hold numbers only; the names are those of the authors' package medmnist, without its explanations.
CLASS_NAMES = {
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
        *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    ),
    "dermamnist": (
        *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions"),
        *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        *("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil"),
        "platelet",
    ),
    "tissuemnist": (
        *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
        *("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments"),
        "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}


@dataclasses.dataclass(frozen=True)
class _Part:
    """One part of a release: its name, how many images, the shape of one ((H, W) or (H, W, 3)), labels int32 [n, L]."""

    name: str
    num_images: int
    shape: tuple[int, ...]
    labels: np.ndarray


def read_medmnist(data_dir: str | Path) -> ImageSource:
    """The images of one `.npz`: its test part is the released test, the other two are one pool (fact "released_part").

    The pixels are unpacked into a file without a name in the folder for temporary files, which for `pathmnist_224.npz`
    takes 16 GB, and go on as PNG bytes, one image at a time. Ids are `train/000000` and so on. A set with several
    labels an image (`chestmnist`), of which the probe could not choose one, comes without labels.

    Args:
      data_dir: the file, or a folder that holds one.

    Raises:
      UserError: it is no such file, is damaged, or holds volumes.
    """
    file = _find_file(Path(data_dir))
    try:
        with zipfile.ZipFile(file) as archive:
            names = [part for part in _PARTS if f"{part}_images.npy" in archive.namelist()]
            if not names:
                raise ValueError(f"it holds no train_images, but {', '.join(archive.namelist()[:9]) or 'nothing'}")
            parts = [_read_part(archive, name, file) for name in names]
            labels, class_names, notes = _labels(file, parts)
            pixels = _unpack(archive, parts, file)
    # What zipfile and NumPy's reader of headers raise for damaged data, encrypted and unknown members included.
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"The file {file} is no MedMNIST release or is damaged ({error}); download it again.") from None
    part_of = np.repeat(names, [part.num_images for part in parts])
    shape = parts[0].shape
    return ImageSource(
        name="medmnist",
        image_ids=np.array([f"{part.name}/{number:06d}" for part in parts for number in range(part.num_images)]),
        labels=labels,
        class_names=class_names,
        notes=notes,
        official_test=part_of == "test" if "test" in names else None,
        facts={"released_part": part_of},
        converted=lambda index: stored_png(np.frombuffer(pixels(index), np.uint8).reshape(shape)),
    )


def _find_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"The file {path} does not exist; pass a MedMNIST .npz, or the folder it is in.")
    files = sorted(path.glob("*.npz"))
    if len(files) != 1:
        there = f"{len(files)} of them ({', '.join(f.name for f in files[:5])})" if files else "none"
        raise UserError(
            f"A MedMNIST set is one .npz, and the folder {path} holds {there}; pass the file, as in "
            f"--data_dir={path}/dermamnist_64.npz."
        )
    return files[0]


def _read_part(archive: zipfile.ZipFile, name: str, file: Path) -> _Part:
    with archive.open(f"{name}_images.npy") as stream:
        num_images, *shape = _read_array_header(stream)
    with archive.open(f"{name}_labels.npy") as stream:
        labels = np.lib.format.read_array(stream, allow_pickle=False)
    if len(shape) == 3 and shape[2] != 3:
        raise UserError(
            f"The file {file} holds volumes of {'x'.join(map(str, shape))}, and an image has two dimensions; pass one "
            f"of the two-dimensional sets ({', '.join(CLASS_NAMES)})."
        )
    is_image = len(shape) in (2, 3) and num_images > 0
    if not is_image or labels.dtype.kind not in "iu" or labels.ndim not in (1, 2) or len(labels) != num_images:
        raise ValueError(
            f"{name}_images is {[num_images, *shape]}, {name}_labels is {list(labels.shape)} {labels.dtype}"
        )
    if not labels.size or labels.min() < 0:
        raise ValueError(f"{name}_labels holds {labels.min() if labels.size else 'nothing'}")
    return _Part(name, num_images, tuple(shape), labels.reshape(num_images, -1).astype(np.int32))


def _read_array_header(stream) -> tuple[int, ...]:
    """The shape of an array of uint8 in C order; leaves `stream` at its first byte."""
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"an array in version {version} of NumPy's format")
    shape, in_fortran_order, dtype = read[version](stream)
    if dtype != np.uint8 or in_fortran_order or not shape:
        raise ValueError(f"an array of {dtype} {list(shape)}, where bytes in C order are expected")
    return shape


def _unpack(archive: zipfile.ZipFile, parts: list[_Part], file: Path) -> ByteRanges:
    """The pixels of each image, in the order of the parts."""
    if len({part.shape for part in parts}) > 1:
        raise ValueError(f"its parts have images of {' and '.join(str(part.shape) for part in parts)}")
    num_images, size = sum(part.num_images for part in parts), math.prod(parts[0].shape)
    unpacked = nameless_file(num_images * size, file)
    for part in parts:
        before = unpacked.tell()
        with archive.open(f"{part.name}_images.npy") as stream:
            _read_array_header(stream)
            # To its end, where zipfile compares the checksum.
            shutil.copyfileobj(stream, unpacked, 2**20)
        if unpacked.tell() - before != part.num_images * size:
            raise ValueError(f"{part.name}_images has {unpacked.tell() - before} bytes of {part.num_images * size}")
    unpacked.flush()
    zeros, sizes = np.zeros(num_images, np.int32), np.full(num_images, size)
    return ByteRanges((unpacked,), zeros, np.arange(num_images) * size, sizes)


def _labels(file: Path, parts: list[_Part]) -> tuple[np.ndarray | None, tuple[str, ...], tuple[str, ...]]:
    """(int32 [N], class names, notes); None, none and one that says so where an image has several labels."""
    widths = {part.labels.shape[1] for part in parts}
    if len(widths) > 1:
        raise ValueError(f"its parts have {' and '.join(map(str, sorted(widths)))} labels an image")
    if widths != {1}:
        return None, (), (f"{max(widths)} labels an image, which do not exclude each other, are left out",)
    labels = np.concatenate([part.labels for part in parts])[:, 0]
    return labels, _class_names(file, int(labels.max()) + 1), ()


def _class_names(file: Path, num_labels: int) -> tuple[str, ...]:
    """The names of the set that the file is called after, or the numbers where it is none of them."""
    names = CLASS_NAMES.get(file.stem.lower().partition("_")[0], ())
    return names if num_labels <= len(names) else tuple(str(label) for label in range(num_labels))
