"""Run one stage and print, as JSON, the settings that it read and the project's files that it loaded."""

import json
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

sys.path.insert(0, str(Path.cwd()))


class Recorder:
    """Stands for a section of the settings and notes the full name of every value that is read."""

    def __init__(self, section: Any, prefix: str, seen: set[str]) -> None:
        self._section, self._prefix, self._seen = section, prefix, seen

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._section, name)
        if isinstance(value, BaseModel):
            return Recorder(value, f"{self._prefix}{name}.", self._seen)
        if name == "model_dump":
            self._seen.update(_leaves(self._section, self._prefix))
        elif is_dataclass(value):
            self._seen.update(f"{self._prefix}{name}.{field.name}" for field in fields(value))
        else:
            self._seen.add(f"{self._prefix}{name}")
        return value


def _leaves(section: BaseModel, prefix: str) -> set[str]:
    found: set[str] = set()
    for name in type(section).model_fields:
        value = getattr(section, name)
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else {f"{prefix}{name}"}
    return found


def _behind(key: str, written: BaseModel) -> set[str]:
    """The settings that decide the value of a setting: itself, and what its `auto` depends on."""
    from captioning.settings import resolve, rules

    seen = {key}
    if resolve.by_data_set(key, written):
        seen.add("dataset")
    elif resolve.is_auto(key, written):
        rules.AUTO[key](Recorder(resolve.half_resolved(written), "", seen))
    return seen


def record(stage: str, path: Path) -> dict[str, list[str]]:
    """Run `stages.STAGE.main` on the settings in `path`, in the working folder."""
    module = __import__(f"stages.{stage}", fromlist=["main"])
    from captioning.settings import resolve

    written, _ = resolve.read(path)
    seen: set[str] = set()
    module.main(Recorder(resolve.resolve(written), "", seen))
    seen = {other for key in seen for other in _behind(key, written)}
    root = Path.cwd().resolve()
    loaded = [Path(m.__file__).resolve() for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
    files = [path.relative_to(root).as_posix() for path in loaded if path.is_relative_to(root)]
    return {"settings": sorted(seen), "files": sorted(name for name in files if name.startswith(("src/", "stages/")))}


if __name__ == "__main__":
    print("\n" + json.dumps(record(sys.argv[1], Path(sys.argv[2]))))
