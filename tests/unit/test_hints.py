"""What a message names is what is there: no file, a folder, a plug-in of another checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppfr_bench import registry
from ppfr_bench.cli.options import check_writable
from ppfr_bench.cli.plugins import check
from ppfr_bench.errors import UserError
from ppfr_bench.protection.folder import protect_folder
from ppfr_bench.runner.choice import choose


def test_a_missing_file_a_folder_and_another_kind_of_file_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    for name, says in (("nope.py", "no such file: "), ("folder.py", "got the folder "),
                       ("notes.txt", "expected a Python file, got ")):  # fmt: skip
        with pytest.raises(UserError, match=f"{says}.*{name}") as error:
            registry.add_plugin(tmp_path / name)
        assert error.value.hint
    with pytest.raises(UserError, match="no such file"):
        check(str(tmp_path / "nope.py"))
    with pytest.raises(UserError, match="got the folder"):
        check(str(tmp_path))


def test_a_missing_folder_of_images_is_not_called_a_file(tmp_path: Path) -> None:
    defense = registry.build("defense", "pixelate", {})
    with pytest.raises(UserError, match=r"no such folder: .*nope"):
        protect_folder(defense, tmp_path / "nope", tmp_path / "out")
    (tmp_path / "one.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"got the file .*one\.png") as error:
        protect_folder(defense, tmp_path / "one.png", tmp_path / "out")
    assert "not a file in it" in error.value.hint


def test_a_file_is_no_folder_for_results(tmp_path: Path) -> None:
    path = tmp_path / "board.txt"
    path.write_text("kept")
    with pytest.raises(UserError, match=r"expected a folder, got the file .*board\.txt"):
        check_writable(str(path))
    assert path.read_text() == "kept"
    check_writable(str(tmp_path / "new"))
    assert not list((tmp_path / "new").iterdir())


def test_an_unknown_plugin_is_told_which_checkout_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = registry.plugin_folder("defense")
    assert (used / "pixelate.py").is_file()
    for ask in (lambda: registry.load("defense", "my_defense"), lambda: check("my_defense"),
                lambda: choose("defense", ["my_defense"], ())):  # fmt: skip
        with pytest.raises(UserError, match=r"unknown (defense|plug-in) 'my_defense'") as error:
            ask()
        assert str(used) in error.value.hint and "another checkout" not in error.value.hint
    (tmp_path / "defenses").mkdir()
    (tmp_path / "defenses/my_defense.py").write_text("DEFENSE = None")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="another checkout") as error:
        check("my_defense")
    assert "--plugin defenses/my_defense.py" in error.value.hint and "pip install -e ." in error.value.hint


def test_the_file_of_another_checkout_is_not_checked_by_the_one_in_use(tmp_path: Path) -> None:
    (tmp_path / "defenses").mkdir()
    path = tmp_path / "defenses/pixelate.py"
    path.write_text("DEFENSE = None")
    with pytest.raises(UserError, match=r"pixelate\.py is not the file in use: defense 'pixelate' is ") as error:
        check(str(path))
    assert "pip install -e ." in error.value.hint
