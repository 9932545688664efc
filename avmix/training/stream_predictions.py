"""Predictions for the windows of a stream, as they are complete: `TrainedNetwork.stream`."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from avmix.data.stream_windows import StreamWindow, StreamWindows
from avmix.evaluation.file_prediction import FilePrediction
from avmix.evaluation.metrics import EVAL_ROWS
from avmix.training.evaluation_loop import probabilities_of
from avmix.training.file_predictions import Network
from avmix.training.label_setup import refuse_label_sets
from avmix.types import Batch


class PredictionStream:
    """Push frames and audio as they come, with their times; get predictions, window by window.

    The windows, and the numbers, are those of `avmix predict --along-time` on a file with the same
    frames and samples. Memory is bounded whatever the length of the stream.
    """

    def __init__(
        self,
        trained: Network,
        *,
        step_seconds: float = 1.0,
        has_video: bool = True,
        has_audio: bool = True,
        name: str = "stream",
    ) -> None:
        """`has_*`: what will be pushed; what the network does not read need not be. `name`: of the
        stream, for `FilePrediction.path`. Raises ValueError where the network reads nothing of
        what there is or is of label sets, and for a step that is not positive."""
        refuse_label_sets(trained.config, "streams cannot be predicted")
        self._trained, self._name = trained, name
        reads = trained.config.model.modalities
        has_video, has_audio = has_video and reads != "audio", has_audio and reads != "video"
        if not (has_video or has_audio):
            raise ValueError(f"the network reads {reads}, which the stream does not have")
        self.windows = StreamWindows(
            clip=trained.config.clip, step_seconds=step_seconds, has_video=has_video,
            has_audio=has_audio,
        )  # fmt: skip
        self.num_predicted = 0

    @property
    def num_lost(self) -> int:
        """Windows without a prediction so far; `windows.lost` says why."""
        return sum(self.windows.lost.values())

    def push_frame(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        seconds: float,
        duration_seconds: float = 0.04,
        *,
        is_damaged: bool = False,
    ) -> list[FilePrediction]:
        """Take a frame, RGB, its shorter side `clip.short_side` pixels, shown from `seconds` on.

        Returns the predictions for the windows that are complete with it; their times begin with
        the first frame. Raises ValueError for another size, and times that are not finite.
        """
        return self._predicted(self.windows.push_frame(
            image, seconds, duration_seconds, is_damaged=is_damaged
        ))  # fmt: skip

    def push_audio(
        self,
        samples: Float32[np.ndarray, "*c s"],
        seconds: float,
        rate_hz: int,
        sides: Float32[np.ndarray, "2 s"] | None = None,
    ) -> list[FilePrediction]:
        """Take samples of any rate, full scale 1: (s) mono, or (2, s) left and right; the first is
        played at `seconds`. `sides`: left and right, where `samples` are a mono mix of more.

        Returns as `push_frame` does. Raises ValueError for another shape, a rate that changes, and
        what is not finite.
        """
        if samples.ndim == 2 and len(samples) == 2:
            samples, sides = samples.mean(0), samples
        if samples.ndim != 1 or (sides is not None and sides.shape != (2, len(samples))):
            raise ValueError(f"samples must be (s) or (2, s), got {samples.shape}")
        return self._predicted(self.windows.push_audio(samples, seconds, rate_hz, sides))

    def end(self) -> list[FilePrediction]:
        """The windows up to the end of the stream, of which the last ends with it."""
        return self._predicted(self.windows.end())

    def _predicted(self, windows: Sequence[StreamWindow]) -> list[FilePrediction]:
        found = [one for window in windows if (one := self._of(window)) is not None]
        self.num_predicted += len(found)
        return found

    def _of(self, window: StreamWindow) -> FilePrediction | None:
        trained, clip = self._trained, window.clip
        if not (window.has_video or window.has_audio):
            self.windows.lost["nothing that the network reads"] += 1
            return None
        device = next(trained.network.parameters()).device
        batch = Batch(
            video=torch.from_numpy(clip.video)[None],
            audio=torch.from_numpy(clip.audio)[None],
            has_video=torch.tensor([window.has_video]),
            has_audio=torch.tensor([window.has_audio]),
            target=torch.zeros(1, len(trained.classes)),
            row=torch.zeros(1, dtype=torch.int64),
            source=torch.zeros(1, dtype=torch.int64),
        ).to(device)
        trained.network.eval()
        rows, present = probabilities_of(
            trained.network, trained.frontend, batch, trained.config.loss.several_labels
        )
        if not rows.isfinite().all():
            self.windows.lost["not finite"] += 1
            return None
        of = {
            name: rows[k, 0].float().numpy() if present[k, 0] else None
            for k, name in enumerate(EVAL_ROWS)
        }
        fused = of["fused"]
        assert fused is not None
        return FilePrediction(
            path=self._name, classes=trained.classes, start_seconds=clip.start_seconds,
            end_seconds=clip.start_seconds + clip.duration_seconds, num_views=1, fused=fused,
            video=of["video head"], audio=of["audio head"], without_video=of["video missing"],
            without_audio=of["audio missing"],
        )  # fmt: skip
