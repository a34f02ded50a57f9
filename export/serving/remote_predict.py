"""Classify image files by a server, with the answers that `export.predict` gives without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bitkeras.errors import UserError
from export.predict import BATCH_SIZE, as_answers, read_encoded, require_files
from export.serving.errors import RequestError
from export.serving.remote import Ask, connect

# Of the files in one request; a server takes 64 MB, and base64 makes four bytes of three.
BATCH_BYTES = 16 << 20
REFUSALS = ("INVALID_ARGUMENT",)


def predict_by_server(
    server: str, paths: Sequence[str | Path], *, model_name: str | None = None, version: int | None = None
) -> Iterator[dict]:
    """The dicts of `export.predict.predict_files`, in the order of `paths`, as they come.

    Args:
      server: as in `remote.connect`.
      paths: image files.
      model_name: none: the only one there.
      version: none: the newest.

    Raises:
      UserError: no server, no such model, a file that is missing or no image.
    """
    paths = [Path(path) for path in paths]
    require_files(paths)
    with connect(server, model_name=model_name, version=version) as ask:
        for batch, images in _batches(paths):
            yield from as_answers(batch, _ask(ask, batch, images, server))


def _batches(paths: list[Path]) -> Iterator[tuple[list[Path], list[bytes]]]:
    batch, images = [], []
    for path in paths:
        image = read_encoded(path)
        if images and (len(images) == BATCH_SIZE or sum(map(len, images)) + len(image) > BATCH_BYTES):
            yield batch, images
            batch, images = [], []
        batch.append(path)
        images.append(image)
    if images:
        yield batch, images


def _ask(ask: Ask, paths: list[Path], images: list[bytes], server: str) -> dict:
    try:
        return ask(images)
    except RequestError as error:
        if error.code in REFUSALS:
            _blame(ask, paths, images)
        raise UserError(f"The server {server} refused: {error} ({error.code}).") from error


def _blame(ask: Callable, paths: list[Path], images: list[bytes]) -> None:
    # The refusal of a batch does not say which image it was.
    for path, image in zip(paths, images):
        try:
            ask([image])
        except RequestError as error:
            if error.code in REFUSALS:
                raise UserError(
                    f"The server refused the file {path}: {error}; pass files that open in a viewer."
                ) from error
            return
