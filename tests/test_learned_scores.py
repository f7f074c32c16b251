"""BERTScore and CLIPScore by tiny networks with random weights, held to plain loops over the papers' formulas."""

import json
import math
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity
from typer.testing import CliRunner

from captioning.cli.app import app
from captioning.models.learned_scores import BertScore, ClipScore
from captioning.system.errors import UserError
from tests import outside_models
from tests.noise import noise

REFERENCES = {"1": ["a dog runs", "the dog"], "2": ["a cat sits"]}
SAID = {"1": "a dog sits", "2": ""}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = outside_models.tokenizer()
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 8,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 12,
    }
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    folder = tmp_path_factory.mktemp("clip")
    tokenizer = outside_models.tokenizer()
    torch.manual_seed(0)
    tower: dict[str, Any] = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 12,
    }
    text = {**tower, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.sep_token_id, "projection_dim": 6}
    vision = {**tower, "image_size": 16, "patch_size": 8, "projection_dim": 6}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def embedded(folder: Path, text: str, layer: int) -> torch.Tensor:
    """The vectors of a text alone, its ends included."""
    from transformers import AutoModel, AutoTokenizer

    read = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        found = AutoModel.from_pretrained(folder).eval()(**read, output_hidden_states=True)
    return found.hidden_states[layer][0]


def bert_f1(folder: Path, caption: str, reference: str, layer: int) -> float:
    """Zhang et al. 2020, equation 1 and what follows, token by token. The ends of a text are first and last."""
    ours, theirs = embedded(folder, caption, layer), embedded(folder, reference, layer)

    def mean(own: torch.Tensor, others: torch.Tensor) -> float:
        best = [max(float(cosine_similarity(one, other, dim=0)) for other in others) for one in own[1:-1]]
        return sum(best) / len(best)

    precision, recall = mean(ours, theirs), mean(theirs, ours)
    return 2 * precision * recall / (precision + recall)


def test_bert_score_is_the_best_f1_over_references(bert: Path) -> None:
    scorer = BertScore(bert)
    found = scorer.score(REFERENCES, SAID, {})["bert_score"]
    expected = max(bert_f1(bert, SAID["1"], text, 3) for text in REFERENCES["1"])
    assert found == {"1": pytest.approx(expected, abs=1e-5), "2": 0.0}
    same = scorer.score(REFERENCES, {"1": "the dog", "2": "a cat sits"}, {})["bert_score"]
    assert same == {image: pytest.approx(1.0, abs=1e-5) for image in REFERENCES}
    assert scorer.signature.startswith("bert:")
    assert scorer.signature.endswith(",layer-3,f1")


def test_the_layer_is_the_authors_where_they_chose_one(bert: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    small: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 30}
    BertModel(BertConfig(num_hidden_layers=12, **small)).save_pretrained(tmp_path)
    outside_models.tokenizer().save_pretrained(tmp_path)
    scorer = BertScore(tmp_path)
    assert scorer.signature.endswith(",layer-9,f1")
    found = scorer.score(REFERENCES, {"1": SAID["1"]}, {})["bert_score"]["1"]
    assert found == pytest.approx(max(bert_f1(tmp_path, SAID["1"], text, 9) for text in REFERENCES["1"]), abs=1e-5)
    assert BertScore(bert).signature != scorer.signature


def test_clip_score_is_of_the_image_and_the_nearest_reference(clip: Path) -> None:
    from transformers import AutoProcessor, CLIPModel

    pictures = {image: noise((20, 30), 60, seed) for seed, image in enumerate(SAID)}
    scorer = ClipScore(clip)
    found = scorer.score(
        REFERENCES, SAID, {image: partial(lambda one: one, picture) for image, picture in pictures.items()}
    )
    network, prepares = CLIPModel.from_pretrained(clip).eval(), AutoProcessor.from_pretrained(clip)

    def text(words: str) -> torch.Tensor:
        return network.get_text_features(
            **prepares(text=[f"A photo depicts {words}"], return_tensors="pt")
        ).pooler_output[0]

    with torch.inference_mode():
        for image, caption in SAID.items():
            seen = network.get_image_features(**prepares(images=[pictures[image]], return_tensors="pt")).pooler_output[
                0
            ]
            near = 2.5 * max(0.0, float(cosine_similarity(text(caption), seen, dim=0)))
            like = max(0.0, *(float(cosine_similarity(text(caption), text(one), dim=0)) for one in REFERENCES[image]))
            both = 2 / (1 / near + 1 / like) if near and like else 0.0
            assert found["clip_score"][image] == pytest.approx(near, abs=1e-5)
            assert found["ref_clip_score"][image] == pytest.approx(both, abs=1e-5)


def written(folder: Path) -> list[str]:
    """A file of references whose images are in an archive there, and one of captions."""
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for seed, image in enumerate(SAID):
            noise((20, 30), 60, seed).save(folder / f"{image}.png")
            archive.write(folder / f"{image}.png", f"all/{image}.png")
            (folder / f"{image}.png").unlink()
    images = [{"id": int(image), "file_name": f"photos.zip/all/{image}.png"} for image in SAID]
    listed = [{"image_id": int(image), "caption": text} for image, texts in REFERENCES.items() for text in texts]
    (folder / "references.json").write_text(json.dumps({"images": images, "annotations": listed}))
    rows = [{"image_id": int(image), "caption": text} for image, text in SAID.items()]
    (folder / "captions.json").write_text(json.dumps(rows))
    return [str(folder / "references.json"), str(folder / "captions.json")]


def test_the_command_scores_with_both_beside_the_usual_ones(bert: Path, clip: Path, tmp_path: Path) -> None:
    files = written(tmp_path)
    further = ["--bert-score", str(bert), "--clip-score", str(clip), "--images", str(tmp_path)]
    done = CliRunner().invoke(app, ["score", *files, *further, "--format", "json"])
    assert done.exit_code == 0, done.exception
    document = json.loads(done.stdout)
    [scores] = document["scores"].values()
    assert list(scores)[-4:] == ["cider", "bert_score", "clip_score", "ref_clip_score"]
    assert all(math.isfinite(one["value"]) and one["low"] <= one["value"] <= one["high"] for one in scores.values())
    *_, texts, pictures = document["signature"].split("|")
    assert (texts, pictures) == (BertScore(bert).signature, ClipScore(clip).signature)
    assert "RefCLIPScore" in CliRunner().invoke(app, ["score", *files, *further]).stdout
    elsewhere = CliRunner().invoke(app, ["score", *files, "--clip-score", str(clip), "--images", "elsewhere"])
    assert str(elsewhere.exception) == (
        "--clip-score: elsewhere has no image photos.zip/all/1.png; name their folder with --images"
    )


def test_a_folder_that_is_no_whole_model_is_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\A--clip-score \S+: no folder with \*\.safetensors; name one"):
        ClipScore(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"\A--bert-score \S+: transformers cannot read it \(.*\); fetch it anew\Z"):
        BertScore(tmp_path)
    for path in bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(bert / "model.safetensors")
    name = next(key for key in tensors if "layer.1" in key)
    save_file(
        {key: tensor for key, tensor in tensors.items() if key != name},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match=rf"\A--bert-score \S+: it has no weights {name}; name a whole model\Z"):
        BertScore(tmp_path)
