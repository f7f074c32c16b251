"""Raw strings in, scores out: BLEU, ROUGE-L and CIDEr-D as coco-caption computes them, METEOR and SPICE through Java.

This package needs `captioning.tokenizer` and `captioning.errors` alone and can be lifted out as it stands.
"""

from captioning.java import java_available
from captioning.metrics.java import java_scores, meteor, spice, spice_available
from captioning.metrics.score import References, Scores, score

__all__ = ["References", "Scores", "java_available", "java_scores", "meteor", "score", "spice", "spice_available"]
