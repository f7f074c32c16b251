"""Image captioning as a reproducible pipeline: a CNN encoder, a recurrent or attending decoder.

The library is nouns; the verbs are in `stages/`. Nothing here knows DVC, and only
`captioning.settings.resolve` knows params.yaml.
"""
