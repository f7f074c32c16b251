"""The documentation as a site: README and docs/, built by Zensical, which fails at a broken link or anchor.

`make site`, or `python -m website FOLDER`.
"""
