"""Picture files of every kind: what is made of them, and what is said of broken ones."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bitorch.data import PictureAugmentation, PictureError, fit, read_picture, to_pixels
from bitorch.data.picture_augmentation import sample_random
from bitorch.data.picture_changes import rand_augment, random_resized_crop
from bitorch.data.pictures import Kind, from_pixels, look_at
from picture_files import texture

SIZE = (7, 5)  # width, height


def colours() -> Image.Image:
    """Return a smooth RGB picture without noise, so that JPEG keeps it nearly."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    return Image.fromarray(np.stack([30 * rows, 30 * columns, 100 + 0 * rows], -1).astype(np.uint8))


def saved(picture: Image.Image, form: str, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    stream.seek(0)
    return stream


def turned(orientation: int) -> io.BytesIO:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(colours(), "PNG", exif=exif)


def deep(mode: str) -> io.BytesIO:
    values = np.array([[0, 255, 256], [40000, 65279, 65535]], np.uint16)
    return saved(Image.fromarray(values.astype(np.int32) if mode == "I" else values), "TIFF")


class TestReadPicture:
    def test_rgb_and_grey(self) -> None:
        expected = np.asarray(colours())
        assert np.array_equal(np.asarray(read_picture(saved(colours(), "PNG"), 3)), expected)
        assert np.array_equal(np.asarray(read_picture(saved(colours(), "PNG"), 1)), np.asarray(colours().convert("L")))
        grey = colours().convert("L")
        assert np.array_equal(np.asarray(read_picture(saved(grey, "PNG"), 3))[..., 2], np.asarray(grey))

    @pytest.mark.parametrize(("form", "options"), [("JPEG", {"quality": 100}), ("TIFF", {}), ("GIF", {})])
    def test_formats(self, form: str, options: dict[str, object]) -> None:
        found = np.asarray(read_picture(saved(colours(), form, **options), 3)).astype(int)
        assert np.abs(found - np.asarray(colours())).max() <= 40

    def test_cmyk(self) -> None:
        found = np.asarray(read_picture(saved(colours().convert("CMYK"), "TIFF"), 3))
        assert np.array_equal(found, np.asarray(colours()))

    @pytest.mark.parametrize("mode", ["I;16", "I"])
    def test_of_16_bits_the_upper_8_are_kept(self, mode: str) -> None:
        assert np.asarray(read_picture(deep(mode), 1)).tolist() == [[0, 0, 1], [156, 254, 255]]

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
    def test_transparent_pixels_are_put_on_white(self, mode: str) -> None:
        picture = Image.new("RGBA", (2, 1), (100, 100, 100, 255))
        picture.putpixel((1, 0), (100, 100, 100, 0))
        if mode == "P":
            flat = Image.new("P", (2, 1))
            flat.putpalette([100, 100, 100, 5, 6, 7])
            flat.putpixel((1, 0), 1)
            stream = saved(flat, "PNG", transparency=1)
        else:
            stream = saved(picture.convert(mode), "PNG")
        assert np.asarray(read_picture(stream, 1)).tolist() == [[100, 255]]

    def test_half_transparent(self) -> None:
        assert np.asarray(read_picture(saved(Image.new("RGBA", (1, 1), (0, 0, 0, 51)), "PNG"), 1)).item() == 204

    def test_of_an_animation_the_first_frame(self) -> None:
        frames = [Image.new("L", (3, 2), value) for value in (10, 200)]
        stream = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert look_at(stream).animated
        stream.seek(0)
        assert np.asarray(read_picture(stream, 1)).max() == 10

    @pytest.mark.parametrize(
        ("orientation", "expected"),
        [
            (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
            (5, lambda a: a.transpose(1, 0, 2)), (6, lambda a: np.rot90(a, -1)),
            (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)), (8, lambda a: np.rot90(a)),
        ],
    )  # fmt: skip
    def test_turned_by_exif(self, orientation: int, expected: Callable[[np.ndarray], np.ndarray]) -> None:
        wanted = expected(np.asarray(colours()))
        assert np.array_equal(np.asarray(read_picture(turned(orientation), 3)), wanted)
        kind = look_at(turned(orientation))
        assert (kind.height, kind.width, kind.turned) == (*wanted.shape[:2], orientation != 1)

    def test_a_jpeg_may_be_decoded_smaller(self) -> None:
        stream = saved(Image.new("RGB", (800, 640), (10, 200, 30)), "JPEG")
        assert read_picture(stream, 3, least=100).size == (133, 107) or read_picture(stream, 3, 100).size == (200, 160)
        stream.seek(0)
        assert min(read_picture(stream, 3, least=100).size) >= 100
        stream.seek(0)
        assert read_picture(stream, 3).size == (800, 640)

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "BMP"])
    @pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
    def test_truncated(self, form: str, kept: float) -> None:
        data = saved(Image.fromarray(texture(0, 64, 1)), form).getvalue()
        cut = data[: int(kept * len(data))]
        with pytest.raises(PictureError, match=r"damaged|no image"):
            read_picture(io.BytesIO(cut), 3)
        with pytest.raises(PictureError, match=r"damaged|no image"):
            look_at(io.BytesIO(cut))

    @given(
        data=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
    )
    def test_any_bytes_give_a_picture_or_an_error(self, data: bytes, start: bytes) -> None:
        for read in (lambda stream: read_picture(stream, 3), look_at):
            with pytest.raises(PictureError):
                read(io.BytesIO(start + data))

    def test_floats_are_refused(self) -> None:
        stream = saved(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
        with pytest.raises(PictureError, match=r"mode 'F', and only 8 or 16 bits"):
            read_picture(stream, 1)
        stream.seek(0)
        with pytest.raises(PictureError, match=r"mode 'F'"):
            look_at(stream)

    def test_kinds(self) -> None:
        assert look_at(saved(colours(), "JPEG")) == Kind(5, 7)
        assert look_at(saved(colours().convert("L"), "JPEG")) == Kind(5, 7, grey=True)
        assert look_at(saved(colours().convert("CMYK"), "TIFF")).cmyk
        assert look_at(deep("I;16")) == Kind(2, 3, grey=True, deep=True)
        assert look_at(saved(colours().convert("RGBA"), "PNG")).transparent
        assert not look_at(saved(colours().convert("P"), "PNG")).grey
        assert look_at(saved(colours().convert("L").convert("P"), "PNG")).grey

    def test_a_jpeg_that_goes_on_behind_its_end_is_whole(self) -> None:
        data = saved(colours(), "JPEG").getvalue()
        assert look_at(io.BytesIO(data + bytes(10))) == Kind(5, 7)


class TestFit:
    def test_the_right_size_stays_as_it_is(self) -> None:
        assert fit(colours(), 5, 7) is not None
        assert np.array_equal(np.asarray(fit(colours(), 5, 7)), np.asarray(colours()))

    @pytest.mark.parametrize(("size", "box"), [((8, 4), (2, 0, 6, 4)), ((4, 8), (0, 2, 4, 6)), ((4, 4), (0, 0, 4, 4))])
    def test_the_middle_is_cut_out(self, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0]), np.uint8))
        assert np.array_equal(np.asarray(fit(picture, 4, 4)), np.asarray(picture.crop(box)))

    def test_crop_share(self) -> None:
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
        expected = picture.crop((2, 2, 6, 6))
        assert np.array_equal(np.asarray(fit(picture, 4, 4, crop_share=0.5)), np.asarray(expected))

    @given(
        width=st.integers(1, 40), height=st.integers(1, 40), to=st.tuples(st.integers(1, 30), st.integers(1, 30)),
        share=st.floats(0.1, 1),
    )  # fmt: skip
    def test_every_size(self, width: int, height: int, to: tuple[int, int], share: float) -> None:
        assert fit(Image.new("L", (width, height)), *to, share).size == to[::-1]

    def test_pixels_go_both_ways(self) -> None:
        for shape in ((1, 3, 4), (3, 3, 4)):
            pixels = torch.randint(256, shape, dtype=torch.uint8)
            assert torch.equal(to_pixels(from_pixels(pixels)), pixels)


