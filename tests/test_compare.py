"""What is said of experiments side by side: groups of seeds, verdicts, refusals, and the command itself."""

import json
import statistics
from dataclasses import dataclass, field

import pytest
import yaml

from captioning import metrics
from captioning.experiments import compare, verdicts
from captioning.experiments.compare import Comparison, Experiment
from captioning.experiments.revisions import Revision
from captioning.system.errors import UserError
from tests.project import Project

PEOPLE = ["a dog runs on the red grass", "the big dog is running over grass"]
GOOD, BAD, OTHER = "a dog runs on the grass", "a cat sits", "the dog is running on grass"
IMAGES = 60


@dataclass(frozen=True)
class Kept(Revision):
    """A revision whose files are in memory."""

    files: dict[str, bytes] = field(default_factory=dict)

    def read(self, path: str) -> bytes:
        return self.files[path]

    def tracked(self, path: str) -> bytes | None:
        return self.files.get(path)


def made(
    name: str,
    captions: list[str],
    *,
    seed: int = 1,
    code: str = "1",
    people: list[str] = PEOPLE,
    meteor: float | None = None,
    **params: object,
) -> Experiment:
    """An experiment that said `captions`, one an image; image 1 is of nothing that is in the others."""
    ids = range(1, len(captions) + 1)
    references = {
        "images": [{"id": k, "file_name": f"{k}.png"} for k in ids],
        "annotations": [
            {"id": 10 * k + j, "image_id": k, "caption": f"zebra {k}" if k == 1 else text}
            for k in ids
            for j, text in enumerate(people)
        ],
    }
    lock = {
        "stages": {
            "train": {
                "deps": [{"path": "src/x.py", "md5": code}, {"path": "data/y", "md5": str(seed)}],
                "params": {"params.yaml": {"seed": seed, "train": {"lr": 0.1}, **params}},
            }
        }
    }
    table = "image_id,coco_id,hypothesis,cider" + (",meteor" if meteor is not None else "")
    rows = [f"{k},{k},x,0" + (f",{meteor}" if meteor is not None else "") for k in ids]
    files = {
        compare.REFERENCES: json.dumps(references),
        compare.CAPTIONS: json.dumps([{"image_id": k, "caption": captions[k - 1]} for k in ids]),
        compare.PER_IMAGE: "\n".join([table, *rows]),
        "dvc.lock": yaml.safe_dump(lock),
    }
    return compare.read(Kept(name, "0" * 40, files={path: text.encode() for path, text in files.items()}))


def said(good: int, rest: str = BAD) -> list[str]:
    return [GOOD] * good + [rest] * (IMAGES - good)


def compared(*experiments: Experiment) -> Comparison:
    return compare.compare(experiments, draws=500)


def test_scores_are_those_of_metrics_score() -> None:
    one = made("one", said(30))
    expected = metrics.score(one.references, one.captions).corpus
    [scores] = compared(one).scores
    assert {name: score.value for name, score in scores.items()} == pytest.approx(expected)
    assert all(score.low <= score.value <= score.high for score in scores.values())


def test_a_better_one_is_called_better_and_the_other_way_round_worse() -> None:
    bad, good = made("bad", said(20)), made("good", said(50))
    better, worse = compared(bad, good), compared(good, bad)
    assert verdicts.verdict(better, 1).startswith("good: better than bad in BLEU-1 (+")
    assert verdicts.verdict(worse, 1).startswith("bad: worse than good in BLEU-1 (-")
    for name, difference in better.differences[0].items():
        back = worse.differences[0][name]
        assert (difference.value, difference.low) == (-back.value, pytest.approx(-back.high))
        assert difference.p == back.p < 0.05


def test_little_or_nothing_is_no_difference_shown() -> None:
    one = made("one", said(30))
    for other in (made("same", said(30)), made("nearly", said(31))):
        assert verdicts.verdict(compared(one, other), 1) == f"{other.revision.name}: no difference from one shown"


def test_more_revisions_ask_for_more_evidence() -> None:
    """Holm: the same difference has a larger p beside others than alone."""
    one, nearly = made("one", said(30)), made("nearly", said(33))
    alone = compared(one, nearly).differences[0]["cider"].p
    among = compared(one, nearly, *(made(f"same{k}", said(30), lr=k) for k in range(3))).differences[0]["cider"].p
    assert alone < among == pytest.approx(min(1.0, 4 * alone))


def test_seeds_of_one_setting_are_one_group() -> None:
    goods = [10, 30, 35]
    seeds = [made(f"base-s{k}", said(good), seed=k) for k, good in enumerate(goods)]
    other = made("other", said(30), seed=0, encoder="resnet34")
    comparison = compared(*seeds, other)
    assert [group.name for group in comparison.groups] == ["base × 3 seeds", "other"]
    values = [metrics.score(e.references, e.captions).corpus["cider"] for e in seeds]
    score = comparison.scores[0]["cider"]
    assert score.value == pytest.approx(statistics.mean(values))
    assert score.spread == pytest.approx(statistics.stdev(values))
    assert comparison.scores[1]["cider"].spread is None
    assert "encoder=resnet34" in verdicts.text(comparison, 0)
    assert any("with a single seed" in line for line in verdicts.caveats(comparison))


