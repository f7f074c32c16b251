"""Training steps and beam search of each decoder, against the way that published repositories compute.

The decoders of `benchmarks.published_ways` have the same widths, and the same images and captions. Each side runs in a
process of its own, since vector units are chosen when torch loads; the sides take turns. A training step is forward
and backward, without an optimizer. Rates are of processor time on one thread, the median over the rounds.

    here, AVX2          float32, pinned as `compute.portable: true` pins it
    here                float32, with all that the CPU has
    here, bfloat16      the same under autocast
    published           float32, with all that the CPU has
    published, bfloat16 the same under autocast

    python -m benchmarks.peers
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from captioning.system import compute

SIDES = ("here, AVX2", "here", "here, bfloat16", "published", "published, bfloat16")
RATIOS = {  # column: the sides whose rates are divided
    "float32 : float32": ("here", "published"),
    "bfloat16 : bfloat16": ("here, bfloat16", "published, bfloat16"),
    "bfloat16 : float32": ("here, bfloat16", "published"),
}
SIDE = sys.argv[1] if sys.argv[1:] and sys.argv[1] in SIDES else "published"
compute.pin(portable=SIDE == "here, AVX2", threads=1)  # the process that starts the others is not pinned to AVX2

import torch  # noqa: E402

from benchmarks import gpt2, published_ways  # noqa: E402
from benchmarks.batch import CAPTIONS, EACH, FEATURES, REGIONS, TOKENS, WORDS, built  # noqa: E402
from captioning.search import SearchOptions, search  # noqa: E402
from captioning.settings import resolve  # noqa: E402
from captioning.training.network import Network  # noqa: E402
from captioning.vision.encoders.encoded import Encoded  # noqa: E402

BATCH, BEAM, SPOKEN = 64, 5, 12
OPTIONS = SearchOptions(beam_size=BEAM, max_words=SPOKEN, min_words=SPOKEN)
ROUNDS, STEPS = 3, 3
BEGIN = 2
PEERS = {  # decoder: its peers, (name, class)
    "lstm": (("yunjey", "ShowAndTell"), ("ruotianluo, newfc", "NewFC")),
    "attention": (("sgrvinod", "ShowAttendAndTell"),),
    "updown": (("ruotianluo", "TopDown"),),
    "transformer": (("nn.TransformerDecoder", "Transformer"),),
}
SEARCHED = {"attention": "sgrvinod", "updown": "ruotianluo", "transformer": "GPT-2 of transformers, `generate`"}
_WIDTHS = {  # published decoder: its widths, by the names of the options of ours
    "ShowAndTell": {"embedding": "embedding_size", "hidden": "hidden_size"},
    "NewFC": {"embedding": "embedding_size", "hidden": "hidden_size"},
    "ShowAttendAndTell": {"embedding": "embedding_size", "hidden": "hidden_size", "attention": "attention_size"},
    "TopDown": {"embedding": "embedding_size", "hidden": "hidden_size", "attention": "attention_size"},
    "Transformer": {name: name for name in ("width", "layers", "heads", "feed_forward", "dropout")},
}

Work = Callable[[], object]


def peer(decoder: str, kind: str) -> published_ways.PublishedWay:
    """The published decoder, as wide as ours is by default on photographs."""
    options = vars(resolve.decoder_options(resolve.load(overrides={"decoder": decoder, "dataset": "flickr8k"})))
    widths = {name: options[ours] for name, ours in _WIDTHS[kind].items()}
    made: published_ways.PublishedWay = getattr(published_ways, kind)(FEATURES, WORDS, **widths)
    return made


def training() -> dict[str, Work]:
    """A training step of each decoder, by the name of its row: ours here, or those of its peers."""
    regions = torch.randn(CAPTIONS // EACH, REGIONS, FEATURES)
    tokens = torch.randint(4, WORDS, (CAPTIONS, TOKENS))
    steps: dict[str, Work] = {}
    for name, peers in PEERS.items():
        if SIDE.startswith("here"):
            steps |= dict.fromkeys((row(name, who) for who, _ in peers), _step_here(name, regions, tokens))
        else:
            steps |= {row(name, who): _step_there(name, kind, regions, tokens) for who, kind in peers}
    return steps


def row(decoder: str, who: str) -> str:
    """The name of a row of the table."""
    return f"{decoder}, against {who}"


def _step_here(name: str, regions: torch.Tensor, tokens: torch.Tensor) -> Work:
    network = Network(None, built(name)).train()
    owner = torch.arange(len(regions)).repeat_interleave(EACH)

    def step() -> None:
        network.zero_grad()
        with _precision():
            losses = network((regions.mean(1), regions), tokens, owner)
        torch.stack([loss.value for loss in losses.values()]).sum().backward()

    return step


def _step_there(name: str, kind: str, regions: torch.Tensor, tokens: torch.Tensor) -> Work:
    model = peer(name, kind).train()

    def step() -> None:
        model.zero_grad()
        with _precision():
            loss = model(regions, tokens)
        loss.backward()

    return step


def searching() -> dict[str, Work]:
    """Beam search of BATCH images, by the name of its row."""
    regions = torch.randn(BATCH, REGIONS, FEATURES)
    encoded = Encoded(regions.mean(1), regions)
    found: dict[str, Work] = {}
    for name, who in SEARCHED.items():
        work = _search_here(name, encoded) if SIDE.startswith("here") else _search_there(name, regions)
        found[row(name, who)] = partial(_without_gradients, work)
    return found


def _without_gradients(work: Work) -> None:
    with torch.no_grad(), _precision():  # in inference mode, autocast would cast the weights at every step anew
        work()


def _search_here(name: str, encoded: Encoded) -> Work:
    return partial(search, built(name).eval(), encoded, OPTIONS)


def _search_there(name: str, regions: torch.Tensor) -> Work:
    limits = BEAM, SPOKEN, BEGIN
    if name == "transformer":
        model: Any = gpt2.built()
        return lambda: gpt2.generated(model, regions[:, :, : model.config.n_embd], len(regions), BEAM, SPOKEN)
    model = peer(name, PEERS[name][0][1]).eval()
    if name == "updown":
        return lambda: published_ways.beam_of_a_batch(model, regions, *limits)
    return lambda: [published_ways.beam_of_an_image(model, image, *limits) for image in regions]


def _precision() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=SIDE.endswith("bfloat16"))


def measure() -> dict[str, dict[str, float]]:
    """Captions, or images, a processor second by row, of training and of searching."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return {
        "training": {name: CAPTIONS / _seconds(step) for name, step in training().items()},
        "searching": {name: BATCH / _seconds(work) for name, work in searching().items()},
    }


