"""The only tf.data assembly: batches of view pairs, of labelled crops, and of images as they are."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from bitkeras.data.augment import GROUP, make_policy, random_crops
from bitkeras.data.bad_images import find_bad_images
from bitkeras.data.conversion import read_pixels
from bitkeras.data.pictures import DecodedPictures, EncodedPictures
from bitkeras.data.positives import lesion_pairs
from bitkeras.data.preprocess import preprocess
from bitkeras.data.reading import file_reader
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError


@dataclasses.dataclass(frozen=True)
class Share:
    """What one process makes of each batch.

    Attributes:
      process, num_processes: this one makes the `process`-th of so many equal parts, in the order of the batch.
      num_replicas: all devices of all processes, each of which gets an equal part.
    """

    process: int = 0
    num_processes: int = 1
    num_replicas: int = 1


WHOLE = Share()

# int64 [n], n known statically -> these images of a source, inside tf.data.
Read = Callable[[tf.Tensor], "EncodedPictures | DecodedPictures"]


def view_batches(
    source: ImageSource,
    indices: np.ndarray,
    *,
    policy: str,
    image_size: int,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    share: Share = WHOLE,
    positives: str = "image",
    read: Read | None = None,
    finished: bool = True,
) -> tf.data.Dataset:
    """Endless batches {views_a, views_b: float32 [B, S, S, 3] in [-1, 1], index: int64 [B]}.

    The order of an epoch depends on (seed, epoch) and the pixels of a view on (seed, epoch, image), so a run that
    goes on at `start_step` sees what an uninterrupted one sees. The images left over after the last
    full batch of an epoch are skipped. Under a `share` an element is the part of one replica. Both views are of image
    `index`, or with `positives="lesion"` views_b is of another photograph of its lesion where `indices` holds one.
    `read` is where the images come from, if not from where `source` has them: a cache, which gives the same pixels.
    Views that are not to be `finished` are {images: uint8 [B, R, R, 3], index} for the second of the policy's `halves`.

    Raises:
      UserError: when there are fewer images than one batch holds, or positives are asked for that cannot be had.
    """
    view_policy = make_policy(policy, image_size=image_size, seed=seed)
    read = read or reader(source)
    pairs = lesion_pairs(source, indices) if positives == "lesion" else None

    def images(epochs, indices):
        return {"images": view_policy.halves[0](read(indices)), "index": indices}

    def view_pairs(epochs, indices):
        shown, seeds = indices, _seeds(seed, epochs, indices)
        if pairs is not None:
            shown, seeds = pairs(seeds)
        views = view_policy.make_views(read(shown), seeds, num_views=2 if pairs is None else 1)
        views_a, views_b = tf.unstack(tf.reshape(views, [2, len(indices), image_size, image_size, 3]))
        return {"views_a": views_a, "views_b": views_b, "index": indices}

    order = {"batch_size": batch_size, "seed": seed, "start_step": start_step, "share": share}
    groups = _groups(indices, GROUP, **order)
    views = groups.map(view_pairs if finished else images, num_parallel_calls=tf.data.AUTOTUNE)
    return views.rebatch(batch_size // share.num_replicas, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def require_different_views(batch: dict[str, tf.Tensor]) -> None:
    """RuntimeError where the views of a batch are not what a network can learn from.

    The two views of an image must differ, and so must the views of one image from those of the next. A policy that
    draws once for all would train without any error, and teach nothing.

    Args:
      batch: as `view_batches` gives it.
    """
    views_a, views_b = batch["views_a"].numpy(), batch["views_b"].numpy()
    # An image of one colour, such as a black frame, gives the same views whatever is drawn for them.
    is_plain = np.ptp(views_a, axis=(1, 2)).max(axis=-1) == 0
    for one, other, is_known, what in (
        (views_a, views_b, is_plain, "The two views of an image are"),
        (views_a[1:], views_a[:-1], is_plain[1:], "The views of different images are"),
    ):
        same = (one == other).all(axis=(1, 2, 3))[~is_known]
        if len(same) and same.mean() > 0.5:
            raise RuntimeError(
                f"{what} the same pixel for pixel in {same.mean():.0%} of a batch, so nothing is learnt."
            )


def labelled_batches(
    source: ImageSource,
    indices: np.ndarray,
    *,
    crop_area: tuple[float, float],
    image_size: int,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    share: Share = WHOLE,
    read: Read | None = None,
) -> tf.data.Dataset:
    """Endless batches {images: float32 [B, S, S, 3] in [-1, 1], labels: int32 [B]} of random crops and flips.

    Order and pixels depend on (seed, epoch, image), as in `view_batches`.

    Args:
      source, indices: labelled images and which of them to train on.
      crop_area: smallest and largest share of an image that a crop covers.
      image_size, batch_size, seed, start_step, share, read: as in `view_batches`.
    """
    labels = tf.constant(source.labels)
    read = read or reader(source)

    def crops(epochs, indices):
        cropped = random_crops(read(indices), _seeds(seed, epochs, indices), area=crop_area, image_size=image_size)
        return {"images": cropped, "labels": tf.gather(labels, indices)}

    order = {"batch_size": batch_size, "seed": seed, "start_step": start_step, "share": share}
    batches = _groups(indices, GROUP, **order).map(crops, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.rebatch(batch_size // share.num_replicas, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def batch_indices(indices: np.ndarray, *, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Which images the batch of `step`, counted from 0, holds: int64 [B], in its order."""
    batches = _groups(indices, batch_size, batch_size=batch_size, seed=seed, start_step=step, share=WHOLE)
    _, chosen = next(iter(batches))
    return chosen.numpy()


