"""Encoded pictures: every mode Pillow writes is read to the value it stands for, or refused by
name.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from batteries import images, refuses
from PIL import Image, ImageOps

from dipa import encoded
from dipa.data import pictures
from dipa.encoded import Picture, numbers

GREY = (images(1, 1, 6, 8)[0, 0] * 255).byte().numpy()
RGB = np.stack([GREY, 255 - GREY, GREY[::-1]], axis=2)
DEEP = (images(1, 1, 6, 8, seed=1)[0, 0].double().numpy() * 65535).round().astype(np.uint16)


def written(image: Image.Image, form: str, **options) -> bytes:
    held = io.BytesIO()
    image.save(held, form, **options)
    return held.getvalue()


def values(content: bytes, channels: int = 1) -> np.ndarray:
    """The numbers of a picture with white at 1: (H, W) for one channel, else (H, W, 3)."""
    found, white = numbers(Picture("a.png", lambda: content), channels)
    assert found.shape[2] == channels
    return found.squeeze(2) / white if channels == 1 else found / white


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_by_sixteen_bits(form):
    content = written(Image.fromarray(DEEP), form)
    assert np.array_equal(values(content), DEEP / 65535)
    assert np.array_equal(values(content, 3), np.repeat((DEEP / 65535)[..., None], 3, axis=2))
    half = written(Image.fromarray(np.full((6, 8), 32768, np.uint16)), form)
    assert pictures.decode(Picture("a", lambda: half), 6, 1).mean().item() == pytest.approx(
        0.5, abs=1e-4
    )


@pytest.mark.parametrize("mode", ["I;16B", "I;16L"])
def test_byte_orders_do_not_matter(mode):
    swapped = DEEP.astype(">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (8, 6), swapped.tobytes())
    assert np.array_equal(values(written(image, "TIFF")), DEEP / 65535)


@pytest.mark.parametrize("depth", [1, 100, 255, 1023, 4095, 65535])
def test_a_pgm_is_scaled_by_its_own_white(depth):
    content = f"P2 3 1 {depth}\n0 {depth} {depth // 2}\n".encode()
    assert values(content)[0] == pytest.approx([0, 1, (depth // 2) / depth], abs=0.5 / 255)


def test_twelve_bits_of_a_tiff_are_scaled_by_twelve_bits():
    tags = (
        (256, 3, 2),
        (257, 3, 1),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 3),
    )
    pixels = b"\xff\xf8\x00"  # 4095 and 2048, twelve bits each
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    content = (
        struct.pack("<2sHI", b"II", 42, 12)
        + pixels
        + b"\0"
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )
    assert values(content)[0].tolist() == [1, 2048 / 4095]
    inverted = content.replace(
        struct.pack("<HHII", 262, 3, 1, 1), struct.pack("<HHII", 262, 3, 1, 0)
    ).replace(struct.pack("<HHII", 258, 3, 1, 12), struct.pack("<HHII", 258, 3, 1, 16))
    refuses(lambda: values(inverted + bytes(8)), "a.png", "inverted")


def test_numbers_with_a_point_are_taken_as_they_are_in_the_unit_range_alone():
    x = images(1, 1, 6, 8)[0, 0].numpy()
    assert np.array_equal(values(written(Image.fromarray(x), "TIFF")), x)
    for wrong in (255 * x, x - 0.5, np.where(x > 0.5, np.nan, x)):
        refuses(
            lambda wrong=wrong: values(written(Image.fromarray(wrong), "TIFF")),
            "a.png",
            "numbers in [0, 1]",
        )


def test_integers_whose_white_is_not_known_are_refused():
    refuses(
        lambda: values(written(Image.fromarray(DEEP.astype(np.int32)), "TIFF")),
        "a.png",
        "mode",
        "I of TIFF",
        "unsigned",
    )


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("L", "TIFF"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGB", "PNG"),
        ("RGB", "BMP"),
        ("RGBX", "TIFF"),
    ]
    + [("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("RGB", "WEBP")],
)
def test_modes_of_eight_bits_are_what_pillow_makes_of_them(mode, form):
    content = written(
        Image.fromarray(RGB).convert(mode), form, **({"lossless": True} if form == "WEBP" else {})
    )
    stored = Image.open(io.BytesIO(content))
    for channels, to in ((3, "RGB"), (1, "L")):
        assert np.array_equal(values(content, channels), np.asarray(stored.convert(to)) / 255)
    if mode == "RGB":
        assert np.array_equal(values(content, 3), RGB / 255)


def test_lab_is_read_through_its_colours():
    neutral = Image.merge("LAB", [Image.new("L", (4, 4), level) for level in (128, 128, 128)])
    # L* = 50 is 18 percent of white
    assert values(written(neutral, "TIFF")) == pytest.approx(119 / 255, abs=2 / 255)


@pytest.mark.parametrize(
    ("mode", "form"),
    [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "TIFF"), ("LA", "TIFF"), ("RGBA", "WEBP")],
)
def test_what_is_transparent_lies_on_black(mode, form):
    alpha = np.where(GREY > 128, 255, GREY)
    image = Image.fromarray(RGB).convert(mode.rstrip("A"))
    image.putalpha(Image.fromarray(alpha))
    content = written(image, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    colours = (
        np.asarray(Image.fromarray(RGB).convert("L"))[..., None].repeat(3, axis=2)
        if mode == "LA"
        else RGB
    )
    assert np.abs(values(content, 3) - colours / 255 * alpha[..., None] / 255).max() < 1.01 / 255


def test_transparent_colours_of_palettes_and_of_grey_are_black_without_a_warning():
    palette = Image.fromarray(RGB).quantize(8)
    plain = np.asarray(palette.convert("RGB")) / 255
    seen = np.where((np.asarray(palette) == 3)[..., None], 0, plain)
    assert np.array_equal(values(written(palette, "PNG", transparency=3), 3), seen)
    assert np.array_equal(
        values(written(palette, "PNG", transparency=bytes([255, 255, 255, 0])), 3), seen
    )
    level = int(GREY[0, 0])
    found = values(written(Image.fromarray(GREY), "PNG", transparency=level))
    assert np.array_equal(found, np.where(level == GREY, 0, GREY) / 255)
    refuses(
        lambda: values(written(Image.fromarray(DEEP), "PNG", transparency=7)),
        "a.png",
        "transparent",
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = written(Image.fromarray(RGB), form, exif=exif.tobytes())
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    turned = orientation > 4
    assert upright.size == ((6, 8) if turned else (8, 6))
    assert np.array_equal(values(content, 3), np.asarray(upright.convert("RGB")) / 255)


def claims(width: int, height: int) -> bytes:
    """A PNG that says it has that many pixels, and holds none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "sides",
    [(8193, 8192), (9500, 9500), (13_400, 13_400), (50_000, 50_000), (2**31 - 1, 2**31 - 1)],
)
def test_size_bombs_are_refused_before_they_are_decoded(sides, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda *arguments: pytest.fail("decoded"))
    refuses(lambda: values(claims(*sides)), "a.png", "pixels", "67,108,864")


def alone(content: bytes) -> np.ndarray | None:
    """What Pillow by itself makes of a picture; None where it does not."""
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    except (OSError, SyntaxError):
        return None


def test_damage_that_only_a_checksum_shows_is_found():
    """Pillow by itself decodes what bytes repeated inside the compressed pixels make of them,
    often without a word.
    """
    whole = written(Image.fromarray(RGB).resize((24, 20), Image.Resampling.BICUBIC), "PNG")
    start, truth = whole.index(b"IDAT") + 4, alone(whole)
    grown = [whole[: at + 8] + whole[at:] for at in range(start, len(whole) - 16)]
    silent = [
        content
        for content in grown
        if (found := alone(content)) is not None and not np.array_equal(found, truth)
    ]
    assert silent
    for content in silent:
        refuses(lambda content=content: values(content), "a.png", "not a readable picture")


def test_formats_that_run_programs_are_not_opened():
    refuses(
        lambda: values(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"),
        "a.png",
        "not a readable picture",
    )
    assert not {"EPS", "WMF", "FPX"} & set(encoded.FORMATS)
    refuses(lambda: values(written(Image.fromarray(RGB), "PCX")), "a.png", "not a readable picture")
