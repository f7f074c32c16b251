"""Data sets: `registry` has them by name. This file imports nothing, so that a stage lists only what it uses."""
