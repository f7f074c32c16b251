"""A new decoder and a new encoder, one file and one entry each, through the whole pipeline as a user would."""

import json
import sys

from tests.project import OWN, Project

DECODER = '''
"""The mean feature and the word before, added."""

from torch import nn

from captioning.decoders.base import Decoder, select
from captioning.settings.decoders import ToyOptions


class ToyDecoder(Decoder):
    def __init__(self, vocabulary, feature_size, options):
        super().__init__(vocabulary)
        self.image = nn.Linear(feature_size, options.width)
        self.embedding = nn.Embedding(len(vocabulary), options.width)
        self.output = nn.Linear(options.width, len(vocabulary))

    def init(self, encoded):
        return (self.image(encoded.mean),)

    def step(self, tokens, state):
        return self.output(self.embedding(tokens) + state[0]), state

    def forward(self, encoded, tokens, owner):
        return self.output(self.embedding(tokens) + select(self.init(encoded), owner)[0].unsqueeze(1))


def build(vocabulary, feature_size, **options):
    return ToyDecoder(vocabulary, feature_size, ToyOptions(**options))
'''
OPTIONS = '''
@dataclass(frozen=True)
class ToyOptions:
    """A toy."""

    width: Annotated[Width, Meaning("width of embeddings")]


class Decoders(Section):
    """A section for each decoder; an experiment reads that of its own."""

    toy: ToyOptions
'''
ENCODER = '''
"""Means of patches, seen through one convolution."""

from torch import fx, nn

from captioning.vision.encoders.presets import Preset, Sizes


PREFIX = ""


def names():
    return ["patches"]


def preset(name):
    return Preset(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3, None, "patches.pth")


def gflops(name):
    return 0.001


def sizes(name, *, pretrained):
    return Sizes(16, 16)


def build(name, image_size, *, drawn):
    network = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.Conv2d(8, 12, 2, 2)))
    return network, set(network.state_dict())


def without_head(weights):
    return dict(weights)
'''


def insert(project: Project, path: str, old: str, new: str) -> None:
    text = project.read(path)
    assert text.count(old) == 1
    (project.folder / path).write_text(text.replace(old, new))


def add_toys(project: Project) -> None:
    """One file and one entry for each, and values for the decoder's option."""
    source = project.folder / "src/captioning"
    (source / "decoders/toy.py").write_text(DECODER)
    section = OPTIONS[OPTIONS.index("class Decoders") :].rpartition("    toy")[0]
    insert(project, "src/captioning/settings/decoders.py", section, OPTIONS.lstrip())
    (source / "vision/encoders/patches.py").write_text(ENCODER)
    families = "src/captioning/vision/encoders/families.py"
    insert(project, families, "(torchvision_models, timm_models)", "(torchvision_models, timm_models, patches)")
    insert(
        project,
        families,
        "import timm_models, torchvision_models\n",
        "import patches, timm_models, torchvision_models\n",
    )
    insert(project, "params.yaml", "decoders:\n", "decoders:\n  toy:\n    width: 16\n")


def test_a_toy_decoder_and_a_toy_encoder_go_through_the_pipeline(copy: Project) -> None:
    add_toys(copy)
    copy.set("decoder=toy", "encoder=patches", "train.encoder.from_block='2'")
    assert copy.run("dvc", "repro").returncode == 0
    card = json.loads(copy.read("data/train/model/model.json"))
    assert (card["encoder"], card["decoder"], card["decoder_options"]) == ("patches", "toy", {"width": 16})
    assert 0 <= json.loads(copy.read("data/evaluate/metrics.json"))["cider"] <= 10
    copy.environment["PYTHONPATH"] = str(copy.folder / "src")
    source = next((copy.folder / "docs").glob("*.png"))
    start = "from captioning.cli import main; main()"
    printed = copy.run(sys.executable, "-c", start, "predict", *OWN, "--n-best", "2", str(source)).stdout.splitlines()
    assert len(printed) == 2
    assert all(line.startswith(f"{source}\t") for line in printed)


def test_a_name_of_neither_is_answered_with_those_there_are(copy: Project) -> None:
    for setting, said in (("decoder=toys", "decoder"), ("encoder=patchs", "no classification backbone")):
        copy.set(setting)
        failed = copy.run("dvc", "repro", check=False)
        assert failed.returncode
        assert said in failed.stderr
        copy.run("git", "checkout", "-q", "params.yaml")
