"""Decoding, the transform against torchvision's, and contact sheets."""

import io
import json
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
import torchvision.transforms.functional as torchvision_functional
from PIL import Image
from torchvision.transforms import InterpolationMode

from captioning.system.errors import UserError
from captioning.vision import contact_sheets, images
from captioning.vision.contact_sheets import grid
from captioning.vision.fonts import Lettering
from captioning.vision.images import ImageError, Transform, decode
from tests.noise import noise

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def halves(mode: str = "RGB") -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (8, 4), BLUE)
    image.paste(RED, (0, 0, 4, 4))
    return image.convert(mode)


def photograph(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("orientation", "left"), [(1, RED), (2, BLUE), (3, BLUE)])
def test_an_image_is_turned_upright(orientation: int, left: tuple[int, int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(encoded(halves(), exif=exif), "a").getpixel((0, 0)) == left


def test_an_image_on_its_side_changes_width_and_height() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode(encoded(halves(), exif=exif), "a")
    assert upright.size == (4, 8)
    assert upright.getpixel((0, 0)) == RED


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("P", "PNG"), ("P", "GIF"), ("L", "PNG"), ("1", "PNG")])
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    image = decode(encoded(halves(mode), kind), "a")
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image), np.asarray(halves(mode).convert("RGB")), atol=4)


def test_a_palette_with_transparency_lies_on_white() -> None:
    palette = halves("P")
    clear = palette.getpixel((0, 0))
    image = decode(encoded(palette, transparency=clear), "a")
    assert (image.getpixel((0, 0)), image.getpixel((7, 0))) == (WHITE, BLUE)


def test_half_transparent_red_on_white_is_pink() -> None:
    image = decode(encoded(Image.new("RGBA", (2, 2), (*RED, 128))), "a")
    assert image.getpixel((0, 0)) == (255, 127, 127)


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    values = np.array([[0, 256, 0x8000, 0xFFFF]], dtype=np.uint16)
    image = decode(encoded(Image.fromarray(values)), "a")
    assert [image.getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    image = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "a")
    assert image.getpixel((0, 0)) == RED


