"""Models: one encoder per modality and late fusion."""

from avmix.models.classifier import LateFusionClassifier, build_model

__all__ = ["LateFusionClassifier", "build_model"]
