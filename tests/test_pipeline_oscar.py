"""The decoder oscar through the whole pipeline: from archives to scores, from nothing and from a text model."""

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from captioning.data.objects.tables import WORDS
from captioning.data.text.vocabulary import Pieces, Vocabulary
from captioning.system.files import digest
from tests.project import OWN, Project

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "boy", "girl", "dog", *"bcdefghijklmnopqrstuvwxyz")


def text_model(folder: Path) -> Path:
    """A text model in the Hugging Face layout, as transformers saves it, of two layers."""
    pieces = [*PIECES, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(1)
    BertModel(BertConfig(vocab_size=len(pieces), num_hidden_layers=2, **sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    return folder


@pytest.mark.parametrize("trainable", ["true", "false"])
def test_it_goes_from_archives_to_scores_and_speaks(copy: Project, tmp_path: Path, trainable: str) -> None:
    """A trained encoder, from nothing; a frozen one, from the first layer of a text model, self-critically at last.

    The second reads words as tags.
    """
    changes = ["decoder=oscar", f"features.trainable={trainable}", "evaluate.n_best=2"]
    if trainable == "false":
        folder = text_model(tmp_path / "text")
        sizes = [f"decoders.oscar.{name}=auto" for name in ("width", "heads", "feed_forward")]
        changes += [
            "objects=words",
            f"vocab.text={folder}",
            "decoders.oscar.layers=1",
            "train.self_critical.epochs=1",
            *sizes,
        ]
    copy.set(*changes)
    copy.run("dvc", "repro")
    card = json.loads(copy.read("data/train/model/model.json"))
    vocabulary = Vocabulary.read(copy.folder / "data/train/model/vocab.txt")
    assert isinstance(vocabulary, Pieces)
    assert json.loads(copy.read("data/split/summary.json"))["splits"]["train"]["unknown"] == 0
    assert 0 <= json.loads(copy.read("data/evaluate/metrics.json"))["cider"] <= 10
    assert json.loads(copy.read("data/evaluate/attention/index.json"))["pictures"]
    if trainable == "false":
        file = folder / "model.safetensors"
        digests = {"sha256": digest(file), "pieces": digest(folder / "vocab.txt")}
        assert card["provenance"]["text"] == {"path": str(folder), **digests}
        assert (card["decoder_options"]["width"], card["decoder_options"]["layers"]) == (16, 1)
        assert any(word.startswith("##") for word in vocabulary.words)
        assert card["provenance"]["objects"] == WORDS
        found = json.loads(copy.read("data/train/model/words.json"))
        assert 0 < found["scores"]["train"]["tags"] <= 10
        assert json.loads(copy.read("data/objects/objects.json"))["kind"] == "none"
        assert copy.stages_to_run() == []
        (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
        assert {"vocab", "train"} <= set(copy.stages_to_run())
    copy.environment["PYTHONPATH"] = str(copy.folder / "src")
    source = next((copy.folder / "docs").glob("*.png"))
    start = "from captioning.cli import main; main()"
    asked = ("--must", "dog", "--max-words", "40", str(source))
    said = copy.run(sys.executable, "-c", start, "predict", *OWN, *asked).stdout
    assert "dog" in said.partition("\t")[2].split()
