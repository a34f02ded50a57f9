"""Folders of DICOM files: every frame is an image, and patients are the groups.

Nothing is unpacked or copied: a frame is decoded when it is asked for, and goes on as PNG bytes in memory. So no second
copy of a hospital's images comes to lie on a disk that nobody thinks of; to decode an archive once and for all, ingest
it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bitkeras.data.dicom_headers import FACTS, is_dicom, read_header
from bitkeras.data.dicom_pixels import parse_window, show_frame
from bitkeras.data.png import stored_png
from bitkeras.data.source import ImageSource, find_files, require_folder
from bitkeras.data.tables import facts_of
from bitkeras.errors import UserError


def read_dicom(data_dir: str | Path, *, dicom_window: str | None = None) -> ImageSource:
    """Every frame of every DICOM file below `data_dir` with pictures, without labels, ordered by path and frame.

    A file is DICOM by its content, or by the ending .dcm. Ids are the paths relative to `data_dir`, with `#frame`
    behind them where a file has several. Files without pictures (reports, plans, segmentations) and of other kinds are
    left out and counted.

    Groups are patients, numbered in the order of their first image. A number says nothing about the patient and cannot
    be traced back without the archive, which a hash of a short identifier can be by trying all of them; it lasts as
    long as the archive has the same files. Where a file names no patient, its study stands for one. Facts are age in
    years, sex, site (body part), source (maker and model of the device) and modality. No name, date or identifier of
    the headers is kept; folders and files named after patients show in the ids.

    Args:
      data_dir: the folder; a DICOMDIR in it is not needed.
      dicom_window: None: each file's own window, or percentiles; "percentile": those always; "40,400": centre and width
        for all, in the units of the modality.

    A file whose header is damaged is an image that cannot be read.

    Raises:
      UserError: there are no pictures, or the decoder of a transfer syntax is not installed.
    """
    folder = require_folder(data_dir)
    window = parse_window(dicom_window)
    found = [path for path in find_files(folder) if is_dicom(path)]
    files = [file for file in map(read_header, found) if file]
    if not files:
        raise UserError(f"There is no DICOM file with pictures below {folder}; put them there, at any depth.")
    which = np.repeat(np.arange(len(files)), [file.num_frames for file in files])
    frames = np.concatenate([np.arange(file.num_frames) for file in files])
    names = [file.path.relative_to(folder).as_posix() for file in files]
    several = [file.num_frames > 1 for file in files]
    return ImageSource(
        name="dicom",
        image_ids=np.array([f"{names[w]}#{frame}" if several[w] else names[w] for w, frame in zip(which, frames)]),
        paths=np.array([str(files[w].path) for w in which]),
        groups=numbered([file.person or (str(file.path),) for file in files])[which],
        notes=_notes(len(found) - len(files)),
        facts=facts_of([files[w].facts for w in which], {name: name for name in FACTS}),
        converted=lambda index: stored_png(show_frame(files[which[index]], int(frames[index]), window)),
        conversion=f"window {window}",
    )


def single_frames(
    paths: list[Path], dicom_window: str | None
) -> tuple[Callable[[Path], bytes], dict[Path, tuple[str, ...]]]:
    """(a function that gives the picture of each of `paths` as PNG bytes, whose picture each of them is).

    Raises:
      UserError: a file has no picture or several, or as `read_dicom`.
    """
    window, files = parse_window(dicom_window), {}
    for path in paths:
        files[path] = file = read_header(path)
        if file is None or file.num_frames > 1:
            what = "no picture" if file is None else f"{file.num_frames} frames, and a line of a table means one image"
            raise UserError(f"The DICOM file {path} holds {what}; read such files with --dataset=dicom.")
    people = {path: file.person or (str(path),) for path, file in files.items()}
    return lambda path: stored_png(show_frame(files[path], 0, window)), people


def numbered(people: list[tuple[str, ...]]) -> np.ndarray:
    """[N] str: patient_00000 for all images of the first of `people`, and so on."""
    numbers = {person: number for number, person in enumerate(dict.fromkeys(people))}
    return np.array([f"patient_{numbers[person]:05d}" for person in people])


def _notes(num_left_out: int) -> tuple[str, ...]:
    return (f"{num_left_out} DICOM files without pictures are left out",) if num_left_out else ()
