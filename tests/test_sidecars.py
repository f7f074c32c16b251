"""Captions beside images: text files, and XMP sidecars that keep all that they said."""

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from captioning.cli import sidecars
from captioning.cli.sidecars import Sidecar
from captioning.system.errors import UserError

DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:darktable="http://darktable.sf.net/"
    xmp:Rating="4" darktable:history_end="2">
   <!-- a comment -->
   <darktable:history><rdf:Seq><rdf:li darktable:num="0" darktable:params="gz02é"/></rdf:Seq></darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
DIGIKAM = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:subject><rdf:Bag><rdf:li>Hund</rdf:li></rdf:Bag></dc:subject>
<dc:description><rdf:Alt><rdf:li xml:lang="de-DE">Ein Hund</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
RDF, DC = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://purl.org/dc/elements/1.1/}"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def descriptions(path: Path) -> dict[str, str]:
    items = ET.parse(path).getroot().findall(f".//{DC}description/{RDF}Alt/{RDF}li")
    return {item.get(LANGUAGE, ""): item.text or "" for item in items}


def without_description(text: str) -> str:
    """The document in canonical form, less what `dc:description` says."""
    root = ET.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{DC}description":
                parent.remove(child)
    return ET.canonicalize(ET.tostring(root), strip_text=True)


def test_a_new_sidecar_has_the_caption_and_nothing_else(tmp_path: Path) -> None:
    image = tmp_path / "a photo.jpg"
    sidecars.write(image, Sidecar.xmp, 'a <dog> & "a" cat')
    path = tmp_path / "a photo.jpg.xmp"
    assert descriptions(path) == {"x-default": 'a <dog> & "a" cat'}
    assert path.read_text().startswith('<?xpacket begin="\ufeff"')
    assert sidecars.is_described(image, Sidecar.xmp)
    sidecars.write(image, Sidecar.txt, "a dog")
    assert (tmp_path / "a photo.txt").read_text() == "a dog\n"
    assert sidecars.is_described(image, Sidecar.txt)


@pytest.mark.parametrize("text", [DARKTABLE, DIGIKAM])
def test_an_existing_sidecar_keeps_all_that_it_said(tmp_path: Path, text: str) -> None:
    image, path = tmp_path / "b.jpg", tmp_path / "b.jpg.xmp"
    path.write_text(text)
    sidecars.write(image, Sidecar.xmp, "a dog")
    sidecars.write(image, Sidecar.xmp, "two dogs")
    assert descriptions(path)["x-default"] == "two dogs"
    assert without_description(path.read_text()) == without_description(text)
    assert "darktable:num" in path.read_text() or text is DIGIKAM  # the prefixes stay
    assert ("a comment" in path.read_text()) == (text is DARKTABLE)


def test_descriptions_in_other_languages_stay(tmp_path: Path) -> None:
    path = tmp_path / "c.jpg.xmp"
    path.write_text(DIGIKAM)
    assert sidecars.is_described(tmp_path / "c.jpg", Sidecar.xmp)
    sidecars.write(tmp_path / "c.jpg", Sidecar.xmp, "a dog")
    assert descriptions(path) == {"x-default": "a dog", "de-DE": "Ein Hund"}


def test_a_sidecar_without_a_description_is_not_described(tmp_path: Path) -> None:
    (tmp_path / "d.jpg.xmp").write_text(DARKTABLE)
    assert not sidecars.is_described(tmp_path / "d.jpg", Sidecar.xmp)
    (tmp_path / "d.jpg.xmp").write_text(
        DARKTABLE.replace('xmp:Rating="4"', f'xmlns:dc="{DC[1:-1]}" dc:description="x"')
    )
    assert sidecars.is_described(tmp_path / "d.jpg", Sidecar.xmp)
    sidecars.write(tmp_path / "d.jpg", Sidecar.xmp, "a dog")
    assert descriptions(tmp_path / "d.jpg.xmp") == {"x-default": "a dog"}


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff", b"<a/>", DARKTABLE.encode()[:300], b'<!DOCTYPE x [<!ENTITY a "b">]>' + DARKTABLE.encode()],
)
def test_what_is_no_sidecar_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "e.jpg.xmp"
    path.write_bytes(content)
    for act in (
        lambda: sidecars.is_described(tmp_path / "e.jpg", Sidecar.xmp),
        lambda: sidecars.write(tmp_path / "e.jpg", Sidecar.xmp, "a dog"),
    ):
        with pytest.raises(UserError, match=r"e\.jpg\.xmp: not an XMP sidecar .*rename or repair it"):
            act()
    assert path.read_bytes() == content


def test_images_that_would_share_a_text_file_are_refused() -> None:
    images = [Path("x/a.jpg"), Path("x/a.png"), Path("y/a.jpg")]
    with pytest.raises(UserError, match=r"--write txt: x/a.jpg and x/a.png would both have a.txt"):
        sidecars.check(images, [Sidecar.txt])
    sidecars.check(images, [Sidecar.xmp])
    sidecars.check([images[0], images[0], images[2]], [Sidecar.txt])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="--write"):
        sidecars.write(tmp_path / "f.jpg", Sidecar.txt, "a dog")
