"""The table of images: who is in which split, as `split` wrote it and later stages read it.

Apart from the rest of `splits`, which reads captions: an edit of the tokenizer does not encode the images again.
"""

from pathlib import Path

import pandas as pd

from captioning.system.sealed import check_table


def read_images(path: Path) -> pd.DataFrame:
    """Read images.csv: image_id, file, split (text) and coco_id (integer).

    Raises DamagedError when it is not what `splits.write` wrote.
    """
    check_table(path, "run `dvc repro -f split`")
    return pd.read_csv(path, dtype={"image_id": str, "file": str, "split": str}, keep_default_na=False)
