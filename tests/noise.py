"""Images of grey noise, the same ones each time: Pillow's own noise is drawn anew in every process."""

import numpy as np
from PIL import Image


def noise(size: tuple[int, int], sigma: float, seed: int = 0) -> Image.Image:
    """An RGB image of `size` (width, height), whose pixels have a mean of 128 and about this deviation."""
    drawn = np.random.default_rng(seed).normal(128, sigma, size[::-1])
    return Image.fromarray(drawn.round().clip(0, 255).astype(np.uint8)).convert("RGB")
