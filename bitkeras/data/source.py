"""What every source of images hands over, and the checks they share."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bitkeras.data.conversion import decodable
from bitkeras.errors import UserError

# What a file holds is told by its first bytes; its ending only says that it is an image.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif")


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """N encoded images and what is known about them.

    Attributes:
      name: the key in `DATASETS`.
      image_ids: [N] str, unique.
      paths: [N] str, the files; None where the images are held in `encoded`.
      encoded: [N] bytes (object array), image files; None where they are on disk.
      labels: [N] int32 in [0, K), or None where nothing is labelled.
      class_names: K names in label order; empty without labels.
      groups: [N] str, the lesion of each image, or None where every image stands for itself.
      official_test: [N] bool, True for a released test part, or None where there is none.
      notes: what the reader passed over, told in the summary.
      facts: column name -> [N] str, what else is known of each image ("age", "sex", "site", "source", ...), "" where it
        is missing; for evaluation, never an input.
      converted: index -> encoded bytes of images that are neither files nor held in memory; goes before `paths` and
        `encoded`, and is None where these say it all. What it raises is the reason why an image is bad. It may be
        called from several threads at once.
      conversion: what else than the image decides what `converted` gives, such as the window of DICOM.
      left_out: [n] str, ids of images that were taken out since they cannot be used.
    """

    name: str
    image_ids: np.ndarray
    paths: np.ndarray | None = None
    encoded: np.ndarray | None = None
    converted: Callable[[int], bytes] | None = None
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    official_test: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    facts: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    conversion: str = ""
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, indices) -> ImageSource:
        """The images at `indices` ([n] int) in that order, as a source of their own; classes stay as they are."""
        indices = np.asarray(indices, dtype=np.int64)
        fields = ("image_ids", "paths", "encoded", "labels", "groups", "official_test")
        held = {field: getattr(self, field) for field in fields}
        taken = {field: v[indices] for field, v in held.items() if v is not None}
        if self.converted is not None:
            taken["converted"] = lambda index: self.converted(int(indices[index]))
        facts = {name: values[indices] for name, values in self.facts.items()}
        return dataclasses.replace(self, **taken, facts=facts)

    def location(self, index: int) -> str:
        """Where a person finds image `index`: its file, or its id where it is a record of a batch file."""
        return str(self.image_ids[index] if self.paths is None else self.paths[index])

    def read(self, index: int) -> bytes:
        """Image `index` as bytes that `decode_image` takes: the file as it is, or PNG made of a TIFF, GIF or odd BMP.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is no image, or is damaged where this is seen without decoding JPEG and PNG.
        """
        if self.converted is not None:
            encoded = self.converted(index)
        else:
            encoded = self.encoded[index] if self.paths is None else Path(self.paths[index]).read_bytes()
        return decodable(encoded)

    def summary(self) -> str:
        """One line: images, classes with their counts, lesions."""
        parts = [f"{len(self)} images", self._class_summary()]
        if self.groups is not None:
            parts.append(f"{len(np.unique(self.groups))} lesions")
        if self.official_test is not None:
            parts.append(f"{int(self.official_test.sum())} of them the released test part")
        return f"{self.name}: " + "; ".join([*parts, *self.notes])

    def _class_summary(self) -> str:
        if self.labels is None:
            return "no labels"
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        # A folder can hold hundreds of classes; a line of the log cannot.
        listed = [f"{name} {count}" for name, count in zip(self.class_names[:20], counts)]
        listed += ["..."] if len(self.class_names) > 20 else []
        return f"{len(self.class_names)} classes ({', '.join(listed)})"


def require_folder(folder: str | Path) -> Path:
    """`folder` as a Path, or a UserError that says it is missing."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"The folder {folder} does not exist or is not a folder; pass the one that holds the data with --data_dir."
        )
    return folder


def require_unique(image_ids, where: str) -> None:
    """UserError naming the first id of `image_ids` that stands twice in `where`."""
    for image_id, count in collections.Counter(image_ids).items():
        if count > 1:
            raise UserError(
                f"The image id {image_id} stands {count} times in {where}; every id must stand once, so remove the "
                "others."
            )


def find_files(folder: Path) -> list[Path]:
    """Every file below `folder` at any depth, sorted; hidden ones and archive leftovers of macOS are left out."""

    def refuse(error: OSError):
        raise UserError(f"The folder {error.filename} cannot be read ({error.strerror}); give yourself access to it.")

    files, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # A link may lead back to a folder above it: each real folder is entered once.
        if os.path.realpath(parent) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(files, key=Path.as_posix)


def find_images(folder: Path) -> list[Path]:
    """The files of `find_files` that end as an image does, in capitals or not."""
    return [path for path in find_files(folder) if path.suffix.lower() in IMAGE_ENDINGS]