def image_batches(source: ImageSource, indices: np.ndarray, *, image_size: int, batch_size: int) -> tf.data.Dataset:
    """Batches of images in the order of `indices`, float32 [B, S, S, 3] in [-1, 1]; the last may be smaller."""
    read = file_reader(source)
    images = tf.data.Dataset.from_tensor_slices(tf.constant(indices, tf.int64)).map(
        lambda index: preprocess(read(index), image_size, fallback=read_pixels), num_parallel_calls=tf.data.AUTOTUNE
    )
    return images.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _groups(
    indices: np.ndarray, num_images: int, *, batch_size: int, seed: int, start_step: int, share: Share
) -> tf.data.Dataset:
    """Endless (epochs, indices), int64 [num_images] each; an epoch is in an order of its own, cut to full batches."""
    steps_per_epoch = num_steps_per_epoch(len(indices), batch_size)
    indices = tf.constant(indices, tf.int64)

    def epoch_indices(epoch):
        order = tf.random.experimental.stateless_shuffle(indices, seed=tf.stack([tf.constant(seed, tf.int64), epoch]))
        kept = order[: steps_per_epoch * batch_size]
        return tf.data.Dataset.from_tensor_slices((tf.fill(tf.shape(kept), epoch), kept))

    start_epoch, skipped_steps = divmod(start_step, steps_per_epoch)
    epochs = tf.data.Dataset.range(start_epoch, np.iinfo(np.int64).max)
    examples = epochs.flat_map(epoch_indices).skip(skipped_steps * batch_size)
    if share.num_processes > 1:
        first, last = (batch_size * (share.process + end) // share.num_processes for end in (0, 1))
        batches = examples.batch(batch_size, drop_remainder=True)
        examples = batches.map(lambda epochs, indices: (epochs[first:last], indices[first:last])).unbatch()
    return examples.batch(num_images, drop_remainder=True)


def _seeds(seed: int, epochs: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """int64 [N, 3], different for every image and epoch."""
    return tf.stack([tf.fill(tf.shape(indices), tf.constant(seed, tf.int64)), epochs, indices], axis=-1)


def num_steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Full batches in one epoch; UserError when there is none."""
    if num_images < batch_size:
        raise UserError(
            f"There are {num_images} images to train on, fewer than one batch of {batch_size}; pass a smaller "
            "--batch_size or more images."
        )
    return num_images // batch_size


def reader(source: ImageSource) -> Read:
    """The images from where the source has them."""
    read = file_reader(source)
    return lambda indices: EncodedPictures([read(index) for index in tf.unstack(indices)])


@contextlib.contextmanager
def naming_bad_images(source: ImageSource) -> Iterator[None]:
    """Turns TensorFlow's decoding error, which names no file, into a UserError that does."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
        bad = find_bad_images(source, at_most=1)
        if not bad:
            raise
        raise UserError(
            f"The image {bad[0].file} has gone bad: {bad[0].reason}. Restore it and give the same command again; to go "
            "without it, start anew in another folder with --on_bad_image=skip."
        ) from error
