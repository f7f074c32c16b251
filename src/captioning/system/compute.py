"""The machine: instruction set, threads, seeds and Lightning Fabric, set in one place.

Floating-point sums depend on the width of the vector unit and on how work is cut over threads.
`pin` fixes both before the tensor library is loaded, so that one commit gives one set of bytes.
"""

import ctypes
import logging
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.system import signals
from captioning.system.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "MKL_CBWR": "AVX2",
}
SPINS = 10_000  # turns that an OpenMP thread waits for the others before it sleeps (`python -m benchmarks.waiting`)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def pin(*, portable: bool, threads: int) -> None:
    """Fix the thread count and, if `portable`, AVX2 for ATen, oneDNN and MKL, whatever the environment contains.

    Memory that is freed is kept for the next tensor. The variables are read when the libraries load: call this
    before the first `import torch`.
    Raises RuntimeError when torch is loaded already under other variables.
    """
    wanted = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    wanted["GOMP_SPINCOUNT"] = str(SPINS)
    wanted |= {
        "OMP_DYNAMIC": "FALSE",
        "MKL_DYNAMIC": "FALSE",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    wanted |= _AVX2 if portable else {}
    changed = {name for name, value in wanted.items() if os.environ.get(name) != value}
    if changed and "torch" in sys.modules:
        raise RuntimeError(f"compute.pin must run before torch is imported (it would change {sorted(changed)})")
    os.environ.update(wanted)
    _keep_memory()


def _keep_memory() -> None:
    """Have glibc's malloc keep what is freed: the kernel clears each page that it hands out again.

    Large tensors would be mapped, and cleared, anew at every step. Other C libraries are left as they are.
    """
    mallopt = None if sys.platform == "win32" else getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ran_in_processes(module: str, argument: str, processes: int) -> bool:
    """Run `python -m MODULE ARGUMENT` in so many processes here and wait for them; True: they all ended well.

    False, and nothing is run, when `processes` is 1, or when this one was started by torchrun itself.
    Raises UserError when a process failed; the others are ended then. Stopped when a signal requested the end, which is
    passed on to them. Call it after `pin`, which they inherit.
    """
    if processes == 1 or _launched():
        return False
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it prints a wall for each failure
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"{module}-{argument}-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(),
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, argument)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        raise UserError(
            f"{argument}: process {rank} of {processes} ended with status {failure.exitcode}; its messages are above"
        ) from None
    except SignalException as came:
        signals.stop(came.sigval)
    return True


def _launched() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def start(*, seed: int, threads: int, device: str, precision: Any, idle: bool = False) -> "Fabric":
    """Seed everything, ask for deterministic kernels and return a launched Lightning Fabric.

    idle: parameters that are trained later may have no gradient yet; several processes then look for these each step.
    Under torchrun it has as many processes as torchrun started, on one machine or several, and only then.
    Raises UserError when there are fewer GPUs than processes on this machine, or none for the precision.
    """
    import torch
    from lightning_fabric import Fabric

    world, here = (int(os.environ[name]) if _launched() else 1 for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    device = choose_device(device, precision, here)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # filling fresh memory costs time, and nothing here reads such memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(seed)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    strategy = "auto" if world == 1 else "ddp_find_unused_parameters_true" if idle else "ddp"
    fabric = Fabric(accelerator=device, devices=here, num_nodes=world // here, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def choose_device(device: str, precision: str, processes: int) -> str:
    """cpu or cuda, with `auto` decided, for so many processes on this machine. Raises UserError as `start` does."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and torch.cuda.device_count() < processes:
        raise UserError(
            f"compute: {processes} processes need one GPU each, and this machine has {torch.cuda.device_count()}; "
            "set compute.processes and compute.device in params.yaml"
        )
    if device == "cpu" and precision != "32-true" and not multiplies_bf16():
        raise UserError(
            f"compute.precision = {precision} needs a GPU, or a CPU with AVX-512 BF16 and compute.portable = false, "
            "which is not so here; write 32-true"
        )
    return device


def multiplies_bf16() -> bool:
    """True if the CPU has bfloat16 instructions (AVX-512 or AMX) that `pin` has not disabled."""
    import torch

    return torch.backends.cpu.get_cpu_capability() == "AVX512" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def multiplies_int8() -> bool:
    """True if the CPU adds products of 8-bit integers in 32 bits (VNNI). Others do so in 16, which are too few."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni"))


def reseed(seed: int, rank: int) -> None:
    """Give process `rank` random numbers of its own; the first one goes on with those of a single process."""
    import numpy as np
    import torch

    if rank:
        torch.manual_seed(int(np.random.SeedSequence((seed, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1)))


def software(device: str) -> dict[str, Any]:
    """What the bytes of a result depend on beside settings, code and data: libraries, kind of device, vector unit."""
    import numpy as np
    import PIL
    import torch
    import torchvision

    versions = [module.__version__ for module in (PIL, np, torch, torchvision)]
    return {
        "versions": [*versions, metadata.version("timm")],  # which is not loaded for this
        "machine": [device, torch.backends.cpu.get_cpu_capability(), cpu_vendor()],
    }


def cpu_vendor() -> str:
    """Who made the CPU, as GenuineIntel: kernels of matrix products differ by that. Empty where it is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def describe(*, portable: bool, threads: int, processes: int) -> dict[str, Any]:
    """What decided the last bits, for the model's JSON: the promise, the vector unit, threads and processes."""
    import torch

    instructions = torch.backends.cpu.get_cpu_capability()
    return {"portable": portable, "instructions": instructions, "threads": threads, "processes": processes}
