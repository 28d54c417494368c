"""``green-operator``: the process in the operator's pods."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
import uuid
from pathlib import Path
from typing import Annotated, Final

import typer
import yaml
from green_api.config import OperatorConfig
from green_api.errors import UserError
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import (
    ConfigException,
    load_incluster_config,
    load_kube_config,
)

from green_operator.cluster.http import serve
from green_operator.cluster.operator import Operator
from green_operator.handlers import registry, watch

# Ten thousand records live long: to look through them after every 700 new objects takes a sixth of
# the CPU of a start.
_OBJECTS_BETWEEN_COLLECTIONS: Final = 50_000

# A traceback with its local variables may hold what no log should.
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Option(help="The configuration file (YAML).", envvar="GREEN_CONFIG")
    ] = None,
    namespace: Annotated[
        str, typer.Option(help="The operator's own namespace.", envvar="POD_NAMESPACE")
    ] = "green-training",
    identity: Annotated[
        str | None, typer.Option(help="Names this replica.", envvar="POD_NAME")
    ] = None,
    port: Annotated[int, typer.Option(help="For /metrics, /livez and /readyz.")] = 8080,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run one replica of the operator against the cluster of this pod, or of $KUBECONFIG."""
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("kopf.objects", "kopf.activities.authentication"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = _read_config(config)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from None
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    # A restarted container has its pod's name again, and must not take its old lease for its own.
    who = f"{identity or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    asyncio.run(_run(settings, namespace, who, port))


def _read_config(path: Path | None) -> OperatorConfig:
    if path is None:
        return OperatorConfig()
    try:
        document = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise UserError(msg) from None
    if not isinstance(document, dict):
        msg = f"{path}: is not an object"
        raise UserError(msg)
    return OperatorConfig.parse(document, str(path))


async def _run(config: OperatorConfig, namespace: str, identity: str, port: int) -> None:
    configuration = await _configuration()
    operator = Operator(configuration, config, namespace, identity)
    handlers = registry(configuration, operator.index, operator.zones, operator.touch)
    await operator.run(
        lambda: watch(handlers, operator.namespaces),
        lambda: serve(operator, port),
    )


async def _configuration() -> Configuration:
    configuration = Configuration(client_session_kwargs={"trust_env": False})
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        await load_kube_config(
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
        )
    return configuration


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
