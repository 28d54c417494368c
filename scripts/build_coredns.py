"""Build CoreDNS from the Go module proxy into a cache and print the program's path.

    python -m scripts.build_coredns [--version 1.12.4]

With the plugins that names in a cluster need, one that makes up all others, and no more, which is
several times quicker than the whole. The program is
$XDG_CACHE_HOME/green-training/coredns/VERSION-PLUGINS/coredns.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.build_kubernetes import Go, tell
from scripts.cache import cache_folder, locked

DEFAULT_VERSION = "1.12.4"
_PLUGINS = ("bind", "cache", "errors", "template", "kubernetes")
_MAIN = """package main

import (
\t"github.com/coredns/coredns/core/dnsserver"
\t"github.com/coredns/coredns/coremain"
{imports}
)

func main() {{
\tdnsserver.Directives = []string{{{directives}}}
\tcoremain.Run()
}}
"""


def build(version: str) -> Path:
    """Build it where the cache lacks it.

    Raises:
        FileNotFoundError: there is no Go.
        subprocess.CalledProcessError: Go refused; it has told why on standard error.

    """
    program = cache_folder("coredns", "-".join([version, *_PLUGINS])) / "coredns"
    with locked(program.parent):
        if not program.exists():
            _build(version, program)
    return program


def _build(version: str, program: Path) -> None:
    tell(f"building coredns {version}: some minutes, once")
    objects = program.parent / "go-build"  # kept where a build fails, to go on from
    go = Go(objects)
    imports = "\n".join(f'\t_ "github.com/coredns/coredns/plugin/{name}"' for name in _PLUGINS)
    directives = ", ".join(f'"{name}"' for name in _PLUGINS)
    with tempfile.TemporaryDirectory(dir=program.parent, prefix="building-") as name:
        work = Path(name)
        (work / "main.go").write_text(_MAIN.format(imports=imports, directives=directives))
        go.run(work, "mod", "init", "green-training.test/coredns")
        go.run(work, "mod", "edit", f"-require=github.com/coredns/coredns@v{version}")
        go.run(work, "build", "-trimpath", "-ldflags", "-s -w", "-o", work / "coredns", ".")
        (work / "coredns").rename(program)  # whole or not at all
    shutil.rmtree(objects)


def main() -> int:
    """Read the command line; exit 1 where it cannot be built."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", default=DEFAULT_VERSION)
    try:
        print(build(parser.parse_args().version))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        tell(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