def test_other_code_another_setting_or_the_same_seed_are_groups_of_their_own() -> None:
    base = made("base", said(30))
    others = [made("code", said(30), seed=2, code="2"), made("twin", said(30)), made("lr", said(30), seed=2, beam=3)]
    comparison = compared(base, *others)
    assert [group.name for group in comparison.groups] == ["base", "code", "twin", "lr"]
    assert "code has seed=2, other code" in verdicts.text(comparison, 0)


def test_a_difference_between_seeds_is_not_taken_for_one_between_settings() -> None:
    """Two settings whose seeds vary far more than they do: images alone would find a difference."""
    first = [made(f"a-s{k}", said(good), seed=k) for k, good in enumerate([15, 45, 20])]
    second = [made(f"b-s{k}", said(good), seed=k, lr=2) for k, good in enumerate([50, 18, 40])]
    assert compared(first[0], second[0]).differences[0]["cider"].shown
    assert not compared(*first, *second).differences[0]["cider"].shown


def test_the_images_that_differ_most_come_first() -> None:
    captions = said(40)
    captions[6], captions[7] = BAD, OTHER
    one, two = made("one", said(40)), made("two", captions)
    comparison = compared(one, two)
    apart = comparison.most_different(1, 9)
    assert [image for image, _, _ in apart] == [7, 8]
    per_image = [metrics.score(e.references, e.captions).per_image["cider"][7] for e in (one, two)]
    assert apart[0][1:] == pytest.approx(tuple(per_image))
    assert comparison.most_different(1, 1) == apart[:1]
    text = verdicts.text(comparison, 1)
    assert "7.png" in text
    assert "8.png" not in text
    assert f"two: {BAD}" in text


def test_other_test_sets_are_refused_with_what_differs() -> None:
    one = made("one", said(30))
    with pytest.raises(UserError, match=r"^one and short were scored on other images \(60 and 2; such as 3.png"):
        compared(one, made("short", [GOOD, BAD]))
    with pytest.raises(UserError, match=r"^one and strange were scored against other references \(of 59 images, such"):
        compared(one, made("strange", said(30), people=[GOOD, OTHER]))


def test_the_order_of_images_in_a_file_does_not_matter() -> None:
    one = made("one", said(30))
    files = dict(one.revision.files)  # type: ignore[attr-defined]
    document = json.loads(files[compare.REFERENCES])
    files[compare.REFERENCES] = json.dumps(document | {"images": document["images"][::-1]}).encode()
    turned = compare.read(Kept("turned", "0" * 40, files=files))
    assert compared(one, turned).most_different(1, 9) == []
    assert {d.p for d in compared(one, turned).differences[0].values()} == {1.0}


def test_captions_of_other_images_than_the_references_are_refused() -> None:
    one = made("one", said(30))
    files = dict(one.revision.files)  # type: ignore[attr-defined]
    files[compare.CAPTIONS] = json.dumps(json.loads(files[compare.CAPTIONS])[1:]).encode()
    with pytest.raises(UserError, match=r"^less: .*1 without a hypothesis, such as 1"):
        compare.read(Kept("less", "0" * 40, files=files))


def test_meteor_is_compared_where_all_have_it() -> None:
    one, two, none = made("one", said(30), meteor=0.25), made("two", said(40), meteor=0.5), made("none", said(40))
    assert compared(one, two).differences[0]["meteor"].value == pytest.approx(0.25)
    assert list(compared(one, two).scores[0]) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor", "cider"]
    assert "meteor" not in compared(one, none).scores[0]


def test_the_same_seed_of_the_bootstrap_gives_the_same_text() -> None:
    pair = made("one", said(30)), made("two", said(36))
    texts = [verdicts.text(compare.compare(pair, draws=200, seed=seed), 3) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_command_compares_without_touching_the_workspace(experimented: Project) -> None:
    before = experimented.run("git", "status", "--porcelain").stdout
    text = experimented.run("captioning", "compare", "HEAD", "short", "workspace").stdout
    assert "short has evaluate.max_words=3" in text
    assert "workspace: no difference from HEAD shown" in text
    document = json.loads(experimented.run("captioning", "compare", "HEAD", "short", "--format", "json").stdout)
    head, short = document["groups"]
    measured = json.loads(experimented.read("data/evaluate/metrics.json"))
    assert {name: score["value"] for name, score in head["scores"].items()} == pytest.approx(
        {name: measured[name] for name in head["scores"]}
    )
    assert short["settings"] == {"evaluate.max_words": 3}
    assert short["verdict"].startswith("short: ")
    page = experimented.run("captioning", "compare", "HEAD", "short", "--format", "md", "--images", "1").stdout
    assert page.startswith("|  | BLEU-1 | BLEU-2 |")
    assert page.count(".png") == 1
    assert experimented.run("git", "status", "--porcelain").stdout == before
    done = experimented.run("captioning", "compare", "HEAD", "nonsuch", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: nonsuch: no commit, branch, tag or experiment has this name")
    assert done.stderr.count("\n") == 1
    for command in ("compare", "report"):
        done = experimented.run("captioning", command, "HEAD", "depth-resnet50", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        fault = "this run of the suite depth has not been run at this commit; `captioning suite run depth` runs it"
        assert done.stderr == f"error: depth-resnet50: {fault}\n"
