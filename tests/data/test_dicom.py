"""DICOM files: those that come with pydicom, made by many programs, and some written by pydicom itself."""

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bitkeras.data.csv_table import read_csv
from bitkeras.data.dicom import read_dicom
from bitkeras.errors import UserError

WHY = "DICOM is not installed: pip install -c constraints.txt -e '.[dicom]'"
pydicom = pytest.importorskip("pydicom", minversion="3.0", reason=WHY)
imagecodecs = pytest.importorskip("imagecodecs", reason=WHY)

from pydicom import pixels as dicom_pixels  # noqa: E402
from pydicom.dataset import FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402

from bitkeras.data import dicom_codecs, dicom_headers  # noqa: E402
from bitkeras.data.dicom_pixels import parse_window  # noqa: E402

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
RAMP = np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64)


def write(path, pixels, *, kind=pydicom.uid.CTImageStorage, syntax=pydicom.uid.ExplicitVRLittleEndian, **attributes):
    """A file with `pixels` ([H, W], [H, W, 3] or [frames, H, W], the last of 8 to 16 bits)."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    is_colour = pixels.ndim == 3 and pixels.shape[2] == 3
    known = {
        "SOPClassUID": kind,
        "SOPInstanceUID": pydicom.uid.generate_uid(),
        "StudyInstanceUID": "1.2.3",
        "PatientID": "1",
        "Rows": pixels.shape[0 if is_colour else -2],
        "Columns": pixels.shape[1 if is_colour else -1],
        "SamplesPerPixel": 3 if is_colour else 1,
        "PhotometricInterpretation": "RGB" if is_colour else "MONOCHROME2",
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 * pixels.itemsize,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
        **({"PlanarConfiguration": 0} if is_colour else {}),
        **({"NumberOfFrames": len(pixels)} if pixels.ndim == 3 and not is_colour else {}),
        **attributes,
    }
    for keyword, value in known.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.HighBit = dataset.BitsStored - 1
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def item(**attributes):
    dataset = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def shown(folder, index=0, **options):
    """The picture as Pillow reads what training gets."""
    return np.asarray(Image.open(io.BytesIO(read_dicom(folder, **options).read(index))))


def shown_file(name, tmp_path):
    shutil.copy(SHIPPED / name, tmp_path / "a.dcm")
    return shown(tmp_path)


# --- grey values


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("center, width", [(40, 400), (-600.5, 1500), (0, 1)])
def test_windows_are_those_of_the_standard(function, center, width, tmp_path):
    attributes = {"WindowCenter": center, "WindowWidth": width, "RescaleSlope": 2, "RescaleIntercept": -100}
    path = write(tmp_path / "a.dcm", RAMP, **attributes, VOILUTFunction=function)
    header = pydicom.dcmread(path)
    # pydicom scales to the range of what the bits can hold, after rescaling.
    theirs = dicom_pixels.apply_windowing(2.0 * RAMP - 100, header)
    low, high = -(2.0**15) * 2 - 100, (2.0**15 - 1) * 2 - 100
    # Half a level of rounding; a step of width 0 is undefined at its own place.
    np.testing.assert_allclose(shown(tmp_path), 255 * (theirs - low) / (high - low), atol=0.51)


def test_the_first_of_several_windows_is_taken(tmp_path):
    write(tmp_path / "a" / "a.dcm", RAMP, WindowCenter=[40, 300], WindowWidth=[400, 2000])
    write(tmp_path / "b" / "b.dcm", RAMP, WindowCenter=40, WindowWidth=400)
    np.testing.assert_array_equal(shown(tmp_path / "a"), shown(tmp_path / "b"))


def test_a_window_for_all_by_hand(tmp_path):
    write(tmp_path / "a.dcm", RAMP, WindowCenter=1, WindowWidth=3, RescaleSlope=1, RescaleIntercept=-24)
    picture = shown(tmp_path, dicom_window="40,400").reshape(-1)
    hounsfield = RAMP.reshape(-1) - 24
    # PS3.3 C.11.2.1.2.1: from -160 (and below) black to 239 white.
    assert picture[hounsfield <= -160].max() == 0 and picture[hounsfield > 239].min() == 255
    assert picture[hounsfield == 40][0] == round(255 * ((40 - 39.5) / 399 + 0.5))


@pytest.mark.parametrize("window", [{}, {"WindowCenter": "", "WindowWidth": ""}, {"WindowCenter": 4, "WindowWidth": 0}])
def test_percentiles_where_there_is_no_window(window, tmp_path):
    pixels = np.random.default_rng(0).normal(1000, 200, (64, 64)).astype(np.uint16)
    pixels[0, :8] = 65535
    pixels[1:9] = 40000
    write(tmp_path / "a.dcm", pixels, **window, PixelPaddingValue=40000)
    low, high = np.percentile(pixels[pixels != 40000], [0.5, 99.5])
    expected = np.clip((pixels.astype(float) - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(shown(tmp_path), expected, atol=0.51)
    assert 1700 > high > 1400


def test_percentiles_if_asked_for(tmp_path):
    write(tmp_path / "a" / "a.dcm", RAMP, WindowCenter=40, WindowWidth=400)
    write(tmp_path / "b" / "b.dcm", RAMP)
    assert (shown(tmp_path / "a") != shown(tmp_path / "b")).any()
    np.testing.assert_array_equal(shown(tmp_path / "a", dicom_window="percentile"), shown(tmp_path / "b"))


def test_8_bits_stay_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(60, 120, (9, 13), dtype=np.uint8)
    write(tmp_path / "a" / "a.dcm", pixels)
    np.testing.assert_array_equal(shown(tmp_path / "a"), pixels)
    write(tmp_path / "b" / "b.dcm", pixels, RescaleSlope=-1, RescaleIntercept=500)
    np.testing.assert_array_equal(shown(tmp_path / "b"), 255 - pixels)


def test_monochrome1_is_turned(tmp_path):
    write(tmp_path / "a" / "a.dcm", RAMP, WindowCenter=40, WindowWidth=400)
    write(tmp_path / "b" / "b.dcm", RAMP, WindowCenter=40, WindowWidth=400, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(shown(tmp_path / "b"), 255.0 - shown(tmp_path / "a"), atol=1)


def test_table_of_values_of_interest(tmp_path):
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    table = np.minimum(np.arange(1000) ** 2 // 244, 4095)
    voi = item(LUTDescriptor=[1000, 500, 12], LUTData=table.tolist())
    voi["LUTDescriptor"].VR = voi["LUTData"].VR = "US"
    write(tmp_path / "a.dcm", pixels, BitsStored=12, VOILUTSequence=Sequence([voi]), WindowCenter=1, WindowWidth=2)
    expected = 255 * table[np.clip(pixels.astype(int) - 500, 0, 999)] / 4095
    np.testing.assert_allclose(shown(tmp_path), expected, atol=0.51)


def test_windows_of_single_frames(tmp_path):
    """An enhanced file keeps slope and window of each frame in its functional groups."""
    frames = np.stack([RAMP, RAMP, RAMP])
    per_frame = [item(FrameVOILUTSequence=Sequence([item(WindowCenter=c, WindowWidth=400)])) for c in (0, 500, 1000)]
    slope = item(RescaleSlope=2, RescaleIntercept=-50, RescaleType="HU")
    shared = item(PixelValueTransformationSequence=Sequence([slope]))
    write(
        *(tmp_path / "a" / "a.dcm", frames),
        kind=pydicom.uid.EnhancedCTImageStorage,
        PerFrameFunctionalGroupsSequence=Sequence(per_frame),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    for frame, center in enumerate((0, 500, 1000)):
        folder = tmp_path / str(center)
        write(folder / "b.dcm", RAMP, WindowCenter=center, WindowWidth=400, RescaleSlope=2, RescaleIntercept=-50)
        np.testing.assert_array_equal(shown(tmp_path / "a", frame), shown(folder))


@pytest.mark.parametrize("name", ["MR_small.dcm", "CT_small.dcm", "examples_overlay.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_grey_files_of_others(name, tmp_path):
    """By pydicom's window where they have one, else by percentiles of what is no padding."""
    header = pydicom.dcmread(SHIPPED / name)
    values = dicom_pixels.apply_modality_lut(header.pixel_array, header)
    if "WindowWidth" in header:
        bits = header.BitsStored
        ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if header.PixelRepresentation else [0, 2**bits - 1])
        low, high = dicom_pixels.apply_modality_lut(ends, header)
        share = (dicom_pixels.apply_windowing(values, header) - low) / (high - low)
    else:
        low, high = np.percentile(values[header.pixel_array != header.get("PixelPaddingValue")], [0.5, 99.5])
        share = np.clip((values - low) / (high - low), 0, 1)
    picture = shown_file(name, tmp_path)
    assert picture.std() > 10
    np.testing.assert_allclose(picture, 255 * share, atol=0.51)


