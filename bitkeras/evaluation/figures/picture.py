"""A figure of a report, in words."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Picture:
    """One figure of a report.

    Attributes:
      name: of its files, without the ending.
      section: of the page that shows it: scores, training, labels, features or clinical.
      title: a few words.
      caption: what it shows and how to read it.
      alt: what someone hears who does not see it.
    """

    name: str
    section: str
    title: str
    caption: str
    alt: str
