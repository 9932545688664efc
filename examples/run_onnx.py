"""Classes of the first window of a video file by an ONNX file of `avmix export`, without avmix and
torch: python run_onnx.py model.onnx clip.mp4"""

import json
import sys

import av
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["avmix.json"])
seconds, rate, channels = about["window_seconds"], about["sample_rate"], about["channels"]
with av.open(sys.argv[2]) as file:
    decoded = list(file.decode(video=0))
    zero = decoded[0].time  # of the window: the first frame
    times = zero + (np.arange(about["num_frames"]) + 0.5) * seconds / about["num_frames"]
    shown = [max((f for f in decoded if f.time <= t), key=lambda f: f.time) for t in times]
    scale = about["short_side"] / min(shown[0].width, shown[0].height)
    size = {"width": round(shown[0].width * scale), "height": round(shown[0].height * scale)}
    # As avmix does it: scaled first, colours then.
    shown = [frame.reformat(**size, interpolation="BILINEAR") for frame in shown]
    shown = [frame.reformat(format="rgb24", interpolation="BILINEAR") for frame in shown]
    video = np.stack([frame.to_ndarray() for frame in shown])
wave = np.zeros((channels, round(seconds * rate)), np.float32)
with av.open(sys.argv[2]) as file:
    resampler = av.AudioResampler("fltp", ("mono", "stereo")[channels - 1], rate)
    parts = [p for frame in file.decode(audio=0) for p in resampler.resample(frame)]
    first = round((zero - parts[0].time) * rate)  # sample of the audio at the first frame
    audio = np.concatenate([part.to_ndarray() for part in parts], 1)[:, max(first, 0) :]
    begin = max(-first, 0)
    wave[:, begin : begin + audio.shape[1]] = audio[:, : wave.shape[1] - begin]
yes = np.ones(1, bool)
given = {"video": video[None], "audio": wave if len(wave) == 1 else wave[None], "has_video": yes,
         "has_audio": yes}  # fmt: skip
for name, found in zip(("fused", "video", "audio"), session.run(None, given), strict=True):
    best = found[0].argsort()[::-1][:3]
    print(name, {about["classes"][k]: round(float(found[0][k]), 4) for k in best})
