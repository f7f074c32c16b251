"""One epoch of `lstm` on stored features, against the same model with JPEG decoding and the CNN in the loop.

The second is what this project's seed did, with ResNet-50: every caption reads its own image again. A whole epoch of
it takes hours on two cores, so it is timed on a few batches and scaled; the first is timed whole, on features drawn
at random, which take the same time.

    python -m benchmarks.epoch resnet50 mobilenet_v2       # after `dvc repro split` with dataset=flickr8k
"""

import sys
import time
from pathlib import Path

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.system import compute

compute.pin(portable=True, threads=2)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from captioning import decoders  # noqa: E402
from captioning.data.splits.images import read_images  # noqa: E402
from captioning.data.text.vocabulary import Vocabulary  # noqa: E402
from captioning.settings import resolve  # noqa: E402
from captioning.system.archives import ImageArchives  # noqa: E402
from captioning.training import batches  # noqa: E402
from captioning.training.network import Network  # noqa: E402
from captioning.vision.encoders import backbones, encoders  # noqa: E402
from captioning.vision.images import decode  # noqa: E402

DATA, SAMPLE = Path("data"), 4


class Epoch:
    """The captions, the images and the settings of params.yaml, with one encoder of weights drawn at random."""

    def __init__(self, encoder: str) -> None:
        settings = resolve.load(overrides={"decoder": "lstm"})
        self.images = read_images(DATA / "split/images.csv")
        self.captions = EncodedCaptions.read(DATA / "split/train.npz")
        transform = backbones.transform_for(encoder, "native", pretrained=True)
        self.encoder = encoders.folded(encoders.build(encoder, transform=transform, weights={}))
        options = vars(resolve.decoder_options(settings))
        self.vocabulary = Vocabulary.read(DATA / "vocab/vocab.txt")
        decoder = decoders.build("lstm", self.vocabulary, self.encoder.dim, options)
        self.network = Network(None, decoder)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        self.plan = batches.by_length(self.captions, settings.train.batch_size, (0, 0))
        self.means = torch.randn(len(self.images), self.encoder.dim)

    def step(self, chosen: np.ndarray, inputs: tuple[Tensor, ...] | None = None) -> None:
        """A training step on stored features, or on `inputs`: the mean feature of each image of the batch."""
        batch = batches.collate(self.captions, chosen, self.vocabulary.special)
        losses = self.network(inputs or (self.means[batch.rows],), batch.tokens, batch.owner)
        self.optimizer.zero_grad()
        losses["caption"].value.backward()
        self.optimizer.step()

    def stored(self) -> float:
        """Seconds of an epoch on stored features."""
        self.step(self.plan[0])
        begin = time.perf_counter()
        for chosen in self.plan:
            self.step(chosen)
        return time.perf_counter() - begin

    def in_the_loop(self) -> float:
        """Seconds of an epoch in which each caption's image is decoded and encoded, scaled from a few batches."""
        transform = self.encoder.transform
        begin = time.perf_counter()
        with ImageArchives(DATA / "download") as images:
            for chosen in self.plan[:SAMPLE]:
                files = self.images["file"].iloc[self.captions.image[chosen]]  # one image a caption
                pixels = np.stack([transform.pixels(decode(images.read(file), file)) for file in files])
                with torch.inference_mode():
                    mean = self.encoder(torch.from_numpy(pixels)).mean(1)
                _, first = np.unique(self.captions.image[chosen], return_index=True)
                self.step(chosen, (mean[torch.from_numpy(first)].clone(),))
        return (time.perf_counter() - begin) / SAMPLE * len(self.plan)


def main(names: list[str]) -> None:
    """Print seconds an epoch, and the ratio, for each encoder."""
    torch.set_num_threads(2)
    print(f"| encoder | stored features | JPEG decoding and CNN in the loop, {SAMPLE} batches scaled | ratio |")
    print("|---|---|---|---|")
    for name in names:
        epoch = Epoch(name)
        stored, in_the_loop = epoch.stored(), epoch.in_the_loop()
        print(f"| {name} | {stored:.1f} s | {in_the_loop:.0f} s | {in_the_loop / stored:.0f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["resnet50", "mobilenet_v2"])
