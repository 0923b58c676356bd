"""A plug-in that does, in ``protect``, whatever its parameter says: what a stranger's file may try."""

from __future__ import annotations

from pathlib import Path

SOURCE = '''
import ctypes, json, os, signal, socket, struct, subprocess, sys, tempfile, threading, time
from pathlib import Path

import torch

from ppfr_bench.api import Config, Defense, DefenseCard, per_image_generators


class Settings(Config):
    act: str = "blend"
    argument: str = ""
    secret: int = 3


def connection():
    """The socket to the harness, which is in this process for whoever looks for it."""
    frame = sys._getframe()
    while "sock" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["sock"]


def frame(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    connection().sendall(struct.pack(">I", len(text)) + text + data)
    time.sleep(5)


def state():
    return torch.Generator().get_state().numpy().tobytes()


def fork_twice():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()


def fork(times):
    for _ in range(times):
        if os.fork() == 0:
            time.sleep(600)
    time.sleep(600)


def hog():
    kept = []
    while True:
        kept.append(torch.ones(1 << 22))
        time.sleep(0.01)


def fill(unlinked=False):
    kept, folder = [], Path(tempfile.gettempdir())
    for number in range(64):
        file = (folder / f"{number}").open("wb")
        file.write(bytes(8 << 20))
        file.flush()
        kept.append(file)
        if unlinked:
            (folder / f"{number}").unlink()
    time.sleep(5)


def datagram(path):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"a message", path)


def write(path):
    Path(path).write_text("here")
    return Path(path).read_text()


ACTS = {
    "network": lambda path: socket.create_connection(("127.0.0.1", int(path)), timeout=3),
    "name": lambda path: socket.getaddrinfo("example.org", 80),
    "read": lambda path: Path(path).read_bytes(),
    "list": lambda path: os.listdir(path),
    "write": write,
    "run": lambda path: subprocess.run(["sh", "-c", "id"], check=True),
    "kill": lambda path: os.kill(int(path), signal.SIGKILL),
    "kill_parent": lambda path: [os.kill(os.getppid(), signal.SIGTERM), time.sleep(1)],
    "trace": lambda path: ctypes.CDLL(None, use_errno=True).ptrace(16, int(path), 0, 0) and denied(),
    "mount": lambda path: ctypes.CDLL(None, use_errno=True).mount(b"none", b"/tmp", b"tmpfs", 0, None) and denied(),
    "disk": lambda path: fill(),
    "unlinked": lambda path: fill(unlinked=True),
    "service": lambda path: socket.socket(socket.AF_UNIX).connect(path),
    "datagram": datagram,
    "memory_of_nobody": lambda path: os.memfd_create("x"),
    "pair": lambda path: [one.send(b"x") for one, _ in [socket.socketpair()]],
    "sys_exit": lambda path: sys.exit(0),
    "interrupt": lambda path: (_ for _ in ()).throw(KeyboardInterrupt()),
    "os_exit": lambda path: os._exit(0),
    "signal": lambda path: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda path: ctypes.string_at(0),
    "fork_twice": lambda path: fork_twice(),
    "forks": lambda path: fork(int(path)),
    "thread": lambda path: threading.Thread(target=time.sleep, args=(600,)).start(),
    "hog": lambda path: hog(),
    "output": lambda path: [os.write(1, bytes(1 << 16)) for _ in range(64)] and time.sleep(5),
    "endless": lambda path: all(iter(lambda: True, False)),
    "no_json": lambda path: frame(b"no JSON at all"),
    "huge_header": lambda path: connection().sendall(b"\\xff" * 64) or time.sleep(5),
    "huge_tensor": lambda path: frame({"tensors": [["float32", [1 << 36]]]}),
    "no_tensors": lambda path: frame({}),
    "wrong_state": lambda path: frame({"tensors": [["uint8", [7]], ["uint8", [1]]]}, bytes(8)),
    "wrong_release": lambda path: frame({"tensors": [["uint8", [5056]], ["float32", [1]]]}, state() + bytes(4)),
    "no_release": lambda path: frame({"tensors": [["uint8", [5056]]]}, state()),
    "wrong_load": lambda path: frame({"load": 1, "tensors": [["int64", [1]]]}, bytes(8)),
    "close": lambda path: connection().shutdown(2) or time.sleep(5),
}


def denied():
    raise PermissionError(ctypes.get_errno(), "denied")


class Plug(Defense):
    version = 4
    card = DefenseCard(title="Plug", family="classical", reference="a test, 2026", licence="MIT", randomness="per_call")
    Config = Settings

    def protect(self, images, generator):
        act = self.config.act
        if act in ACTS:
            raise RuntimeError(f"DONE {ACTS[act](self.config.argument)}")
        if act == "environ":
            raise RuntimeError("ENVIRON " + " ".join(sorted(os.environ)))
        if act == "processes":
            raise RuntimeError("PROCESSES " + " ".join(p for p in os.listdir("/proc") if p.isdigit()))
        noise = [torch.randn(image.shape, generator=one) for image, one in
                 zip(images, per_image_generators(generator, len(images)))]
        out = (0.5 + (images - 0.5) / 2 + 0.01 * torch.stack(noise)).clamp(0, 1)
        if act == "nan":
            out = out / 0 * 0
        if act == "double":
            out = out.double()
        if act == "smaller":
            out = out[:, :, :50]
        if act == "nothing":
            out = None
        if act == "far":
            out = out + 2
        if act == "in_place":
            images[1] = 0
        if act == "global":
            torch.rand(3)
        return out


DEFENSE = Plug
'''


def write_plugin(folder: Path, name: str = "plug", source: str = SOURCE) -> Path:
    """The file of a plug-in."""
    path = folder / f"{name}.py"
    path.write_text(source)
    return path
