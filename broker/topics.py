"""MQTT topics and who may use them: `pl/1/{tenant}/{node}/{leaf}`.

Identity, not configuration, decides: a node's user name is `tenant/node` and so is its client id; it may publish its own `up`, `up/json`,
`state`, `rsp` and read its own `ack`, `ack/json`, `cfg`, `cmd`. A platform principal (`platform/...`) reads and writes the other side of
all tenants. Everything else is refused; the will is a publish like any other. No credential and no topic has the node `upload`.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.errors import BadInputError
from broker.ids import check_id, is_id

ROOT = "pl/1"
PLATFORM = "platform"  # reserved: no tenant may have this id
UPLOAD_NODE = "upload"  # reserved: frames of uploaded files come from this node of their tenant, so no credential may have this name
NODE_PUBLISHES = ("up", "up/json", "state", "rsp")
NODE_READS = ("ack", "ack/json", "cfg", "cmd")
LEAVES = NODE_PUBLISHES + NODE_READS
UP_FILTERS = (f"{ROOT}/+/+/up", f"{ROOT}/+/+/up/json")


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated credential: a node of a tenant, or a platform process when `tenant` is `platform`."""

    tenant: str
    node: str

    @property
    def username(self) -> str:
        return f"{self.tenant}/{self.node}"

    @property
    def is_platform(self) -> bool:
        return self.tenant == PLATFORM


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed topic."""

    tenant: str
    node: str
    leaf: str


def topic(tenant: str, node: str, leaf: str) -> str:
    """The topic of one leaf of a node."""
    return f"{ROOT}/{tenant}/{node}/{leaf}"


def parse_topic(name: str) -> Address | None:
    """The address of a concrete topic of ours, else None (wildcards, foreign roots, unknown leaves, bad or reserved ids)."""
    parts = name.split("/", 4)
    if len(parts) != 5 or parts[0] != "pl" or parts[1] != "1":
        return None
    tenant, node, leaf = parts[2], parts[3], parts[4]
    if leaf not in LEAVES or not is_id(tenant) or not is_id(node) or tenant == PLATFORM or node == UPLOAD_NODE:
        return None
    return Address(tenant, node, leaf)


def parse_username(name: str) -> Principal | None:
    """The principal a user name stands for, else None."""
    tenant, _, node = name.partition("/")
    return Principal(tenant, node) if is_id(tenant) and is_id(node) and node != UPLOAD_NODE else None


def check_node(text: str) -> str:
    """Return `text` or raise BadInputError when no node may have this name."""
    if text == UPLOAD_NODE:
        raise BadInputError(f"node {text!r}: this name is reserved for uploaded files", cure="give the node another name")
    return check_id(text, "node")


def may_publish(who: Principal, name: str) -> bool:
    """Whether `who` may publish to the concrete topic `name`, as a message, retained or as a will."""
    address = parse_topic(name)
    if address is None:
        return False
    if who.is_platform:
        return address.leaf in NODE_READS
    return (address.tenant, address.node) == (who.tenant, who.node) and address.leaf in NODE_PUBLISHES


def may_subscribe(who: Principal, pattern: str) -> bool:
    """Whether `who` may subscribe to `pattern` (may hold wildcards). A node's filters are concrete topics."""
    levels = pattern.split("/")
    if levels[:2] != ["pl", "1"]:
        return False
    if who.is_platform:
        return (
            len(levels) >= 5
            and all(level == "+" or is_id(level) for level in levels[2:4])
            and levels[3] != UPLOAD_NODE
            and "/".join(levels[4:]) in (*LEAVES, "#", "+", "up/#")
        )
    address = parse_topic(pattern)
    return address is not None and (address.tenant, address.node) == (who.tenant, who.node) and address.leaf in NODE_READS


def may_receive(who: Principal, name: str) -> bool:
    """Whether a message on the concrete topic `name` may be delivered to `who`."""
    address = parse_topic(name)
    if address is None:
        return False
    return who.is_platform or ((address.tenant, address.node) == (who.tenant, who.node) and address.leaf in NODE_READS)
