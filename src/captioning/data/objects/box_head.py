"""Vectors of objects by the box head of the detector that found them, as Anderson et al. 2018 and VinVL have them.

The first box is the whole image, and its vector is the mean that decoders read.

B images, R boxes, D numbers of a vector.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from captioning.data.objects.detectors import ObjectDetector


def vectors(
    detector: ObjectDetector, images: Sequence[Image.Image], boxes: np.ndarray, there: np.ndarray
) -> np.ndarray:
    """RGB images, boxes (B, R, 4) as shares of them, and which of these there are (B, R) → float32 (B, R, D).

    The vectors of boxes that are not there are 0. An image is read by itself.
    """
    made = [detector.vectors(image, own[kept]) for image, own, kept in zip(images, boxes, there, strict=True)]
    whole = np.zeros((*there.shape, made[0].shape[1]), np.float32)
    for row, (own, kept) in enumerate(zip(made, there, strict=True)):
        whole[row, kept] = own
    return whole
