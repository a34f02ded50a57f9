"""Where the time of a view goes, and what decoding only a part or a smaller image saves: the second half of views.md.

    taskset -c 0 python docs/results/views.py --data_dir=HAM10000

Seconds of the processor, medians of turns, in groups of eight images as the pipeline makes them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data import ImageSource, read_source
from bitkeras.data.augment import GROUP, make_policy, random_crops
from bitkeras.data.augment_draws import draw_uniforms, draw_windows
from bitkeras.data.pictures import DecodedPictures, EncodedPictures
from pipelines import view_rates

NUM_FILES, TURNS = 24, 9
GROUPS = [slice(first, first + GROUP) for first in range(0, NUM_FILES, GROUP)]
AREAS = ((0.05, 0.1), (0.05, 1.0), (0.2, 1.0))
SEEDS = tf.constant([[0, 0, image] for image in range(NUM_FILES)], tf.int64)


def files(source: ImageSource, width: int, height: int) -> list[bytes]:
    """JPEGs as those of `benchmark --what=views`."""
    with tempfile.TemporaryDirectory() as folder:
        view_rates.write_files(source, Path(folder), width=width, height=height, num_files=NUM_FILES)
        return [path.read_bytes() for path in sorted(Path(folder).iterdir())]


def milliseconds(work: dict[str, Callable[[slice], object]]) -> dict[str, float]:
    """Of each piece of work, an image."""
    found = {name: [] for name in work}
    for turn in range(TURNS + 1):
        for name, do in work.items():
            started = time.process_time()
            for group in GROUPS:
                do(group)
            if turn:
                found[name].append((time.process_time() - started) / NUM_FILES * 1000)
    return {name: statistics.median(times) for name, times in found.items()}


def decoding(encoded: list[bytes], width: int, height: int) -> dict[str, Callable[[slice], object]]:
    """Whole images, one window of each for every range of areas, and two windows."""

    def windows(area):
        drawn = draw_windows(draw_uniforms(SEEDS, num_views=2), *_sides(width, height), area=area)
        return tf.cast(drawn, tf.int32).numpy()

    @tf.function
    def whole(group):
        return [tf.shape(tf.io.decode_jpeg(one, channels=3)) for one in tf.unstack(group, GROUP)]

    @tf.function
    def parts(group, boxes):
        one_by_one = tf.unstack(group, GROUP) * len(boxes)
        pairs = zip(one_by_one, tf.unstack(tf.reshape(boxes, [-1, 4])))
        return [tf.shape(tf.image.decode_and_crop_jpeg(one, box, channels=3)) for one, box in pairs]

    def of_views(area, num_views):
        boxes = windows(area)[:num_views]
        return lambda group: parts(tf.constant(encoded[group]), tf.constant(boxes[:, group]))

    found = {"whole": lambda group: whole(tf.constant(encoded[group]))}
    found.update({f"a window of {area}": of_views(area, 1) for area in AREAS})
    return {**found, f"two of {AREAS[-1]}": of_views(AREAS[-1], 2)}


def views(images: tf.Tensor, width: int, height: int, image_size: int) -> dict[str, Callable[[slice], object]]:
    """What makers do after decoding."""
    ours, theirs = (make_policy(name, image_size=image_size) for name in ("simsiam", "keras_cv"))
    sizes = tf.stack(_sides(width, height), axis=1)[:GROUP]

    def pictures(group):
        return DecodedPictures(tf.unstack(group, GROUP), sizes, tf.ones([GROUP], tf.int32))

    make_views = tf.function(lambda group, seeds: ours.make_views(pictures(group), seeds, num_views=2))
    shrink = tf.function(lambda group: theirs.halves[0](pictures(group)))
    finish = tf.function(lambda shrunk: theirs.halves[1](shrunk, num_views=2))
    shrunk = shrink(images[:GROUP])
    return {
        "bitkeras after decoding": lambda group: make_views(images[group], SEEDS[group]),
        "keras-cv: shrinking": lambda group: shrink(images[group]),
        "keras-cv: its layers": lambda group: finish(shrunk),
    }


def shrunk_difference(encoded: list[bytes], width: int, height: int) -> np.ndarray:
    """Levels of 255 between crops of 64 px from images that libjpeg shrank and from whole ones."""
    encoded, seeds, kwargs = encoded[:GROUP], SEEDS[:GROUP], {"area": AREAS[-1], "image_size": 64}
    whole = [tf.io.decode_jpeg(one, channels=3) for one in encoded]
    sizes = tf.stack(_sides(width, height), axis=1)[:GROUP]
    decoded = DecodedPictures(whole, sizes, tf.ones([GROUP], tf.int32))
    found = []
    for epoch in range(3):
        of_epoch = seeds + tf.constant([0, epoch, 0], tf.int64)
        shrunk = random_crops(EncodedPictures([tf.constant(one) for one in encoded]), of_epoch, **kwargs)
        found.append(np.abs(shrunk - random_crops(decoded, of_epoch, **kwargs)) * 127.5)
    return np.array(found)


def _sides(width: int, height: int) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.fill([NUM_FILES], height), tf.fill([NUM_FILES], width)


def main(data_dir: str) -> None:
    """Prints the three tables."""
    source = read_source("ham10000", data_dir)
    for width, height, image_size in view_rates.CASES:
        encoded = files(source, width, height)
        print(f"{width}x{height} px, {sum(map(len, encoded)) / NUM_FILES / 1000:.0f} KB, ms an image:")
        images = tf.stack([tf.io.decode_jpeg(one, channels=3) for one in encoded])
        work = {**decoding(encoded, width, height), **views(images, width, height, image_size)}
        for name, found in milliseconds(work).items():
            print(f"  {name}: {found:.2f}")
    for width, height in ((600, 450), (1200, 900), (2400, 1800)):
        moved = shrunk_difference(files(source, width, height), width, height)
        print(f"{width}x{height} px: mean {moved.mean():.2f}, 99.9 % are below {np.quantile(moved, 0.999):.1f} levels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    main(parser.parse_args().data_dir)