def damaged() -> dict[str, bytes]:
    jpeg, png = encoded(photograph(64, 64), "JPEG"), encoded(photograph(64, 64))
    return {
        "empty": b"",
        "text": b"no image at all",
        "cut JPEG": jpeg[: len(jpeg) // 2],
        "cut PNG": png[: len(png) // 2],
        "bad chunk": png[:60] + b"\0\0\0\0" + png[64:],
        "floats": encoded(Image.new("F", (2, 2), 0.5), "TIFF"),
    }


@pytest.mark.parametrize("name", damaged())
def test_what_cannot_be_decoded_is_named(name: str) -> None:
    with pytest.raises(UserError, match=rf"^images\.zip/{name}: not an image.*replace or remove") as fault:
        decode(damaged()[name], f"images.zip/{name}")
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("side", [10_000, 20_000])  # Pillow warns of the first, and refuses the second
def test_a_decompression_bomb_is_refused(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    with pytest.raises(UserError, match=r"^bomb.png: .*CAPTIONING_MAX_PIXELS raises"):
        decode(bomb, "bomb.png")


def test_a_photograph_of_108_megapixels_is_decoded_at_an_eighth() -> None:
    image = decode(encoded(Image.new("RGB", (12_000, 9000), RED), "JPEG", quality=20), "a.jpg")
    assert image.size == (1500, 1125)
    np.testing.assert_allclose(image.getpixel((700, 700)), RED, atol=4)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Pillow's limit were 10,000 pixels."""
    monkeypatch.setattr(images, "MOST_PIXELS", 10_000)
    monkeypatch.setattr(images, "_SIDE", 48)
    monkeypatch.delenv("CAPTIONING_MAX_PIXELS", raising=False)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [((100, 100), (100, 100)), ((101, 100), (51, 50)), ((200, 200), (50, 50)), ((380, 101), (190, 51))],
)
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
@pytest.mark.usefixtures("few")
def test_only_a_jpeg_above_the_limit_is_decoded_smaller(
    size: tuple[int, int], decoded: tuple[int, int], kind: str
) -> None:
    assert decode(encoded(photograph(*size), kind), "a.jpg").size == decoded


@pytest.mark.usefixtures("few")
def test_a_large_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(photograph(200, 160), "JPEG", exif=exif), "a").size == (80, 100)


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        ("PNG", (101, 100), r"10,100 pixels exceed the limit of 10,000 \(0\.0 GB of memory\); CAPTIONING_MAX_PIXELS"),
        ("GIF", (250, 250), "more than 40,000 pixels; CAPTIONING_MAX_PIXELS raises the limit"),
        ("JPEG", (250, 250), "more than 40,000 pixels; CAPTIONING_MAX_PIXELS raises the limit"),
    ],
)
@pytest.mark.usefixtures("few")
def test_a_limit_on_pixels_that_a_person_can_raise(
    kind: str, size: tuple[int, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(photograph(*size).convert("RGB" if kind == "JPEG" else "P"), kind)
    with pytest.raises(ImageError, match=said) as caught:
        decode(data, "a")
    assert len(caught.value.reason) <= 100
    monkeypatch.setenv("CAPTIONING_MAX_PIXELS", "62500")
    assert decode(data, "a").size == (size if kind != "JPEG" else (63, 63))


@pytest.mark.parametrize("value", ["many", "-1", "1e9", "89478484", "9" * 5000, "\u0665"])
def test_a_limit_that_is_no_number_of_pixels_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONING_MAX_PIXELS", value)
    with pytest.raises(UserError, match=r"^CAPTIONING_MAX_PIXELS = .*: not a number of pixels from 89478485; correct"):
        decode(encoded(halves()), "a")


def test_the_limit_is_that_of_pillow_and_stays_there() -> None:
    before = Image.MAX_IMAGE_PIXELS
    decode(encoded(halves()), "a")
    assert images.MOST_PIXELS == before == Image.MAX_IMAGE_PIXELS


def test_warnings_do_not_leak_from_threads() -> None:
    """Pillow remarks on this EXIF; under the filters of the tests that would be an error."""
    odd = encoded(halves(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01")
    with pytest.warns(UserWarning, match="EXIF"):
        Image.open(io.BytesIO(odd)).getexif()
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(decode, [odd] * 40, ["a"] * 40))
    assert {image.size for image in images} == {(8, 4)}
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("width", "height", "resize", "size", "interpolation"),
    [
        (200, 120, 64, 56, "bilinear"),
        (97, 131, 64, 64, "bicubic"),
        (40, 31, 64, 57, "bilinear"),
        (64, 64, 64, 64, "bilinear"),
        (64, 71, 64, 48, "bicubic"),
    ],
)
def test_pixels_are_those_of_torchvision(width: int, height: int, resize: int, size: int, interpolation: str) -> None:
    """`ImageClassification` ahead of its normalisation; only the crop's rounding could differ."""
    image = photograph(width, height)
    expected = torchvision_functional.resize(image, [resize], InterpolationMode(interpolation), antialias=True)
    expected = torchvision_functional.pil_to_tensor(torchvision_functional.center_crop(expected, [size])).numpy()
    found = Transform(size, resize, interpolation, (0.5,) * 3, (0.5,) * 3).pixels(image)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((3, size, size), np.uint8, True)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("width", "height"), [(200, 120), (97, 131), (64, 64), (900, 30)])
def test_without_a_crop_the_whole_image_is_squeezed(width: int, height: int) -> None:
    image = photograph(width, height)
    expected = torchvision_functional.resize(image, [64, 64], InterpolationMode.BILINEAR, antialias=True)
    found = Transform(64, None, "bilinear", (0.5,) * 3, (0.5,) * 3).pixels(image)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((3, 64, 64), np.uint8, True)
    np.testing.assert_array_equal(found, torchvision_functional.pil_to_tensor(expected).numpy())


@pytest.mark.parametrize("size", [(300, 100), (64, 64), (1, 9)])
def test_without_a_crop_all_is_seen(size: tuple[int, int]) -> None:
    assert Transform(32, None, "bilinear", (0.5,) * 3, (0.5,) * 3).seen(size) == (0, 0, *size)


def test_only_the_crop_loses_the_borders() -> None:
    image = Image.new("RGB", (300, 100), RED)
    image.paste(BLUE, (100, 0, 200, 100))
    seen = {resize: Transform(32, resize, "bilinear", (0.5,) * 3, (0.5,) * 3).pixels(image) for resize in (None, 32)}
    assert {resize: bool((pixels[0] == 255).any()) for resize, pixels in seen.items()} == {None: True, 32: False}


@pytest.mark.parametrize("resize", [None, 72])
def test_a_transform_goes_through_json(resize: int | None) -> None:
    transform = Transform(64, resize, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert Transform(**json.loads(json.dumps(asdict(transform)))) == transform


def test_a_sheet_has_a_place_for_each_image_and_room_for_its_words() -> None:
    images = [Image.new("RGB", size, RED) for size in ((300, 100), (10, 10), (64, 200))]
    short = grid(images, ["a", "b", "c"], columns=2)
    long = grid(images, ["a", "b", "so many words that they take more than one line " * 2], columns=2)
    assert (long.width, long.height > short.height) == (short.width, True)
    assert grid(images[:1], ["a"], columns=4).width < short.width
    places = [(x, y) for y in (140, 140 + short.height // 2) for x in (140, 400)]
    assert [short.getpixel(place) == RED for place in places] == [True, True, True, False]


def test_lines_break_between_words() -> None:
    text = "a group of people standing around a table that is full of food " * 3
    lines = contact_sheets.wrap(text, Lettering(16), 240)
    assert len(lines) > 3
    assert " ".join(lines) == text.strip()


def test_words_stay_within_their_column() -> None:
    sheet = grid([Image.new("RGB", (8, 8), RED)] * 2, ["w" * 60, ""], columns=2)
    words = np.asarray(sheet)[270:, :, 0]
    assert words[:, :265].min() < 100
    assert words[:, 265:].min() > 200


def test_the_same_sheet_has_the_same_bytes() -> None:
    sheets = [encoded(grid([halves(), photograph(40, 40)], ["two halves", "noise"], columns=2)) for _ in range(2)]
    assert sheets[0] == sheets[1]


@pytest.mark.parametrize("name", damaged())
def test_a_message_on_a_damaged_file_has_no_memory_address(name: str) -> None:
    with pytest.raises(UserError) as fault:
        decode(damaged()[name], name)
    assert "0x" not in str(fault.value)
    assert "object" not in str(fault.value)


def heic() -> bytes:
    stream = io.BytesIO()
    pytest.importorskip("pillow_heif").register_heif_opener()
    noise((64, 48), 50).save(stream, "HEIF", quality=90)
    return stream.getvalue()


def test_images_of_telephones_are_read_with_the_extra_and_told_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic()
    assert decode(data, "a.heic").size == (64, 48)
    with pytest.raises(ImageError, match="not an image"):
        decode(data[:200], "a.heic")
    monkeypatch.setattr(images, "_knows_heif", lambda: False)
    monkeypatch.setattr(Image, "OPEN", {name: how for name, how in Image.OPEN.items() if name != "HEIF"})
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    with pytest.raises(ImageError, match=r"HEIF needs an extra: pip install 'captioning\[heif\]'"):
        decode(data, "a.heic")
