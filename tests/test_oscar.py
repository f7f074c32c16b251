"""The decoder oscar: what Oscar says, word by word, and the published files that it starts from."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from captioning import decoders
from captioning.data.text.vocabulary import Pieces
from captioning.decoders.oscar import OscarDecoder
from captioning.settings import resolve, text_models
from captioning.system.errors import UserError
from captioning.vision.encoders.encoded import Encoded, of_regions
from stages import check
from tests.imports import ROOT
from tests.variants import FEATURES

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 24, 3, 4, 40, 60
KNOWN = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "'", "s", "dog", "##s", "##ge", "snow")
SAID = Pieces((*Pieces.names, "snow", "dog", "##ge", "c", "a", "'s", "b"))
OPTIONS = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "feed_forward": INNER, "positions": POSITIONS}
PUBLISHED_BEFORE = -10_000.0  # what Oscar's masks add


def masked_lm() -> BertForMaskedLM:
    """A BERT of transformers, drawn so that nothing is nearly zero."""
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=len(KNOWN),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=POSITIONS,
        attn_implementation="eager",
    )
    model = BertForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


class Published(NamedTuple):
    """A model as it is published: its network, and the embedding of regions beside it."""

    model: BertForMaskedLM
    regions: nn.Linear
    norm: nn.LayerNorm | None

    def state(self) -> dict[str, Tensor]:
        """The state dict, with exactly the names of Oscar, or of Oscar+ where there is a norm."""
        state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        del state["cls.predictions.decoder.bias"]  # newer files alone have it
        state |= {"bert.pooler.dense.weight": torch.zeros(WIDTH, WIDTH), "bert.pooler.dense.bias": torch.zeros(WIDTH)}
        state |= {f"bert.img_embedding.{name}": tensor for name, tensor in self.regions.state_dict().items()}
        if self.norm is not None:
            state |= {f"bert.LayerNorm.{name}": tensor for name, tensor in self.norm.state_dict().items()}
        return state


def published(*, norm: bool) -> Published:
    model = masked_lm()
    made = nn.LayerNorm(WIDTH, eps=1e-12) if norm else None
    if made is not None:
        nn.init.normal_(made.weight)
    return Published(model, nn.Linear(FEATURES + 6, WIDTH), made)


def write(folder: Path, state: dict[str, Tensor], **config: Any) -> Path:
    """The folder of a text model. Its training_args.bin cannot be read."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in KNOWN))
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    (folder / "config.json").write_text(json.dumps({**sizes, "intermediate_size": INNER, **config}))
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")
    return folder


def build(*, norm: bool = False, **changes: Any) -> OscarDecoder:
    torch.manual_seed(9)
    options = {**OPTIONS, "dropout": 0.0, "image_norm": norm, **changes}
    decoder = decoders.build("oscar", SAID, FEATURES, options).eval()
    assert isinstance(decoder, OscarDecoder)
    return decoder


def objects(seed: int = 0) -> Encoded:
    """Two images: one of five regions and three tags, one of three regions and no tag."""
    torch.manual_seed(seed)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    regions, corners = torch.randn(2, 5, FEATURES), torch.rand(2, 5, 4)
    tags = torch.tensor([[5, 4, 6, 0], [0, 0, 0, 0]])
    return of_regions(regions, mask)._replace(boxes=corners, tags=tags)