# --- colours, frames and transfer syntaxes


def test_the_same_picture_from_every_syntax_and_colour_space(tmp_path):
    """Made of one photograph by dcmtk, gdcm and others: JPEG with five samplings, lossless, RLE, YBR and RGB."""
    whole = shown_file("SC_rgb_rle.dcm", tmp_path)
    assert whole.shape == (100, 100, 3)
    lossless = ["SC_rgb_jpeg_gdcm.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm"]
    lossy = sorted(path.name for path in SHIPPED.glob("SC_rgb_dcmtk*")) + ["SC_rgb_jpeg_dcmtk.dcm"]
    lossy += ["SC_rgb_jpeg_lossy_gdcm.dcm", "SC_ybr_full_422_uncompressed.dcm"]
    assert len(lossy) == 9
    for name in lossless:
        np.testing.assert_array_equal(shown_file(name, tmp_path), whole, err_msg=name)
    for name in lossy:
        # Bars of pure colours: a wrong colour space is off by a hundred levels.
        difference = np.abs(shown_file(name, tmp_path).astype(float) - whole)
        assert np.median(difference) <= 2 and difference.mean() < 6, name


@pytest.mark.parametrize(
    "name",
    [
        *("MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_expb.dcm"),
        *("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm"),
    ],
)
def test_lossless_grey_is_the_same_in_every_syntax(name, tmp_path):
    np.testing.assert_array_equal(shown_file(name, tmp_path), shown_file("MR_small.dcm", tmp_path))


