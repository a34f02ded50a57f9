"""Images that cannot be used: found, named with a reason, listed, left out."""

import dataclasses
import os
import sys

import numpy as np
import pytest
import tensorflow as tf
from image_files import picture, saved, segment, with_segments
from PIL import Image

from bitkeras.data.bad_images import (
    BadImage,
    find_bad_images,
    load_bad_images,
    require_few,
    require_none,
    save_bad_images,
    without,
)
from bitkeras.data.batches import image_batches, view_batches
from bitkeras.data.folders import read_unlabelled_folder
from bitkeras.data.silencing import decoders_silenced
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError


def jpeg(**options):
    return saved(picture(), "JPEG", **options)


def without_middle(encoded):
    """Whole at both ends."""
    middle = len(encoded) * 2 // 3
    return encoded[:middle] + b"\xff\xd9" + encoded[middle:]


THUMBNAIL = with_segments(jpeg(), segment(0xE1, saved(picture(16, 12), "JPEG")))
GOOD = {
    "plain.jpg": jpeg(),
    "plain.png": saved(picture(), "PNG"),
    "plain.bmp": saved(picture(), "BMP"),
    "scan.tif": saved(picture(), "TIFF", compression="tiff_lzw"),
    "old.gif": saved(picture().convert("P"), "GIF"),
    "png_inside.jpg": saved(picture(), "PNG"),
    "jpeg_inside.png": jpeg(),
    "tiff_inside.jpg": saved(picture(), "TIFF"),
    "thumbnail.jpg": THUMBNAIL,
    "padded.jpg": jpeg() + bytes(5000),
    "appended.jpg": jpeg() + b"camera maker's own data" * 100,
    "telephone.jpg": saved(picture(), "MPO", save_all=True, append_images=[picture(16, 12)]),
}
BAD = {
    "almost.jpg": (jpeg()[:-40], "damaged or cut short"),
    "empty.jpg": (b"", "it is empty"),
    "hole.jpg": (without_middle(jpeg()), "it is a JPEG that lacks part of its data"),
    "huge.png": (saved(picture(), "PNG")[:16] + b"\x00\x00\xff\xff" * 2 + bytes(100), "more than 200,000,000 pixels"),
    "page.jpg": (b"<html>404 not found</html>", "no JPEG, PNG, TIFF, BMP or GIF, whatever its name ends in"),
    "short.jpg": (jpeg()[:200], "damaged or cut short"),
    "short.png": (saved(picture(), "PNG")[:-30], "damaged or cut short"),
    "short.tif": (saved(picture(), "TIFF")[:-30], "it is damaged"),
    "thumbnail.jpg": (THUMBNAIL[:-40], "damaged or cut short"),
    "zeros.jpg": (jpeg()[:300] + bytes(3000), "damaged or cut short"),
}


