"""A self-critical step in three parts: drawing captions, their reward, and the gradient.

The transformer with the sizes of params.yaml on stored regions, and as many captions and words as in Flickr8k. These
are made up, with words as common as words are (Zipf): speed does not depend on what is said. The output's bias begins
as the logarithm of each word's frequency, ends included, so that what is drawn has the length of captions.

    python -m benchmarks.self_critical [IMAGES]
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from captioning.system import compute

THREADS = 2
compute.pin(portable=True, threads=THREADS)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.vocabulary import numbered  # noqa: E402
from captioning import decoders  # noqa: E402
from captioning.data.text.encoded_captions import EncodedCaptions  # noqa: E402
from captioning.data.text.vocabulary import SPECIAL, Vocabulary  # noqa: E402
from captioning.settings import resolve  # noqa: E402
from captioning.settings.resolve import load  # noqa: E402
from captioning.training import optimization, self_critical  # noqa: E402
from captioning.training.inputs import FeatureInputs  # noqa: E402
from captioning.training.network import Network  # noqa: E402
from captioning.training.phase import Data, Setup  # noqa: E402
from captioning.training.rewards import CiderReward  # noqa: E402
from captioning.training.self_critical import SelfCritical, SelfCriticalOptions  # noqa: E402

TRAINING, PEOPLE, REGIONS, FEATURES, WORDS = 6000, 5, 49, 1280, 2550
SAMPLES, ROUNDS = 5, 5


def captions(generator: np.random.Generator) -> EncodedCaptions:
    """PEOPLE captions of each training image, of 8 to 14 words."""
    lengths = generator.integers(8, 15, TRAINING * PEOPLE)
    common = 1 / np.arange(1, WORDS - len(SPECIAL) + 1)
    words = generator.choice(WORDS - len(SPECIAL), int(lengths.sum()), p=common / common.sum()) + len(SPECIAL)
    ends = np.cumsum(lengths)
    tokens = np.insert(words, np.concatenate([[0], ends[:-1]]), Vocabulary.special.bos)
    tokens = np.insert(tokens, ends + np.arange(1, len(ends) + 1), Vocabulary.special.eos).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths + 2)])
    return EncodedCaptions(tokens, offsets, np.repeat(np.arange(TRAINING), PEOPLE))


class Clock:
    """Seconds spent in the parts of a step."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.spent.setdefault(name, []).append(time.perf_counter() - begin)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose calls are counted as part `name`."""

        def call(*arguments: Any) -> Any:
            with self.part(name):
                return function(*arguments)

        return call


def main(images: int = 128) -> None:
    """Print the time of the table of document frequencies, and of each part of a step."""
    torch.manual_seed(0)
    fabric = compute.start(seed=0, threads=THREADS, device="cpu", precision="32-true")
    generator, clock = np.random.default_rng(0), Clock()
    train, vocabulary = captions(generator), numbered(WORDS)
    with clock.part("table"):
        reward = CiderReward(train, vocabulary)
    settings = load(overrides={"decoder": "transformer", "dataset": "flickr8k"})
    decoder = decoders.build("transformer", vocabulary, FEATURES, vars(resolve.decoder_options(settings)))
    counts = torch.from_numpy(train.target_counts(WORDS)).clamp_min(1).float()
    with torch.no_grad():
        decoder.output.bias[:WORDS] = counts.log()  # type: ignore[union-attr, index, operator]
    regions = generator.standard_normal((images, REGIONS, FEATURES)).astype(np.float16)
    store = SimpleNamespace(means=regions.mean(1), regions=regions, places=None, tags=None, neighbours=None)
    network = Network(None, decoder)
    data = Data(train, train, store, np.arange(0), [], None, vocabulary)  # type: ignore[arg-type]
    options = SelfCriticalOptions(0, 1, images, SAMPLES, "leave_one_out", 0.01, 0)
    setup = Setup(network, FeatureInputs(data.store, by_image=True), data, fabric)
    phase = SelfCritical(setup, [(network, 1e-5)], reward, options)
    phase.enter(network)
    optimizer = phase.optimizer()
    self_critical.sample = clock.timed("sampling", self_critical.sample)
    reward.score = clock.timed("reward", reward.score)  # type: ignore[method-assign]
    words = []
    phase.prepare(0)
    for epoch in range(ROUNDS + 1):
        with clock.part("step"):
            losses = phase.losses(phase.module, np.arange(images), epoch)
            optimizer.zero_grad()
            losses.minimised["self_critical"].value.backward()
            norm = optimization.gradient_norms({"all": network})["all"]
            optimization.clip([network], norm, 5.0)
            optimizer.step()
        words.append(losses.logged["words/sample"].value.item())
    report(
        images,
        statistics.mean(words),
        {name: statistics.median(spent[1:] or spent) for name, spent in clock.spent.items()},
    )


def report(images: int, words: float, seconds: dict[str, float]) -> None:
    """Print seconds, and shares of the step. What is neither sampling nor reward is the gradient's pass."""
    step = seconds["step"]
    seconds["gradient"] = step - seconds["sampling"] - seconds["reward"]
    print(f"{images} images x {SAMPLES} captions of {words:.1f} words, {THREADS} threads; ", end="")
    print(f"document frequencies of {TRAINING * PEOPLE:,} captions: {seconds['table']:.2f} s, once\n")
    print("| | seconds | of the step |\n|---|---|---|")
    for name in ("sampling", "reward", "gradient", "step"):
        print(f"| {name} | {seconds[name]:.3f} | {seconds[name] / step:.1%} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
