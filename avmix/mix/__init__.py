"""Device stage 2: two clips become one, with one lambda for every modality and for the label."""

from avmix.mix.apply import apply, mixed_targets
from avmix.mix.plan import MixPlan, draw_plan, mixup_plan, unmixed_plan

__all__ = ["MixPlan", "apply", "draw_plan", "mixed_targets", "mixup_plan", "unmixed_plan"]
