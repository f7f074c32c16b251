"""The decoder oscar over made-up features, against the published way (Oscar, Li et al. 2020; VinVL, Zhang et al. 2021).

Features are those of VinVL in shape: REGIONS boxes of 2,048 + 6 numbers, and TAGS pieces of their names. Training here
computes the context once an image and learns every position; the published code computes it once a caption and learns
at most MASKED positions. Decoding is against the same network without its cache. Steps are forward and backward, with
all captions of an image side by side. On a CPU each process has one thread and rates are captions a second of
processor time; on a GPU they are by the clock, after the device has ended.

    python -m benchmarks.oscar                # on a CPU
    python -m benchmarks.oscar cuda           # on a GPU
"""

import multiprocessing
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from typing import NamedTuple

from captioning.system import compute

compute.pin(portable=False, threads=1)

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional  # noqa: E402

from benchmarks.vocabulary import numbered  # noqa: E402
from captioning import decoders  # noqa: E402
from captioning.decoders.bert import Bert  # noqa: E402
from captioning.decoders.oscar import OscarDecoder  # noqa: E402
from captioning.training.network import Network  # noqa: E402
from captioning.vision.encoders.at_boxes import coded  # noqa: E402
from captioning.vision.encoders.encoded import Encoded  # noqa: E402

IMAGES, EACH, TOKENS, TAGS, REGIONS, FEATURES = 16, 5, 13, 10, 50, 2048  # a step: 80 captions of 12 pieces
PIECES = 6632  # that Flickr8k's training captions have
MASKED = 3  # positions that the published code learns in a caption, at most
LONGEST = 20  # pieces of a caption that is decoded
ROUNDS = 5
SIZES = {  # layers, width, heads, feed-forward
    "MiniLM-L6": (6, 384, 12, 1536),
    "its first three layers": (3, 384, 12, 1536),
    "BERT-base": (12, 768, 12, 3072),
}
_FOR_GPUS = "BERT-base"  # a step of it takes a minute of a CPU
PROCESSES = (1, 2)


class Batch(NamedTuple):
    """Encoded images, tokens (C, T), and whose they are (C,)."""

    encoded: Encoded
    tokens: Tensor
    owner: Tensor


def sizes(device: str) -> list[str]:
    """What is measured on a device."""
    return [size for size in SIZES if device == "cuda" or size != _FOR_GPUS]


def built(size: str, device: str) -> OscarDecoder:
    """A decoder with random weights."""
    layers, width, heads, feed_forward = SIZES[size]
    options = {"layers": layers, "width": width, "heads": heads, "feed_forward": feed_forward}
    decoder = decoders.build("oscar", numbered(PIECES), FEATURES, options | {"dropout": 0.1, "image_norm": True})
    assert isinstance(decoder, OscarDecoder)
    return decoder.to(device)


def batch(device: str) -> Batch:
    """Made-up regions, boxes, tags and captions."""
    regions = torch.randn(IMAGES, REGIONS, FEATURES, device=device)
    corners = torch.rand(IMAGES, REGIONS, 2, 2, device=device).sort(dim=2).values  # upper left, lower right
    mask = torch.ones(IMAGES, REGIONS, dtype=torch.bool, device=device)
    tags = torch.randint(5, PIECES, (IMAGES, TAGS), device=device)
    tokens = torch.randint(5, PIECES, (IMAGES * EACH, TOKENS), device=device)
    owner = torch.arange(IMAGES, device=device).repeat_interleave(EACH)
    return Batch(Encoded(regions.mean(1), regions, mask, corners.flatten(2), tags), tokens, owner)


def step_here(decoder: OscarDecoder, given: Batch) -> Callable[[], None]:
    """Forward and backward as `train` does: the context once an image, and every position learns."""
    network = Network(None, decoder).train()

    def step() -> None:
        network.zero_grad()
        losses = network(given.encoded, given.tokens, given.owner)
        torch.stack([loss.value for loss in losses.values()]).sum().backward()

    return step


def step_published(decoder: OscarDecoder, given: Batch) -> Callable[[], None]:
    """Forward and backward in the published way: the context once a caption, and MASKED positions learn."""
    decoder.train()
    places = torch.stack([torch.randperm(TOKENS - 1)[:MASKED] + 1 for _ in given.tokens]).to(
        given.tokens
    )  # (C, MASKED)
    each = given.encoded.rows(given.owner)
    hidden = hidden_places(given.tokens.device)

    def step() -> None:
        decoder.zero_grad()
        x = embedded(decoder, each, given.tokens, places)
        seen = through(decoder.bert, x, hidden)
        rows = torch.arange(len(seen), device=seen.device)[:, None]
        logits = decoder.cls(seen[rows, places], decoder.bert.embeddings.word_embeddings.weight)  # (C, MASKED, V)
        functional.cross_entropy(logits.flatten(0, 1), given.tokens.gather(1, places).flatten()).backward()

    return step


def hidden_places(device: torch.device) -> Tensor:
    """What is added to the scores of places, (T + G + R, T + G + R): words see words before them; others see none."""
    places = TOKENS + TAGS + 1 + REGIONS  # the tags have an end
    added = torch.zeros(places, places, device=device)
    added[:TOKENS, :TOKENS].masked_fill_(torch.ones(TOKENS, TOKENS, device=device).triu(1).bool(), -10_000.0)
    added[TOKENS:, :TOKENS] = -10_000.0
    return added


