import builtins
import io
import zipfile

import pt2_files
import pytest

from fedspeech.models.exported.archive import PT2_ARCHIVE, read_members, write_members


@pytest.mark.parametrize(
    ("missing", "raised", "said"),
    [(PT2_ARCHIVE, ValueError, "torch 2.8 or later"), ("sympy", ModuleNotFoundError, "sympy")],
)
def test_a_missing_part_of_torch_is_no_old_torch(monkeypatch, missing, raised, said):
    right = builtins.__import__

    def without(name, *rest):
        if name == PT2_ARCHIVE:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return right(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(raised, match=said):
        write_members({})


def test_what_is_data_is_read_and_nothing_else():
    members = read_members(pt2_files.packed(pt2_files.members()))
    assert set(members) == {
        "data/weights/weight_0", pt2_files.WEIGHTS, pt2_files.CONSTANTS, pt2_files.MODEL,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        ("data/constants/custom_obj_0", "no code"),
        ("data/constants/opaque_obj_0", "no code"),
        ("data/weights/model.pt", "no code"),  # torch's older layout is one pickle
        ("data/aotinductor/model/code.so", "no code"),
        ("extra/notes.txt", "no code"),
        ("../../outside", "no code"),
        ("data/weights/../../weight_0", "no code"),
        ("models/other.json", "no code"),
    ],
)
def test_a_member_that_could_run_or_leave_its_folder_is_refused_by_name(place, rule):
    data = pt2_files.packed(pt2_files.members() | {place: b"x"})
    with pytest.raises(ValueError, match=rule) as told:
        read_members(data)
    assert place in str(told.value)


def test_members_of_two_folders_are_refused():
    parts = {f"archive/{place}": content for place, content in pt2_files.members().items()}
    data = pt2_files.packed(parts | {"evil/models/model.json": b"{}"}, folder="")
    with pytest.raises(ValueError, match="in one folder"):
        read_members(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused():
    buffer = io.BytesIO(pt2_files.packed(pt2_files.members()))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/models/model.json", b"{}")
    with pytest.raises(ValueError, match="distinct"):
        read_members(buffer.getvalue())


def test_a_zip_bomb_is_refused_before_it_unpacks():
    bomb = pt2_files.members(values=bytes(5_000_000))
    data = pt2_files.packed(bomb, zipfile.ZIP_DEFLATED)
    assert len(data) < 20_000
    with pytest.raises(ValueError, match="without compression"):
        read_members(data)


@pytest.mark.parametrize("kept", [0, 10, 300, 900, -1])
def test_a_truncated_file_is_refused(kept):
    data = pt2_files.packed(pt2_files.members())
    with pytest.raises(ValueError, match=r"not a whole \.pt2 archive"):
        read_members(data[:kept])


def test_a_changed_byte_is_noticed():
    data = bytearray(pt2_files.packed(pt2_files.members()))
    data[data.index(b"linear")] ^= 1
    with pytest.raises(ValueError, match="not a whole"):
        read_members(bytes(data))


def test_numbers_of_another_machine_are_refused():
    parts = pt2_files.members() | {"byteorder": b"big"}
    with pytest.raises(ValueError, match="little-endian"):
        read_members(pt2_files.packed(parts))
