"""weights: the encoder's weights → data/weights/, as safetensors that later stages read without a network."""

from pathlib import Path

from captioning.data.network.pretrained import bring
from captioning.settings import resolve
from captioning.settings.schema import Settings
from captioning.system.files import main_root, scratch, write_json
from stages import run

OUT = Path("data/weights")


def main(settings: Settings) -> None:
    wanted = resolve.weights(settings)
    print(f"features.weights = {wanted}")
    record = bring(
        settings.encoder,
        wanted,
        OUT / "weights.safetensors",
        source=resolve.source(settings),
        cache=scratch("weights"),
        root=main_root(),
    )
    write_json(OUT / "weights.json", record)


if __name__ == "__main__":
    run(main)
