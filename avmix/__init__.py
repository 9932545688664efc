"""avmix: audio-visual action recognition with Cross-Modal Mixup.

manifest.jsonl -- Entry --> decode --> Clip --> augment --> collate --> Batch        CPU workers
Batch.to(device), MixPlan drawn                                                      device
  --> frontend: frames normalised, waveform -> log-mel --> blend, ONE lambda for all
  --> video encoder, audio encoder --> late fusion --> Heads(fused, video, audio)
  --> mixed targets: Heads --> losses --> backward --> step
"""

import os

# Read once, when torch loads OpenMP: threads that wait must sleep, not spin. On a machine whose
# cores are shared with loader processes, spinning makes a training step up to ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
