"""What a score depends on beside the captions, in one line, as sacreBLEU's signatures (Post 2018, section 4).

    refs:5|images:1000|case:lower|tokens:ptb-3.4.1|idf:refs|bleu:corpus,closest|rouge_l:beta-1.2|cider:d,sigma-6|...

Scores with the same signature can be compared; others cannot.
"""

from collections.abc import Hashable, Mapping, Sequence
from importlib import metadata
from typing import TypeVar

Id = TypeVar("Id", bound=Hashable)


def signature(references: Mapping[Id, Sequence[str]]) -> str:
    """The signature of scores against these references, as `References` computes them."""
    counts = {len(captions) for captions in references.values()}
    each = str(min(counts)) if len(counts) == 1 else f"{min(counts)}-{max(counts)}"
    parts = {
        "refs": each,
        "images": str(len(references)),
        "case": "lower",
        "tokens": "ptb-3.4.1",
        "idf": "refs",
        "bleu": "corpus,closest",
        "rouge_l": "beta-1.2",
        "cider": "d,sigma-6",
        "captioning": metadata.version("captioning"),
    }
    return "|".join(f"{name}:{value}" for name, value in parts.items())
