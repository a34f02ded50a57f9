"""The images a run can use: decoded once when it begins, and the same ones whenever it goes on."""

from __future__ import annotations

import time

from tqdm import tqdm

from bitkeras.data import ImageSource
from bitkeras.data.bad_images import BadImage, find_bad_images, load_bad_images, require_few, require_none, without
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

ON_BAD_IMAGE = ("error", "skip")


def define_bad_image_flag(flags: CommandFlags) -> None:
    """--on_bad_image."""
    flags.choice(
        "on_bad_image",
        "error",
        ON_BAD_IMAGE,
        "Where a new run finds images that cannot be used: stop, or go without and list them in bad_images.csv; above "
        "1 % it always stops.",
    )


def usable_images(run: RunFolder, source: ImageSource, *, on_bad_image: str) -> tuple[ImageSource, list[BadImage]]:
    """`source` without the images that the run goes without, and these.

    A run that has its split goes without those it listed when it began. For a new one every image is decoded.

    Raises:
      UserError: there are bad images, and `on_bad_image` is "error" or they are too many.
    """
    if not run.split_path.exists():
        bad = check(source, on_bad_image)
    else:
        bad = load_bad_images(run.bad_images_path) if run.bad_images_path.exists() else []
    if not bad:
        return source, []
    say(f"bad images left out: {len(bad)}, listed in {run.bad_images_path}")
    return without(source, bad), bad


def check(source: ImageSource, on_bad_image: str) -> list[BadImage]:
    """The images of `source` that cannot be used, with a bar on a terminal and a line of log.

    Raises:
      UserError: as `usable_images`.
    """
    started = time.perf_counter()
    bad = find_bad_images(
        source,
        progress=lambda indices, terminal: tqdm(
            indices, desc="checking images", file=terminal, disable=None, leave=False
        ),
    )
    found = f"{len(bad)} cannot be used" if bad else "all can be used"
    say(f"checked {len(source)} images in {time.perf_counter() - started:.0f} s: {found}")
    if on_bad_image == "error":
        require_none(bad)
    require_few(bad, len(source))
    return bad


def read_image(source: ImageSource, index: int) -> bytes:
    """Image `index` as `ImageSource.read` gives it, or a UserError that names it."""
    try:
        return source.read(index)
    except (OSError, ValueError) as error:
        raise UserError(f"The image {source.location(index)} has gone bad ({error}); restore it.") from error
