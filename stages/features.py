"""features: what the model reads of every picture, decoded once → data/features/.

A frozen encoder: its features. A trained one: resized pixels.
"""

from pathlib import Path

from captioning import compute, splits
from captioning import settings as resolve
from captioning.archives import Pictures
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
    from captioning import encoders, features
    from captioning.weights import NONE, read_weights

    fabric = compute.start(
        seed=settings.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    pretrained = read_json(WEIGHTS / "weights.json")["kind"] != NONE
    trainable, regions = resolve.trainable(settings), resolve.regions(settings)
    transform = encoders.transform_for(settings.encoder, resolve.image_size(settings), pretrained=pretrained)
    print(f"features.trainable = {trainable}, image_size = {transform.image_size}, regions = {regions}")
    images = splits.read_images(IMAGES)
    with Pictures(DATA) as pictures:
        if trainable:
            features.write_pixels(OUT, pictures, images, transform)
            return
        weights = read_weights(WEIGHTS / "weights.safetensors")
        encoder = encoders.build(settings.encoder, transform=transform, weights=weights, seed=settings.seed)
        fixed = encoders.freeze(encoder).to(fabric.device)
        write = features.write_regions if regions else features.write_means
        with fabric.autocast():
            write(OUT, pictures, images, transform, fixed, settings.features.batch_size)


if __name__ == "__main__":
    run(main)
