"""HTML built from Python values: what is text is escaped, always, and only what `tag` made is markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

# They have no content and no closing tag.
_VOID = ("meta", "br", "col", "img", "link")


class Markup(str):
    """Text that is HTML already; every other string is escaped where it is put into a page."""

    __slots__ = ()


def tag(name: str, /, *content, **attributes) -> Markup:
    """One element, such as `tag("p", "a < b", class_="lead")`.

    Args:
      name: of the element.
      content: strings (escaped), `Markup`, numbers, or iterables of these; None is left out.
      attributes: an underscore at the end is dropped, others become hyphens; None and False are left out, True
        stands without a value.
    """
    told = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(content)}</{name}>")


def joined(content: Iterable) -> Markup:
    """The parts behind each other, each escaped unless it is markup."""
    return Markup("".join(_escaped(part) for part in content))


def _escaped(part) -> str:
    if part is None:
        return ""
    if isinstance(part, Markup):
        return part
    if isinstance(part, (str, int, float)):
        return html.escape(str(part), quote=True)
    return joined(part)


def _attribute(key: str, value) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
