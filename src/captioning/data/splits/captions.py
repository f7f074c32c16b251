"""The caption table: what a data set gives, and what `vocab`, `split` and `evaluate` read."""

from pathlib import Path

import pandas as pd

from captioning.system.sealed import check_table

SPLITS = ("train", "val", "test")


def read_captions(path: Path) -> pd.DataFrame:
    """Read the table that `download` wrote: image_id, file, caption, split, a row a caption; every column is text.

    Raises DamagedError when it is not the table that was written.
    """
    check_table(path, "run `dvc repro -f download`")
    return pd.read_csv(path, dtype=str, keep_default_na=False)
