"""What a person reads of an evaluation: a table of scores, samples, a gallery, and the data of the plots."""

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path

import pandas as pd

from captioning.data.objects.labels import Found
from captioning.data.text.tokenizer import tokenize
from captioning.evaluation.object_boxes import tile
from captioning.metrics import NAMES
from captioning.system import scripts
from captioning.system.archives import ImageArchives
from captioning.system.files import atomic, write_text
from captioning.vision.contact_sheets import COMPRESSION, sheet
from captioning.vision.images import decode

_WORDS = 100  # in the plot of word frequency


def score_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Scores as an aligned text table, a system a line; a score that nobody has is left out."""
    names = [name for name in NAMES if any(name in scores for scores in rows.values())]
    width = max(map(len, rows))
    lines = [" ".join([" " * width, *(f"{name:>8}" for name in names)])]
    for system, scores in rows.items():
        cells = [f"{scores[name]:8.4f}" if name in scores else " " * 8 for name in names]
        lines.append(" ".join([f"{system:<{width}}", *cells]))
    return "\n".join(lines)


def variety(captions: Mapping[int, str], training: Collection[str]) -> dict[str, float]:
    """How much a model says. `training` are the training captions, tokenised, as `scripts.join` joins.

    distinct_captions: the share of captions that differ. words_per_caption. vocabulary_used: the number of different
    words that are said. distinct_1, distinct_2: different words and word pairs over all that are said (Li et al. 2016,
    "A diversity-promoting objective function"). novel_captions: the share that is no training caption.
    """
    words_of_captions = [scripts.split(caption) for caption in captions.values()]
    words = [word for caption in words_of_captions for word in caption]
    pairs = [pair for caption in words_of_captions for pair in pairwise(caption)]
    return {
        "distinct_captions": len(set(captions.values())) / len(captions),
        "words_per_caption": len(words) / len(captions),
        "vocabulary_used": len(set(words)),
        "distinct_1": _distinct(words),
        "distinct_2": _distinct(pairs),
        "novel_captions": sum(caption not in training for caption in captions.values()) / len(captions),
    }


def _distinct(ngrams: Sequence[Hashable]) -> float:
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def table(
    images: pd.DataFrame, captions: Mapping[int, str], per_image: Mapping[str, Mapping[int, float]]
) -> pd.DataFrame:
    """A row an image: image_id, file, coco_id, hypothesis, and each of its scores."""
    names = {name: images["coco_id"].map(scores) for name, scores in per_image.items()}
    columns = images[["image_id", "file", "coco_id"]]
    return columns.assign(hypothesis=images["coco_id"].map(captions), **names).reset_index(drop=True)


def choose(table: pd.DataFrame, count: int) -> dict[str, pd.DataFrame]:
    """The best and the worst captions by CIDEr, and some of random images: `count` rows of each.

    The random images are those with the smallest digests of their `image_id`: the same ones for every model and seed.
    """
    ranked = table.sort_values(["cider", "coco_id"], ascending=[False, True])
    digests = table["image_id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    random = table[digests.rank() <= count]
    return {"best": ranked.head(count), "worst": ranked.tail(count).iloc[::-1], "random": random}


def samples(tables: Mapping[str, pd.DataFrame], references: Mapping[int, Sequence[str]]) -> str:
    """Markdown tables of hypothesis and references, one a group."""
    parts = ["# Samples"]
    for group, rows in tables.items():
        parts += [f"\n## {group.capitalize()}\n", "| image | CIDEr | hypothesis | references |", "|---|---|---|---|"]
        for image_id, coco_id, cider, hypothesis in zip(
            rows["image_id"], rows["coco_id"], rows["cider"], rows["hypothesis"], strict=True
        ):
            listed = "<br>".join(_cell(caption) for caption in references[coco_id])
            parts.append(f"| {_cell(image_id)} | {cider:.2f} | {_cell(hypothesis)} | {listed} |")
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def gallery(
    folder: Path, rows: pd.DataFrame, images: ImageArchives, objects: Mapping[str, Sequence[Found]] | None
) -> None:
    """One captioned contact sheet, `folder`/test.png. Galleries of two models show the same images if `rows` do.

    objects: those that the model reads, by image id; they are drawn. None: it reads none.
    """
    with atomic(folder) as temporary:
        temporary.mkdir()
        tiles = [
            tile(
                decode(images.read(file), file),
                [] if objects is None else [(one.name, one.box) for one in objects[image]],
                scripts.split(hypothesis),
            )
            for image, file, hypothesis in zip(rows["image_id"], rows["file"], rows["hypothesis"], strict=True)
        ]
        sheet(tiles, rows["hypothesis"].tolist(), columns=4).save(temporary / "test.png", compress_level=COMPRESSION)


def plots(
    folder: Path, scores: Mapping[str, float], table: pd.DataFrame, references: Mapping[int, Sequence[str]]
) -> None:
    """The data that dvc.yaml plots: test scores, mean CIDEr by length, CIDEr of each image, word frequency."""
    words = table["hypothesis"].map(lambda caption: len(scripts.split(caption))).rename("words")
    by_length = table.groupby(words)["cider"].agg(["mean", "size"]).reset_index()
    by_length.columns = pd.Index(["words", "cider", "images"])
    by_image = table["cider"].sort_values(ascending=False).reset_index(drop=True).rename_axis("rank").reset_index()
    frequency = word_frequency(table["hypothesis"], chain.from_iterable(references.values()))
    with atomic(folder) as temporary:
        temporary.mkdir()
        data_of = {
            "scores": pd.DataFrame(
                [(title, scores[name]) for name, title in NAMES.items() if name in scores], columns=["score", "value"]
            ),
            "score_by_length": by_length,
            "score_by_image": by_image,
            "word_frequency": frequency,
        }
        for name, data in data_of.items():
            write_text(temporary / f"{name}.tsv", data.to_csv(sep="\t", index=False, lineterminator="\n"))


def word_frequency(hypotheses: Iterable[str], references: Iterable[str]) -> pd.DataFrame:
    """The commonest words of the references, and their share of all words there and in the hypotheses.

    rank (from 1, by the references), word, who (references or hypotheses), share: two rows a word. What the curve of
    the hypotheses has more of at low ranks and less of at high ones is what a simpler dictionary costs.
    """
    counts = {
        "references": Counter(chain.from_iterable(map(tokenize, references))),
        "hypotheses": Counter(chain.from_iterable(map(scripts.split, hypotheses))),
    }
    ranked = sorted(counts["references"], key=lambda word: (-counts["references"][word], word))[:_WORDS]
    rows = [
        (rank, word, who, count[word] / max(count.total(), 1))
        for who, count in counts.items()
        for rank, word in enumerate(ranked, start=1)
    ]
    return pd.DataFrame(rows, columns=["rank", "word", "who", "share"])