def by_transformers(model: Published, encoded: Encoded, image: int, said: list[int]) -> Tensor:
    """Logits (V,) at a [MASK] behind `said`, with the masks and positions that Oscar publishes."""
    rows = [KNOWN.index(SAID.words[index]) for index in said]
    assert encoded.mask is not None
    assert encoded.tags is not None
    assert encoded.regions is not None
    assert encoded.boxes is not None
    tags = [KNOWN.index(SAID.words[int(index)]) for index in encoded.tags[image] if index]
    tags += [KNOWN.index("[SEP]")] if tags else []
    ids = torch.tensor([[*rows, KNOWN.index("[MASK]"), *tags]])
    count = len(rows) + 1
    places = torch.tensor([[*range(count), *range(40, 40 + len(tags))]])
    kinds = torch.tensor([[0] * count + [1] * len(tags)])
    text = model.model.bert.embeddings(input_ids=ids, token_type_ids=kinds, position_ids=places)
    there = encoded.mask[image]
    x1, y1, x2, y2 = encoded.boxes[image, there].unbind(1)
    seen = torch.cat([encoded.regions[image, there], torch.stack([x1, y1, x2, y2, x2 - x1, y2 - y1], dim=1)], dim=1)
    seen = model.regions(seen) if model.norm is None else model.norm(model.regions(seen))
    x = torch.cat([text, seen.unsqueeze(0)], dim=1)
    allowed = torch.ones(x.shape[1], x.shape[1])
    allowed[:count, :count] = torch.ones(count, count).tril()
    allowed[count:, :count] = 0
    after = model.model.bert.encoder(x, attention_mask=(1 - allowed)[None, None] * PUBLISHED_BEFORE)[0]
    return model.model.cls(after)[0, count - 1]


@pytest.mark.parametrize("norm", [False, True])
@torch.no_grad()
def test_it_says_what_berts_masked_lm_says_with_oscars_masks_and_positions(norm: bool, tmp_path: Path) -> None:
    """Word by word, for two images with other numbers of regions and tags: in one pass, and step by step."""
    model = published(norm=norm)
    decoder = build(norm=norm)
    decoder.read_text_model(write(tmp_path / "text", model.state()))
    tokens, owner = torch.tensor([[1, 8, 4, 6, 10, 5], [1, 5, 7, 8, 4, 4]]), torch.arange(2)
    logits = decoder(objects(), tokens, owner)
    state = decoder.init(objects())
    kept = [index for index, word in enumerate(SAID.words) if word in KNOWN]  # the others are words of our own
    rows = [KNOWN.index(SAID.words[index]) for index in kept]
    for place in range(tokens.shape[1]):
        one, state = decoder.step(tokens[:, place], state)
        for image in range(2):
            expected = by_transformers(model, objects(), image, tokens[image, : place + 1].tolist())[rows]
            torch.testing.assert_close(logits[image, place, kept], expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one[image, kept], expected, atol=1e-5, rtol=1e-5)


def test_boxes_and_tags_are_read_and_the_order_of_objects_is_not() -> None:
    decoder, encoded, tokens = build(norm=True), objects(), torch.tensor([[1, 5, 6], [1, 4, 5]])
    said = decoder(encoded, tokens, torch.arange(2))
    for changed in (encoded._replace(boxes=None), encoded._replace(tags=None)):
        assert (decoder(changed, tokens, torch.arange(2)) - said)[0].abs().max() > 1e-4
    assert encoded.regions is not None
    assert encoded.mask is not None
    assert encoded.boxes is not None
    order = [3, 1, 4, 0, 2]
    moved = encoded._replace(
        regions=encoded.regions[:, order], mask=encoded.mask[:, order], boxes=encoded.boxes[:, order]
    )
    torch.testing.assert_close(decoder(moved, tokens, torch.arange(2)), said, atol=1e-5, rtol=1e-5)
    weights = decoder.attention(encoded, tokens, torch.arange(2))
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 3))
    assert weights[1, :, 3:].max() == 0


def test_an_image_without_any_object_has_finite_logits() -> None:
    nothing = objects()._replace(mask=torch.zeros(2, 5, dtype=torch.bool), tags=None)
    decoder, tokens = build(norm=True), torch.tensor([[1, 5], [1, 4]])
    said = decoder(nothing, tokens, torch.arange(2))
    assert said.isfinite().all()
    no_name = nothing._replace(tags=torch.zeros(2, 0, dtype=torch.long))  # of any image: a row of none
    torch.testing.assert_close(decoder(no_name, tokens, torch.arange(2)), said)


