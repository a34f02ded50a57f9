"""What a client asks for, as the log tells it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Request:
    """Who asks for what; filled in as it becomes known, for the log.

    Attributes:
      entrypoint: REST or GRPC.
      api: what is asked, such as Predict.
      model: its name as the client wrote it.
      version: asked for, then answered by; None is the newest.
      label: of a version.
      signature: its name.
      rows: images.
    """

    entrypoint: str
    api: str
    model: str = ""
    version: int | None = None
    label: str | None = None
    signature: str = ""
    rows: int = 0


def shortened(name: str) -> str:
    """A client's text in a line of a log or an error: no line breaks, no pages."""
    shown = name if name.isprintable() and " " not in name else repr(name)
    return shown if len(shown) <= 64 else shown[:64] + "..."