def _seconds(work: Work) -> float:
    """Processor seconds, the least of STEPS."""
    taken = []
    for _ in range(1 + STEPS):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken[1:])


def table(title: str, rounds: list[dict[str, dict[str, float]]]) -> list[str]:
    """Lines of a table. rounds: rates by side and row."""
    lines = [f"| {title} | {' | '.join((*SIDES, *RATIOS))} |", f"|{'---|' * (1 + len(SIDES) + len(RATIOS))}"]
    for name in rounds[0][SIDES[0]]:
        rates = {side: statistics.median(each[side][name] for each in rounds) for side in SIDES}
        ratios = [f"{rates[here] / rates[there]:.1f}" for here, there in RATIOS.values()]
        lines.append(f"| {name} | {' | '.join(f'{rate:.0f}' for rate in rates.values())} | {' | '.join(ratios)} |")
    return lines


def main() -> None:
    """Print captions/s of training and images/s of search, and the ratios within a precision."""
    rounds = []
    for _ in range(ROUNDS):
        command = [sys.executable, "-m", "benchmarks.peers"]
        done = {side: subprocess.run([*command, side], check=True, capture_output=True).stdout for side in SIDES}
        rounds.append({side: json.loads(printed) for side, printed in done.items()})
    sizes = f"{REGIONS} regions of {FEATURES}, {WORDS} words, one thread"
    print(f"{CAPTIONS} captions of {TOKENS - 1} words, {EACH} an image; beam {BEAM}, {SPOKEN} words; {sizes}\n")
    for part, title in {"training": "training, captions/s", "searching": "search, images/s"}.items():
        print("\n".join(table(title, [{side: each[side][part] for side in SIDES} for each in rounds])), end="\n\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(measure()))
    else:
        main()
