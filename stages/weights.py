"""weights: the encoder's weights → data/weights/, as safetensors that later stages read without a network."""

from pathlib import Path

from captioning.data.network.pretrained import bring
from captioning.settings.resolve import source
from captioning.settings.schema import Settings
from captioning.system.files import digest, main_root, scratch
from captioning.system.sealed import write_document

OUT = Path("data/weights")


def main(settings: Settings) -> None:
    wanted = settings.features.weights
    print(f"features.weights = {wanted}")
    record = bring(
        settings.encoder,
        wanted,
        OUT / "weights.safetensors",
        source=source(settings.download.source),
        cache=scratch("weights"),
        root=main_root(),
    )
    write_document(OUT / "weights.json", record | {"stored": digest(OUT / "weights.safetensors")})