def test_12_bit_jpeg(tmp_path):
    """One image as JPEG with 12 bits and as JPEG 2000, both with losses and with values that differ by a constant."""
    jpeg, jpeg_2000 = (shown_file(name, tmp_path).reshape(-1) for name in ("JPGExtended.dcm", "JPEG2000.dcm"))
    assert len(jpeg) == 1024 * 256 and np.corrcoef(jpeg, jpeg_2000)[0, 1] > 0.9


@pytest.mark.parametrize("syntax", ["JPEGLossless", "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_codecs_keep_every_value(syntax, bits, tmp_path):
    """Encoded by the libraries themselves, with and without sign in the DICOM header."""
    dtype = np.uint8 if bits == 8 else np.uint16
    values = np.random.default_rng(bits).integers(0, 2**bits, (33, 20)).astype(dtype)
    encode = {
        "JPEGLossless": lambda: imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits),
        "JPEGLosslessSV1": lambda: imagecodecs.jpeg8_encode(values, lossless=True, predictor=1, bitspersample=bits),
        "JPEGLSLossless": lambda: imagecodecs.jpegls_encode(values),
        "JPEG2000Lossless": lambda: imagecodecs.jpeg2k_encode(values, bitspersample=bits, reversible=True, level=0),
    }
    data = pydicom.encaps.encapsulate([encode[syntax]()])
    path = write(
        *(tmp_path / "a.dcm", values),
        syntax=getattr(pydicom.uid, syntax),
        BitsStored=bits,
        PixelData=data,
        WindowCenter=2 ** (bits - 1),
        WindowWidth=2**bits,
    )
    expected = np.clip((values - (2.0 ** (bits - 1) - 0.5)) / (2.0**bits - 1) + 0.5, 0, 1) * 255
    np.testing.assert_allclose(shown(path.parent), expected, atol=0.51)


def test_palette(tmp_path):
    header = pydicom.dcmread(SHIPPED / "examples_palette.dcm")
    theirs = dicom_pixels.apply_color_lut(header.pixel_array, header)
    np.testing.assert_array_equal(shown_file("examples_palette.dcm", tmp_path), theirs // 256)


def test_16_bit_colours_keep_their_upper_bits(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (5, 7, 3)).astype(np.uint16)
    write(tmp_path / "a.dcm", pixels, BitsStored=12)
    np.testing.assert_array_equal(shown(tmp_path), pixels // 16)


def test_every_frame_is_an_image(tmp_path):
    shutil.copy(SHIPPED / "examples_ybr_color.dcm", tmp_path / "loop.dcm")
    write(tmp_path / "more" / "single.dcm", RAMP, PatientID="2")
    source = read_dicom(tmp_path)
    assert source.image_ids.tolist() == [*(f"loop.dcm#{frame}" for frame in range(30)), "more/single.dcm"]
    assert len(set(source.groups[:30])) == 1 and source.groups[30] != source.groups[0]
    frames = pydicom.dcmread(SHIPPED / "examples_ybr_color.dcm").pixel_array
    assert (frames[17] != frames[16]).any()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(source.read(17)))), frames[17])
    assert source.take([17]).read(0) == source.read(17)


