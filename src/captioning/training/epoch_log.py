"""Each epoch of a training, where a person looks for it: DVCLive, other trackers, and standard output."""

from collections.abc import Mapping, Sequence

from PIL import Image

from captioning.training.tracking.live import Tracker
from captioning.training.tracking.sinks import Trackers
from captioning.vision.contact_sheets import grid

_PRINTED = (
    "train/loss/masked_pieces",
    "train/loss/contrast",
    "train/loss/caption",
    "train/scheduled_sampling",
    "train/reward/sample",
    "val/loss/masked_pieces",
    "val/loss/caption",
    "val/bleu_3",
    "val/bleu_4",
    "val/cider",
    "val/true_captions",
)


class EpochLog:
    """Logs to both trackers. shown: the first validation images, drawn with their captions at each better epoch."""

    def __init__(self, tracker: Tracker, others: Trackers, shown: Sequence[Image.Image]) -> None:
        self._trackers, self._shown = (tracker, others), shown

    def end_of_epoch(
        self, scalars: Mapping[str, float], speeds: Mapping[str, float], captions: Sequence[str] | None
    ) -> None:
        """Log an epoch. captions: one for each validation image, if the epoch is better than those before."""
        if captions is not None:
            drawn = grid(self._shown, captions[: len(self._shown)], columns=4)
            for tracker in self._trackers:
                tracker.image("validation.png", drawn)
        for tracker in self._trackers:
            tracker.epoch(scalars, speeds)
        print(line(scalars, speeds), flush=True)


def line(scalars: Mapping[str, float], speeds: Mapping[str, float]) -> str:
    """An epoch as one line of text."""
    parts = [f"{name} {scalars[name]:.4f}" for name in _PRINTED if name in scalars]
    return "  ".join(parts + [f"{name} {value:,.0f}" for name, value in speeds.items()])
