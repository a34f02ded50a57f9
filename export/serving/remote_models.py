"""Which model of a server is meant where none is named."""

from __future__ import annotations

from bitkeras.errors import UserError

TIMEOUT_SECONDS = 120.0


def only_model(server: str, names: list[str]) -> str:
    """The one of `names`; UserError where there are more or none."""
    if len(names) != 1:
        told = f"serves {', '.join(names)}" if names else "does not tell which models it serves"
        raise UserError(f"{server} {told}; pass --model_name.")
    return names[0]
