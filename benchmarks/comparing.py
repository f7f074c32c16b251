"""How long the paired bootstrap takes, against scoring each draw anew, and its memory.

    python -m benchmarks.comparing

Captions are made up. Seconds are those of this process' processors, so that a busy machine does not lengthen them.
"""

import random
import resource
import time

import numpy as np

from benchmarks.scoring import LOOKS, PLACES, SUBJECTS, VERBS
from captioning.experiments import bootstrap
from captioning.experiments.bootstrap import Model
from captioning.metrics import References

SIZES = ((1000, 2), (5000, 5))  # images, experiments
PEOPLE = 5
ANEW = 3  # draws that are scored anew, to be multiplied


def main() -> None:
    head = ("images × experiments", "draws", "seconds", "each draw scored anew", "ratio", "peak MiB")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for images, experiments in SIZES:
        draw = random.Random(1)
        references = {k: [invent(draw) for _ in range(PEOPLE)] for k in range(images)}
        said = [{k: invent(draw) for k in references} for _ in range(experiments)]
        prepared = References(references)
        models = [[model(prepared, hypotheses)] for hypotheses in said]
        start = time.process_time()
        bootstrap.draw(models)
        seconds = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        start = time.process_time()
        for _ in range(ANEW):
            anew(references, said, draw)
        slow = (time.process_time() - start) / ANEW * bootstrap.DRAWS
        cells = f"{images:,} × {experiments} | {bootstrap.DRAWS:,} | {seconds:.2f} | {slow:,.0f}"
        print(f"| {cells} | {slow / seconds:,.0f} | {peak:,} |", flush=True)


def invent(draw: random.Random) -> str:
    """A made-up caption."""
    parts = (draw.choice(words) for words in (LOOKS, SUBJECTS, VERBS, LOOKS, PLACES))
    return "a {} {} {} the {} {}".format(*parts)


def model(prepared: References[int], hypotheses: dict[int, str]) -> Model:
    """What the bootstrap needs of one experiment."""
    per_image = prepared.score(hypotheses).per_image
    means = {name: np.array(list(per_image[name].values())) for name in ("rouge_l", "cider")}
    return Model(prepared.bleu_statistics(hypotheses), means)


def anew(references: dict[int, list[str]], said: list[dict[int, str]], draw: random.Random) -> None:
    """One draw, scored as a corpus of its own. Its idf is the draw's, which takes as long."""
    chosen = draw.choices(list(references), k=len(references))
    drawn = References({k: references[image] for k, image in enumerate(chosen)})
    for hypotheses in said:
        drawn.score({k: hypotheses[image] for k, image in enumerate(chosen)})


if __name__ == "__main__":
    main()
