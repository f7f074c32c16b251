"""The pinned arithmetic: set before torch is loaded, whatever the environment says."""

import ctypes
import os
import signal
import subprocess
import sys

import pytest

from captioning.system import compute, signals
from captioning.system.errors import UserError

SHOW = """
from captioning.system import compute
from captioning.system.errors import UserError
compute.pin(portable={portable}, threads={threads})
import torch
fabric = compute.start(seed=1, threads={threads}, device="cpu", precision="32-true")
said = compute.describe(portable={portable}, threads={threads}, processes=1)
print(said, torch.get_num_threads(), torch.initial_seed())
"""


def shown(portable: bool, threads: int, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATEN", "OMP", "MKL"))}
    code = SHOW.format(portable=portable, threads=threads)
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_settings_win_over_the_environment() -> None:
    expected = "{'portable': True, 'instructions': 'AVX2', 'threads': 1, 'processes': 1} 1 1"
    assert shown(True, 1, ATEN_CPU_CAPABILITY="default", OMP_NUM_THREADS="2") == expected


def test_the_fast_choice_leaves_the_instruction_set_alone() -> None:
    said = shown(False, 2, ATEN_CPU_CAPABILITY="default")
    assert said == "{'portable': False, 'instructions': 'DEFAULT', 'threads': 2, 'processes': 1} 2 1"


def test_pinning_too_late_is_refused() -> None:
    assert "torch" in sys.modules or __import__("torch")
    with pytest.raises(RuntimeError, match="before torch is imported"):
        compute.pin(portable=True, threads=17)


def test_bf16_on_a_cpu_without_it_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    with pytest.raises(UserError, match=r"compute\.precision = bf16-mixed needs a GPU, or .* BF16.*write 32-true"):
        compute.start(seed=1, threads=1, device="cpu", precision="bf16-mixed")


TWICE = """
from captioning.system import compute
compute.pin(portable=False, threads=1)
import torch
if not compute.multiplies_bf16():
    raise SystemExit("no bf16")
fabric = compute.start(seed=1, threads=1, device="cpu", precision="bf16-mixed")
layer, x = torch.nn.Linear(300, 200), torch.randn(70, 300)
def trained():
    with fabric.autocast():
        y = layer(x)
    gradient = torch.autograd.grad(y.float().square().sum(), layer.weight)[0]
    return y, gradient
(y, gradient), (again, same) = trained(), trained()
print(y.dtype, gradient.dtype, torch.equal(y, again) and torch.equal(gradient, same))
"""


def test_bf16_on_a_cpu_that_has_it_gives_the_same_bits_twice() -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATEN", "ONEDNN", "DNNL", "MKL"))}
    done = subprocess.run([sys.executable, "-c", TWICE], env=kept, capture_output=True, text=True)
    if done.stderr.strip() == "no bf16":
        pytest.skip("this CPU has no AVX-512 BF16")
    assert done.stdout.strip() == "torch.bfloat16 torch.float32 True"


REUSE = """
import resource
from captioning.system import compute
compute.pin(portable=True, threads=1)
import torch
network = torch.nn.Sequential(*(torch.nn.Conv2d(16, 16, 1) for _ in range(4)))
pixels = torch.zeros(12, 16, 256, 256)  # 48 MiB
@torch.inference_mode()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    network(pixels)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(8)][-1])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="a setting of glibc")
def test_memory_that_was_freed_is_not_cleared_anew() -> None:
    done = subprocess.run([sys.executable, "-c", REUSE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # pages; 49,156 when tensors go back to the kernel


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_several_processes_that_are_asked_to_leave_say_so_as_one_does(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.launcher import api

    def told(*_: object) -> None:
        raise SignalException("told", number)

    monkeypatch.setattr(api, "elastic_launch", lambda *_: told)
    monkeypatch.setattr(signals, "leave_at_once", lambda: None)
    monkeypatch.setattr(signals, "_came", [])
    with pytest.raises(signals.Stopped) as stopped:
        compute.ran_in_processes("stages", "train", 2)
    assert stopped.value.status == 128 + number