def folder_of(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return read_unlabelled_folder(folder)


def test_what_can_be_shown_is_good(tmp_path):
    assert find_bad_images(folder_of(tmp_path, GOOD)) == []


def test_what_is_bad_is_found_in_its_place(tmp_path, capfd):
    """Good ones between bad ones: an error must be told of the image it is of."""
    files = {f"{name}": content for name, (content, _) in BAD.items()}
    files.update({f"{name[:3]}~good.jpg": jpeg() for name in BAD})
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    source = folder_of(tmp_path, files)
    reasons = {**{name: reason for name, (_, reason) in BAD.items()}, "gone.jpg": "it cannot be read"}
    bad = find_bad_images(source)
    assert [image.image_id for image in bad] == sorted(reasons)
    for image in bad:
        assert image.file == str(tmp_path / image.image_id)
        assert reasons[image.image_id] in image.reason, image
        assert "\n" not in image.reason and "{{" not in image.reason and "[Op" not in image.reason
    # libjpeg and libtiff have much to say about such files.
    assert capfd.readouterr().err == ""
    assert find_bad_images(source, at_most=2) == bad[:2]


def test_the_same_is_found_in_held_and_converted_images():
    contents = [*GOOD.values(), *(content for content, _ in BAD.values())]
    ids = np.array([f"record/{number}" for number in range(len(contents))])
    held = ImageSource("held", ids, encoded=np.array(contents, object))
    found = find_bad_images(held)
    assert [image.file for image in found] == ids[len(GOOD) :].tolist()

    def convert(index):
        if index == 1:
            raise UserError("the transfer syntax of slice 1 is unknown")
        return jpeg()

    converted = ImageSource("converted", ids[:3], converted=convert)
    assert find_bad_images(converted) == [BadImage("record/1", "record/1", "the transfer syntax of slice 1 is unknown")]


def test_a_converted_image_is_read_as_a_file_would_be():
    images = [picture(20, 30), picture(30, 20), Image.new("RGB", (8, 8), (1, 2, 3))]
    source = ImageSource("converted", np.array(["a", "b", "c"]), converted=lambda index: saved(images[index], "PNG"))
    assert source.read(2) == saved(images[2], "PNG")
    assert source.take([2, 0]).read(1) == saved(images[0], "PNG")
    encoded = np.array([saved(image, "PNG") for image in images], object)
    held = dataclasses.replace(source, converted=None, encoded=encoded)
    for chosen in (np.arange(3), np.array([2, 1])):
        one, other = (
            np.concatenate(list(image_batches(some, chosen, image_size=16, batch_size=2))) for some in (source, held)
        )
        np.testing.assert_array_equal(one, other)


def test_files_of_all_kinds_make_the_views_of_their_pictures(tmp_path):
    """A folder of TIFFs, one of PNGs of the same pictures, and one of both."""
    pictures = [picture(40 + n, 30) for n in range(8)]
    kinds = {"tif": ["TIFF"] * 8, "png": ["PNG"] * 8, "both": ["TIFF", "PNG", "BMP", "PNG"] * 2}
    made = []
    for name, of_each in kinds.items():
        files = {f"{n}.png": saved(image, kind) for n, (image, kind) in enumerate(zip(pictures, of_each))}
        source = folder_of(tmp_path / name, files)
        views = view_batches(source, np.arange(8), policy="simsiam", image_size=16, batch_size=8, seed=0)
        made.append(next(iter(views)))
    for other in made[1:]:
        for key in other:
            np.testing.assert_array_equal(made[0][key], other[key])


def test_python_is_not_called_for_jpeg_and_png(tmp_path, monkeypatch):
    def never(encoded):
        raise AssertionError("called")

    monkeypatch.setattr("bitkeras.data.batches.read_pixels", never)
    source = folder_of(tmp_path, {"a.jpg": jpeg(), "b.png": saved(picture(), "PNG"), "c.jpg": THUMBNAIL})
    sizes = {"image_size": 16, "batch_size": 3}
    assert len(next(iter(view_batches(source, np.arange(3), policy="simsiam", seed=0, **sizes)))["index"]) == 3
    assert len(next(iter(image_batches(source, np.arange(3), **sizes)))) == 3
    (tmp_path / "a.jpg").write_bytes(saved(picture(), "TIFF"))
    with pytest.raises(tf.errors.OpError, match="called"):
        next(iter(image_batches(source, np.arange(3), **sizes)))


def test_the_bar_sees_every_image(tmp_path):
    seen = []

    def progress(indices, terminal):
        for index in indices:
            seen.append(index)
            terminal.write("")
            yield index

    find_bad_images(folder_of(tmp_path, GOOD), progress=progress)
    assert seen == list(range(len(GOOD)))


SOME = [BadImage("b", "/data/b.jpg", "it is empty (0 bytes)"), BadImage("d", "/data/d,e.jpg", 'it is "odd"')]


def test_the_list_is_read_back(tmp_path):
    path = tmp_path / "bad_images.csv"
    save_bad_images(SOME, path)
    assert path.read_text().splitlines()[:2] == ["image_id,file,reason", "b,/data/b.jpg,it is empty (0 bytes)"]
    assert load_bad_images(path) == SOME
    for content in ("image_id,reason\n", "image_id,file,reason\nb,c\n", ""):
        path.write_text(content)
        with pytest.raises(UserError, match="bad_images.csv is no list of bad images"):
            load_bad_images(path)
    with pytest.raises(UserError, match="absent.csv cannot be read"):
        load_bad_images(tmp_path / "absent.csv")


def test_bad_images_are_taken_out():
    source = ImageSource(
        "four", np.array(["a", "b", "c", "d"]), encoded=np.array([b"1", b"2", b"3", b"4"], object), labels=np.arange(4)
    )
    left = without(source, [*SOME, BadImage("z", "z", "not of this source")])
    assert left.image_ids.tolist() == ["a", "c"] and left.labels.tolist() == [0, 2]
    assert left.encoded.tolist() == [b"1", b"3"]


def test_the_sentences():
    require_none([])
    with pytest.raises(UserError, match=r"^The image /data/b.jpg .* because it is empty \(0 bytes\); restore .*skip"):
        require_none(SOME[:1])
    with pytest.raises(UserError, match=r"bytes\) \(1 more cannot either\); restore"):
        require_none(SOME)


def test_one_in_a_hundred_is_few():
    require_few(SOME, 200)
    require_few([], 0)
    with pytest.raises(
        UserError, match=r"^2 of 199 images cannot be used, .*1% at most.* /data/b.jpg because it is empty"
    ):
        require_few(SOME, 199)


@pytest.mark.real_data
def test_real_photographs_are_all_good(real_ham10000):
    from bitkeras.data.ham10000 import read_ham10000

    source = read_ham10000(real_ham10000)
    assert find_bad_images(source.take(np.arange(0, len(source), 10))) == []


def test_the_standard_error_is_silent_until_the_last_thread_has_left(capfd):
    first, second = decoders_silenced(), decoders_silenced()
    with first as terminal:
        second.__enter__()
        os.write(2, b"noise of the first\n")
        terminal.write("a bar\n")
    os.write(2, b"noise of the second\n")
    print("the last word of a process that is stopped", file=sys.stderr)
    second.__exit__(None, None, None)
    os.write(2, b"an error\n")
    print("another", file=sys.stderr)
    told = ["a bar", "the last word of a process that is stopped", "an error", "another"]
    assert capfd.readouterr().err.splitlines() == told
