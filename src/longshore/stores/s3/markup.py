"""XML as S3 speaks it: documents as small trees, and texts with their escapes.

A plain document (elements, attributes, references to characters) is read by a pattern in which
every byte has its place. All others are read by lxml, which is imported only then and resolves
nothing from outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from longshore.errors import FailedPrecondition, Internal

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_NAME = r"(?:[A-Za-z_][A-Za-z0-9_.-]*:)?[A-Za-z_][A-Za-z0-9_.-]*"
_QUOTED = r"""(?:"[^"<\n\t]*"|'[^'<\n\t]*')"""
_ATTRIBUTE = re.compile(rf"\s+({_NAME})\s*=\s*({_QUOTED})", re.ASCII)
_TAG = re.compile(rf"([^<]*)<(/?)({_NAME})((?:\s+{_NAME}\s*=\s*{_QUOTED})*)\s*(/?)>", re.ASCII)
_LEAF = re.compile(r"<([A-Za-z]+)>([^<]*)</\1>", re.ASCII)
_FLAT = re.compile(
    r"""<([A-Za-z]+)(?:\s+xmlns="[^"<&\n\t]*")?>((?:<([A-Za-z]+)>[^<]*</\3>)+)</\1>\s*""", re.ASCII
)
"""A root without attributes and, without anything between them, children that are texts."""
_PROLOGUE = re.compile(
    r"""(?:<\?xml\s+version\s*=\s*["']1\.0["']"""
    r"""(?:\s+encoding\s*=\s*["'](?i:utf-8|us-ascii)["'])?(?:\s+standalone\s*=\s*["']\w+["'])?\s*"""
    r"""\?>)?\s*""",
    re.ASCII,
)
_REFERENCE = re.compile(r"&(?:(amp|lt|gt|quot|apos)|#([0-9]{1,7})|#x([0-9A-Fa-f]{1,6}));")
_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;"))
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_INEXPRESSIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_CONTROLS = [chr(code) for code in range(0x20) if chr(code) not in "\t\n\r"]
_MAX_DEPTH = 50
_SHOWN_BYTES = 100


@dataclass(frozen=True, slots=True)
class Element:
    """An element by its local name. ``text`` is "" where there are children; ``attributes`` go by
    local name, without declarations of namespaces."""

    name: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: tuple[Element, ...] = ()

    def all(self, name: str) -> Iterator[Element]:
        """The children of that name."""
        return (child for child in self.children if child.name == name)

    def first(self, name: str) -> Element:
        """The first child of that name, or an empty one."""
        return next(self.all(name), Element(name))

    def get(self, name: str) -> str:
        """The text of the first child of that name, without space around it; "" without one."""
        return self.first(name).text.strip()


def read(body: bytes, *roots: str) -> Element:
    """The document, whose root must be one of ``roots``; raises Internal if it is anything else."""
    text = decode(body)
    root = (read_plain(text) if text is not None else None) or read_any(body)
    if root.name not in roots:
        raise unreadable(body, f"<{root.name}>")
    return root


def unreadable(body: bytes, found: str = "something else") -> Internal:
    """The error for a reply that is not what S3 sends."""
    return Internal(
        f"The store's reply is not what S3 sends, but {found}: {body[:_SHOWN_BYTES]!r}."
    )


def escape(text: str) -> str:
    """``text`` as the content of an element."""
    for character, instead in _ESCAPES:
        if character in text:  # which is seen many times as fast as all of them are counted
            text = text.replace(character, instead)
    return text


def is_expressible(text: str) -> bool:
    """Whether XML can have ``text`` at all: it has no way to write U+0001, for example."""
    if text.isascii():  # one character is found many times as fast as any of some
        return not any(control in text for control in _CONTROLS)
    return _INEXPRESSIBLE.search(text) is None


def unescape(text: str) -> str | None:
    """The content of an element as text; None if that takes more than XML's own entities.

    Characters that XML forbids are taken: there are servers that write them as references.
    """
    if "&" not in text:
        return text
    if text.count("&") != len(_REFERENCE.findall(text)):
        return None
    try:
        return _REFERENCE.sub(_referred, text)
    except ValueError:
        return None


def _referred(match: re.Match[str]) -> str:
    entity, decimal, hexadecimal = match.groups()
    if entity:
        return _ENTITIES[entity]
    code = int(decimal) if decimal else int(hexadecimal, 16)
    if code == 0 or 0xD800 <= code < 0xE000:
        raise ValueError(code)
    return chr(code)


def decode(body: bytes) -> str | None:
    """The document as text with the ends of lines that XML sees, from its root on; None if it is
    more than a plain one, such as one with comments, CDATA or a DOCTYPE."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    prologue = _PROLOGUE.match(text)
    text = text[prologue.end() :] if prologue else text
    # A single character is found many times as fast as two.
    markup = ("!" in text and "<!" in text) or ("?" in text and "<?" in text)
    if markup or ("]" in text and "]]>" in text) or "\0" in text:
        return None
    return text


def read_plain(text: str) -> Element | None:
    """What ``decode`` gave by the pattern; None where that does not fit."""
    if flat := _FLAT.fullmatch(text):  # most replies about one object, at a third of the CPU
        leaves = _LEAF.findall(flat[2])
        found = [Element(leaf, said) for leaf, raw in leaves if (said := unescape(raw)) is not None]
        if len(found) == len(leaves):
            return Element(flat[1], children=tuple(found))
    position = 0
    open_elements: list[tuple[str, Mapping[str, str], list[Element]]] = [("", {}, [])]
    while match := _TAG.match(text, position):
        before, closing, name, attributes, empty = match.groups()
        position = match.end()
        if not closing:
            if len(open_elements) == 1 and (before.strip() or open_elements[0][2]):
                return None
            read_attributes = _attributes(attributes)
            if read_attributes is None or len(open_elements) > _MAX_DEPTH:
                return None
            open_elements.append((name, read_attributes, []))
        elif attributes or empty or len(open_elements) == 1:
            return None
        if closing or empty:
            opened, known, children = open_elements.pop()
            content = unescape("" if children or empty else before)
            if opened != name or content is None or (children and "&" in before):
                return None
            local = name.rpartition(":")[2]
            open_elements[-1][2].append(Element(local, content, known, tuple(children)))
    roots = open_elements[0][2]
    whole = len(open_elements) == len(roots) == 1 and not text[position:].strip()
    return roots[0] if whole else None


def _attributes(text: str) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for name, quoted in _ATTRIBUTE.findall(text):
        prefix, _, local = name.rpartition(":")
        value = unescape(quoted[1:-1])
        if value is None or local in found:
            return None
        if prefix != "xmlns" and name != "xmlns":
            found[local] = value
    return found


def read_any(body: bytes) -> Element:
    """The document by lxml; raises Internal for what is none."""
    etree = _etree()
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise unreadable(body) from error
    information = root.getroottree().docinfo
    if information.doctype or information.internalDTD is not None:
        raise unreadable(body, "a document with a DOCTYPE")
    return _converted(etree, root)


def _converted(etree: Any, found: Any) -> Element:
    children = tuple(_converted(etree, child) for child in found)
    attributes = {etree.QName(name).localname: value for name, value in found.attrib.items()}
    text = "" if children else found.text or ""
    return Element(etree.QName(found).localname, text, attributes, children)


@cache
def _etree() -> Any:
    try:
        from lxml import etree
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            "This store's replies need lxml to be read: pip install 'longshore[s3]'."
        ) from error
    return etree
