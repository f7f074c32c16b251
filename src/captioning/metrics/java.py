"""METEOR 1.5 and SPICE: Java programs that pycocoevalcap carries, run only when asked for.

SPICE also needs Stanford CoreNLP 3.6.0, which pycocoevalcap does not carry.
"""

import logging
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from captioning.data.text.tokenizer import tokenize
from captioning.metrics.java_runtime import java_available, pycocoevalcap, require
from captioning.metrics.score import Id, Scores, check_ids, check_references
from captioning.system.errors import UserError

_METEOR = ("java", "-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm")
_SPICE_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def spice_available() -> bool:
    """Whether Java, pycocoevalcap and the Stanford CoreNLP files that SPICE reads are all there."""
    return java_available() and pycocoevalcap() is not None and not _missing_spice_jars()


def java_scores(references: Mapping[Id, Sequence[str]], hypotheses: Mapping[Id, str]) -> Scores[Id]:
    """METEOR, and SPICE where its files are installed; a line on stderr says so where they are not.

    Raises UserError as `meteor` does.
    """
    scores = meteor(references, hypotheses)
    if spice_available():
        return scores | spice(references, hypotheses)
    logging.getLogger(__name__).warning("SPICE is left out: it needs %s", _spice_need())
    return scores


def meteor(references: Mapping[Id, Sequence[str]], hypotheses: Mapping[Id, str]) -> Scores[Id]:
    """METEOR 1.5 (Denkowski and Lavie 2014), named meteor, 0 to 1. Takes seconds.

    Raises UserError as `captioning.metrics.score` does, and when Java or pycocoevalcap is missing or Java fails.
    """
    folder = require("METEOR") / "meteor"
    texts, hypothesis = _texts(references, hypotheses)
    lines = [" ||| ".join(["SCORE", *texts[k], hypothesis[k]]) for k in range(len(texts))]
    *values, corpus = _run_meteor(folder, lines)
    return Scores({"meteor": corpus}, {"meteor": dict(zip(references, values, strict=True))})


def spice(references: Mapping[Id, Sequence[str]], hypotheses: Mapping[Id, str]) -> Scores[Id]:
    """SPICE (Anderson et al. 2016), named spice: the F-score over scene graphs, 0 to 1. Takes minutes.

    Raises UserError as `captioning.metrics.score` does, and when Java, pycocoevalcap or CoreNLP is missing.
    """
    require("SPICE")
    if _missing_spice_jars():
        raise UserError(f"SPICE needs {_spice_need()}")
    from pycocoevalcap.spice.spice import Spice

    texts, hypothesis = _texts(references, hypotheses)
    corpus, details = Spice().compute_score(dict(enumerate(texts)), {k: [text] for k, text in enumerate(hypothesis)})
    values = [float(scores["All"]["f"]) for scores in details]
    return Scores({"spice": float(corpus)}, {"spice": dict(zip(references, values, strict=True))})


def _texts(references: Mapping[Id, Sequence[str]], hypotheses: Mapping[Id, str]) -> tuple[list[list[str]], list[str]]:
    """Both sides tokenised, words joined by spaces, in the order of the references."""
    check_references(references)
    check_ids(references, hypotheses)
    texts = [[" ".join(tokenize(caption)) for caption in captions] for captions in references.values()]
    return texts, [" ".join(tokenize(hypotheses[image])) for image in references]


def _run_meteor(folder: Path, lines: Sequence[str]) -> list[float]:
    """Talk with METEOR: a line of statistics for each line, then a score for each and one for all of them."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        try:
            with subprocess.Popen(
                _METEOR, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, encoding="utf-8"
            ) as process:
                statistics = [_ask(process, line) for line in lines]
                first = _ask(process, " ||| ".join(["EVAL", *statistics]))
                assert process.stdout is not None
                return [float(first), *(float(process.stdout.readline()) for _ in lines)]
        except (BrokenPipeError, ValueError):
            log.seek(0)
            message = " ".join(log.read().split()) or "nothing"
            raise UserError(f"METEOR: `{' '.join(_METEOR)}` in {folder} failed and said: {message}") from None


def _ask(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def _missing_spice_jars() -> list[Path]:
    return [jar for name in _SPICE_JARS if not (jar := _spice_folder() / name).exists()]


def _spice_folder() -> Path:
    return (pycocoevalcap() or Path("pycocoevalcap")) / "spice" / "lib"


def _spice_need() -> str:
    return f"Stanford CoreNLP: put {' and '.join(_SPICE_JARS)} into {_spice_folder()}"
