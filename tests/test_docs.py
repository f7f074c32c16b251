"""Promises of the docs: commands are run, links lead somewhere, settings exist."""

import re
from pathlib import Path

import pytest
import yaml

from tests.imports import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SEARCHED = "test_lists_are_written_and_their_best_is_scored"
PREDICTED = "test_predict_lists_and_draws_captions_that_say_what_they_must"  # with the words that a tiny model knows
SHARED = "test_a_clone_pulls_the_same_bytes"
RELEASED = "test_a_release_is_used_straight_from_git_and_dvc"
USED = "test_predict_takes_a_release_or_an_experiment"
APPLIED = "test_a_colleague_applies_an_experiment"
RUN_BY_TESTS = {
    "make test": ".ci/run",
    "source .venv/bin/activate": "every test runs in it",
    "dvc exp show": "test_changing_the_encoder_back_is_a_run_cache_hit",
    "dvc metrics diff": "test_metrics_are_compared",
    "dvc plots diff": "test_pictures_of_two_revisions_are_side_by_side",
    "dvc exp run -S train.lstm.picture=nic": "test_each_decoder_is_one_command",
    "dvc exp run -S decoder=neuraltalk": "test_each_decoder_is_one_command",
    "dvc exp run -S decoder=attention": "test_each_decoder_is_one_command",
    "dvc exp run -S decoder=attention -S train.attention.kind=hard": "test_each_decoder_is_one_command",
    "dvc exp run -S decoder=attention -S features.image_size=128": "test_each_decoder_is_one_command",
    "captioning predict --attention looked photo.jpg": "test_attention_is_drawn_by_evaluate_and_by_predict",
    "dvc exp run -S decoder=updown": "test_each_decoder_is_one_command",
    "dvc exp run -S decoder=transformer": "test_each_decoder_is_one_command",
    "dvc exp run -S train.fine_tune.from_block=layer3 -S train.fine_tune.start_epoch=2": "test_each_way_is_one_command",
    "dvc exp run -S train.augment.crop=0.6 -S train.augment.flip=0.5 "
    "-S train.augment.colour=0.2": "test_each_way_is_one_command",
    "dvc exp run -S features.image_size=96 -S train.augment.crop=0.5 "
    "-S train.augment.image_size=64": "test_each_way_is_one_command",
    "dvc exp run -S features.trainable=false -S features.mirror=true": "test_each_way_is_one_command",
    "dvc exp run -S train.fine_tune.from_block=none -S train.augment.crop=0.6 "
    "-S train.augment.flip=0.5": "test_each_way_is_one_command",
    "dvc exp run -S train.scheduled_sampling.probability=0.25": "test_each_way_is_one_command",
    "dvc exp run -S train.word_dropout=0.1": "test_each_way_is_one_command",
    "dvc exp run -S evaluate.method=diverse -S evaluate.beam_size=6 -S evaluate.n_best=3": SEARCHED,
    "dvc exp run -S evaluate.rank_by=consensus -S evaluate.beam_size=20": SEARCHED,
    "dvc exp run -S evaluate.mirror=true": SEARCHED,
    "dvc exp run -S evaluate.method=sample -S evaluate.n_best=5 -S evaluate.sampling.top_p=0.9": SEARCHED,
    "cp -r data/train/model ensemble/first": "test_a_model_put_beside_the_trained_one_counts_and_its_content_does",
    "captioning predict photo.jpg --n-best 5": PREDICTED,
    "captioning predict photo.jpg --method sample --n-best 5 --temperature 0.8": PREDICTED,
    'captioning predict photo.jpg --must dog --must "red ball"': PREDICTED,
    "captioning predict photo.jpg --model data/train/model --model ensemble/first": PREDICTED,
    "dvc exp run -S train.self_critical.epochs=5": "test_self_critical_training_follows_or_starts_from_a_model",
    "cp -r data/train/model baseline": "test_self_critical_training_follows_or_starts_from_a_model",
    "dvc add baseline": "test_self_critical_training_follows_or_starts_from_a_model",
    "dvc exp run -S train.start=baseline -S train.epochs=0 -S train.self_critical.epochs=5": (
        "test_self_critical_training_follows_or_starts_from_a_model"
    ),
    "dvc remote add --default storage /mnt/shared/captioning": SHARED,
    "dvc remote modify storage verify true": "test_a_damaged_object_is_refused",
    "dvc push": SHARED,
    'git commit -am "A place to share"': SHARED,
    "git push": SHARED,
    "dvc exp push origin winner": APPLIED,
    "dvc exp list origin --all-commits": APPLIED,
    "dvc exp pull origin winner": APPLIED,
    "dvc exp apply winner": APPLIED,
    'git tag -a model@v1.0.0 -m "The first that may be used"': RELEASED,
    "git push origin model@v1.0.0": RELEASED,
    "captioning predict photo.jpg --model model@v1.0.0": USED,
    "captioning predict photo.jpg --model short": USED,
    "captioning predict photo.jpg --repo REPOSITORY --model model@v1.0.0": USED,
    "captioning suite run depth": "test_every_command_of_the_page_on_experiments",
    "captioning compare main depth-resnet34": "test_every_command_of_the_page_on_experiments",
    "captioning report main depth-resnet34": "test_the_command_writes_a_report_of_revisions",
    "captioning report main depth-resnet34 --out depth.html --images all": (
        "test_the_command_writes_a_report_of_revisions"
    ),
    "dvc exp run -S 'train.trackers=[mlflow,tensorboard,wandb]'": "test_the_same_bytes_whoever_looks_on",
    "dvc exp run -S split.limit=200": "test_a_limited_run_sees_those_images_alone",
}
NOT_RUN = {"scale.md": "has not been run"}  # page: what it says of its commands, which want machines that are not here
TYPED_BY_TESTS = {  # page: what runs all that is in it
    "own-pictures.md": "test_every_command_of_the_page",
    "experiments.md": "test_every_command_of_the_page_on_experiments",
}
BY_HAND = {  # command: when it was last typed, in a fresh clone
    "make repro": "2026-11-26",
    "dvc exp run -S encoder=resnet152": "2026-11-23",
    "dvc exp run -S dataset=flickr8k -S encoder=resnet50": "not to its end: ResNet's weights need a network",
    "dvc exp run -S dataset=flickr8k -S encoder=vgg16 -S features.trainable=true -S train.lstm.picture=nic "
    "-S train.lstm.embedding_size=512 -S train.lstm.dropout=0.5 -S train.batch_size=80 -S train.lr=0.0004 "
    "-S train.encoder_lr=0.00001 -S train.word_presence=0 -S train.epochs=20 "
    "-S train.fine_tune.start_epoch=11": "never: VGG's weights need a network, and the training a GPU",
    "captioning predict photo.jpg": "2026-11-23",
    "python -m tests.faults --kills 100 --seed 1": "2026-11-26; test_faults.py runs ten",
}


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_every_command_is_run_by_a_test_or_was_run_by_hand() -> None:
    elsewhere = TYPED_BY_TESTS.keys() | NOT_RUN.keys()
    said = {command for page in PAGES if page.name not in elsewhere for command in commands(page)}
    assert said - RUN_BY_TESTS.keys() - BY_HAND.keys() == set()
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for command, where in {**RUN_BY_TESTS, **TYPED_BY_TESTS}.items():
        assert f"def {where}(" in tests or not where.startswith("test_"), command


@pytest.mark.parametrize("page", NOT_RUN)
def test_a_page_whose_commands_were_not_run_says_so(page: str) -> None:
    assert NOT_RUN[page] in (ROOT / "docs" / page).read_text(encoding="utf-8").partition("\n## ")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_the_docs_exist(page: Path) -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key in re.findall(r"-S '?([\w.]+)=", page.read_text(encoding="utf-8")):
        value = settings
        for part in key.split("."):
            assert part in value, key
            value = value[part]


def test_no_file_of_the_project_is_empty() -> None:
    for path in [*PAGES, ROOT / "LICENSE", ROOT / "CHANGELOG.md"]:
        assert path.stat().st_size > 200, path
