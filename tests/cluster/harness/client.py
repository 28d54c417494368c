"""A small synchronous client of the API server, with plain dicts; safe to share between threads."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import urllib3
import yaml

Object = dict[str, Any]

_PATCHES: Final = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


@dataclass(frozen=True)
class Kind:
    """A resource and where it lies."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        root = "apis" if "/" in self.api_version else "api"
        place = ("namespaces", namespace) if self.namespaced and namespace else ()
        return "/" + "/".join(
            part
            for part in (root, self.api_version, *place, self.plural, name, subresource)
            if part
        )


_KINDS: Final = (
    JOBS := Kind("batch/v1", "Job", "jobs"),
    PODS := Kind("v1", "Pod", "pods"),
    NODES := Kind("v1", "Node", "nodes", namespaced=False),
    NAMESPACES := Kind("v1", "Namespace", "namespaces", namespaced=False),
    CONFIG_MAPS := Kind("v1", "ConfigMap", "configmaps"),
    SECRETS := Kind("v1", "Secret", "secrets"),
    SERVICES := Kind("v1", "Service", "services"),
    CLAIMS := Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    QUOTAS := Kind("v1", "ResourceQuota", "resourcequotas"),
    SERVICE_ACCOUNTS := Kind("v1", "ServiceAccount", "serviceaccounts"),
    CORE_EVENTS := Kind("v1", "Event", "events"),
    EVENTS := Kind("events.k8s.io/v1", "Event", "events"),
    LEASES := Kind("coordination.k8s.io/v1", "Lease", "leases"),
    ROLES := Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
    ROLE_BINDINGS := Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    CLUSTER_ROLES := Kind(
        "rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False
    ),
    CLUSTER_ROLE_BINDINGS := Kind(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        namespaced=False,
    ),
    CRDS := Kind(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
    ),
    GREEN_JOBS := Kind("greentraining.io/v1alpha1", "GreenTrainingJob", "greentrainingjobs"),
    ZONES := Kind("greentraining.io/v1alpha1", "GridZone", "gridzones", namespaced=False),
)


def kind_of(document: Mapping[str, Any]) -> Kind:
    """The kind of a manifest."""
    wanted = (document["apiVersion"], document["kind"])
    for kind in _KINDS:
        if (kind.api_version, kind.name) == wanted:
            return kind
    msg = f"{wanted} is not among the harness's kinds: add it to client.py"
    raise LookupError(msg)


class ApiError(Exception):
    """The server refused; ``status`` is the HTTP code, ``body`` its Status object."""

    def __init__(self, status: int, body: Object) -> None:
        self.status = status
        self.body = body
        self.reason: str = body.get("reason", "")
        self.message: str = body.get("message", "")
        super().__init__(f"{status} {self.reason}: {self.message}")


class Client:
    """One user of an API server.

    Args:
        server: such as ``https://127.0.0.1:6443``.
        context: trust, and the user's certificate where that is how it signs in.
        token: else its bearer token.
        timeout: seconds for each request but a watch.

    """

    def __init__(
        self,
        server: str,
        context: ssl.SSLContext | None = None,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.server = server
        self._timeout = timeout
        self._headers = {"Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(maxsize=16, retries=False, ssl_context=context)

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Client:
        """The client that a kubeconfig of this harness describes."""
        config = yaml.safe_load(path.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = None
        if authority := cluster.get("certificate-authority"):
            context = ssl.create_default_context(cafile=authority)
            if certificate := user.get("client-certificate"):
                context.load_cert_chain(certificate, user["client-key"])
        return cls(cluster["server"], context, user.get("token"))

    def close(self) -> None:
        self._pool.clear()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, object] | None = None,
    ) -> Object:
        """One request.

        Raises:
            ApiError: the server refused.
            urllib3.exceptions.HTTPError: it could not be asked.

        """
        response = self._pool.request(
            method,
            self._url(path, query),
            body=None if body is None else json.dumps(body).encode(),
            headers={**self._headers, "Content-Type": content_type},
            timeout=self._timeout,
        )
        if response.status >= 300:
            raise ApiError(response.status, _status_of(response.data))
        return response.json() if response.data[:1] == b"{" else {"text": response.data.decode()}

    def get(self, kind: Kind, name: str, namespace: str = "", subresource: str = "") -> Object:
        return self.request("GET", kind.path(namespace, name, subresource))

    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """The object, or None where there is none."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> list[Object]:
        query = {"labelSelector": labels} if labels else None
        items: list[Object] = self.request("GET", kind.path(namespace), query=query)["items"]
        return items

    def create(self, document: Object, namespace: str = "", *, dry_run: bool = False) -> Object:
        kind = kind_of(document)
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.request(
            "POST", kind.path(_namespace(document, namespace)), document, query=query
        )

    def replace(self, document: Object, *, subresource: str = "") -> Object:
        kind, meta = kind_of(document), document["metadata"]
        path = kind.path(meta.get("namespace", ""), meta["name"], subresource)
        return self.request("PUT", path, document)

    def patch(
        self,
        kind: Kind,
        name: str,
        patch: object,
        namespace: str = "",
        *,
        subresource: str = "",
        how: str = "merge",
        query: Mapping[str, object] | None = None,
    ) -> Object:
        """Patch by ``merge``, ``strategic``, ``json`` or ``apply``."""
        path = kind.path(namespace, name, subresource)
        return self.request("PATCH", path, patch, content_type=_PATCHES[how], query=query)

    def patch_status(self, kind: Kind, name: str, status: Object, namespace: str = "") -> Object:
        return self.patch(kind, name, {"status": status}, namespace, subresource="status")

    def apply(
        self,
        document: Object,
        namespace: str = "",
        *,
        manager: str = "tests",
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply, with unknown fields refused as kubectl has them refused."""
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        kind, name = kind_of(document), document["metadata"]["name"]
        where = _namespace(document, namespace)
        return self.patch(kind, name, document, where, how="apply", query=query)

    def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        grace_seconds: int | None = None,
        propagation: str = "Background",
        uid: str = "",
    ) -> None:
        """Delete; what is gone already is no error."""
        options: Object = {"propagationPolicy": propagation}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", kind.path(namespace, name), options)
        except ApiError as error:
            if error.status != 404:
                raise

    def watch(
        self, kind: Kind, namespace: str = "", *, labels: str = "", version: str = "0"
    ) -> Iterator[tuple[str, Object]]:
        """Events until the server ends the stream, which it does within 30 seconds.

        Raises:
            ApiError: the server refused, or ended the stream with an error.

        """
        query: dict[str, object] = {
            "watch": "1",
            "resourceVersion": version,
            "timeoutSeconds": 30,
            "allowWatchBookmarks": "true",
        }
        if labels:
            query["labelSelector"] = labels
        response = self._pool.request(
            "GET",
            self._url(kind.path(namespace), query),
            headers=self._headers,
            timeout=urllib3.Timeout(connect=5, read=40),
            preload_content=False,
        )
        try:
            if response.status >= 300:
                raise ApiError(response.status, _status_of(response.data))
            rest = b""
            while chunk := response.read1(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 0), event["object"])
                    yield event["type"], event["object"]
        finally:
            response.close()

    def _url(self, path: str, query: Mapping[str, object] | None) -> str:
        return f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")


def _namespace(document: Object, namespace: str) -> str:
    return namespace or document["metadata"].get("namespace", "")


def _status_of(data: bytes) -> Object:
    try:
        body = json.loads(data)
    except ValueError:
        body = {"message": data[:500].decode(errors="replace")}
    return body if isinstance(body, dict) else {"message": str(body)}
