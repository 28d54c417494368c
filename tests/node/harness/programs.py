"""What the node tests need beyond the cluster tests: found, or built once.

``python -m tests.node.harness.programs`` makes it available before pytest, whose time-outs do not
know of builds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from scripts.get_helm import LAYERS, get_helm
from scripts.get_helm import UnavailableError as NoHelmError
from tests.cluster.harness.programs import (
    NEWEST,
    ROOT,
    Programs,
    UnavailableError,
    find_programs,
)
from tests.node.harness.images import build_images
from tests.node.harness.node import check_packages

_KUBERNETES: Final = (
    *("kube-apiserver", "kube-controller-manager", "kubectl"),
    *("kube-scheduler", "kubelet", "kube-proxy"),
)
HELM: Final = max(LAYERS)


def find_node_programs() -> tuple[Programs, Path]:
    """Kubernetes' programs and CoreDNS.

    Raises:
        UnavailableError: something is missing and cannot be built; the text says what to do.

    """
    _check_user()
    check_packages()
    return find_programs(NEWEST, _KUBERNETES), _find_coredns()


def _find_coredns() -> Path:
    script = subprocess.run(
        [sys.executable, "-m", "scripts.build_coredns"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if script.returncode:
        msg = "CoreDNS cannot be built"
        raise UnavailableError(msg)
    return Path(script.stdout.strip())


def main() -> None:
    """Build what the node tests need; where that fails, the tests themselves say so."""
    with ThreadPoolExecutor() as pool:
        # Go wants the processors, the images want the registries.
        for built in (pool.submit(find_node_programs), pool.submit(_build_others)):
            try:
                built.result()
            except (UnavailableError, NoHelmError) as error:
                sys.stderr.write(f"node tests: {error}\n")


def _build_others() -> None:
    _check_user()
    build_images()
    get_helm(HELM)


def _check_user() -> None:
    if os.geteuid() != 0:
        msg = "a node needs root (namespaces, mounts, cgroups)"
        raise UnavailableError(msg)


if __name__ == "__main__":
    main()
