"""How long scoring takes here and in pycocoevalcap: 1,000 images x 5 references, tokenisation included.

    python benchmarks/scoring.py [Flickr8k.token.txt]

Without a file the captions are made up. Needs pycocoevalcap and Java. Each figure is the best of five runs, in this
one process; pycocoevalcap's tokeniser is Java's, and its start is part of its time.
"""

import contextlib
import io
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from captioning.data.text import tokenizer
from captioning.metrics import References, Scores

IMAGES, PEOPLE, RUNS = 1000, 5, 5
NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
SUBJECTS = ("man", "woman", "boy", "girl", "dog", "crowd", "surfer", "child's friend", "couple", "skateboarder")
VERBS = ("runs across", "sits on", "jumps over", "isn't near", "plays by", "looks at", "walks along", "waits for")
PLACES = ("beach", "street", "grass", "pool", "table", "bench", "mountain", "hill", "wall", "snow", "court", "boat")
LOOKS = ("red", "small", "large", "young", "wet", "black", "white", "green", "long", "happy", "striped", "well-lit")


def main(token_file: str | None) -> None:
    captions = read(Path(token_file)) if token_file else invent()
    references = {k: captions[k * PEOPLE : (k + 1) * PEOPLE] for k in range(IMAGES)}
    # Another image's caption with a few words of this one's: neither perfect nor hopeless.
    hypotheses = {k: f"{references[(k + 7) % IMAGES][0][:20]} {references[k][0][-30:]}" for k in references}

    ours, ours_s = best(lambda: anew(references, hypotheses))
    prepared = References(references)
    _, again_s = best(lambda: prepared.score(hypotheses))
    theirs, theirs_s = best(lambda: coco_caption(references, hypotheses))
    print(f"| {IMAGES} images x {PEOPLE} references | seconds | pycocoevalcap / it |\n|---|---|---|")
    for name, seconds in (
        ("pycocoevalcap 1.2, Java tokeniser", theirs_s),
        ("captioning.metrics.score", ours_s),
        ("References.score, prepared before", again_s),
    ):
        print(f"| {name} | {seconds:.3f} | {theirs_s / seconds:.1f} |")
    print(f"\nlargest difference: {difference(ours, theirs):.1e} (corpus and images, {', '.join(NAMES)})")


def anew(references: dict[int, list[str]], hypotheses: dict[int, str]) -> Scores[int]:
    """Our scores, with nothing remembered from the run before."""
    tokenizer._words.cache_clear()
    return References(references).score(hypotheses)


def best(work: Callable[[], Scores[int]]) -> tuple[Scores[int], float]:
    """What `work` gives, and its shortest time in seconds."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        scores = work()
        times.append(time.perf_counter() - start)
    return scores, min(times)


def coco_caption(references: dict[int, list[str]], hypotheses: dict[int, str]) -> Scores[int]:
    """pycocoevalcap's scores of raw captions."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    with silence():
        gold = PTBTokenizer().tokenize({k: [{"caption": text} for text in texts] for k, texts in references.items()})
        said = PTBTokenizer().tokenize({k: [{"caption": text}] for k, text in hypotheses.items()})
        bleu, bleus = Bleu(4).compute_score(gold, said, verbose=0)
        rouge, rouges = Rouge().compute_score(gold, said)
        cider, ciders = Cider().compute_score(gold, said)
    columns: list[Any] = [*bleus, rouges, ciders]
    per_image = {
        name: dict(zip(references, map(float, values), strict=True))
        for name, values in zip(NAMES, columns, strict=True)
    }
    return Scores(dict(zip(NAMES, map(float, [*bleu, rouge, cider]), strict=True)), per_image)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep Java's own report off the terminal."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(io.StringIO()):
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def difference(ours: Scores[int], theirs: Scores[int]) -> float:
    corpus = [abs(ours.corpus[name] - theirs.corpus[name]) for name in NAMES]
    images = [abs(ours.per_image[name][k] - value) for name in NAMES for k, value in theirs.per_image[name].items()]
    return max(corpus + images)


def read(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[1] for line in lines[: IMAGES * PEOPLE]]


def invent() -> list[str]:
    """Five captions an image that share its subject and place."""
    draw = random.Random(0)
    captions = []
    for _ in range(IMAGES):
        subject, place = draw.choice(SUBJECTS), draw.choice(PLACES)
        for _ in range(PEOPLE):
            captions.append(
                f"A {draw.choice(LOOKS)} {subject} {draw.choice(VERBS)} the {draw.choice(LOOKS)} {place}"
                f"{draw.choice(['', ', in the ' + draw.choice(LOOKS) + ' ' + draw.choice(PLACES)])} ."
            )
    return captions


if __name__ == "__main__":
    main(*sys.argv[1:2] or (None,))
