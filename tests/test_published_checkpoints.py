"""Folders of Oscar and VinVL in the layout in which they are published, from the settings to the trained model."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from captioning import decoders
from captioning.captioner import model, model_folders
from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.oscar import OscarDecoder
from captioning.system.errors import UserError
from stages import check, features, objects, split, train, vocab
from tests.test_vectors_of_objects import Write, given, made, project, settings

__all__ = ["given", "made", "project"]  # fixtures
WIDTH, LAYERS, HEADS, INNER, POSITIONS = 16, 2, 2, 32, 512
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = (
    "[PAD]",
    *(f"[unused{number}]" for number in range(3)),
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"!'(),-.0123456789",
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    *("the", "boy", "girl", "red", "blue", "dog", "on", "in", "with", "##ing"),
)
CONFIG = {  # config.json of Oscar's captioning, apart from the sizes
    "attention_probs_dropout_prob": 0.1,
    "finetuning_task": "image_captioning",
    "freeze_embedding": True,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "img_feature_dim": 2054,
    "img_feature_type": "frcnn",
    "img_layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "intermediate_size": INNER,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": POSITIONS,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_labels": 2,
    "output_attentions": False,
    "output_hidden_states": False,
    "tie_weights": True,
    "torchscript": False,
    "type_vocab_size": 2,
    "vocab_size": len(PIECES),
}


def bert() -> dict[str, Tensor]:
    """The state of a drawn BERT with a head of masked words, under the names that it has had since 2018."""
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=POSITIONS,
    )
    state: dict[str, Tensor] = BertForMaskedLM(config).state_dict()
    del state["cls.predictions.decoder.bias"]  # newer files alone have it
    return {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in state.items() if "decoder" not in name}


def checkpoint(plus: bool, rows: int = 2) -> dict[str, Tensor]:
    """The state dict of Oscar, or of Oscar+ (VinVL), with the head of pairs, of so many rows, and the pooler."""
    state = bert()
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    regions = nn.Linear(2054, WIDTH)
    state |= {f"bert.img_embedding.{name}": tensor.detach() for name, tensor in regions.named_parameters()}
    state |= {"bert.pooler.dense.weight": torch.zeros(WIDTH, WIDTH), "bert.pooler.dense.bias": torch.zeros(WIDTH)}
    state |= {"cls.seq_relationship.weight": torch.zeros(rows, WIDTH), "cls.seq_relationship.bias": torch.zeros(rows)}
    if plus:
        state |= {"bert.LayerNorm.weight": torch.rand(WIDTH), "bert.LayerNorm.bias": torch.rand(WIDTH)}
    return state


class Payload:
    """What pickle would run."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def write(folder: Path, state: dict[str, Tensor], *, plus: bool) -> Path:
    """A folder as it is published, with a training_args.bin that writes a file where it is unpickled."""
    folder.mkdir(parents=True)
    more = {"use_img_layernorm": 1, "num_contrast_classes": 3} if plus else {}
    (folder / "config.json").write_text(json.dumps(CONFIG | more, indent=2))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    (folder / "added_tokens.json").write_text("{}")
    (folder / "special_tokens_map.json").write_text('{"unk_token": "[UNK]", "mask_token": "[MASK]"}')
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "training_args.bin").write_bytes(pickle.dumps(Payload()))
    return folder


def as_old(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that norms had at first."""
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
    }


@pytest.mark.parametrize("plus", [False, True], ids=["Oscar", "VinVL"])
def test_a_run_with_published_vectors_starts_from_a_published_checkpoint(
    project: Path, given: Write, plus: bool
) -> None:
    """The command of docs/published.md: with its rate of 1e-12, the model that is trained is the checkpoint."""
    given()
    state = checkpoint(plus)
    folder = write(project / "checkpoint-29-66420", as_old(state) if plus else state, plus=plus)
    sizes = {f"decoders.oscar.{name}": "auto" for name in ("width", "layers", "heads", "feed_forward")}
    wanted = settings(objects="labels", vocab__text=str(folder), train__optimizer__lr=1e-12, **sizes)
    assert wanted.decoders.oscar.image_norm == plus
    for one in (check, vocab, split, objects, features, train):
        one.main(wanted)
    saved = model.load(project / "data/train/model")
    ours = saved.decoder.state_dict()
    for name, tensor in state.items():
        if name.startswith(("bert.encoder", "bert.img_embedding", "bert.LayerNorm", "cls.predictions.transform")):
            torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=1e-6)
    words, rows = saved.vocabulary.words, ours["bert.embeddings.word_embeddings.weight"]
    table = state["bert.embeddings.word_embeddings.weight"]
    for piece in ("boy", "a", "##ing"):
        torch.testing.assert_close(rows[words.index(piece)], table[PIECES.index(piece)], atol=1e-6, rtol=1e-6)
    assert saved.card.provenance["text"]["path"] == str(folder)
    assert not (project / "ran").exists()  # training_args.bin was left alone


@pytest.mark.parametrize("rows", [2, 3])
def test_the_head_of_pairs_is_left_out_and_what_does_not_fit_is_refused_by_name(tmp_path: Path, rows: int) -> None:
    words = Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", "a", "b"))
    options = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "feed_forward": INNER, "positions": POSITIONS}

    def read(name: str, **changes: Tensor | None) -> OscarDecoder:
        state = {key: tensor for key, tensor in (checkpoint(True, rows) | changes).items() if tensor is not None}
        decoder = decoders.build("oscar", words, 2048, {**options, "dropout": 0.0, "image_norm": True})
        assert isinstance(decoder, OscarDecoder)
        decoder.read_text_model(write(tmp_path / name, state, plus=True))
        return decoder

    assert not [name for name in read("whole").state_dict() if "seq_relationship" in name or "pooler" in name]
    wide, tied = "bert.img_embedding.weight", "cls.predictions.decoder.weight"
    for name, changes, said in (
        ("narrow", {wide: torch.zeros(WIDTH, 2048)}, rf"{wide} has the shape \(16, 2048\), and \(16, 2054\) is wanted"),
        ("none", {"bert.LayerNorm.bias": None}, r"it has no tensor bert.LayerNorm.bias"),
        ("more", {"bert.extra.weight": torch.zeros(1)}, r"bert.extra.weight is in it, and no such tensor"),
        ("untied", {tied: torch.zeros(len(PIECES), WIDTH)}, rf"{tied} differs from the word embeddings"),
    ):
        with pytest.raises(UserError, match=rf"\A{tmp_path}/{name}/pytorch_model.bin: [^\n]*{said}[^\n]*\Z"):
            read(name, **changes)  # type: ignore[arg-type]


def test_such_a_folder_as_start_is_refused_with_what_to_write(tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint", checkpoint(False), plus=False)
    with pytest.raises(
        UserError, match=r"\Atrain.start = \S+checkpoint: the folder of a text model, .*name it as vocab"
    ):
        model_folders.check_start(folder, encoder="resnet18", decoder="oscar")
