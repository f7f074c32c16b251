"""Where `captioning predict` puts captions: standard output or a file, files beside the images, the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.cli import embedded, sidecars
from captioning.cli.formats import Format, OutputFile, heading, lines
from captioning.cli.notices import name_some, print_lines
from captioning.cli.sidecars import Sidecar
from captioning.system.errors import UserError, escaped

if TYPE_CHECKING:
    from captioning.models.objects import Found
    from captioning.models.python import Caption


class Target(StrEnum):
    """What `--write` writes into: a file beside each image, or the image itself."""

    txt = "txt"
    xmp = "xmp"
    exif = "exif"


@dataclass(frozen=True)
class Outputs:
    """Where captions go. unable: images of formats that hold no description."""

    format: Format
    file: OutputFile | None
    targets: Sequence[Target]
    overwrite: bool
    unable: frozenset[Path]

    @classmethod
    def open(
        cls,
        files: Sequence[Path],
        output: Format,
        out: Path | None,
        targets: Sequence[Target],
        *,
        overwrite: bool,
        n_best: int,
    ) -> "Outputs":
        """n_best: captions of each image. Raises UserError where something cannot be written, or would be lost."""
        sidecars.check(files, [Sidecar(target) for target in targets if target is not Target.exif])
        unable = _unable(files) if Target.exif in targets else frozenset()
        if out is None and (first := heading(output)):
            print(first)
        return cls(output, None if out is None else OutputFile(out, output, n_best), targets, overwrite, unable)

    def unfinished(self, files: Sequence[Path]) -> list[Path]:
        """The images that have not all of their outputs yet; the others are counted on standard error."""
        pending = [path for path in files if not self._is_done(path)]
        if len(pending) < len(files):
            print_lines([f"{len(files) - len(pending)} of {len(files)} files have their captions already"])
        return pending

    def _is_done(self, path: Path) -> bool:
        targets = self._targets(path)
        described = not self.overwrite and all(_is_described(path, target) for target in targets)
        outputs = [self._is_listed(path)] * (self.file is not None) + [described] * bool(targets)
        return bool(outputs) and all(outputs)

    def _is_listed(self, path: Path) -> bool:
        return self.file is not None and escaped(str(path)) in self.file.done

    def _targets(self, path: Path) -> list[Target]:
        return [target for target in self.targets if not (target is Target.exif and path in self.unable)]

    def add(
        self,
        path: Path,
        captions: "Sequence[Caption]",
        sheet: Path | None,
        *,
        several: bool,
        objects: "Sequence[Found] | None" = None,
    ) -> None:
        """Put an image's captions wherever they go, and its objects where they are listed.

        Raises UnwritableError, at the end, where the image takes no caption.
        """
        text = lines(path, captions, self.format, sheet, several=several, objects=objects)
        if self.file is None:
            print(text, flush=True)
        elif not self._is_listed(path):
            self.file.add(text)
        for target in self._targets(path):
            if self.overwrite or not _is_described(path, target):
                _write(path, target, captions[0].text)

    def sync(self) -> None:
        """Let the captions that were added outlast a power failure."""
        if self.file is not None:
            self.file.sync()


def _unable(files: Sequence[Path]) -> frozenset[Path]:
    """The images that hold no description, which are told before work begins. Raises UserError if all are."""
    unable = embedded.unable(files)
    if not unable:
        return frozenset()
    said = f"--write exif: {len(unable)} of {len(files)} files are of formats that it cannot write"
    advice = f"({name_some([path.name for path in unable])}); --write xmp can"
    if len(unable) == len(files):
        raise UserError(f"{said} {advice}")
    print_lines([f"{said} {advice}"])
    return frozenset(unable)


def _is_described(image: Path, target: Target) -> bool:
    if target is Target.exif:
        return embedded.is_described(image)
    return sidecars.is_described(image, Sidecar(target))


def _write(image: Path, target: Target, caption: str) -> None:
    if target is Target.exif:
        embedded.write(image, caption)
    else:
        sidecars.write(image, Sidecar(target), caption)
