"""Who gets which clips in which step, and how many unreadable ones are too many."""

import pytest

from avmix.data.loader import BadClips, EpochSampler, whole_clips
from avmix.data.sample import BadClip, TooManyBadClips


def bad(row: int) -> BadClip:
    return BadClip(row, f"dir/{row}.mp4", "DecodeError: damaged")


def positions(sampler: EpochSampler, epoch: int = 0, step: int = 0) -> list[list[int]]:
    batches = list(sampler.steps(epoch, step))
    assert {e for batch in batches for e, _ in batch} <= {epoch}
    return [[position for _, position in batch] for batch in batches]


def test_the_steps_of_an_epoch_by_hand():
    assert positions(EpochSampler(10, 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert positions(EpochSampler(10, 2, rank=0, world_size=2)) == [[0, 2], [4, 6]]
    assert positions(EpochSampler(10, 2, rank=1, world_size=2)) == [[1, 3], [5, 7]]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize(("num_clips", "batch_size"), [(100, 4), (64, 8), (64, 2), (97, 3)])
def test_processes_share_every_step_and_miss_only_the_incomplete_one(
    num_clips, batch_size, world_size
):
    samplers = [EpochSampler(num_clips, batch_size, rank, world_size) for rank in range(world_size)]
    shares = [positions(sampler, epoch=3) for sampler in samplers]
    step_size = batch_size * world_size
    assert {len(share) for share in shares} == {num_clips // step_size}
    for step in range(num_clips // step_size):
        assert {len(share[step]) for share in shares} == {batch_size}
        together = sorted(p for share in shares for p in share[step])
        # The same clips in a step, however many processes share it.
        assert together == list(range(step * step_size, (step + 1) * step_size))


@pytest.mark.parametrize("step", [0, 1, 5, 6])
def test_starting_later_goes_on_with_the_same_steps(step):
    sampler = EpochSampler(50, 4, rank=1, world_size=2)
    whole = positions(sampler, epoch=2)
    assert positions(sampler, epoch=2, step=step) == whole[step:]
    assert sampler.num_steps == len(whole) == 6


def test_more_clips_per_step_than_there_are_is_an_error():
    EpochSampler(16, 8, world_size=2)
    with pytest.raises(
        ValueError, match=r"a step reads 8 clips \(.*\) in each of 2 processes, .* the 15 clips"
    ):
        EpochSampler(15, 8, world_size=2)
    with pytest.raises(ValueError, match="a step reads") as alone:
        EpochSampler(15, 16)
    assert str(alone.value) == (
        "a step reads 16 clips (optim.batch_size, or twice as many with mix.pairing second_batch), "
        "more than the 15 clips of the train split; set a smaller --optim.batch_size"
    )
    with pytest.raises(ValueError, match=r"; 2 windows of each clip\), more than the 7 clips"):
        EpochSampler(7, 16, repeats=2)


@pytest.mark.parametrize(
    ("allowed", "num_clips", "share"),
    # 0.29 * 100 is below 29 and 0.07 * 100 above 7 in floating point.
    [(0, 100, 0.0), (1, 100, 0.01), (29, 100, 0.29), (7, 100, 0.07), (3, 10, 0.3), (2, 3, 0.7)],
)
def test_exactly_the_allowed_share_passes_and_one_more_does_not(allowed, num_clips, share):
    counter = BadClips(num_clips, share)
    for row in range(allowed):
        assert counter.add([bad(row)]) == (bad(row),)
    with pytest.raises(TooManyBadClips) as stopped:
        counter.add([bad(allowed)])
    message = str(stopped.value)
    assert f"{allowed + 1} of {num_clips} clips" in message
    assert "data.max_bad_share" in message
    assert all(f"dir/{row}.mp4: DecodeError: damaged" in message for row in range(allowed + 1))


def test_a_clip_counts_once_however_often_it_is_met():
    counter = BadClips(10, 0.2)
    assert counter.add([bad(5), bad(5)]) == (bad(5),)
    assert counter.add([bad(3), bad(5)]) == (bad(3),)
    assert counter.add([bad(5), bad(3)]) == ()
    assert counter.found == (bad(5), bad(3))


def test_no_bad_clip_is_fine_where_none_is_allowed():
    assert BadClips(10, 0.0).add([]) == ()


def test_a_long_list_of_unreadable_clips_says_how_many_more_there_are():
    bad = BadClips(num_clips=150, max_share=0.5)
    with pytest.raises(TooManyBadClips) as error:
        bad.add([BadClip(row, f"{row}.mp4", "gone") for row in range(130)])
    lines = str(error.value).splitlines()
    assert len(lines) == 1 + 100 + 1
    assert lines[-1] == "  and 30 more"


@pytest.mark.parametrize(
    ("num_views", "batch_size", "batches"),
    [
        (1, 2, [[(0, 0), (2, 0)], [(4, 0)]]),
        (2, 5, [[(0, 0), (0, 1), (2, 0), (2, 1)], [(4, 0), (4, 1)]]),
        (2, 2, [[(0, 0), (0, 1)], [(2, 0), (2, 1)], [(4, 0), (4, 1)]]),
        # More views than a batch may hold: in as few pieces as possible, clip after clip.
        (
            3,
            2,
            [[(0, 0), (0, 1)], [(0, 2)], [(2, 0), (2, 1)], [(2, 2)], [(4, 0), (4, 1)], [(4, 2)]],
        ),
    ],
)
def test_the_views_of_a_clip_are_in_one_batch_where_they_fit(num_views, batch_size, batches):
    assert whole_clips(range(0, 6, 2), num_views, batch_size) == batches


def test_windows_of_a_file_must_fill_a_step():
    with pytest.raises(ValueError, match="3 windows of a file do not divide a step of 8"):
        EpochSampler(100, 8, repeats=3)
    with pytest.raises(ValueError, match="8 windows of a file do not divide a step of 4"):
        EpochSampler(100, 4, repeats=8)
