from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch
from mix_reference import mix, normalised
from torch import Tensor

from avmix.mix import cpu_kernels
from avmix.mix.cpu_kernels import mix_frames

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE = (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225))
SHIFT = (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)
GREY_SCALE = (1 / (255 * 0.225), 1 / (255 * 0.225), 1 / (255 * 0.225))
GREY_SHIFT = (-2.0, -2.0, -2.0)
LAYOUTS = ["interleaved", "planar", "rows left out", "planar cut-out", "every other clip"]
CLOSE = 1e-6


def clips(b: int, t: int = 3, h: int = 5, w: int = 7, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (b, t, h, w, 3), dtype=torch.uint8, generator=generator)


def laid_out(video: Tensor, layout: str) -> Tensor:
    """The same values, otherwise in memory."""
    match layout:
        case "planar":
            stored = video.permute(0, 4, 1, 2, 3).contiguous().permute(0, 2, 3, 4, 1)
        case "rows left out":
            stored = video.repeat_interleave(2, 2)[:, :, ::2]
        case "planar cut-out":
            wider = torch.nn.functional.pad(video.permute(0, 4, 1, 2, 3), (2, 1))
            stored = wider[..., 2:-1].permute(0, 2, 3, 4, 1)
        case "every other clip":
            stored = video.repeat_interleave(2, 0)[::2]
        case _:
            stored = video
    assert torch.equal(stored, video)
    return stored