def embedded(decoder: OscarDecoder, each: Encoded, tokens: Tensor, places: Tensor) -> Tensor:
    """Captions with `[MASK]` at `places`, their tags and their regions → (C, T + G + R, W)."""
    embeddings = decoder.bert.embeddings
    words = embeddings.word_embeddings(tokens)
    masked = torch.zeros_like(tokens, dtype=torch.bool).scatter(1, places, True)
    words = torch.where(masked[:, :, None], decoder.mask.to(words), words)
    assert each.tags is not None
    ended = functional.pad(each.tags, (0, 1), value=decoder.vocabulary.special.eos)
    tags = embeddings(embeddings.word_embeddings(ended), 40, 1)
    regions = coded(each).regions
    assert regions is not None
    return torch.cat([embeddings(words, 0, 0), tags, decoder.bert.regions(regions)], dim=1)


def through(bert: Bert, x: Tensor, hidden: Tensor) -> Tensor:
    """x (C, P, W) through all layers, every place among all others."""
    for layer in bert.layers:
        heads = layer.heads
        keys, values = (heads.split(part) for part in heads.pairs(x).chunk(2, dim=2))
        query = heads.split(heads.query(x))
        seen = functional.scaled_dot_product_attention(query, keys, values, attn_mask=hidden.to(query))
        x = layer(x, seen.transpose(1, 2).flatten(2))
    return x


def decode_here(decoder: OscarDecoder, given: Batch) -> Callable[[], None]:
    """LONGEST pieces of a caption an image by `step`, with its cache."""
    decoder.eval()

    @torch.inference_mode()
    def decode() -> None:
        state = decoder.init(given.encoded)
        tokens = given.tokens[::EACH, 0]
        for _ in range(LONGEST):
            logits, state = decoder.step(tokens, state)
            tokens = logits.argmax(1)

    return decode


def decode_again(decoder: OscarDecoder, given: Batch) -> Callable[[], None]:
    """The same with context and words computed again for each piece."""
    decoder.eval()

    @torch.inference_mode()
    def decode() -> None:
        tokens = given.tokens[::EACH, :1]
        for _ in range(LONGEST):
            logits = decoder(given.encoded, tokens, torch.arange(len(tokens), device=tokens.device))
            tokens = torch.cat([tokens, logits[:, -1:].argmax(2)], dim=1)

    return decode


def seconds(action: Callable[[], None], device: str, precision: torch.dtype) -> float:
    """The median of ROUNDS after a first one: processor time on a CPU, the clock on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    taken = []
    for _ in range(ROUNDS + 1):
        begin = clock()
        with torch.autocast(device, precision, enabled=precision != torch.float32):
            action()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(clock() - begin)
    return statistics.median(taken[1:])


def training(device: str) -> None:
    """Print captions a second and milliseconds a caption of both ways, and what each learns from a caption."""
    print("| training | precision | here, captions/s | published way, captions/s | ratio | here, ms a caption |")
    print("|---|---|---|---|---|---|")
    given = batch(device)
    for size in sizes(device):
        decoder = built(size, device)
        for name, precision in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
            here, published = (
                seconds(step(decoder, given), device, precision) / len(given.tokens)
                for step in (step_here, step_published)
            )
            row = f"{1 / here:,.1f} | {1 / published:,.1f} | {published / here:.2f} | {1000 * here:.1f}"
            print(f"| {size} | {name} | {row} |", flush=True)
    print(f"\nHere {TOKENS} positions of a caption learn, in the published way {MASKED}. Peak: {peak(device)}\n")


def decoding(device: str) -> None:
    """Print milliseconds a caption with the cache and without."""
    print("| decoding | with the cache, ms a caption | without, ms a caption | ratio |\n|---|---|---|---|")
    given = batch(device)
    for size in sizes(device):
        decoder = built(size, device)
        cached, again = (
            1000 * seconds(decode(decoder, given), device, torch.float32) / IMAGES
            for decode in (decode_here, decode_again)
        )
        print(f"| {size} | {cached:.2f} | {again:.2f} | {again / cached:.1f} |", flush=True)
    print()


def peak(device: str) -> str:
    """The most memory that was taken."""
    if device == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:,.0f} MiB"


def in_processes(size: str = "its first three layers") -> None:
    """Print captions a second, by the clock, of so many processes that average their gradients at each step."""
    print("| processes, one thread each | captions/s, by the clock | times that of one |\n|---|---|---|")
    context = multiprocessing.get_context("spawn")
    first = 0.0
    for processes in PROCESSES:
        results: Queue[float] = context.Queue()
        port = free_port()
        run = [context.Process(target=part, args=(size, k, processes, port, results)) for k in range(processes)]
        for one in run:
            one.start()
        taken = max(results.get() for _ in run)
        for one in run:
            one.join()
        captions = processes * IMAGES * EACH / taken
        first = first or captions
        print(f"| {processes} | {captions:.1f} | {captions / first:.2f} |", flush=True)


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def part(size: str, rank: int, processes: int, port: int, results: "Queue[float]") -> None:
    """One of the processes: its seconds a step."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=processes)
    decoder = built(size, "cpu")
    step = step_here(decoder, batch("cpu"))
    taken = []
    for _ in range(ROUNDS + 1):
        torch.distributed.barrier()
        begin = time.perf_counter()
        step()
        gradients = torch.cat([one.grad.flatten() for one in decoder.parameters() if one.grad is not None])
        torch.distributed.all_reduce(gradients)
        taken.append(time.perf_counter() - begin)
    results.put(statistics.median(taken[1:]))
    torch.distributed.destroy_process_group()


def main(device: str = "cpu") -> None:
    """Print all tables."""
    print(f"{IMAGES} images, {EACH} captions of {TOKENS - 1} pieces each, {REGIONS} regions, {TAGS} pieces of tags\n")
    training(device)
    decoding(device)
    if device == "cpu":
        in_processes()


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    main(*sys.argv[1:])
