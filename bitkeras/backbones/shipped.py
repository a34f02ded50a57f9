"""The BiT networks that come with the package, each with its card and its checksum."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bitkeras.errors import UserError

MODELS = Path(__file__).parent / "models"


def shipped_names(models: Path = MODELS) -> tuple[str, ...]:
    """Names of the models in the folder `models`: those with both NAME.npz and NAME.json."""
    return tuple(sorted(card.stem for card in models.glob("*.json") if card.with_suffix(".npz").is_file()))


SHIPPED = shipped_names()


def shipped_card(name: str, models: Path = MODELS) -> dict:
    """What NAME.json says: backbone, stem, image_size (px), sha256 of the weights, test_accuracy and more.

    Raises:
      UserError: there is no such model.
    """
    known = shipped_names(models)
    if name not in known:
        raise UserError(f"There is no shipped model {name!r}; there are: {', '.join(known) or 'none'}.")
    return json.loads((models / f"{name}.json").read_text(encoding="utf-8"))


def shipped_path(name: str, models: Path = MODELS) -> Path:
    """The `.npz` of the model, read once to compare its checksum with the card's.

    Raises:
      UserError: there is no such model, or its file is not the one that was shipped.
    """
    expected = shipped_card(name, models)["sha256"]
    path = models / f"{name}.npz"
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise UserError(
            f"The shipped model {path} is damaged (sha256 {actual}, and its card says {expected}); install bitkeras "
            "again, or restore the file from version control."
        )
    return path
