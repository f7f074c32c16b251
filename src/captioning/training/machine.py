"""What of the machine, and of how it is used, decides the bytes of a trained model."""

from typing import Any

from lightning_fabric import Fabric

from captioning import kernels
from captioning.settings.schema import Compute
from captioning.system import compute


def deciding(fabric: Fabric) -> dict[str, Any]:
    """All of it, for the key of unfinished training; `compute` of the settings is in the key by itself."""
    return {"processes": fabric.world_size, **compute.software(fabric.device.type), **kernels.describe()}


def recorded(machine: Compute, fabric: Fabric) -> dict[str, Any]:
    """What model.json says of it."""
    described = compute.describe(portable=machine.portable, threads=machine.threads, processes=fabric.world_size)
    return {**described, **kernels.describe()}
