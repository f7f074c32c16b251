"""features: what the model reads of every picture, decoded once → data/features/.

A frozen encoder: its features. A trained one: resized pixels.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from captioning.data.splits import splits
from captioning.settings import resolve
from captioning.settings.schema import Settings
from captioning.system import compute
from captioning.system.archives import Pictures
from captioning.system.files import read_json, run_key, scratch
from stages import code, run

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from captioning.vision.extraction.extraction import Extractor

DATA = Path("data/download")
IMAGES = Path("data/split/images.csv")
WEIGHTS = Path("data/weights")
OUT = Path("data/features")


def main(settings: Settings) -> None:
    machine = settings.compute
    compute.pin(portable=machine.portable, threads=machine.threads)
    if compute.ran_in_processes("stages.features", machine.processes):
        return
    from captioning.vision.extraction import extraction

    fabric = compute.start(
        seed=settings.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    images = splits.read_images(IMAGES)
    with Pictures(DATA) as pictures:
        unfinished = scratch("features") / _key(settings, fabric.device.type, pictures.archives(images["file"]))
        extractor = _extractor(settings, pictures, fabric)
        extraction.write(OUT, images, extractor, settings.features.shard_size, unfinished, fabric)


def _extractor(settings: Settings, pictures: Pictures, fabric: "Fabric") -> "Extractor":
    """What is stored of a picture, by the settings."""
    from captioning.vision.encoders import backbones, encoders
    from captioning.vision.encoders.weights import read_weights
    from captioning.vision.extraction import extraction

    trainable, regions, mirror = resolve.trainable(settings), resolve.regions(settings), resolve.mirror(settings)
    transform = backbones.transform_for(
        settings.encoder, resolve.image_size(settings), pretrained=_pretrained(), crop=settings.features.crop
    )
    fabric.print(f"features.trainable = {trainable}, image_size = {transform.image_size}, regions = {regions}")
    if trainable:
        return extraction.pixels(pictures, transform, settings.features.batch_size)
    weights = read_weights(WEIGHTS / "weights.safetensors")
    encoder = encoders.build(settings.encoder, transform=transform, weights=weights, seed=settings.seed)
    keep = ["means", "regions"] if regions else ["means"]
    fixed = encoders.freeze(encoder).to(fabric.device)
    return extraction.features(
        pictures, fixed, keep, settings.features.batch_size, mirror=mirror, autocast=fabric.autocast
    )


def _pretrained() -> bool:
    from captioning.vision.encoders.weights import NONE

    return bool(read_json(WEIGHTS / "weights.json")["kind"] != NONE)


def _key(settings: Settings, device: str, archives: list[Path]) -> str:
    """A key of all that the store's bytes depend on; of the seed, where the encoder's weights are drawn from it.

    archives: those of the pictures. They are read whole for their digests: their names and the captions stay the same
    when pictures are replaced.
    """
    chosen = {
        **compute.software(device),
        "encoder": settings.encoder,
        "seed": None if _pretrained() else settings.seed,
        "compute": settings.compute.model_dump(exclude={"processes"}),
        "trainable": resolve.trainable(settings),
        "image_size": resolve.image_size(settings),
        "crop": settings.features.crop,
        "regions": resolve.regions(settings),
        "mirror": resolve.mirror(settings),
        "batch_size": settings.features.batch_size,
        "shard_size": settings.features.shard_size,
    }
    return run_key(chosen, [IMAGES, *archives, *sorted(WEIGHTS.iterdir())], code("features"))


if __name__ == "__main__":
    run(main)
