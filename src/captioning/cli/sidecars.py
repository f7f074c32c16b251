"""Captions beside the images: `.txt` files, as training sets for generative models have them, and XMP sidecars.

XMP: ISO 16684-1. The caption is `dc:description`, whose items are a text for each language (section 8.2.2.4, Language
Alternative). Photo libraries read the sidecar `photo.jpg.xmp`; all else that it says stays as it is.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from captioning.cli.places import written
from captioning.system.errors import UserError, reason
from captioning.system.files import write_bytes, write_text

_X, _RDF, _DC = "adobe:ns:meta/", "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://purl.org/dc/elements/1.1/"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_DEFAULT = "x-default"
_BEGIN, _END = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>', '<?xpacket end="w"?>'
_LARGEST = 16 << 20  # bytes of a sidecar


class Sidecar(StrEnum):
    """A kind of file beside an image."""

    txt = "txt"
    xmp = "xmp"


def path_of(image: Path, kind: Sidecar) -> Path:
    """photo.jpg → photo.txt, photo.jpg.xmp."""
    return image.with_suffix(".txt") if kind is Sidecar.txt else image.with_name(f"{image.name}.xmp")


def check(images: Sequence[Path], kinds: Sequence[Sidecar]) -> None:
    """Raise UserError where two images would have one sidecar, which would lose a caption."""
    for kind in kinds:
        owners: dict[Path, Path] = {}
        for image in dict.fromkeys(images):
            other = owners.setdefault(path_of(image, kind), image)
            if other != image:
                raise UserError(f"--write {kind}: {other} and {image} would both have {path_of(image, kind).name}")


def is_described(image: Path, kind: Sidecar) -> bool:
    """Has an image a sidecar with a caption already? Raises UserError for an XMP file that cannot be read."""
    path = path_of(image, kind)
    if not path.is_file():
        return False
    return kind is Sidecar.txt or _description(_parse(path)) is not None


def write(image: Path, kind: Sidecar, caption: str) -> None:
    """Write the caption beside an image, in place of what is there. Raises UserError when it cannot be done."""
    path = path_of(image, kind)
    with written("--write", path):
        if kind is Sidecar.txt:
            write_text(path, f"{caption}\n")
        else:
            root = _parse(path) if path.is_file() else _empty()
            write_bytes(path, _with_caption(root, caption))


def _empty() -> ET.Element:
    root = ET.Element(f"{{{_X}}}xmpmeta")
    ET.SubElement(root, f"{{{_RDF}}}RDF")
    return root


def _parse(path: Path) -> ET.Element:
    """The root of an XMP file. Namespaces keep the prefixes that it has."""
    content = path.read_bytes()
    if len(content) > _LARGEST or re.search(rb"<!\s*(DOCTYPE|ENTITY)", content):
        raise UserError(f"{path}: not an XMP sidecar (too large, or with a document type); rename or repair it")
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))
    try:
        for _, (prefix, address) in ET.iterparse(io.BytesIO(content), events=("start-ns",)):
            if prefix and not re.fullmatch(r"ns\d+", prefix):
                ET.register_namespace(prefix, address)
        root = ET.fromstring(content, parser)
    except (ET.ParseError, ValueError) as fault:
        raise UserError(f"{path}: not an XMP sidecar ({reason(fault)}); rename or repair it") from None
    if root.find(f".//{{{_RDF}}}RDF") is None and root.tag != f"{{{_RDF}}}RDF":
        raise UserError(f"{path}: not an XMP sidecar (no rdf:RDF in it); rename or repair it")
    return root


def _description(root: ET.Element) -> ET.Element | None:
    """What has a text as `dc:description`: the element, or the one of which it is an attribute."""
    name = f"{{{_DC}}}description"
    texts = ((node, "".join(node.itertext()) if node.tag == name else node.get(name, "")) for node in root.iter())
    return next((node for node, text in texts if text.strip()), None)


def _with_caption(root: ET.Element, caption: str) -> bytes:
    """The document with the caption as its default description; descriptions in other languages stay."""
    for prefix, address in (("x", _X), ("rdf", _RDF), ("dc", _DC)):
        ET.register_namespace(prefix, address)
    rdf = root if root.tag == f"{{{_RDF}}}RDF" else root.find(f".//{{{_RDF}}}RDF")
    assert rdf is not None  # `_parse` has seen to it
    for element in rdf.iter():
        element.attrib.pop(f"{{{_DC}}}description", None)
    description = rdf.find(f".//{{{_DC}}}description")
    if description is None:
        owner = rdf.find(f"{{{_RDF}}}Description")
        if owner is None:
            owner = ET.SubElement(rdf, f"{{{_RDF}}}Description", {f"{{{_RDF}}}about": ""})
        description = ET.SubElement(owner, f"{{{_DC}}}description")
    alternatives = description.find(f"{{{_RDF}}}Alt")
    if alternatives is None:
        description.text = None
        alternatives = ET.SubElement(description, f"{{{_RDF}}}Alt")
    item = next((element for element in alternatives if element.get(_LANGUAGE) == _DEFAULT), None)
    if item is None:
        item = ET.Element(f"{{{_RDF}}}li", {_LANGUAGE: _DEFAULT})
        alternatives.insert(0, item)
    item.text = caption
    body = ET.tostring(root, encoding="unicode")
    return f"{_BEGIN}\n{body}\n{_END}\n".encode()
