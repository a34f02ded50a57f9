"""One frame of a DICOM file as a viewer shows it: DICOM PS3.3 C.7.6.3 (pixels), C.11.1 (modality), C.11.2 (window)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bitkeras.data.dicom_codecs import PLUGIN, import_pydicom, plugin_for
from bitkeras.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

    from bitkeras.data.dicom_headers import DicomFile

PERCENTILE = "percentile"

# Of the values that become black and white where a file says nothing: single hot pixels and burnt-in text do not count.
_PERCENTILES = (0.5, 99.5)
_GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


def parse_window(text: str | None) -> str | tuple[float, float] | None:
    """What --dicom_window means: None, `PERCENTILE`, or (centre, width) of "40,400".

    Raises:
      UserError: it is neither.
    """
    if text in (None, "", PERCENTILE):
        return text or None
    try:
        center, width = (float(number) for number in text.split(","))
        if width >= 1:
            return center, width
    except ValueError:
        pass
    raise UserError(
        f"--dicom_window={text} is no window; pass centre and width with a comma between them, such as 40,400 (width "
        f"at least 1), or {PERCENTILE}, or leave it out to take each file's own."
    )


def show_frame(file: DicomFile, frame: int, window: str | tuple[float, float] | None) -> np.ndarray:
    """Frame `frame` of a DICOM file, uint8 [H, W] or [H, W, 3] in RGB.

    Grey values go through the file's modality table or rescale slope, then through its table of values of interest or
    its first window; without either, 8-bit values stay as they are, and of others the percentiles 0.5 and 99.5 of the
    frame become black and white. MONOCHROME1 is turned, so that more is brighter. Colours come as RGB, of more than 8
    bits the upper 8.

    Args:
      file: as `read_header` gives it.
      frame: counted from 0.
      window: as `parse_window` returns it; a tuple is (centre, width) in the units of the modality, such as HU.

    Raises:
      ValueError: the file is damaged or its pixels cannot be decoded; the text is half a sentence about it.
    """
    if file.damage:
        raise ValueError(file.damage)
    try:
        stored, header = _decode(file.path, file.syntax, frame)
        return _shown(stored, header, frame, window)
    except Exception as error:  # Neither pydicom nor its decoders promise a list of what damaged data raises.
        # pydicom lists what each decoder said, and here it is given one.
        reason = " ".join(str(error).rpartition(f"{PLUGIN}: ")[2].split()) or type(error).__name__
        raise ValueError(f"its frame {frame} does not decode ({reason})") from error


def _decode(path: Path, syntax: str, frame: int) -> tuple[np.ndarray, Dataset]:
    """The values of one frame as they are stored, colours as RGB, and the header as far as it is about pixels."""
    pydicom = import_pydicom()
    if pydicom.uid.UID(syntax).is_deflated:
        # Nothing in it can be found without inflating all of it.
        whole = pydicom.dcmread(path, force=True)
        return pydicom.pixels.pixel_array(whole, index=frame), whole
    header = pydicom.Dataset()
    groups = [pydicom.datadict.tag_for_keyword(keyword) for keyword in _GROUPS]
    options = {"index": frame, "ds_out": header, "specific_tags": groups, "decoding_plugin": plugin_for(syntax)}
    return pydicom.pixels.pixel_array(path, **options), header


def _shown(stored: np.ndarray, header: Dataset, frame: int, window) -> np.ndarray:
    if header.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        colours = apply_color_lut(stored, header)[..., :3]
        return _upper_8_bits(colours, 8 * colours.itemsize)
    if stored.ndim == 3:
        return _upper_8_bits(stored, header.BitsStored)
    share = _grey(stored, header, frame, window)
    if header.PhotometricInterpretation == "MONOCHROME1":
        share = 1 - share
    return np.rint(255 * share).astype(np.uint8)


def _upper_8_bits(colours: np.ndarray, bits: int) -> np.ndarray:
    return (colours >> max(0, bits - 8)).astype(np.uint8)


def _grey(stored: np.ndarray, header: Dataset, frame: int, window) -> np.ndarray:
    """float64 [H, W] in [0, 1]."""
    from pydicom.pixels import apply_modality_lut, apply_voi

    transformation = _of_frame(header, frame, "PixelValueTransformationSequence")
    values = apply_modality_lut(stored, transformation).astype(np.float64)
    if isinstance(window, tuple):
        return _linear(values, *window)
    interest = _of_frame(header, frame, "FrameVOILUTSequence")
    if window != PERCENTILE:
        if interest.get("VOILUTSequence"):
            table = apply_voi(np.rint(values).astype(np.int64), interest)
            return table / (2.0 ** interest.VOILUTSequence[0].LUTDescriptor[2] - 1)
        if (share := _windowed(values, interest)) is not None:
            return share
        if header.get("BitsStored", 32) <= 8 and not transformation.get("ModalityLUTSequence"):
            ends = apply_modality_lut(_stored_range(header), transformation)
            return _between(values, *np.sort(ends))
    known = values[_is_pixel(stored, header) & np.isfinite(values)]
    if not known.size:
        return np.zeros(values.shape)
    return _between(np.nan_to_num(values), *np.percentile(known, _PERCENTILES))


def _of_frame(header: Dataset, frame: int, sequence: str) -> Dataset:
    """Where attributes of a frame stand: its functional group in a file of the enhanced kind, else the file itself."""
    per_frame, shared = (header.get(keyword) or [] for keyword in _GROUPS)
    for group in (*per_frame[frame : frame + 1], *shared[:1]):
        if found := group.get(sequence):
            return found[0]
    return header


def _windowed(values: np.ndarray, interest: Dataset) -> np.ndarray | None:
    """The first window of the file applied, C.11.2.1.2 and C.11.2.1.3; None where it has none that means anything."""
    center, width = (_first(interest.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    function = str(interest.get("VOILUTFunction") or "LINEAR").upper()
    if center is None or width is None or width < (1 if function == "LINEAR" else 1e-9):
        return None
    if function == "SIGMOID":
        # Clipped, since exp overflows above 709 and the share is 0 or 1 long before.
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500)))
    if function == "LINEAR_EXACT":
        return _between(values, center - width / 2, center + width / 2)
    return _linear(values, center, width)


def _linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    return _between(values, center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2)


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low`, 1 from `high`, straight between; a step above `low` where both are equal."""
    return np.clip((values - low) / max(high - low, 1e-9), 0, 1)


def _first(value) -> float | None:
    """The first of one or several numbers."""
    values = [value] if isinstance(value, (int, float, str)) else list(value or [])
    return float(values[0]) if values and values[0] not in (None, "") else None


def _stored_range(header: Dataset) -> np.ndarray:
    """The smallest and the largest value that the stored bits can hold, int64 [2]."""
    bits = int(header.BitsStored)
    return np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if header.PixelRepresentation else [0, 2**bits - 1])


def _is_pixel(stored: np.ndarray, header: Dataset) -> np.ndarray:
    """False where the value says that there is no pixel (C.7.5.1.1.2)."""
    padding = header.get("PixelPaddingValue")
    if not isinstance(padding, int):
        return np.ones(stored.shape, bool)
    limit = header.get("PixelPaddingRangeLimit", padding)
    low, high = sorted((padding, limit if isinstance(limit, int) else padding))
    return (stored < low) | (stored > high)
