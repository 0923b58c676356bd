"""The machine around a command: odd homes, caches, streams and signals give a message, never a bug."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ppfr_bench import assets, cli, doctor
from ppfr_bench.cli.recognizers import overview
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.maintenance import nightly
from ppfr_bench.parallel import ordered
from ppfr_bench.places import folder_at, from_environment, home_folder, resolved, user_path
from ppfr_bench.recognizers._external import folder_of
from ppfr_bench.recognizers._insightface import resolve

COMMAND = [sys.executable, "-m", "ppfr_bench.cli"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of one's own, and an empty working folder beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in ("PPFR_BENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.fixture
def homeless(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without HOME that the system does not know, as in a container."""

    def unknown(_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    """The program in this process: exit code, standard output and error."""
    monkeypatch.setattr(sys, "argv", ["ppfr-bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, *capsys.readouterr()


# Paths


def test_a_leading_tilde_is_the_home_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_path("~", "x") == home and user_path("~/a/b", "x") == home / "a" / "b"
    assert user_path("a/~/b", "x") == Path("a/~/b") and user_path("./~/a", "x") == Path("~/a")
    assert user_path("~root/a", "x") == Path(pwd.getpwnam("root").pw_dir, "a")
    for variable in ("PPFR_BENCH_CACHE", "PPFR_BENCH_LFW", "INSIGHTFACE_HOME"):
        monkeypatch.setenv(variable, "~/data")
        assert from_environment(variable) == home / "data"
        for empty in ("", " "):
            monkeypatch.setenv(variable, empty)
            assert from_environment(variable) is None


def test_a_home_that_is_not_there_is_said(homeless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--out is ~/a, and there is no home folder: HOME is not set and user \d+ is"):
        user_path("~/a", "--out")
    for strange in ("~", "here"):
        monkeypatch.setenv("HOME", strange)
        with pytest.raises(UserError, match=f"HOME is {strange}, which is no absolute path"):
            user_path("~/a", "--out")
    monkeypatch.setenv("HOME", "")
    assert home_folder() is None
    with pytest.raises(UserError, match=r"no user is named 'nobody_like_this'\n.*\./~nobody_like_this/x"):
        user_path("~nobody_like_this/x", "PPFR_BENCH_LFW")


@pytest.mark.parametrize("path", ["C:\temp", "/data\n", "a\rb", "a\fb"])
def test_what_toml_made_of_backslashes_is_said(path: str) -> None:
    with pytest.raises(UserError, match=r"--set holds a tab, a line end.*\\[tnrf].*\n.*single quotes"):
        user_path(path, "--set")


def test_what_no_path_holds_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="null character"):
        user_path("a\0b", "--out")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "loop" / "a", tmp_path / "a\0b"):
        with pytest.raises(UserError, match=r"leads nowhere: .*(null|loop)"):
            folder_at(resolved(path, "the card"), "the card", "")


# The cache


def test_the_cache_is_where_it_is_said_to_be(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert assets.cache_dir() == home / ".cache" / "ppfr-bench"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/elsewhere")
    assert assets.cache_dir() == home / "elsewhere" / "ppfr-bench"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification has ignored
    assert assets.cache_dir() == home / ".cache" / "ppfr-bench"
    monkeypatch.setenv("PPFR_BENCH_CACHE", "~/mine")
    assert assets.make_cache_folder("a", "b") == home / "mine" / "a" / "b"
    monkeypatch.setenv("PPFR_BENCH_CACHE", "")
    assert assets.cache_dir() == home / ".cache" / "ppfr-bench"
    assert not list(Path.cwd().iterdir())


def test_without_a_home_the_cache_is_asked_for(
    homeless: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["assets", "list"], ["assets", "verify"], ["assets", "fetch"]):
        code, _, said = main(monkeypatch, capsys, *arguments)
        assert code == 2 and "internal" not in said
        assert "no home folder" in said and "PPFR_BENCH_CACHE=DIR" in said
    found = {one.what: one for one in doctor.examine()}
    assert found["cache"].state == "missing" and "PPFR_BENCH_CACHE=DIR" in found["cache"].hint
    assert all("PPFR_BENCH_CACHE" in row["hint"] for row in overview() if row["kind"] == "built in")
    assert main(monkeypatch, capsys, "list")[0] == 0
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    assert main(monkeypatch, capsys, "assets", "list")[0] == 0
    assert {one.what: one for one in doctor.examine()}["cache"].state == "ok"
    assert not list(Path.cwd().iterdir())


def broken_caches(folder: Path) -> dict[str, Path]:
    """By what is wrong with each."""
    (folder / "file").write_text("")
    (folder / "link").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to("loop")
    return {
        "is a file": folder / "file", "file is a file": folder / "file" / "below", "a link to nowhere": folder / "link",
        "link is a link to nowhere": folder / "link" / "below", "symbolic links": folder / "loop",
    }  # fmt: skip


@pytest.mark.parametrize("wrong", ["is a file", "file is a file", "a link to nowhere", "link is a link to nowhere",
                                   "symbolic links"])  # fmt: skip
def test_a_cache_that_cannot_be_one_is_said_by_every_command(
    wrong: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(broken_caches(home)[wrong]))
    commands = [["assets", "list"], ["assets", "verify"], ["assets", "fetch", "faceplugin"], ["run", "smoke"]]
    for arguments in commands:
        code, _, said = main(monkeypatch, capsys, *arguments)
        assert code == 2 and wrong in said and "PPFR_BENCH_CACHE=DIR" in said, arguments
    code, out, said = main(monkeypatch, capsys, "doctor", "--json")
    cache = {one["what"]: one for one in json.loads(out)}["cache"]
    assert code == 1 and not said and wrong in cache["found"] and cache["hint"]
    with pytest.raises(UserError, match=wrong), nightly.empty_cache():
        raise AssertionError("not reached")
    assert all(not row["runs_here"] for row in overview() if row["kind"] == "built in")


def test_a_cache_that_cannot_be_read_or_written_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", "/proc/nowhere")  # where not even root makes a folder
    with pytest.raises(UserError, match=r"cannot make the folder /proc/nowhere/a: .*\n.*PPFR_BENCH_CACHE=DIR"):
        assets.make_cache_folder("a")
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(home))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(UserError, match=f"the cache is {home}, which cannot be reached: Permission denied"):
        assets.cache_dir()


def test_a_cache_that_can_only_be_read_serves_what_is_in_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    made = assets.Asset("weights", "url", "nowhere", "1", "a.tgz", sha256, "weights.bin", sha256, len(content), "MIT")
    monkeypatch.setattr(assets, "MANIFEST", {"weights": made})
    made.path.parent.mkdir(parents=True)
    made.path.write_bytes(content)
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("nothing is to be written"))
    assert assets.fetch("weights") == assets.asset_path("weights") == made.path


# What other packages are told


def test_other_packages_are_told_of_folders_that_they_can_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, folder in (("~/mine", home / "mine"), ("", home / ".cache" / "ppfr-bench" / "deepface")):
        monkeypatch.setenv("DEEPFACE_HOME", said)
        assert folder_of("DEEPFACE_HOME", "deepface") == folder
        assert os.environ["DEEPFACE_HOME"] == str(folder)


def test_insightface_is_looked_for_in_the_home_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, folder in (("~/packs", home / "packs"), ("", home / ".insightface")):
        monkeypatch.setenv("INSIGHTFACE_HOME", said)
        with pytest.raises(Unavailable, match=f"no insightface pack or file buffalo_l: .*{folder}/models/buffalo_l"):
            resolve("buffalo_l")
    with pytest.raises(Unavailable, match=f"looked at {home}/r50.onnx"):
        resolve("~/r50.onnx")


def test_insightface_needs_no_home(homeless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INSIGHTFACE_HOME", raising=False)
    with pytest.raises(Unavailable) as caught:
        resolve("buffalo_l")
    assert caught.value.message == "no insightface pack or file buffalo_l: looked at buffalo_l"


# Arguments


def test_a_tilde_behind_an_option_is_the_home_folder(home: Path) -> None:
    """bash leaves it: ``--results=~/records`` comes as it is typed."""
    for arguments in (["show", "x", "--results=~/none"], ["show", "x", "--results", "~/none"]):
        done = CliRunner().invoke(cli.app, arguments)
        assert isinstance(done.exception, UserError) and f"no results at {home}/none" in str(done.exception)
    done = CliRunner().invoke(cli.app, ["show", "x", "--results=~nobody_like_this/none"])
    assert isinstance(done.exception, UserError) and "--results is ~nobody_like_this/none" in str(done.exception)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    "arguments",
    [["run", "caf\udce9.toml"], ["run", "caf\udce9"], ["check", "caf\udce9.toml"], ["check", "caf\udce9.py"],
     ["check", "caf\udce9"], ["show", "caf\udce9", "--results", "caf\udce9"], ["leaderboard", "--results=\udce9"],
     ["run", "smoke", "--defense", "\udce9"], ["run", "smoke", "--recognizer", "\udce9.toml"], ["list", "\udce9"],
     ["run", "smoke", "--set", "seed=\udce9"], ["run", "smoke", "--plugin", "\udce9.py"], ["\udce9"]],
)  # fmt: skip
def test_arguments_that_are_no_text(
    home: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = main(monkeypatch, capsys, *arguments)
    assert code == 2 and "internal" not in said and "Traceback" not in said


# Streams and signals


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, env=os.environ | environment, timeout=120
    )


def test_streams_that_cannot_write_every_letter(tmp_path: Path) -> None:
    done = run("list", "recognizers", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and not done.stderr and "| dlib_resnet" in done.stdout
    done = run("doctor", PYTHONIOENCODING="ascii")
    assert "internal" not in done.stderr and "\\u2713 torch" in done.stdout
    done = run("show", "x", "--results", "caf\udce9", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 2 and "no results at caf" in done.stderr


def in_a_shell(line: str) -> subprocess.CompletedProcess[str]:
    command = f'set -o pipefail; bench() {{ {" ".join(COMMAND)} "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("bench list | true", 141), ("bench list --json | true", 141), ("bench list recognizers | true", 141),
        ("bench run nosuch 2>&1 | true", 2), ("bench list >&-", 0), ("bench list 2>&-", 0),
        ("bench run nosuch 2>&-", 2),
    ],
)  # fmt: skip
def test_a_reader_that_has_gone_is_no_bug(line: str, code: int) -> None:
    done = in_a_shell(line)
    assert done.returncode == code and not done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full: the disk that is always full")
@pytest.mark.parametrize("command", ["list", "list --json", "list recognizers"])
def test_a_full_disk_behind_standard_output_is_said(command: str) -> None:
    done = in_a_shell(f"bench {command} >/dev/full")
    assert done.returncode == 2 and "error: " in done.stderr and "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr and "internal" not in done.stderr


def test_ctrl_c_is_quiet(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = (
        "import signal, sys; from ppfr_bench import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # What runs in the background may ignore it.
        f"def wait(): print('here', flush=True); open({str(pipe)!r}).read()\n"
        "cli.app.command('wait')(wait); sys.argv[:] = ['ppfr-bench', 'wait']; cli.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said.replace("Aborted.", "").strip()) == (130, "", "")


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no signal masks")
def test_workers_do_not_hear_ctrl_c() -> None:
    """Else each of them would print where it was, while the program ends them."""
    mine = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    masks = list(ordered(partial(signal.pthread_sigmask, signal.SIG_BLOCK), [[], []], workers=2))
    assert masks == [{signal.SIGINT}] * 2 and signal.pthread_sigmask(signal.SIG_BLOCK, []) == mine


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (PermissionError(13, "Permission denied", "/data/caf\udce9"), 2, "error: /data/caf\\xe9: Permission denied"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device"),
        (ValueError("caf\udce9"), 1, "internal error: ValueError: caf\\udce9"),
        (BrokenPipeError(32, "Broken pipe"), 2, "error: Broken pipe"),
        (RuntimeError("Symlink loop from '/data/a.py'"), 2, "error: Symlink loop from '/data/a.py'"),
        (UserError("expected [x], got caf\udce9", "Type y."), 2, "error: expected [x], got caf\\udce9\nType y."),
    ],
)
def test_what_the_machine_refuses_is_no_bug(
    raised: Exception, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr(cli, "app", fail)
    found, _, said = main(monkeypatch, capsys, "x")
    assert found == code and says in said
    monkeypatch.setattr(sys, "argv", ["ppfr-bench", "x", "--debug"])
    with pytest.raises(type(raised)):
        cli.main()


# All of it at once, as a container has it


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root becomes another user")
def test_a_user_whom_the_system_does_not_know(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    reads = "+dac_read_search"  # the interpreter may lie in a home folder that others cannot enter
    prefix = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps", reads, "--ambient-caps",
              reads, "env", "-i", f"PATH={os.environ['PATH']}"]  # fmt: skip

    def ask(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = [f"{name}={value}" for name, value in environment.items()]
        command = [*prefix, *variables, sys.executable, "-P", "-c", "from ppfr_bench.cli import main; main()"]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False, cwd=work, timeout=180
        )

    if ask("--version").returncode:
        pytest.skip("this sandbox gives no capabilities away")
    for arguments, code in ((["list"], 0), (["list", "recognizers"], 0), (["doctor"], 1), (["assets", "list"], 2),
                            (["run", "smoke", "--dry-run"], 0), (["run", "smoke"], 2)):  # fmt: skip
        done = ask(*arguments)
        assert done.returncode == code and "internal" not in done.stderr, (arguments, done.stderr)
        if code == 2:
            assert "no home folder" in done.stderr and "PPFR_BENCH_CACHE=DIR" in done.stderr
    for arguments in (["assets", "list"], ["doctor", "--json"], ["check", "pixelate"]):
        done = ask(*arguments, PPFR_BENCH_CACHE=str(work / "cache"))
        assert done.returncode in (0, 1) and not done.stderr, (arguments, done.stderr)
    done = ask("assets", "fetch", "faceplugin", HOME=str(tmp_path / "none"))
    assert done.returncode == 2 and "cannot keep faceplugin" in done.stderr and "PPFR_BENCH_CACHE=DIR" in done.stderr
    assert not [path for path in work.rglob("*") if path.name == "~"]
