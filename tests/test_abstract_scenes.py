"""Abstract Scenes from a small archive in the published layout, whole and with faults."""

import hashlib
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioning.data.datasets import abstract_scenes
from captioning.data.datasets.base import Options, Prepared, check_table
from captioning.system.archives import ImageArchives, write_zip
from captioning.system.errors import UserError
from captioning.vision.images import decode
from tests.servers import Server

DRAWN = SimpleNamespace(train=2, val=1, test=1, image_size=32, seed=1)
ZIP, TOP = "AbstractScenes_v1.1.zip", "AbstractScenes_v1.1/"
FIRST, SECOND = (f"SimpleSentences/SimpleSentences{group}_10020.txt" for group in (1, 2))
SETS = (0, 7, 8, 9, 17, 1001)


def png(scene: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", (50, 40), (scene % 256, scene // 256, 9, 255)).save(stream, "PNG")
    return stream.getvalue()


def text(group: int) -> bytes:
    """As published: CRLF, and a blank line after each sentence."""
    said = [
        f"{10 * part + index}\t{number}\tMike saw {group}{number} of scene {10 * part + index}. \r\n\r\n"
        for part in SETS
        for index in range(10)
        for number in range(3)
    ]
    return "".join(said).encode()


MEMBERS = {
    **{f"RenderedScenes/Scene{part}_{index}.png": png(10 * part + index) for part in SETS for index in range(10)},
    FIRST: text(1),
    SECOND: text(2),
    "SimpleSentences/tuples/TuplesText1_10020.txt": b"0\t0\tmike\n",
    "Pngs/hb0_0s.png": png(0),
    "Scenes_10020.txt": b"10020\n",
}


class Try:
    """Prepares the data set from a folder with an archive of these members."""

    def __init__(self, folder: Path) -> None:
        self.source, self.out, self.cache = folder / "source", folder / "out", folder / "cache"
        self.source.mkdir()

    def __call__(self, members: Mapping[str, bytes] = MEMBERS, *, top: str = TOP, skip: bool = False) -> Prepared:
        write_zip(self.source / ZIP, [(top + member, data) for member, data in members.items()])
        return self.run(skip=skip)

    def run(self, *, skip: bool = False) -> Prepared:
        return abstract_scenes.prepare(self.out, Options(self.source, skip, DRAWN), self.cache)


@pytest.fixture
def attempt(tmp_path: Path) -> Try:
    return Try(tmp_path)


@pytest.mark.parametrize("top", [TOP, "", "a/b/"])
def test_the_table_in_whatever_folder(attempt: Try, top: str) -> None:
    prepared = attempt(top=top)
    table = prepared.table
    assert table["image_id"].value_counts().to_dict() == {str(10 * part + i): 6 for part in SETS for i in range(10)}
    assert Counter(table["split"]) == {"train": 240, "val": 60, "test": 60}
    scene = table[table["image_id"] == "10013"]
    assert scene["caption"].tolist() == [f"Mike saw {g}{n} of scene 10013." for g in (1, 2) for n in range(3)]
    assert scene["file"].unique().tolist() == [f"{ZIP}/{top}RenderedScenes/Scene1001_3.png"]
    assert prepared.notes == ["60 scenes are in the archive; published are 10,020"]
    with ImageArchives(attempt.out) as images:
        file = table[table["image_id"] == "83"]["file"].iloc[0]
        assert decode(images.read(file), file).getpixel((0, 0)) == (83, 0, 9)
    assert [path.name for path in attempt.out.iterdir()] == [ZIP]


def test_from_the_network_with_its_digest_recorded(tmp_path: Path) -> None:
    write_zip(tmp_path / ZIP, MEMBERS.items())
    data = (tmp_path / ZIP).read_bytes()
    with Server(files={ZIP: data}) as server:
        url = server.url(ZIP)
        prepared = abstract_scenes.prepare(tmp_path / "out", Options(None, False, DRAWN), tmp_path / "cache", url)
    assert [(file.origin, file.sha256) for file in prepared.files] == [(url, hashlib.sha256(data).hexdigest())]


@given(st.integers(0, 1001), st.integers(0, 9), st.integers(0, 9))
def test_no_set_is_in_two_splits(part: int, one: int, other: int) -> None:
    assert abstract_scenes.split_of(10 * part + one) == abstract_scenes.split_of(10 * part + other)


@given(st.sets(st.integers(0, 1001), min_size=1, max_size=8), st.data())
def test_no_set_of_a_slice_is_in_two_splits_of_the_table(
    tmp_path_factory: pytest.TempPathFactory, parts: set[int], data: st.DataObject
) -> None:
    scenes = [10 * part + i for part in parts for i in data.draw(st.sets(st.integers(0, 9), min_size=1))]
    path = tmp_path_factory.mktemp("slice") / ZIP
    said = "".join(f"{scene}\t0\tA cat.\n\n" for scene in scenes).encode()
    write_zip(
        path, [*((f"RenderedScenes/Scene{s // 10}_{s % 10}.png", b"") for s in scenes), (FIRST, said), (SECOND, said)]
    )
    table, _ = abstract_scenes.read(path)
    assert set(table["image_id"]) == {str(scene) for scene in scenes}
    assert (table.groupby(table["image_id"].astype(int) // 10)["split"].nunique() == 1).all()


def test_shares_of_the_sets() -> None:
    splits = [abstract_scenes.split_of(10 * part) for part in range(1002)]
    assert Counter(splits) == {"train": 802, "val": 100, "test": 100}
    assert all(len(set(splits[first : first + 10])) == 3 for first in range(993))


def test_padded_numbers_mean_the_same(attempt: Try) -> None:
    padded = {name.replace("Scene8_", "Scene0008_0"): data for name, data in MEMBERS.items()}
    table = attempt(padded).table
    assert table[table["image_id"] == "85"]["file"].unique().tolist() == [f"{ZIP}/{TOP}RenderedScenes/Scene0008_05.png"]


def test_the_same_scene_twice_is_named(attempt: Try) -> None:
    with pytest.raises(UserError, match=r"RenderedScenes/Scene08_1\.png and \S*Scene8_1\.png are the same scene; fix"):
        attempt({**MEMBERS, "RenderedScenes/Scene08_1.png": png(81)})


def test_what_is_no_scene_is_noted(attempt: Try) -> None:
    others = {f"RenderedScenes/{other}": b"" for other in ("Scene3_10.png", "Thumbs.db", "scene1_1.png", "Scene1.png")}
    prepared = attempt({**MEMBERS, **others})
    assert prepared.table["image_id"].nunique() == 60
    assert prepared.notes[1].startswith(f"4 files in RenderedScenes/ are no scenes and are left out: {TOP}Rendered")


def test_a_scene_without_sentences_and_sentences_without_a_scene_are_noted(attempt: Try) -> None:
    members = {name: data for name, data in MEMBERS.items() if not name.endswith("Scene17_4.png")}
    for name in (FIRST, SECOND):
        lines = [line for line in members[name].splitlines(keepends=True) if not line.startswith(b"95\t")]
        members[name] = b"".join([*lines, b"20000\t0\tNobody.\n"])
    prepared = attempt(members)
    assert prepared.table["image_id"].nunique() == 58
    assert prepared.notes == [
        "59 scenes are in the archive; published are 10,020",
        f"1 scenes have no sentence and are left out: {TOP}RenderedScenes/Scene9_5.png",
        "the sentences of 2 scenes without an image are left out: 174, 20000",
    ]


@pytest.mark.parametrize("member", [FIRST, SECOND])
def test_a_missing_file_of_sentences_is_named(attempt: Try, member: str) -> None:
    with pytest.raises(UserError, match=rf"{ZIP}: it has no files {Path(member).name}; fix the file, or download"):
        attempt({name: data for name, data in MEMBERS.items() if name != member})
    assert not attempt.out.exists()


def test_two_files_of_sentences_are_not_one(attempt: Try) -> None:
    with pytest.raises(UserError, match=r"it has 2 files SimpleSentences1_10020\.txt"):
        attempt({**MEMBERS, "copy/SimpleSentences1_10020.txt": b""})


def test_a_missing_and_a_second_folder_of_images_are_named(attempt: Try) -> None:
    with pytest.raises(UserError, match=r"it has no folder RenderedScenes/"):
        attempt({name: data for name, data in MEMBERS.items() if not name.startswith("Rendered")})
    with pytest.raises(UserError, match=r"it has 2 folders RenderedScenes/"):
        attempt({**MEMBERS, "copy/RenderedScenes/Scene1_1.png": b""})


@pytest.mark.parametrize(
    "line",
    [b"80 0 no tabs", b"80\tno number", b"\t0\tNo scene.", b"80\t0\t \t", b"80\t0\t", b"-1\t0\tA cat.", b"80\t0\ta\tb"],
)
def test_a_malformed_line_is_named_with_its_number(attempt: Try, line: bytes) -> None:
    with pytest.raises(UserError, match=rf"{SECOND}, line 3: .* is not scene<TAB>number<TAB>sentence; fix the file"):
        attempt({**MEMBERS, SECOND: b"80\t0\tA cat.\r\n\r\n" + line + b"\r\n"})


def test_a_control_character_is_named_with_its_line(attempt: Try) -> None:
    with pytest.raises(UserError, match=rf"{SECOND}, line 2: caption has the control character '\\x07' in it"):
        attempt({**MEMBERS, SECOND: b"80\t0\tA cat.\r\n81\t0\tA \x07cat.\r\n"})


def test_what_is_not_utf_8_is_named_with_its_line(attempt: Try) -> None:
    with pytest.raises(UserError, match=rf"{FIRST}, line 3: not UTF-8"):
        attempt({**MEMBERS, FIRST: b"80\t0\tA cat.\r\n\r\n81\t0\tA caf\xe9.\r\n"})


def test_a_truncated_archive_is_named(attempt: Try) -> None:
    attempt()
    path = attempt.source / ZIP
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=rf"{ZIP}: missing, cut short or damaged"):
        attempt.run()


def test_a_corrupt_image_stops_the_run_or_is_left_out(attempt: Try) -> None:
    broken = {**MEMBERS, "RenderedScenes/Scene8_1.png": png(81)[:40]}
    with pytest.raises(
        UserError, match=r"1 of 60 images cannot be decoded: .*Scene8_1\.png \(.+\); .*skip_corrupt=true"
    ):
        attempt(broken)
    prepared = attempt(broken, skip=True)
    assert "81" not in set(prepared.table["image_id"])
    assert prepared.notes[-1].startswith("1 images that cannot be decoded are left out: ")


def test_a_slice_without_a_split_says_so(attempt: Try) -> None:
    with pytest.raises(UserError, match="no caption in the split 'test'"):
        attempt({name: data for name, data in MEMBERS.items() if "Scene9_" not in name})


_SAID = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)


@given(
    st.lists(st.tuples(st.integers(0, 10019), st.integers(0, 5), _SAID)),
    st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\r\n", "\n \r\n"]),
)
def test_parsing_inverts_writing(entries: list[tuple[int, int, str]], end: str) -> None:
    written = "".join(f"{scene}\t{number}\t{said}{end}" for scene, number, said in entries)
    assert abstract_scenes.parse_sentences(written, "x") == [
        (scene, " ".join(said.split())) for scene, _, said in entries
    ]


def test_the_table_passes_the_seam(attempt: Try) -> None:
    check_table(attempt().table)
