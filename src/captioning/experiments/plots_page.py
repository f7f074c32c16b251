"""The page of `dvc plots` with its charts' code inside, so that it opens without a network.

DVC's own page loads Vega from a CDN. `python -m captioning.experiments.plots_page` writes a template that has the
Vega of the installed package `vl-convert-python`; DVC reads it where `plots.html_template` names it (`make` sets both).
"""

import json
import sys
from pathlib import Path

from captioning.system.files import write_text

TEMPLATE = Path(".dvc/plots.html")
TITLES = {  # DVC gives charts the titles of dvc.yaml, and images their paths
    "data/evaluate/gallery/test.png": "Captions of test images",
    "data/train/plots/images/validation.png": "Captions of validation images",
}
_READY = """
window.vegaEmbed = vegaEmbed;
window.drawn = Promise.all(window.waiting.map(chart => vegaEmbed(...chart)));
const titles = TITLES;
for (const title of document.querySelectorAll("body > div > p:first-child"))
    title.textContent = titles[title.textContent] ?? title.textContent;
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    {refresh_tag}
    <title>Experiments: scores, losses and captions</title>
    <style>
        body { margin: 1.5rem; font-family: system-ui, sans-serif; color: #222; background: #fff; }
        body > div { margin-bottom: 2rem; }
        body > div:has(> p) { display: flex; flex-wrap: wrap; border: 0 !important; white-space: normal !important; }
        body > div > p { flex: 1 0 100%; margin: 0; font-weight: bold; text-align: left; }
        body > div > div:has(> img) { flex: 0 1 auto; max-width: min(100%, max(30rem, 48%)); border: 0 !important; }
        img { max-width: 100%; }
    </style>
    <script>
        window.waiting = [];
        window.vegaEmbed = (...chart) => window.waiting.push(chart);  // until the code below is ready
    </script>
    <script type="module">
BUNDLE
    </script>
</head>
<body>
    {plot_divs}
</body>
</html>
"""


def page() -> str:
    """The template. DVC replaces `{plot_divs}` and `{refresh_tag}`; without `{scripts}` nothing is loaded."""
    from vl_convert import javascript_bundle

    return _PAGE.replace("BUNDLE", javascript_bundle(_READY.replace("TITLES", json.dumps(TITLES))))


if __name__ == "__main__":
    write_text(Path(sys.argv[1]) if len(sys.argv) > 1 else TEMPLATE, page())
