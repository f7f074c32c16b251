"""`captioning verify`: what was recorded is made again, in the workspace and of a revision; a difference is seen."""

import json
import sys

from tests.project import Project
from tests.trees import tree


def test_a_finished_run_is_verified_and_an_edited_one_is_not(copy: Project) -> None:
    done = copy.run("captioning", "verify", "--images", "5", "--seed", "3")
    lines = done.stdout.splitlines()
    assert lines[0] == "workspace: images and captions drawn with --seed 3"
    assert lines[1].startswith("verified on: ")
    assert lines[2].startswith('trained with: {"instructions": "AVX2"')
    assert lines[3:] == ["pixels of 5 of 36 images: 5 equal", "captions of 6 of 6 test images: 6 equal"]
    alone = copy.run(
        sys.executable, "-m", "stages", "verify", "5", "3", "0"
    )  # in an interpreter that has loaded nothing
    assert alone.stdout.splitlines() == lines[1:]
    path = copy.folder / "data/evaluate/captions.json"
    captions = json.loads(path.read_text())
    captions[2]["caption"] = "another one"
    path.unlink()
    path.write_text(json.dumps(captions))
    done = copy.run("captioning", "verify", check=False)
    assert done.returncode == 1
    assert "captions of 6 of 6 test images: 5 equal" in done.stdout
    assert done.stderr.startswith(f"error: image {captions[2]['image_id']}: `")
    assert "Traceback" not in done.stderr


def test_a_revision_is_verified_by_its_own_code(copy: Project) -> None:
    before = copy.run("git", "worktree", "list").stdout
    (copy.folder / "stages/verify.py").write_text("raise SystemExit('of the workspace')")
    done = copy.run("captioning", "verify", "HEAD", "--images", "3")
    assert "pixels of 3 of 36 images: 3 equal" in done.stdout
    assert copy.run("git", "worktree", "list").stdout == before
    copy.run("git", "rm", "-q", "--cached", "stages/verify.py")
    copy.run("git", "commit", "-qm", "an older one")
    done = copy.run("captioning", "verify", "HEAD", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "error: HEAD: this commit has no stages/verify.py; name a later one\n",
    )


def test_epochs_are_trained_again_and_another_loss_is_seen(copy: Project) -> None:
    before = tree(copy.folder)
    done = copy.run("captioning", "verify", "HEAD", "--images", "2", "--epochs", "2")
    lines = [line for line in done.stdout.splitlines() if "trained again" in line]
    counts = [int(line.split()[4]) for line in lines]
    assert lines == [f"epoch {epoch}, trained again: {counts[0]} of {counts[0]} scalars equal" for epoch in (1, 2)]
    assert counts[0] > 10
    path = copy.folder / "data/train/plots/metrics/train/loss/caption.tsv"
    text = path.read_text()
    loss = text.splitlines()[1].split("\t")[1]
    path.unlink()
    path.write_text(text.replace(loss, str(float(loss) - 0.1), 1))
    done = copy.run("captioning", "verify", "--images", "2", "--epochs", "1", check=False)
    assert done.returncode == 1
    assert f"epoch 1, trained again: {counts[0] - 1} of {counts[0]} scalars equal" in done.stdout
    assert done.stderr.splitlines()[-1].startswith(f"error: epoch 1: train/loss/caption = {loss}")
    path.unlink()
    path.write_text(text)
    assert tree(copy.folder) == before  # neither results nor unfinished work


def test_a_revision_whose_code_cannot_train_again_says_so(copy: Project) -> None:
    path = copy.folder / "stages/verify.py"
    path.write_text("raise SystemExit('an older one')")
    done = copy.run("captioning", "verify", "--epochs", "1", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "error: --epochs 1: the code of workspace does not train again; name a later commit\n",
    )
