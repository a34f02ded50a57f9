"""What the headers of DICOM files say: how many pictures, of whom, and whether they can be decoded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from bitkeras.data.dicom_codecs import import_pydicom, missing_decoder
from bitkeras.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

# A frame of more pixels is damage or an attack: the largest detectors have 30 million.
MAX_PIXELS = 200_000_000
# The header of RLE takes so many bytes, and those of JPEG more.
_LEAST_COMPRESSED = 64
# RFC 1951: 258 bytes in two bits.
_MAX_DEFLATION = 1032

_ENDINGS = (".dcm", ".dicom")
_TAGS = (
    *("SOPClassUID", "Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("PhotometricInterpretation", "PatientID", "IssuerOfPatientID", "StudyInstanceUID"),
    *("PatientAge", "PatientSex", "BodyPartExamined", "Manufacturer", "ManufacturerModelName"),
)
# They hold an array of pixels that is no picture.
_NO_PICTURES = ("Segmentation", "RT Dose", "Parametric Map")
FACTS = ("age", "sex", "site", "source", "modality")
_SEXES = {"M": "male", "F": "female", "O": "other"}


@dataclasses.dataclass(frozen=True)
class DicomFile:
    """What the header of a DICOM file with pictures says.

    Attributes:
      path: the file.
      syntax: the UID of its transfer syntax.
      num_frames: at least 1.
      person: what is the same for all images of a person and no others, empty where nothing is; never shown.
      facts: name in `FACTS` -> what is known.
      damage: why nothing of the above is known, or empty.
    """

    path: Path
    syntax: str = ""
    num_frames: int = 1
    person: tuple[str, ...] = ()
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    damage: str = ""


class _Damage(Exception):
    """Why the header cannot be used, as half a sentence."""


def is_dicom_name(path: Path) -> bool:
    """Whether the file is DICOM by its ending."""
    return path.suffix.lower() in _ENDINGS


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM by its ending or by its first bytes."""
    if is_dicom_name(path):
        return True
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_header(path: Path) -> DicomFile | None:
    """What the file says of its pictures, or None where it has none.

    Raises:
      UserError: what decodes the pictures is not installed. A damaged header is no error here but a file with `damage`.
    """
    import_pydicom()
    try:
        file = _parse_header(path)
    except _Damage as damage:
        return DicomFile(path, damage=str(damage))
    except Exception as error:  # pydicom promises no list of what damaged data raises.
        reason = " ".join(str(error).split()) or type(error).__name__
        return DicomFile(path, damage=f"its header is damaged ({reason})")
    if file and (complaint := missing_decoder(file.syntax)):
        raise UserError(f"The DICOM file {path} is compressed as {complaint}")
    return file


def _parse_header(path: Path) -> DicomFile | None:
    pydicom = import_pydicom()
    # force: what ends in .dcm may lack the preamble, as files of old archives do.
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
    if not _has_pictures(header):
        return None
    num_frames = int(header.get("NumberOfFrames") or 1)
    _require_plausible(path, header, num_frames)
    syntax = header.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian)
    return DicomFile(path, syntax, num_frames, _person(header), _facts(header))


def _has_pictures(header: Dataset) -> bool:
    """Whether the file is of a kind that has pictures."""
    pydicom = import_pydicom()
    if header.file_meta.get("MediaStorageSOPClassUID") == pydicom.uid.MediaStorageDirectoryStorage:
        return False
    kind = pydicom.uid.UID(header.get("SOPClassUID") or "")
    if "Rows" in header:
        return not kind.name.startswith(_NO_PICTURES)
    # Every file of whatever kind names its study, and the rows come later.
    if "StudyInstanceUID" not in header or "Image Storage" in kind.name:
        raise _Damage("its header is cut short or is none")
    return False


def _require_plausible(path: Path, header: Dataset, num_frames: int) -> None:
    """`_Damage` where the sizes in the header cannot be true."""
    rows, columns, samples = int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel", 1))
    if not 0 < rows * columns <= MAX_PIXELS or samples not in (1, 3) or num_frames < 1:
        raise _Damage(
            f"its header tells of {num_frames} frames of {columns}x{rows} pixels with {samples} samples, and a frame "
            f"may have 1 to {MAX_PIXELS:,} pixels of 1 or 3"
        )
    num_bytes = _least_bytes(header, rows * columns * samples * int(header.BitsAllocated) // 8) * num_frames
    if path.stat().st_size < num_bytes:
        raise _Damage(f"it is cut short ({num_frames} frames take at least {num_bytes:,.0f} bytes)")


def _least_bytes(header: Dataset, frame_bytes: int) -> float:
    """What a frame takes in the file at least, where it takes `frame_bytes` in memory."""
    # A file that tells no transfer syntax is not compressed.
    syntax = header.file_meta.get("TransferSyntaxUID", import_pydicom().uid.ImplicitVRLittleEndian)
    if syntax.is_deflated:
        return frame_bytes / _MAX_DEFLATION
    if syntax.is_compressed:
        return _LEAST_COMPRESSED
    # Two samples a pixel instead of three.
    return frame_bytes * 2 / 3 if header.get("PhotometricInterpretation") == "YBR_FULL_422" else frame_bytes


def _person(header: Dataset) -> tuple[str, ...]:
    if patient := str(header.get("PatientID") or "").strip():
        return "patient", patient, str(header.get("IssuerOfPatientID") or "").strip()
    if study := str(header.get("StudyInstanceUID") or "").strip():
        return "study", study
    return ()


def _facts(header: Dataset) -> dict[str, str]:
    device = [str(header.get(keyword) or "").strip() for keyword in ("Manufacturer", "ManufacturerModelName")]
    return {
        "age": _years(str(header.get("PatientAge") or "")),
        "sex": _SEXES.get(str(header.get("PatientSex") or ""), ""),
        "site": str(header.get("BodyPartExamined") or "").strip().lower(),
        "source": " ".join(filter(None, device)),
        "modality": str(header.get("Modality") or ""),
    }


def _years(age: str) -> str:
    """045Y -> 45; months, weeks and days of infants -> 0."""
    number, unit = age.strip()[:-1], age.strip()[-1:]
    if not number.isdecimal() or unit not in "YMWD":
        return ""
    return str(int(number) // {"Y": 1, "M": 12, "W": 52, "D": 365}[unit])
