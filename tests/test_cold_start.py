"""What `captioning predict` loads: no compiler, no computer algebra, no nltk; and torchvision is whole without them."""

import subprocess
import sys
from pathlib import Path

from tests.test_ensembles import folder


def run(code: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *arguments], check=True)


def test_a_caption_needs_neither_compiler_nor_algebra_nor_nltk(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, captioning\n"
        "caption = captioning.load(sys.argv[1])\n"
        "assert caption(np.zeros((40, 40, 3), np.uint8)).text\n"
        "heavy = {'torch._dynamo', 'sympy', 'nltk', 'pandas', 'dvc', 'matplotlib', 'pycocotools', 'timm'}\n"
        "heavy |= {'transformers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    run(code, str(folder(tmp_path / "model", "transformer", encoder="mobilenet_v2", side=64)))


def test_the_command_line_starts_without_torch_and_pandas() -> None:
    run("import captioning.cli.app, sys; heavy = {'torch', 'pandas'} & set(sys.modules); assert not heavy, heavy")


def test_commands_that_caption_nothing_never_load_torch(tmp_path: Path) -> None:
    """Help, the list of models, and scores of captions."""
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\na.jpg,a dog runs on grass\n")
    code = (
        "import sys; from typer.testing import CliRunner; from captioning.cli.app import app\n"
        "for line in sys.argv[1:]:\n"
        "    done = CliRunner().invoke(app, line.split())\n"
        "    assert done.exit_code == 0, done.output\n"
        "    assert 'torch' not in sys.modules, line\n"
    )
    run(code, "--help", "predict --help", "models", f"score {captions} {captions}")


def test_operations_that_ask_for_the_compiler_find_it() -> None:
    run(
        "import torch\n"
        "from captioning.vision import imports\n"
        "ops = imports.torchvision().ops\n"
        "boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])\n"
        "found = ops.roi_align(torch.ones(1, 2, 8, 8), boxes, 2)\n"
        "assert found.shape == (1, 2, 2, 2) and bool((found == 1).all())\n"
        "import torch._dynamo\n"
        "assert torch._dynamo.utils.is_compile_supported('cpu') in (True, False)\n"
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist() == [2, 2]\n"
    )


def test_timm_builds_a_network_without_the_compiler_which_is_there_when_it_is_asked_for() -> None:
    run(
        "import sys, torch\n"
        "from captioning.vision import imports\n"
        "network = imports.timm().create_model('test_resnet').eval()\n"
        "heavy = {'torch._dynamo', 'sympy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "images = torch.ones(1, 3, 32, 32)\n"
        "assert torch.equal(torch.compile(network, backend='eager')(images), network(images))\n"
    )


def test_where_the_compiler_is_loaded_torchvision_is_as_ever() -> None:
    run(
        "import torch._dynamo\n"
        "from captioning.vision import imports\n"
        "before = torch._dynamo\n"
        "imports.torchvision()\n"
        "import sys; assert sys.modules['torch._dynamo'] is before\n"
    )


def test_where_the_compiler_is_loaded_timm_is_as_ever() -> None:
    run(
        "import torch._dynamo\n"
        "from captioning.vision import imports\n"
        "before = torch._dynamo\n"
        "imports.timm()\n"
        "import sys; assert sys.modules['torch._dynamo'] is before\n"
    )


def test_a_library_may_ask_for_the_compiler_in_any_way_while_it_is_imported(tmp_path: Path) -> None:
    """As those of torch.compiler do: with a function or without, and for what loads the compiler at once."""
    (tmp_path / "library.py").write_text(
        "import torch\n"
        "first = torch.compiler.disable(lambda: 1)\n"
        "second = torch.compiler.disable(recursive=False)(lambda: 2)\n"
        "third = torch.compiler.assume_constant_result(lambda: 3)\n"
    )
    run(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from captioning.vision import imports\n"
        "library = imports._without_the_compiler('library')\n"
        "assert (library.first(), library.second(), library.third()) == (1, 2, 3)\n"
        "import torch._dynamo; assert torch._dynamo.config.suppress_errors in (True, False)\n",
        str(tmp_path),
    )


def test_an_import_that_fails_leaves_no_stand_in_behind(tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text("import absent\n")
    run(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from captioning.vision import imports\n"
        "try: imports.timm()\n"
        "except ModuleNotFoundError as fault: assert fault.name == 'absent'\n"
        "else: raise AssertionError\n"
        "assert 'torch._dynamo' not in sys.modules\n",
        str(tmp_path),
    )
