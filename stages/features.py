"""features: what the model reads of every picture, decoded once → data/features/.

A frozen encoder: its features. A trained one: resized pixels.
"""

from pathlib import Path

from captioning.archives import Pictures

from captioning import compute, splits
from captioning import settings as resolve
from captioning.files import read_json
from captioning.settings import Settings
from stages import run

DATA = Path("data/download")
IMAGES = Path("data/split/images.csv")
WEIGHTS = Path("data/weights")
OUT = Path("data/features")


def main(settings: Settings) -> None:
    machine = settings.compute
    compute.pin(portable=machine.portable, threads=machine.threads)
    from captioning.weights import read_weights

    from captioning import encoders, features

    fabric = compute.start(
        seed=settings.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    weights = read_json(WEIGHTS / "weights.json")
    trainable, size = resolve.trainable(settings), resolve.image_size(settings)
    transform = encoders.transform_for(settings.encoder, size, pretrained=weights["kind"] != "none")
    print(f"features.trainable = {trainable}, features.image_size = {transform.image_size}")
    images = splits.read_images(IMAGES)
    with Pictures(DATA) as pictures:
        if trainable:
            features.write_pixels(OUT, pictures, images, transform)
            return
        encoder = encoders.build(
            settings.encoder,
            image_size=transform.image_size,
            weights=read_weights(WEIGHTS / "weights.safetensors"),
            seed=settings.seed,
        )
        regions = resolve.regions(settings)
        print(f"features.regions = {regions}")
        features.write_regions(
            OUT,
            pictures,
            images,
            fabric.to_device(encoders.freeze(encoder)),
            transform,
            batch_size=settings.features.batch_size,
            keep_regions=regions,
        )


if __name__ == "__main__":
    run(main)
