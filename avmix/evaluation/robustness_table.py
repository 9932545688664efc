"""The rows of `avmix evaluate --robustness`: what each is, in which unit, and after whom.

docs/robustness.md is the same for people, tested against it.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["curve", "conflict", "sweep", "retrieval"]
Modality = Literal["audio", "video", "both"]

VOICES = 3
"""Clips whose audio is the babble."""
NO_COMBINATIONS = (
    "not measured: every clip has one label, so that there are no combinations of classes, seen "
    "or unseen"
)
"""What is said of classes that training shows together only in parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One row: a curve has accuracy and calibration of each head at each of its levels."""

    name: str
    title: str
    """For tables and figures."""
    kind: Kind = "curve"
    of: Modality
    """What is corrupted."""
    levels: tuple[float, ...] = (0.0,)
    """From the mildest to the severest; one alone where it has no degrees."""
    unit: str = ""
    definition: str
    source: str
    partners: int = 0
    """Other clips read for each clip."""
    is_shift: bool = False
    """The levels are seconds by which the decoder reads the audio later: a pass for each."""


_SNR_DB = (20.0, 15.0, 10.0, 5.0, 0.0, -5.0, -10.0)
_SHIFTS = (-1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0)
_KINETICS_C = (
    'Yi et al., "Benchmarking the robustness of spatial-temporal models against corruptions" '
    "(NeurIPS Datasets and Benchmarks 2021)"
)
_IMAGENET_C = (
    'Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and '
    'perturbations" (ICLR 2019)'
)
CONDITIONS = (
    Condition(
        name="clean",
        title="clean",
        of="both",
        definition="The clips as they are: what the other rows are compared with.",
        source="avmix evaluate",
    ),
    Condition(
        name="audio_missing",
        title="audio missing",
        of="audio",
        definition="No clip has audio; the network is told so, as in training.",
        source='Neverova et al., "ModDrop" (TPAMI 2016)',
    ),
    Condition(
        name="video_missing",
        title="video missing",
        of="video",
        definition="No clip has frames; the network is told so. Clips without audio are left out.",
        source='Neverova et al., "ModDrop" (TPAMI 2016)',
    ),
    Condition(
        name="noise_white",
        title="white noise",
        of="audio",
        levels=_SNR_DB,
        unit="dB SNR",
        definition="White Gaussian noise added to the waveform; power of the window over power of "
        "the noise.",
        source='Varga and Steeneken, "Assessment for automatic speech recognition: II. NOISEX-92" '
        "(Speech Communication 1993)",
    ),
    Condition(
        name="noise_babble",
        title="babble",
        of="audio",
        levels=_SNR_DB,
        unit="dB SNR",
        definition=f"The audio of {VOICES} clips of other classes and sources of the split added, "
        "each at the same power; power of the window over power of their sum.",
        source='Snyder et al., "MUSAN: a music, speech, and noise corpus" (2015), whose babble is '
        "of 3 to 7 speakers",
        partners=VOICES,
    ),
    Condition(
        name="reverb",
        title="reverberation",
        of="audio",
        levels=(0.2, 0.4, 0.8, 1.6),
        unit="s RT60",
        definition="The direct path and, 20 ms later, noise that decays by 60 dB in "
        "the reverberation time; direct-to-reverberant ratio 0 dB. What is played before the "
        "window does not reverberate into it.",
        source='Moorer, "About this reverberation business" (Computer Music Journal 1979); '
        'Kinoshita et al., "The REVERB challenge" (WASPAA 2013)',
    ),
    Condition(
        name="low_pass",
        title="low-pass filter",
        of="audio",
        levels=(4000.0, 2000.0, 1000.0, 500.0),
        unit="Hz",
        definition="Butterworth filter of order 2 (12 dB an octave) at the cut-off frequency, "
        "without delay.",
        source="a band-limited channel; as `augment.filter` (docs/augment.md)",
    ),
    Condition(
        name="blur",
        title="Gaussian blur",
        of="video",
        levels=(1.0, 2.0, 4.0, 8.0),
        unit="% of the side",
        definition="Gaussian blur of every frame; the deviation as a share of the side of the "
        "frame. ImageNet-C's 1 to 6 pixels of 224 are 0.45 to 2.7 %.",
        source=_IMAGENET_C,
    ),
    Condition(
        name="jpeg",
        title="JPEG",
        of="video",
        levels=(80.0, 50.0, 25.0, 18.0, 15.0, 10.0, 7.0),
        unit="quality",
        definition="Every frame compressed and decompressed by itself, chroma at half the size; "
        "the last five are ImageNet-C's.",
        source=_IMAGENET_C,
    ),
    Condition(
        name="h264",
        title="H.264",
        of="video",
        levels=(23.0, 30.0, 37.0, 44.0, 51.0),
        unit="CRF",
        definition="The frames of the window compressed as one video by x264 at a constant rate "
        "factor, 4:2:0, and decompressed.",
        source=_KINETICS_C,
    ),
    Condition(
        name="darkness",
        title="darkness",
        of="video",
        levels=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        unit="stops",
        definition="Half the light for each stop: pixel values times 2 ** (-stops / 2.2), rounded "
        "to 8 bits. No noise is added.",
        source=f"exposure with a gamma of 2.2; brightness of {_KINETICS_C}",
    ),
    Condition(
        name="frame_loss",
        title="frame loss",
        of="video",
        levels=(25.0, 50.0, 75.0, 90.0, 100.0),
        unit="% of frames",
        definition="Each frame but the first is lost with this probability, and the last one that "
        "arrived is shown in its place. 100 %: a still image.",
        source=f"frame freezing as in video telephony; packet loss of {_KINETICS_C}",
    ),
    Condition(
        name="shift",
        title="A/V shift",
        of="audio",
        levels=_SHIFTS,
        unit="s",
        definition="The audio is decoded from that many seconds later in the file than the frames: "
        "above 0 it leads the video, below 0 it lags. What lies outside of the file's audio is "
        "zeros; shift_edges has the same zeros in sync.",
        source="ITU-R BT.1359 (1998): noticed from 45 ms lead or 125 ms lag on; Chung and "
        'Zisserman, "Out of time" (ACCV Workshops 2016)',
        is_shift=True,
    ),
    Condition(
        name="shift_edges",
        title="A/V shift, edges alone",
        of="audio",
        levels=_SHIFTS,
        unit="s",
        definition="Control of shift: audio in sync, with zeros where the shifted window would lie "
        "outside of the file's audio. The difference to shift is what being out of sync does.",
        source="control of shift",
    ),
    Condition(
        name="conflict",
        title="audio of another class",
        kind="conflict",
        of="both",
        definition="The frames of a clip with the audio of one of another class and source: share "
        "of such clips in which the fused head names the class of the video, of the audio, or "
        "neither; and the same where both modality heads name their own class.",
        source="modality bias; McGurk and MacDonald (Nature 1976) for people; Gat et al., "
        '"Perceptual score" (NeurIPS 2021)',
        partners=1,
    ),
    Condition(
        name="lambda_sweep",
        title="lambda sweep",
        kind="sweep",
        of="both",
        levels=tuple(step / 10 for step in range(11)),
        unit="lambda",
        definition="Pairs of clips of other classes and sources, mixed at input level by "
        "Cross-Modal Mixup, audio as mix.audio_domain: total variation (half the sum of absolute "
        "differences) of the prediction from the line between both clips' own, and from the mixed "
        "label; share of pairs in which video head and audio head name the same class, and in "
        "which they prefer the same clip.",
        source='Zhang et al., "mixup" (ICLR 2018), figure 1 and appendix; Verma et al., "Manifold '
        'mixup" (ICML 2019)',
        partners=1,
    ),
    Condition(
        name="retrieval",
        title="cross-modal retrieval",
        kind="retrieval",
        of="both",
        definition="Audio found by video and video by audio, by the cosine of the "
        "log-probabilities of the two heads less their mean: R@1, R@5, R@10 and the median rank, "
        "of the same clip, and of another clip of the class. Ties count against it.",
        source='Arandjelovic and Zisserman, "Look, listen and learn" (ICCV 2017); R@k as in '
        'Faghri et al., "VSE++" (BMVC 2018)',
    ),
)
BY_NAME = {condition.name: condition for condition in CONDITIONS}
