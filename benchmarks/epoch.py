"""One epoch of `lstm` on stored features, against the same model with JPEG decoding and the CNN in the loop.

The second is what this project's seed did: every caption reads its own picture again. A whole epoch of it takes
hours on two cores, so it is timed on a few batches and scaled; the first is timed whole.

    python -m benchmarks.epoch       # after `dvc repro` with dataset=flickr8k
"""

import time
from pathlib import Path

from captioning import compute

compute.pin(portable=True, threads=2)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from captioning import batches, decoders, encoders, model, splits  # noqa: E402
from captioning.archives import Pictures  # noqa: E402
from captioning.features import FeatureStore  # noqa: E402
from captioning.images import decode  # noqa: E402
from captioning.networks import OnFeatures  # noqa: E402

BATCH, SAMPLE = 160, 4


def main() -> None:
    """Print seconds an epoch, and the ratio."""
    torch.set_num_threads(2)
    images = splits.read_images(Path("data/split/images.csv"))
    captions = splits.EncodedCaptions.read(Path("data/split/train.npz"))
    store = FeatureStore(Path("data/features"), images["image_id"].tolist())
    captioner = model.load(Path("data/train/model"))
    decoder = decoders.build("lstm", len(captioner.vocabulary), store.dim, captioner.card.decoder_options)
    network = OnFeatures(decoder, label_smoothing=0.1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    encoder = encoders.freeze(captioner.encoder)

    def step(chosen: np.ndarray, inputs: tuple[Tensor, ...] | None = None) -> None:
        batch = batches.collate(captions, chosen)
        losses = network(inputs or network.read(store, batch.rows), batch.tokens, batch.owner)
        optimizer.zero_grad()
        losses["caption"].value.backward()
        optimizer.step()

    plan = network.plan(captions, BATCH, (0, 0))
    step(plan[0])
    begin = time.perf_counter()
    for chosen in plan:
        step(chosen)
    cached = time.perf_counter() - begin

    begin = time.perf_counter()
    with Pictures(Path("data/download")) as pictures:
        for chosen in plan[:SAMPLE]:
            files = images["file"].iloc[captions.image[chosen]]  # one picture a caption, as the seed's loader did
            pixels = np.stack([store.transform.pixels(decode(pictures.read(file), file)) for file in files])
            with torch.inference_mode():
                mean = encoder(torch.from_numpy(pixels)).mean(1)
            _, first = np.unique(captions.image[chosen], return_index=True)
            step(chosen, (mean[torch.from_numpy(first)].clone(),))
    in_loop = (time.perf_counter() - begin) / SAMPLE * len(plan)
    print(f"{len(captions):,} captions, {captioner.card.encoder}, batches of {BATCH}, two threads\n")
    print("| | seconds an epoch |\n|---|---|")
    print(f"| JPEG decoding and CNN in the loop ({SAMPLE} of {len(plan)} batches, scaled) | {in_loop:.0f} |")
    print(f"| stored features | {cached:.1f} |\n| ratio | {in_loop / cached:.0f} |")


if __name__ == "__main__":
    main()
