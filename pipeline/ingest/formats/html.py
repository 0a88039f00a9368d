"""The text of an HTML document as a reader sees it."""

from typing import Any

INLINE = (
    "a",
    "abbr",
    "acronym",
    "b",
    "bdi",
    "bdo",
    "big",
    "cite",
    "code",
    "data",
    "del",
    "dfn",
    "em",
    "font",
    "i",
    "ins",
    "kbd",
    "label",
    "mark",
    "q",
    "s",
    "samp",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "time",
    "tt",
    "u",
    "var",
)
"""Elements that a word may have within: nothing stands between what is in them and beside them."""


class Unreadable(Exception):
    """The document cannot be read to its end."""


def text_of(document: str) -> str:
    """A line for each paragraph, row of a table, item, and line of ``<pre>``; what stands above the line
    (``10<sup>9</sup>``) after a ``^``. Nothing is fetched or run.

    Raises Unreadable for characters that no document may hold, and for elements too deep in each other.
    """
    from html_text import extract_text
    from lxml import etree
    from lxml.html import HTMLParser

    # Without huge_tree what is deeper than 256 elements, or longer than 10 MB, is left out unsaid.
    parser = HTMLParser(encoding="utf-8", recover=True, huge_tree=True)
    try:
        root = etree.fromstring(document.strip().encode() or b"<html/>", parser)
    except (ValueError, etree.LxmlError):
        raise Unreadable from None
    if any(each.level == etree.ErrorLevels.FATAL for each in parser.error_log):
        raise Unreadable
    if root is None:
        return ""
    for above in root.iter("sup"):
        above.text = f"^{above.text or ''}"
    etree.strip_tags(root, *INLINE)
    for element in [*root.iter("pre")]:
        _keep_lines(element)
    return str(extract_text(root))


def _keep_lines(element: Any) -> None:
    from lxml import etree

    first, *lines = "".join(element.itertext()).split("\n")
    for child in [*element]:
        element.remove(child)
    element.text = first
    for line in lines:
        etree.SubElement(element, "br").tail = line
