"""Letting a site in again at once after its SuperNode was killed.

The SuperLink takes a second node with the same key only once it holds the first for dead, after
about a minute.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final, cast

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from green_jobs.tasks.federate.flower.runtime import Endpoint

_LOG: Final = logging.getLogger(__name__)


def release(superlink: Endpoint, private_key: bytes, node_id: int) -> None:
    """Say, with the site's own key, that its node is gone; a link that is away hears nothing.

    Args:
        superlink: where the site's server is.
        private_key: the site's, in OpenSSH's format.
        node_id: the site's node.

    """
    key = cast("ec.EllipticCurvePrivateKey", load_ssh_private_key(private_key, None))
    client = FleetHttpClient.from_server_address(
        superlink.address, superlink.ca is None, superlink.ca,
        [NodeAuthHttpInterceptor(key, key.public_key())],
    )  # fmt: skip
    try:
        client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
    except httpx.HTTPError as error:
        _LOG.info("the node could not be released: %s", error)
    finally:
        with suppress(httpx.HTTPError):
            client.close()
