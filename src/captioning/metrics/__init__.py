"""Raw strings in, scores out: BLEU, ROUGE-L and CIDEr-D as coco-caption computes them, METEOR and SPICE through Java.

This package needs `captioning.data.text.tokenizer` and `captioning.system.errors` alone: it can be used on its own.
"""

from captioning.metrics.java import java_scores, meteor, spice, spice_available
from captioning.metrics.java_runtime import java_available
from captioning.metrics.score import References, Scores, score

__all__ = [
    "NAMES",
    "References",
    "Scores",
    "java_available",
    "java_scores",
    "meteor",
    "score",
    "spice",
    "spice_available",
]

NAMES = {  # as people write them, in the order of tables
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "spice": "SPICE",
    "cider": "CIDEr",
}
