"""Python whose look-ups of names and connections are written down, in a network namespace without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *which) {
    FILE *file = fopen(getenv("WATCHED_NETWORK"), "a");
    if (file == NULL) return;
    fprintf(file, "%s %s\n", what, which);
    fclose(file);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **)
        = dlsym(RTLD_NEXT, "getaddrinfo");
    if (name != NULL) note("lookup", name);
    return next(name, service, hints, found);
}

struct hostent *gethostbyname(const char *name) {
    struct hostent *(*next)(const char *) = dlsym(RTLD_NEXT, "gethostbyname");
    if (name != NULL) note("lookup", name);
    return next(name);
}

int connect(int socket, const struct sockaddr *address, socklen_t length) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    char shown[INET6_ADDRSTRLEN] = "";
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, shown, sizeof shown);
    if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, shown, sizeof shown);
    if (shown[0]) note("connect", shown);
    return next(socket, address, length);
}
"""
# In a new namespace the loopback is down, and workers talk over it: 0x8913 and 0x8914 get and set an interface's flags.
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
    name, flags = struct.unpack_from("16sh", fcntl.ioctl(asked, 0x8913, struct.pack("16sh14x", b"lo", 0)))
    fcntl.ioctl(asked, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))
os.execv(sys.argv[1], sys.argv[1:])
"""


def lacking() -> str:
    """Why nothing can be watched here; empty where it can."""
    if not sys.platform.startswith("linux"):
        return "names are watched by a library that Linux loads first"
    if shutil.which("cc") is None:
        return "no C compiler to build the library with that watches"
    tried = subprocess.run(_apart([sys.executable, "-c", ""]), capture_output=True, check=False)
    return "" if tried.returncode == 0 else "no network namespace can be made here"


class WatchedNetwork:
    """Runs Python without a network; ``log`` has a line for every look-up and connection of it and its children."""

    def __init__(self, folder: Path) -> None:
        self.log, self._library = folder / "network.log", folder / "watched.so"
        source = folder / "watched.c"
        source.write_text(SOURCE, encoding="utf-8")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self._library, source, "-ldl"], check=True)

    def start(self, arguments: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        """``python ARGUMENTS`` in an environment."""
        watched = {"LD_PRELOAD": str(self._library), "WATCHED_NETWORK": str(self.log)}
        return subprocess.Popen(
            _apart([sys.executable, *arguments]), env={**env, **watched}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def asked(self) -> set[str]:
        """What was looked up or connected to, but for this machine itself."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.is_file() else []
        here = ("127.", "::1", "localhost", "0.0.0.0")
        return {line for line in lines if not line.split(" ", 1)[1].startswith((*here, os.uname().nodename))}


def _apart(command: Sequence[str]) -> list[str]:
    return ["unshare", "--net", "--map-root-user", sys.executable, "-c", LOOPBACK_UP, *command]