class TestPictureAugmentation:
    def test_nothing(self) -> None:
        assert not PictureAugmentation()
        assert PictureAugmentation(crop_scale=(0.1, 1))
        assert PictureAugmentation(randaugment=(1, 0))
        assert PictureAugmentation(color_jitter=(0, 0, 0, 0.1))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"crop_scale": (0, 1)}, "crop_scale must be two rising shares"),
            ({"crop_scale": (0.5, 0.4)}, "crop_scale must be two rising shares"),
            ({"randaugment": (0, 9)}, "randaugment must be 1 to 14 operations"),
            ({"randaugment": (2, 31)}, "magnitude from 0 to 30"),
            ({"color_jitter": (-1, 0, 0, 0)}, "color_jitter must be"),
            ({"color_jitter": (0, 0, 0, 0.6)}, "a hue from 0 to 0.5"),
        ],
    )
    def test_invalid(self, fields: dict[str, tuple[float, ...]], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            PictureAugmentation(**fields)  # type: ignore[arg-type]

    def test_a_function_of_seed_epoch_and_sample(self) -> None:
        picture = Image.fromarray(texture(0, 40, 3))
        augment = PictureAugmentation((0.2, 1), (2, 12), (0.4, 0.4, 0.4, 0.1))

        def made(*numbers: int) -> bytes:
            return augment(picture, 32, 32, 1.0, sample_random(*numbers)).tobytes()

        assert made(1, 2, 3) == made(1, 2, 3)
        assert len({made(1, 2, 3), made(2, 2, 3), made(1, 3, 3), made(1, 2, 4)}) == 4

    def test_crops_have_the_areas_and_ratios_asked_for(self) -> None:
        """A picture whose pixels say where they are: corners of a crop tell its sides."""
        rows, columns = np.mgrid[:200, :200]
        picture = Image.fromarray(np.stack([rows, columns, 0 * rows], -1).astype(np.uint8))
        rng = random.Random(0)
        areas, ratios = [], []
        for _ in range(300):
            crop = np.asarray(random_resized_crop(picture, 64, 64, (0.25, 0.5), rng)).astype(float)
            height, width = (np.ptp(crop[..., channel]) * 64 / 63 for channel in (0, 1))
            areas.append(height * width / 200**2)
            ratios.append(width / height)
        assert 0.24 < min(areas) < 0.28
        assert 0.46 < max(areas) < 0.51
        assert 0.73 < min(ratios) < 0.8
        assert 1.25 < max(ratios) < 1.37

    def test_a_picture_too_narrow_for_a_crop_gives_its_middle(self) -> None:
        assert random_resized_crop(Image.new("L", (1, 100)), 8, 8, (0.9, 1), random.Random(0)).size == (8, 8)

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    @pytest.mark.parametrize("magnitude", [0, 9, 30])
    def test_rand_augment_keeps_size_and_mode(self, mode: str, magnitude: int) -> None:
        picture = Image.fromarray(texture(1, 17, 3)).convert(mode)
        for seed in range(60):
            found = rand_augment(picture, 2, magnitude, random.Random(seed))
            assert (found.size, found.mode) == (picture.size, mode)

    def test_rand_augment_at_magnitude_0_changes_little(self) -> None:
        """Only AutoContrast, Equalize and Solarize at its highest threshold do anything."""
        picture = Image.fromarray((texture(1, 16, 3) // 2 + 60).astype(np.uint8))
        same = sum(
            rand_augment(picture, 1, 0, random.Random(seed)).tobytes() == picture.tobytes() for seed in range(280)
        )
        assert 0.75 < same / 280 < 0.95

    def test_jitter_stays_in_its_ranges(self) -> None:
        grey = Image.new("RGB", (4, 4), (100, 100, 100))
        jitter = PictureAugmentation(color_jitter=(0.5, 0, 0, 0))
        values = {jitter(grey, 4, 4, 1.0, random.Random(s)).getpixel((0, 0)) for s in range(200)}
        levels = [value[0] for value in values if isinstance(value, tuple)]
        assert 50 <= min(levels) < 56
        assert 144 < max(levels) <= 150

    def test_hue_turns(self) -> None:
        red = Image.new("RGB", (1, 1), (255, 0, 0))
        found = {
            PictureAugmentation(color_jitter=(0, 0, 0, 0.5))(red, 1, 1, 1.0, random.Random(s)).getpixel((0, 0))
            for s in range(100)
        }
        assert any(pixel[1] > 200 and pixel[0] < 100 for pixel in found if isinstance(pixel, tuple))