def partners(b: int) -> dict[str, list[int]]:
    """Maps of every kind, for a batch of b."""
    permuted = torch.randperm(b, generator=torch.Generator().manual_seed(b)).tolist()
    pairs = list(range(b))
    for i, j in zip(permuted[0::2], permuted[1::2], strict=False):
        pairs[i], pairs[j] = j, i
    maps = {
        "pairs, one alone where odd": pairs,
        "permutation": permuted,
        "roll": [(i - 1) % b for i in range(b)],
        "all the last one": [b - 1] * b,
        "random": torch.randint(b, (b,), generator=torch.Generator().manual_seed(1)).tolist(),
        "fewer results": [(3 * i + 1) % b for i in range((b + 1) // 2)],
        "partners beyond the results": list(range(b - 1, b // 2, -1)),
    }
    return {name: partner for name, partner in maps.items() if partner}


def weights(n: int) -> list[float]:
    return [(0.3, 1.0, 0.5, 0.0, 0.9, 0.499, 1e-7)[i % 7] for i in range(n)]


def boxes(n: int, sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Random, empty (in one axis or all) and full ones in turns."""
    rng = np.random.default_rng(n)
    made = []
    for i in range(n):
        limits = [sorted(rng.integers(0, size + 1, 2).tolist()) for size in sizes]
        if i % 4 == 1:
            limits[i % 3][1] = limits[i % 3][0]
        elif i % 4 == 2:
            limits = [[0, size] for size in sizes]
        made.append(tuple(limit for axis in limits for limit in axis))
    return made


def expected(
    video: Tensor,
    partner: list[int],
    weight: list[float],
    box: list[tuple[int, ...]] | None,
) -> np.ndarray:
    """Normalised first, mixed then, in float64."""
    return mix(normalised(video.numpy(), MEAN, STD), partner, weight, box)


def check(video: Tensor, partner: list[int], weight: list[float], box: list | None) -> None:
    before = video.clone()
    mixed = mix_frames(video, partner, weight, box, scale=SCALE, shift=SHIFT)
    assert mixed.dtype == torch.float32
    assert mixed.is_contiguous()
    assert np.abs(mixed.numpy() - expected(video, partner, weight, box)).max(initial=0) < CLOSE
    assert torch.equal(video, before)


def test_two_pixels_by_hand() -> None:
    video = torch.tensor([[10, 20, 30], [110, 40, 230]], dtype=torch.uint8).view(2, 1, 1, 1, 3)
    mixed = mix_frames(
        video, [1, 0], [0.75, 0.5], None, scale=(1.0, 10.0, 0.5), shift=(0.0, 1.0, -2.0)
    )
    # 0.75 * (10, 20, 30) + 0.25 * (110, 40, 230) = (35, 25, 80); halves: (60, 30, 130)
    assert mixed.flatten().tolist() == [35.0, 251.0, 38.0, 60.0, 301.0, 63.0]


def test_a_box_by_hand() -> None:
    row = torch.tensor([0, 4, 8, 12], dtype=torch.uint8)
    video = torch.stack([row, row + 100]).view(2, 1, 1, 4, 1).expand(2, 1, 1, 4, 3)
    mixed = mix_frames(
        video,
        [1, 0],
        [0.25, 0.0],
        [(0, 1, 0, 1, 1, 3), (0, 1, 0, 1, 0, 1)],
        scale=(1.0, 1.0, 1.0),
        shift=(0.0, 0.0, 0.0),
    )
    for colour in range(3):
        assert mixed[0, colour].flatten().tolist() == [0.0, 79.0, 83.0, 12.0]
        assert mixed[1, colour].flatten().tolist() == [0.0, 104.0, 108.0, 112.0]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("b", [1, 2, 3, 5, 64])
def test_any_partner_map(b: int, layout: str) -> None:
    video = laid_out(clips(b), layout)
    for partner in partners(b).values():
        weight = weights(len(partner))
        check(video, partner, weight, None)
        check(video, partner, weight, boxes(len(partner), (3, 5, 7)))


@pytest.mark.parametrize("layout", ["interleaved", "planar"])
@pytest.mark.parametrize("limit", [1, 5, 7, 20, 34, 35, 36, 70, 104, 105])
def test_frames_larger_than_a_tile(
    limit: int, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Parts of a row's length, of rows, of a frame, of frames, and all of the clip (3 5 7).
    monkeypatch.setattr(cpu_kernels, "_TILE_PIXELS", limit)
    video = laid_out(clips(5), layout)
    for partner in partners(5).values():
        check(video, partner, weights(len(partner)), None)
        for seed in range(4):
            shuffled = boxes(len(partner) + seed, (3, 5, 7))[seed:]
            check(video, partner, weights(len(partner)), shuffled)


@pytest.mark.parametrize("sizes", [(16, 112, 112), (3, 5, 7), (1, 1080, 1920), (9, 257, 511)])
def test_tiles_are_of_like_size_and_cover_each_pixel_once(sizes: tuple[int, int, int]) -> None:
    covered = torch.zeros(sizes, dtype=torch.int32)
    tiles = cpu_kernels._tiles(*sizes)
    for tile in tiles:
        covered[tile.where[2:]] += 1
    assert (covered == 1).all()
    num_pixels = [t * h * w for t, h, w in (tile.size for tile in tiles)]
    assert max(num_pixels) <= cpu_kernels._TILE_PIXELS
    assert min(num_pixels) > max(num_pixels) / 2


@pytest.mark.parametrize("layout", ["interleaved", "planar"])
@pytest.mark.parametrize("sizes", [(2, 363, 365), (11, 113, 111), (1, 1, 131075)])
def test_real_tiles(sizes: tuple[int, int, int], layout: str) -> None:
    t, h, w = sizes
    assert t * h * w > cpu_kernels._TILE_PIXELS
    video = laid_out(clips(2, t, h, w), layout)
    check(video, [1, 0], [0.4, 0.7], None)
    check(video, [1, 0], [0.4, 0.0], [(0, t, h // 3, h, w // 5, w - 1), (t - 1, t, 0, h, 3, w)])


@pytest.mark.parametrize("layout", ["interleaved", "planar"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 3, 5), (3, 5, 7), (2, 47, 53), (2, 257, 259)])
def test_weights_of_one_and_zero_are_exact(sizes: tuple[int, int, int], layout: str) -> None:
    t, h, w = sizes
    video = laid_out(clips(5, *sizes), layout)
    for scale, shift in ((SCALE, SHIFT), (GREY_SCALE, GREY_SHIFT)):
        plain = mix_frames(video, None, None, None, scale=scale, shift=shift)
        assert len(plain.unique()) > 1
        for partner in ([1, 0, 3, 2, 4], [4, 0, 1, 2, 3], [2, 2, 2, 2, 2]):
            own = mix_frames(video, partner, [1.0] * 5, None, scale=scale, shift=shift)
            assert torch.equal(own, plain)
            other = mix_frames(video, partner, [0.0] * 5, None, scale=scale, shift=shift)
            assert torch.equal(other, plain[partner])
            box = [(0, t, h // 2, h, w // 3, w)] * 5
            inside = torch.zeros(t, h, w, dtype=torch.bool)
            inside[:, h // 2 :, w // 3 :] = True
            for weight in (0.0, 1.0, 0.4):
                cut = mix_frames(video, partner, [weight] * 5, box, scale=scale, shift=shift)
                source = {0.0: plain[partner], 1.0: plain}.get(weight, cut)
                assert torch.equal(cut, torch.where(inside, source, plain))


def test_one_clip_of_two_that_swap_may_be_mixed_alone() -> None:
    video = clips(4)
    for weight in product((1.0, 0.0, 0.3), repeat=4):
        check(video, [1, 0, 3, 2], list(weight), None)


@pytest.mark.parametrize(("scale", "shift"), [(SCALE, SHIFT), (GREY_SCALE, GREY_SHIFT)])
def test_without_partners_all_clips_are_normalised(
    scale: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    video = clips(3)
    mean, std = MEAN, STD
    if scale == GREY_SCALE:
        mean, std = (0.45,) * 3, (0.225,) * 3
    plain = mix_frames(video, None, None, None, scale=scale, shift=shift)
    assert np.abs(plain.numpy() - normalised(video.numpy(), mean, std)).max() < CLOSE


def test_colours_that_share_only_the_scale_are_told_apart() -> None:
    video = torch.full((1, 1, 1, 1, 3), 2, dtype=torch.uint8)
    plain = mix_frames(video, None, None, None, scale=(3.0, 3.0, 3.0), shift=(0.0, 1.0, 0.0))
    assert plain.flatten().tolist() == [6.0, 7.0, 6.0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_out_is_written_and_returned(layout: str) -> None:
    video = laid_out(clips(5), layout)
    box = boxes(4, (3, 5, 7))
    for partner, weight, cut in (
        (None, None, None),
        ([1, 0, 2, 2], weights(4), None),
        ([1, 0, 2, 2], weights(4), box),
    ):
        fresh = mix_frames(video, partner, weight, cut, scale=SCALE, shift=SHIFT)
        warm = torch.full(fresh.shape, float("nan"))
        address = warm.data_ptr()
        given = mix_frames(video, partner, weight, cut, scale=SCALE, shift=SHIFT, out=warm)
        assert given is warm
        assert given.data_ptr() == address
        assert torch.equal(given, fresh)


def test_nothing_to_write() -> None:
    for video in (clips(0), clips(2, t=0), clips(2, w=0)):
        shape = (video.shape[0], 3, *video.shape[1:4])
        plain = mix_frames(video, None, None, None, scale=SCALE, shift=SHIFT)
        assert plain.shape == shape
    assert mix_frames(clips(2), [], [], None, scale=SCALE, shift=SHIFT).shape == (0, 3, 3, 5, 7)


def test_calls_in_threads_share_nothing() -> None:
    videos = [clips(4, 4, 64, 64, seed=k) for k in range(8)]

    def run(video: Tensor) -> Tensor:
        return mix_frames(video, [1, 2, 3, 0], [0.3] * 4, None, scale=SCALE, shift=SHIFT)

    alone = [run(video) for video in videos]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for one, other in zip(alone, pool.map(run, videos), strict=True):
                assert torch.equal(one, other)


def test_the_result_needs_no_gradient_and_is_mixed_the_same_with_more_threads() -> None:
    video = clips(2, 2, 200, 200)

    def run() -> Tensor:
        return mix_frames(video, [1, 0], [0.3, 0.6], None, scale=SCALE, shift=SHIFT)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run()
        torch.set_num_threads(3)
        three = run()
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, three)
    assert not one.requires_grad


@pytest.mark.parametrize(
    ("partner", "weight", "box", "message"),
    [
        (None, [0.5, 0.5], None, "partner is None"),
        (None, None, [(0, 1, 0, 1, 0, 1)] * 2, "partner is None"),
        ([1, 0], None, None, "2 partners need as many weights"),
        ([1, 0], [0.5], None, "1 weights for 2 partners"),
        ([1, 0], [0.5] * 3, None, "3 weights for 2 partners"),
        ([0, 1, 0], [0.5] * 3, None, "3 partners for 2 clips"),
        ([1, 2], [0.5] * 2, None, r"partner must be in \[0, 2\), got \[1, 2\]"),
        ([1, -1], [0.5] * 2, None, r"partner must be in \[0, 2\)"),
        ([1, 0], [0.5, 1.5], None, r"weight must be in \[0, 1\], got \[0.5, 1.5\]"),
        ([1, 0], [0.5, -0.1], None, r"weight must be in \[0, 1\]"),
        ([1, 0], [0.5, float("nan")], None, r"weight must be in \[0, 1\]"),
        ([1, 0], [0.5, 0.5], [(0, 3, 0, 5, 0, 7)], "1 boxes for 2 partners"),
        ([1, 0], [0.5, 0.5], [(0, 3, 0, 5, 0, 7), (0, 3, 0, 5)], r"got \(0, 3, 0, 5\)"),
        ([1, 0], [0.5, 0.5], [(0, 3, 0, 5, 0, 7), (0, 4, 0, 5, 0, 7)], r"frames of \(3, 5, 7\)"),
        ([1, 0], [0.5, 0.5], [(0, 3, 0, 5, 0, 7), (0, 3, -1, 5, 0, 7)], "a box is"),
        ([1, 0], [0.5, 0.5], [(0, 3, 0, 5, 0, 7), (0, 3, 0, 5, 4, 3)], "at or before its stop"),
    ],
)
def test_plans_that_do_not_fit_are_refused(
    partner: list[int] | None,
    weight: list[float] | None,
    box: list[tuple[int, ...]] | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        mix_frames(clips(2), partner, weight, box, scale=SCALE, shift=SHIFT)


@pytest.mark.parametrize(
    "out",
    [
        torch.empty(3, 3, 3, 5, 7),
        torch.empty(2, 3, 3, 5, 8),
        torch.empty(2, 3, 5, 7),
        torch.empty(2, 3, 3, 5, 7, dtype=torch.float64),
        torch.empty(2, 3, 3, 5, 7, dtype=torch.bfloat16),
        torch.empty(2, 3, 3, 5, 7, device="meta"),
        torch.empty(2, 3, 3, 5, 7, memory_format=torch.channels_last_3d),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out: Tensor) -> None:
    with pytest.raises(ValueError, match=r"out must be contiguous float32 \(2, 3, 3, 5, 7\)"):
        mix_frames(clips(2), [1, 0], [0.5, 0.5], None, scale=SCALE, shift=SHIFT, out=out)


def test_frames_elsewhere_are_refused() -> None:
    with pytest.raises(ValueError, match="frames are on meta"):
        mix_frames(clips(2).to("meta"), None, None, None, scale=SCALE, shift=SHIFT)
