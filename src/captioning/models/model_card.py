"""The model card of a release (Mitchell et al. 2019, "Model cards for model reporting"): README.md, never typed."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.captioner.cards import Card
from captioning.experiments import charts, verdicts
from captioning.models import licences
from captioning.models.descriptions import CONTENT
from captioning.models.release import SCORES, Measured
from captioning.system.files import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE = "reliability.svg"
_LINE = 100  # characters
_WHOLE = ("|", "    ", "#")  # how lines of tables, of code and of headings begin


def write(folder: Path, card: Card, measured: Measured) -> None:
    """Write README.md and its figure into the folder of a released model."""
    write_bytes(folder / FIGURE, reliability(measured))
    write_text(folder / "README.md", text(folder, card, measured))


def text(folder: Path, card: Card, measured: Measured) -> str:
    """The card as Markdown. The sizes of the weights are those of `folder`."""
    release = card.provenance["release"]
    parts = [f"# {release['name']}", *_what(folder, card), *_use(release["name"]), *_scores(measured)]
    parts += [*_precision(measured), *_confidence(measured), *_limits(card, measured), *_terms(card)]
    return "\n\n".join(map(wrapped, parts)) + "\n"


def wrapped(part: str) -> str:
    """Markdown whose lines of prose are short; tables, code and headings stay."""
    return "\n".join(line if line.startswith(_WHOLE) else _filled(line) for line in part.splitlines())


def _filled(line: str) -> str:
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, _LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _what(folder: Path, card: Card) -> list[str]:
    dataset = card.settings.get("dataset", "")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6
    return [
        "A captioning model. This page was written by `captioning release`, which measured every number in it.",
        f"- {_reads(card)}\n"
        f"- Decoder: {card.decoder} ({', '.join(f'{key} {value}' for key, value in card.decoder_options.items())}).\n"
        f"- Trained on: {dataset} ({CONTENT.get(dataset, 'images of its owner')}), English captions.\n"
        f"- Run: {card.provenance['release']['run']}, epoch {card.scores.get('epoch', '?')}.\n"
        f"- Weights: {size:.1f} MB, {card.provenance['release']['precision']}.",
    ]


def _reads(card: Card) -> str:
    if card.vector_width is not None:
        return f"Reads {card.vector_width} numbers of each object: {card.reads}."
    side = card.transform["image_size"]
    return f"Encoder: {card.encoder}, images of {side} × {side} pixels."


def _use(name: str) -> list[str]:
    return [
        "## Use",
        f"    captioning predict --model {name} photo.jpg",
        f'    import captioning\n    caption = captioning.load("{name}")\n    print(caption("photo.jpg").text)',
    ]


def _scores(measured: Measured) -> list[str]:
    names = [verdicts.NAMES.get(name, name) for name in SCORES]
    rows = [["", *names]]
    rows.append(["this model", *(f"{measured.scores[name][0]:.3f}" for name in SCORES)])
    rows.append(["95 % interval", *("{1:.3f} to {2:.3f}".format(*measured.scores[name]) for name in SCORES)])
    labels = {"floor": "constant-caption baseline", "human": "human baseline"}
    others = [(labels[name], scores) for name, scores in measured.rows.items()]
    for label, scores in [*others, ("the run's own test scores", measured.run)]:
        rows.append([label, *(f"{scores[name]:.3f}" for name in SCORES)])
    return [
        "## Scores",
        f"On the {measured.images:,} images of the test split, captioned as `captioning predict` does it. Intervals "
        "are over test images. The last row is what the stage `evaluate` of the run measured, with its own search.",
        verdicts.table(rows),
    ]


def _precision(measured: Measured) -> list[str]:
    change = measured.scores["cider"][0] - measured.full["cider"]
    return [
        "## Half precision",
        f"Large matrices are stored in float16 and computed in float32. Against the weights as they were trained, "
        f"{measured.changed:.1%} of the captions of the test images differ. CIDEr changes by {change:+.4f}.",
    ]


def _confidence(measured: Measured) -> list[str]:
    found = measured.reliability
    rows = [["confidence", "acceptable", "captions"]]
    rows += [[f"{mean:.2f}", f"{share:.2f}", str(count)] for mean, share, count in found.rows]
    return [
        "## Confidence",
        f"The probability that a caption is acceptable: {measured.calibration.acceptable}. It was fitted on "
        f"{measured.calibration.images:,} validation images. On test the expected calibration error is "
        f"{found.error:.3f}, the Brier score {found.brier:.3f}, and the area under the ROC curve {found.auc:.3f}.",
        f"![Confidence against the share of captions that are acceptable; on the diagonal they are equal. "
        f"Expected calibration error {found.error:.3f}.]({FIGURE})",
        verdicts.table(rows),
    ]


def _limits(card: Card, measured: Measured) -> list[str]:
    dataset = card.settings.get("dataset", "")
    words = [["word", "in its captions", "in references"]]
    words += [[word, f"{said:.1%}", f"{wanted:.1%}"] for word, (said, wanted) in measured.gendered.items()]
    common = "\n".join(f"- {text} ({count})" for text, count in measured.common)
    return [
        "## Limits and biases",
        f"- It knows what the captions of {dataset} speak of, in their words. It names no person, reads no text and "
        "counts badly.\n"
        "- It can say what is not there. Do not use it where a wrong caption harms somebody.\n"
        "- Images of another kind than its training images get a low confidence, and so do blank images and noise.\n"
        f"- Of {measured.images:,} test images it makes {measured.different:,} different captions. The commonest:",
        common,
        "How often it names people by gender and age, and how often its references do:",
        verdicts.table(words),
        "The references are sentences of annotators, with their assumptions about people. The model repeats these.",
    ]


def _terms(card: Card) -> list[str]:
    dataset = card.settings.get("dataset", "")
    weights = card.provenance.get("weights", {})
    digest = "" if weights.get("kind") == "none" else f" (sha256 `{weights.get('stored')}`)"
    return [
        "## Terms",
        f"- Training data, {dataset}: {licences.of_data(dataset)}.\n"
        f"- Initial weights of the encoder: {licences.of_weights(weights)}{digest}.\n"
        "- Code: MIT.\n"
        "- `model.json` has every setting of the training, and the digest of each file.",
    ]


def reliability(measured: Measured) -> bytes:
    """The reliability diagram as SVG: confidence against the share of acceptable captions, a point a bin."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        most = max(count for _, _, count in measured.reliability.rows)
        axes.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color=charts.SERIES[4])
        for mean, share, count in measured.reliability.rows:
            axes.plot([mean], [share], "o", markersize=4 + 8 * (count / most) ** 0.5, color=charts.SERIES[0])
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share acceptable", title="Reliability on test")

    return charts.svg(4.2, 3.6, draw, title="Confidence against the share of captions that are acceptable")