def test_deflated_and_without_preamble(tmp_path):
    assert shown_file("image_dfl.dcm", tmp_path).shape == (512, 512)
    whole = write(tmp_path / "b" / "b.dcm", RAMP).read_bytes()
    assert whole[128:132] == b"DICM"
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "c.dcm").write_bytes(whole[132:])
    np.testing.assert_array_equal(shown(tmp_path / "c"), shown(tmp_path / "b"))
    # Without the ending it is known by its first bytes.
    (tmp_path / "b" / "b.dcm").rename(tmp_path / "b" / "IM000001")
    assert read_dicom(tmp_path / "b").image_ids.tolist() == ["IM000001"]


# --- what is known of the images


def test_patients_are_groups_and_stay_unknown(tmp_path):
    secrets = {"PatientName": "Curie^Marie", "PatientBirthDate": "18671107", "AccessionNumber": "ACC77"}
    for name, patient, more in (
        ("1.dcm", "7654321", {"PatientAge": "045Y", "PatientSex": "F", "BodyPartExamined": "CHEST"}),
        ("2.dcm", "1234567", {"PatientAge": "006M", "Manufacturer": "Acme", "ManufacturerModelName": "One"}),
        ("3.dcm", "7654321", {}),
        ("4.dcm", None, {"StudyInstanceUID": "1.2.9"}),
        ("5.dcm", " ", {"StudyInstanceUID": "1.2.9"}),
    ):
        write(tmp_path / name, RAMP, PatientID=patient, Modality="CT", **{"PatientSex": "O", **secrets, **more})
    source = read_dicom(tmp_path)
    assert source.groups.tolist() == [f"patient_0000{number}" for number in (0, 1, 0, 2, 2)]
    assert {name: values.tolist() for name, values in source.facts.items()} == {
        "age": ["45", "0", "", "", ""],
        "sex": ["female", "other", "other", "other", "other"],
        "site": ["chest", "", "", "", ""],
        "source": ["", "Acme One", "", "", ""],
        "modality": ["CT"] * 5,
    }
    told = repr(source) + source.summary()
    assert not any(secret in told for secret in (*secrets.values(), "7654321", "1234567", "1.2.9", "Curie"))
    assert source.labels is None and "5 images; no labels; 3 lesions" in source.summary()


def test_the_same_number_from_two_hospitals_is_two_patients(tmp_path):
    for name, issuer in (("1.dcm", "A"), ("2.dcm", "B"), ("3.dcm", "A")):
        write(tmp_path / name, RAMP, IssuerOfPatientID=issuer)
    assert read_dicom(tmp_path).groups.tolist() == ["patient_00000", "patient_00001", "patient_00000"]


def test_files_without_pictures_are_left_out(tmp_path):
    for name in ("test-SR.dcm", "rtdose.dcm", "rtplan.dcm", "liver_1frame.dcm", "waveform_ecg.dcm", "README.txt"):
        shutil.copy(SHIPPED / name, tmp_path)
    shutil.copy(SHIPPED / "dicomdirtests" / "DICOMDIR", tmp_path)
    with pytest.raises(UserError, match="no DICOM file with pictures below"):
        read_dicom(tmp_path)
    write(tmp_path / "a.dcm", RAMP)
    source = read_dicom(tmp_path)
    assert source.image_ids.tolist() == ["a.dcm"] and "6 DICOM files without pictures" in source.summary()


