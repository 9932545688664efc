"""Configuration section `run`."""

from dataclasses import dataclass
from typing import Literal

from avmix.config.checks import validate, validate_numbers


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Folder, seed and hardware of a run.

    Only `seed` and `precision` change its result; `device`, `threads` and `compile` change its last
    digits.
    """

    out: str = "runs/default"
    """Folder of the run. If it holds a checkpoint of the same configuration, the run resumes from
    it; one of another configuration is an error."""
    seed: int = 0
    """Random seed, 0 to 2**32 - 1."""
    device: str = "auto"
    """`auto` (the GPU of this process where there is one), `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the network's forward pass; spectrograms, targets and losses are always fp32."""
    compile: bool = False
    """Train the network compiled by torch.compile: faster steps after minutes of compilation, other
    last digits, and other draws of dropout. Not on a CPU with bf16, where its gradients are not
    finite."""
    threads: int = 0
    """CPU threads of torch; 0: as many as cores, shared by the processes of a machine that train
    together. Another number changes the last digits of results; the number of loader processes does
    not. A run that resumes with another number says so."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl, >= 1."""
    save_every: int = 0
    """Steps between checkpoints within an epoch; 0: only at the end of each epoch."""
    save_plans: bool = False
    """Write the mixing plan of every batch to plans_rankN.jsonl, for `avmix preview --plan`."""
    check_input: bool = False
    """Stop at the first clip whose audio has values that are not finite, and name its file. Reads
    every waveform once more."""

    def __post_init__(self) -> None:
        """Check ranges."""
        validate(0 <= self.seed < 2**32, "run.seed", "must be in [0, 2**32)", self.seed)
        validate(self.threads >= 0, "run.threads", "must be >= 0", self.threads)
        validate(self.log_every >= 1, "run.log_every", "must be >= 1", self.log_every)
        validate(self.save_every >= 0, "run.save_every", "must be >= 0", self.save_every)
        known = self.device in ("auto", "cpu", "cuda") or (
            self.device.startswith("cuda:") and self.device[5:].isdigit()
        )
        validate(known, "run.device", "must be auto, cpu, cuda or cuda:N", self.device)
        validate_numbers(self, "run.")