def test_captions_may_be_longer_than_the_table_of_positions() -> None:
    decoder, tokens = build(positions=5), torch.tensor([[1, 5, 6, 4, 7, 8, 5, 6]])
    logits, state = (
        decoder(objects().rows([0]), tokens, torch.zeros(1, dtype=torch.long)),
        decoder.init(objects().rows([0])),
    )
    for place in range(tokens.shape[1]):
        one, state = decoder.step(tokens[:, place], state)
        torch.testing.assert_close(one, logits[:, place], atol=1e-5, rtol=1e-5)


def as_old(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that pytorch_transformers wrote at first."""
    kinds = {"weight": "gamma", "bias": "beta"}
    return {
        f"{name.rpartition('.')[0]}.{kinds[name.rpartition('.')[2]]}" if "LayerNorm." in name else name: tensor
        for name, tensor in state.items()
    }


def bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A BERT without a head of masked words, which has read no images."""
    left = {name.removeprefix("bert."): tensor for name, tensor in state.items() if name.startswith("bert.")}
    kept = {name: tensor for name, tensor in left.items() if not name.startswith(("img_embedding", "LayerNorm"))}
    return kept | {"embeddings.position_ids": torch.arange(POSITIONS)}


@pytest.mark.parametrize("norm", [False, True])
def test_published_names_load_in_every_form(norm: bool, tmp_path: Path) -> None:
    state = published(norm=norm).state()
    forms = {
        "as it is": state,
        "old": as_old(state),
        "in parallel": {f"module.{name}": tensor for name, tensor in state.items()},
        "pretrained": state
        | {"cls.seq_relationship.weight": torch.zeros(3, WIDTH), "cls.seq_relationship.bias": torch.zeros(3)},
        "newer": state | {"cls.predictions.decoder.bias": state["cls.predictions.bias"]},
        "half": {name: tensor.half().float() for name, tensor in state.items()},
    }
    for form, there in forms.items():
        decoder, folder = build(norm=norm), write(tmp_path / form, there)
        assert decoder.read_text_model(folder) == folder / "pytorch_model.bin"
        for name, tensor in decoder.state_dict().items():
            if name in state and "word_embeddings" not in name and "predictions.bias" not in name:
                torch.testing.assert_close(tensor, state[name], atol=2e-3, rtol=2e-3 if form == "half" else 0)
        words = decoder.bert.embeddings.word_embeddings.weight
        table = (
            forms["half"]["bert.embeddings.word_embeddings.weight"]
            if form == "half"
            else state["bert.embeddings.word_embeddings.weight"]
        )
        assert torch.equal(words[5], table[KNOWN.index("dog")])
        assert torch.equal(words[2], table[KNOWN.index("[SEP]")])
        assert torch.equal(words[9], (table[KNOWN.index("'")] + table[KNOWN.index("s")]) / 2)
        assert torch.equal(decoder.mask, table[KNOWN.index("[MASK]")])
        assert decoder.cls.predictions.bias[4] == state["cls.predictions.bias"][KNOWN.index("snow")] or form == "half"


def test_a_bare_text_model_gives_what_it_has_in_its_first_layers(tmp_path: Path) -> None:
    state, drawn, decoder = bare(published(norm=True).state()), build(norm=True, layers=2), build(norm=True, layers=2)
    folder = write(tmp_path / "text", state)
    (folder / "pytorch_model.bin").unlink()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    assert decoder.read_text_model(folder) == folder / "model.safetensors"
    ours, before = decoder.state_dict(), drawn.state_dict()
    for name in ("img_embedding.weight", "LayerNorm.weight"):
        assert torch.equal(ours[f"bert.{name}"], before[f"bert.{name}"])
    assert torch.equal(ours["cls.predictions.bias"], before["cls.predictions.bias"])
    assert torch.equal(ours["bert.encoder.layer.1.output.dense.bias"], state["encoder.layer.1.output.dense.bias"])


def faulty(state: dict[str, Tensor]) -> list[tuple[dict[str, Tensor], str]]:
    query, region = "bert.encoder.layer.1.attention.self.query.weight", "bert.img_embedding.weight"
    return [
        ({name: tensor for name, tensor in state.items() if name != query}, rf"it has no tensor {query}"),
        ({name: tensor for name, tensor in state.items() if name != region}, rf"it has no tensor {region}"),
        (state | {query: torch.zeros(WIDTH, 7)}, rf"{query} has the shape \(24, 7\), and \(24, 24\) is wanted here"),
        (state | {region: torch.zeros(WIDTH, 2054)}, rf"{region} has the shape \(24, 2054\)"),
        (state | {"bert.encoder.layer.1.extra": torch.zeros(2)}, r"bert.encoder.layer.1.extra is in it"),
        (state | {"bert.LayerNorm.weight": torch.ones(WIDTH)}, r"bert.LayerNorm.weight is in it"),
        (
            state | {"cls.predictions.decoder.weight": torch.zeros(len(KNOWN), WIDTH)},
            r"differs from the word embeddings",
        ),
    ]


def test_what_does_not_fit_is_refused_by_its_name(tmp_path: Path) -> None:
    for number, (state, said) in enumerate(faulty(published(norm=False).state())):
        with pytest.raises(UserError, match=said):
            build().read_text_model(write(tmp_path / str(number), state))


class Payload:
    """What pickle would run."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def test_nothing_that_is_pickled_in_a_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "text", {})
    torch.save({"a": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="not a state dict"):
        build().read_text_model(folder)
    assert not Path("ran").exists()
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"neither model\.safetensors nor pytorch_model\.bin is in it"):
        build().read_text_model(folder)


def test_a_folder_without_weights_is_refused_before_anything_runs(tmp_path: Path) -> None:
    folder = write(tmp_path / "text", {})
    (folder / "pytorch_model.bin").unlink()
    settings = resolve.load(ROOT / "params.yaml", {"decoder": "oscar", "vocab.text": str(folder)})
    with pytest.raises(UserError, match=r"vocab\.text = .*neither model\.safetensors nor pytorch_model\.bin is in it"):
        check.main(settings)
    (folder / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"vocab\.txt: cannot be read"):
        check.main(settings)


def test_auto_takes_the_sizes_of_the_text_model_and_others_are_refused(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", {})
    image = write(tmp_path / "oscar", {}, img_feature_dim=2054)
    plus = write(tmp_path / "plus", {}, img_feature_dim=2054, use_img_layernorm=1)
    for folder, norm in ((plain, True), (image, False), (plus, True)):
        given = {"decoder": "oscar", "vocab.text": str(folder)}
        settings = resolve.load(ROOT / "params.yaml", given)
        found = settings.decoders.oscar
        assert (found.width, found.layers, found.heads, found.feed_forward) == (WIDTH, LAYERS, HEADS, INNER)
        assert (found.image_norm, settings.vocab.kind) == (norm, "pieces")
    assert resolve.load(ROOT / "params.yaml", {**given, "decoders.oscar.layers": 2}).decoders.oscar.layers == 2
    for change, said in (
        ({"decoders.oscar.layers": 4}, r"layers = 4: the text model .* has 3; write auto"),
        ({"decoders.oscar.width": 48}, r"width = 48: the text model .* has 24; write auto"),
        ({"vocab.kind": "words"}, r"vocab\.text = .* is for word pieces"),
        ({"vocab.text": str(tmp_path / "none")}, r"none/config\.json: cannot be read"),
        ({"decoders.oscar.heads": 5, "vocab.text": "data/check"}, r"heads = 5: the width, 128, is not a multiple"),
    ):
        with pytest.raises(UserError, match=said):
            resolve.load(ROOT / "params.yaml", {**given, **change})


@pytest.mark.parametrize("config", ['{"hidden_act": "relu"}', '{"hidden_size": 3}', "[]", "{"])
def test_another_kind_of_configuration_is_refused(tmp_path: Path, config: str) -> None:
    folder = write(tmp_path / "text", {})
    changed = json.loads((folder / "config.json").read_text())
    text = json.dumps({**changed, "hidden_act": "relu"}) if "relu" in config else config
    (folder / "config.json").write_text(text)
    with pytest.raises(
        UserError, match=r"config\.json: (not the configuration of a BERT|model_type 'bert' with .*relu)"
    ):
        text_models.sizes(folder)