def test_a_table_may_list_dicom_files(tmp_path):
    write(tmp_path / "scans" / "a.dcm", RAMP, WindowCenter=40, WindowWidth=400)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "t.csv").write_text("image,dx\nscans/a.dcm,mel\nb,nv\n")
    source = read_csv(tmp_path / "t.csv", label_column="dx", dicom_window="0,1000")
    assert source.class_names == ("mel", "nv") and source.location(1) == str(tmp_path / "b.png")
    assert source.read(0) == read_dicom(tmp_path / "scans", dicom_window="0,1000").read(0)
    assert source.take([1]).read(0) == (tmp_path / "b.png").read_bytes()
    write(tmp_path / "scans" / "a.dcm", np.stack([RAMP, RAMP]))
    with pytest.raises(UserError, match="a.dcm holds 2 frames, and a line of a table means one image"):
        read_csv(tmp_path / "t.csv")
    shutil.copy(SHIPPED / "test-SR.dcm", tmp_path / "scans" / "a.dcm")
    with pytest.raises(UserError, match="a.dcm holds no picture"):
        read_csv(tmp_path / "t.csv")


def test_dicom_files_of_a_table_are_known_by_their_content_and_grouped_by_patient(tmp_path):
    for name, patient in (("1", "Curie"), ("2", "Pasteur"), ("3", "Curie")):
        write(tmp_path / "scans" / f"IM00000{name}", RAMP, PatientID=patient)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "t.csv").write_text("image,lesion\nscans/IM000001,x\nIM000002,\nb,x\nIM000003,z\n")
    source = read_csv(tmp_path / "t.csv")
    assert source.groups.tolist() == [f"patient_0000{number}" for number in (0, 1, 2, 0)]
    assert source.read(1) == read_dicom(tmp_path / "scans").read(1)
    assert not any(name in repr(source) for name in ("Curie", "Pasteur"))
    assert read_csv(tmp_path / "t.csv", group_column="lesion").groups.tolist() == ["x", "alone:IM000002", "x", "z"]


# --- what is refused


@pytest.mark.parametrize("text", ["40", "40,", "40,400,1", "40,0", "wide", "40;400"])
def test_what_is_no_window(text):
    with pytest.raises(UserError, match="is no window; pass centre and width"):
        parse_window(text)


def test_windows_are_parsed():
    assert parse_window(None) is None and parse_window("percentile") == "percentile"
    assert parse_window("-600,1500") == (-600.0, 1500.0)


def test_a_syntax_without_its_decoder_names_the_package(tmp_path, monkeypatch):
    shutil.copy(SHIPPED / "MR_small_jpeg_ls_lossless.dcm", tmp_path)
    decoder = dicom_pixels.get_decoder(pydicom.uid.JPEGLSLossless)
    dicom_codecs.import_pydicom()
    monkeypatch.setattr(decoder, "_available", {})
    dicom_codecs.missing_decoder.cache_clear()
    with pytest.raises(
        UserError, match="jpeg_ls_lossless.dcm is compressed as JPEG-LS Lossless .* pip install imagecodecs"
    ):
        read_dicom(tmp_path)
    dicom_codecs.missing_decoder.cache_clear()


def test_video_is_refused(tmp_path):
    data = pydicom.encaps.encapsulate([b"\0\0\1\xba" * 10])
    write(tmp_path / "a.dcm", RAMP, syntax=pydicom.uid.MPEG2MPML, PixelData=data)
    with pytest.raises(UserError, match="a.dcm is compressed as MPEG2 .*which pydicom does not decode"):
        read_dicom(tmp_path)


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a.dcm", RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setattr(dicom_headers, "import_pydicom", dicom_codecs.import_pydicom.__wrapped__)
    with pytest.raises(UserError, match=r"need the packages pydicom .* '.\[dicom\]'"):
        read_dicom(tmp_path)


