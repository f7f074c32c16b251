"""The machine: instruction set, threads, seeds and Lightning Fabric, set in one place.

Floating-point sums depend on the width of the vector unit and on how work is cut over threads.
`pin` fixes both before the tensor library is loaded, so that one commit gives one set of bytes.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "MKL_CBWR": "AVX2",
}


def pin(*, portable: bool, threads: int) -> None:
    """Fix the thread count and, if `portable`, AVX2 for ATen, oneDNN and MKL, whatever the environment says.

    The variables are read when the libraries load: call this before the first `import torch`.
    Raises RuntimeError when torch is loaded already under other variables.
    """
    wanted = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
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


def start(*, seed: int, threads: int, device: str, precision: Any) -> "Fabric":
    """Seed everything, ask for deterministic kernels and return a launched Lightning Fabric."""
    import torch
    from lightning_fabric import Fabric

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # filling fresh memory costs time, and nothing here reads such memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(seed)
    fabric = Fabric(accelerator=device, devices=1, precision=precision)
    fabric.launch()
    return fabric


def describe(*, portable: bool, threads: int) -> dict[str, Any]:
    """What decided the last bits, for the model's JSON: the promise, the vector unit, the threads."""
    import torch

    return {"portable": portable, "instructions": torch.backends.cpu.get_cpu_capability(), "threads": threads}