@pytest.mark.parametrize(
    "attributes, expected",
    [
        ({"Rows": 50000, "Columns": 50000}, "1 frames of 50000x50000 pixels"),
        ({"Rows": 0}, "1 frames of 64x0 pixels"),
        ({"SamplesPerPixel": 7}, "with 7 samples"),
        ({"NumberOfFrames": 99}, "it is cut short"),
        ({"NumberOfFrames": -1}, "tells of -1 frames"),
        ({"Rows": None}, "its header is cut short"),
    ],
)
def test_headers_that_cannot_be_true(attributes, expected, tmp_path):
    write(tmp_path / "a.dcm", RAMP, **attributes)
    with pytest.raises(ValueError, match=expected):
        shown(tmp_path)


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "image_dfl.dcm", "SC_ybr_full_422_uncompressed.dcm", None])
def test_more_frames_than_a_file_can_hold_take_no_memory(name, tmp_path):
    """Compressed, deflated, with fewer colours than pixels, and without a transfer syntax."""
    if name:
        header = pydicom.dcmread(SHIPPED / name)
        header.NumberOfFrames = 999_999_999
        header.save_as(tmp_path / "a.dcm")
    else:
        whole = write(tmp_path / "a.dcm", RAMP, syntax=pydicom.uid.ImplicitVRLittleEndian, NumberOfFrames=999_999_999)
        # Behind the preamble and the group that names the syntax.
        content = whole.read_bytes()
        whole.write_bytes(content[content.index(b"\x08\x00\x16\x00") :])
    with pytest.raises(ValueError, match="it is cut short .999999999 frames take at least"):
        shown(tmp_path)


@pytest.mark.parametrize(
    "name, marker, offset, num_bytes",
    [
        ("SC_rgb_jpeg_gdcm.dcm", b"\xff\xc3", 5, 2),
        ("MR_small_jpeg_ls_lossless.dcm", b"\xff\xf7", 5, 2),
        ("693_J2KI.dcm", b"\xff\x4f\xff\x51", 12, 4),
    ],
)
def test_compressed_data_of_another_size_take_no_memory(name, marker, offset, num_bytes, tmp_path):
    """The DICOM header says 512x512 or less, that of the data 50,000 rows."""
    content = bytearray((SHIPPED / name).read_bytes())
    place = content.rindex(marker) + offset
    content[place : place + num_bytes] = (50000).to_bytes(num_bytes, "big")
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ValueError, match=r"x50000 pixels, the header says \d+x\d+"):
        shown(tmp_path)


DAMAGED = (
    *("MR_small.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jp2klossless.dcm", "image_dfl.dcm"),
    *("MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "JPGExtended.dcm", "SC_rgb_rle.dcm"),
)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_is_cut_short_is_never_a_picture(name, tmp_path):
    """Unless all of its pixels are there; with a flipped bit there is an error or a picture."""
    whole, content = shown_file(name, tmp_path), (SHIPPED / name).read_bytes()
    path, rng = tmp_path / "a.dcm", np.random.default_rng(0)
    # Behind the pixels come the mark of their end or padding.
    sure = len(content) - 150
    for length in (0, 100, 131, 200, *rng.integers(0, sure, 12), sure, *rng.integers(sure, len(content), 6)):
        path.write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(shown(tmp_path), whole)
            assert length > sure
        except ValueError as error:
            assert "\n" not in str(error)
    for place in rng.integers(0, len(content), 25):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.integers(8)]) + content[place + 1 :])
        try:
            picture = shown(tmp_path)
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert picture.dtype == whole.dtype


def tiny(bits=8):
    """16 x 16 px of noise around two levels, of which none is the grey that libjpeg fills in."""
    levels = 80 + 90 * (np.arange(256).reshape(16, 16) % 16 > 7) + np.random.default_rng(0).integers(-20, 20, (16, 16))
    return levels.astype(np.uint8) if bits == 8 else (16 * levels).astype(np.uint16)


def jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


# Syntax, bits, encoder.
ENCODED = {
    "baseline": ("JPEGBaseline8Bit", 8, jpeg),
    "codes of its own": ("JPEGBaseline8Bit", 8, lambda pixels: jpeg(pixels, optimize=True)),
    "restarts": ("JPEGBaseline8Bit", 8, lambda pixels: jpeg(pixels, restart_marker_rows=1)),
    "extended of 8 bits": ("JPEGExtended12Bit", 8, jpeg),
    "extended": ("JPEGExtended12Bit", 12, lambda pixels: imagecodecs.jpeg8_encode(pixels, bitspersample=12)),
    "lossless": ("JPEGLosslessSV1", 8, lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1)),
    "JPEG-LS": ("JPEGLSLossless", 8, imagecodecs.jpegls_encode),
    "JPEG 2000": ("JPEG2000Lossless", 8, lambda pixels: imagecodecs.jpeg2k_encode(pixels, reversible=True, level=0)),
}


def write_encoded(folder, kind, encoded):
    syntax, bits, _ = ENCODED[kind]
    more = {"BitsStored": bits, "WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    data = pydicom.encaps.encapsulate([encoded])
    return write(folder / "a.dcm", tiny(bits), syntax=getattr(pydicom.uid, syntax), PixelData=data, **more)


def encoded(kind):
    _, bits, encode = ENCODED[kind]
    return encode(tiny(bits))


def shown_or_none(folder):
    try:
        return shown(folder)
    except ValueError as error:
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("kind", [*ENCODED, "uncompressed"])
def test_a_tiny_file_cut_at_any_length_is_refused_or_shown_whole(kind, tmp_path):
    path = write(tmp_path / "a.dcm", tiny()) if kind == "uncompressed" else write_encoded(tmp_path, kind, encoded(kind))
    whole, content = shown(tmp_path), path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        picture = shown_or_none(tmp_path)
        if picture is not None:
            np.testing.assert_array_equal(picture, whole)
            # Behind the pixels come the mark of their end and padding.
            assert length > len(content) - 12


@pytest.mark.parametrize("kind", ENCODED)
def test_pixels_cut_at_any_length_are_refused_with_the_end_mark_put_back(kind, tmp_path):
    data = encoded(kind)
    write_encoded(tmp_path, kind, data)
    whole, num_refused = shown(tmp_path), 0
    for length in range(len(data)):
        write_encoded(tmp_path, kind, data[:length] + b"\xff\xd9")
        picture = shown_or_none(tmp_path)
        num_refused += picture is None
        if picture is not None:
            # The last block or the last pixels may lack a few bits.
            np.testing.assert_array_equal(picture[:8], whole[:8])
            np.testing.assert_array_equal(picture[8:, :8], whole[8:, :8])
    assert num_refused >= len(data) - 12


@pytest.mark.parametrize("kind", [kind for kind in ENCODED if "JPEG" not in kind and kind != "lossless"])
def test_no_picture_is_filled_with_grey_where_its_middle_is_empty(kind, tmp_path):
    data = encoded(kind)
    write_encoded(tmp_path, kind, data)
    assert (shown(tmp_path) == 128).mean() < 0.05
    for width in (8, len(data) // 3):
        for place in range(data.index(b"\xff\xda") + 4, len(data) - 2):
            emptied = data[:place] + bytes(min(width, len(data) - 2 - place)) + data[place + width :]
            write_encoded(tmp_path, kind, emptied[: len(data) - 2] + b"\xff\xd9")
            picture = shown_or_none(tmp_path)
            assert picture is None or (picture == 128).mean() < 0.1


def test_half_of_a_jpeg_is_refused_in_one_sentence(tmp_path):
    data = jpeg(np.tile(tiny(), (8, 8)))
    syntax, rows = pydicom.uid.JPEGBaseline8Bit, {"Rows": 128, "Columns": 128}
    for damaged in (
        data[: len(data) // 2] + b"\xff\xd9",
        data[: len(data) // 2] + bytes(len(data) // 2)[:-2] + data[-2:],
    ):
        write(tmp_path / "a.dcm", tiny(), syntax=syntax, PixelData=pydicom.encaps.encapsulate([damaged]), **rows)
        with pytest.raises(
            ValueError, match=r"^its frame 0 does not decode \(it is a JPEG that lacks part of its data\)$"
        ):
            shown(tmp_path)


def test_damaged_files_are_images_that_cannot_be_read(tmp_path):
    """So that --on_bad_image decides about them; their place among the others is kept."""
    for name, content in (("a.dcm", bytes(3000)), ("b.dcm", b""), ("d.dcm", bytes(range(256)) * 20)):
        (tmp_path / name).write_bytes(content)
    write(tmp_path / "c.dcm", RAMP, Modality="CT")
    source = read_dicom(tmp_path)
    assert source.image_ids.tolist() == ["a.dcm", "b.dcm", "c.dcm", "d.dcm"] and len(set(source.groups)) == 4
    assert source.facts["modality"].tolist() == ["", "", "CT", ""]
    for index in (0, 1, 3):
        assert source.location(index) == str(tmp_path / source.image_ids[index])
        with pytest.raises(ValueError, match="^its header is (cut short|damaged)"):
            source.read(index)
    assert source.read(2)
