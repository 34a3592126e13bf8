"""Topics and who may use them: the rules, as properties over any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from broker.ids import is_id
from broker.topics import (
    LEAVES,
    NODE_PUBLISHES,
    NODE_READS,
    PLATFORM,
    ROOT,
    UPLOAD_NODE,
    Address,
    Principal,
    check_node,
    may_publish,
    may_receive,
    may_subscribe,
    parse_topic,
    parse_username,
    topic,
)

IDS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True).filter(lambda text: text not in {PLATFORM, UPLOAD_NODE})
NODES = st.builds(Principal, IDS, IDS)
PLATFORMS = st.builds(Principal, st.just(PLATFORM), IDS)
LEAF = st.sampled_from(LEAVES)
LEVEL = st.one_of(
    st.sampled_from(["pl", "1", "2", "+", "#", "", "up", "json", "ack", "cfg", "gym", "box", PLATFORM, UPLOAD_NODE, "$SYS", "UP"]),
    IDS,
    st.text(max_size=4),
)
NAMES = st.lists(LEVEL, max_size=8).map("/".join)


def matches(pattern: str, name: str) -> bool:
    """MQTT 3.1.1, 4.7: whether a filter covers a topic (written here again, so that no broker is its own oracle)."""
    wanted, levels = pattern.split("/"), name.split("/")
    if name.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for i, level in enumerate(wanted):
        if level == "#":
            return i == len(wanted) - 1 and len(levels) >= i
        if i >= len(levels) or level not in {"+", levels[i]}:
            return False
    return len(wanted) == len(levels)


@given(IDS, IDS, LEAF)
def test_topic_round_trips(tenant: str, node: str, leaf: str) -> None:
    assert parse_topic(topic(tenant, node, leaf)) == Address(tenant, node, leaf)


@given(NAMES)
def test_whatever_parses_is_written_the_same(name: str) -> None:
    address = parse_topic(name)
    if address is not None:
        assert topic(address.tenant, address.node, address.leaf) == name
        assert is_id(address.tenant)
        assert is_id(address.node)
        assert address.tenant != PLATFORM
        assert address.node != UPLOAD_NODE


@given(st.one_of(NODES, PLATFORMS))
def test_user_name_round_trips(who: Principal) -> None:
    assert parse_username(who.username) == who


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gym",
        "gym/",
        "/box",
        "gym/box/x",
        "Gym/box",
        "gym/+",
        "#",
        "gym/box ",
        "gym\n/box",
        "a" * 33 + "/b",
        "gym/upload",
        "platform/upload",
    ],
)
def test_a_user_name_that_is_no_principal(name: str) -> None:
    assert parse_username(name) is None


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_node_of_uploaded_files_has_no_topic(leaf: str) -> None:
    name = topic("gym", UPLOAD_NODE, leaf)
    assert parse_topic(name) is None
    for who in (Principal("gym", UPLOAD_NODE), Principal("gym", "box"), Principal(PLATFORM, "ingest")):
        assert not may_publish(who, name)
        assert not may_receive(who, name)
        assert not may_subscribe(who, name)


def test_a_reserved_node_name_is_refused_with_its_reason() -> None:
    assert check_node("box") == "box"
    with pytest.raises(BadInputError, match="reserved for uploaded files"):
        check_node(UPLOAD_NODE)
    with pytest.raises(BadInputError, match="'Box' is not an id"):
        check_node("Box")


@given(NODES, IDS, IDS, LEAF)
def test_a_node_uses_its_own_topics_only(who: Principal, tenant: str, node: str, leaf: str) -> None:
    name = topic(tenant, node, leaf)
    own = (tenant, node) == (who.tenant, who.node)
    assert may_publish(who, name) == (own and leaf in NODE_PUBLISHES)
    assert may_receive(who, name) == (own and leaf in NODE_READS)
    assert may_subscribe(who, name) == may_receive(who, name)


@given(NODES, LEAF)
def test_a_node_may_do_exactly_one_thing_with_each_of_its_topics(who: Principal, leaf: str) -> None:
    name = topic(who.tenant, who.node, leaf)
    assert may_publish(who, name) != may_receive(who, name)


@given(PLATFORMS, IDS, IDS, LEAF)
def test_the_platform_writes_what_nodes_read(who: Principal, tenant: str, node: str, leaf: str) -> None:
    assert may_publish(who, topic(tenant, node, leaf)) == (leaf in NODE_READS)
    assert may_receive(who, topic(tenant, node, leaf))


@given(st.one_of(NODES, PLATFORMS), NAMES)
def test_nothing_outside_our_topics_is_allowed(who: Principal, name: str) -> None:
    if parse_topic(name) is None:
        assert not may_publish(who, name)
        assert not may_receive(who, name)


@given(st.one_of(NODES, PLATFORMS), NAMES)
def test_no_wildcard_is_ever_published_to(who: Principal, name: str) -> None:
    if "+" in name or "#" in name:
        assert not may_publish(who, name)


@given(NODES, NAMES)
def test_a_granted_filter_of_a_node_is_a_topic_it_may_receive(who: Principal, pattern: str) -> None:
    if may_subscribe(who, pattern):
        assert may_receive(who, pattern)


@given(PLATFORMS, st.lists(st.sampled_from(["pl", "1", "+", "#", "gym", "box", *LEAVES, "up/#"]), max_size=7).map("/".join), IDS, IDS, LEAF)
def test_a_granted_filter_covers_only_what_may_be_received(who: Principal, pattern: str, tenant: str, node: str, leaf: str) -> None:
    name = topic(tenant, node, leaf)
    if may_subscribe(who, pattern) and matches(pattern, name):
        assert may_receive(who, name)


@given(NODES, NODES, NAMES)
def test_two_nodes_never_share_a_topic(one: Principal, two: Principal, name: str) -> None:
    if one != two:
        assert not (may_publish(one, name) and may_publish(two, name))
        assert not (may_receive(one, name) and may_receive(two, name))


@pytest.mark.parametrize(
    "pattern",
    ["#", "+", "+/#", "pl/#", f"{ROOT}/#", f"{ROOT}/+/#", f"{ROOT}/+", "$SYS/#", "", "/", f"{ROOT}/+/+/up/json/#", f"{ROOT}/gym+/box/up"],
)
def test_filters_nobody_is_granted(pattern: str) -> None:
    for who in (Principal("gym", "box"), Principal(PLATFORM, "ingest")):
        assert not may_subscribe(who, pattern)


@pytest.mark.parametrize(
    "pattern", [f"{ROOT}/+/+/up", f"{ROOT}/+/+/up/json", f"{ROOT}/gym/+/state", f"{ROOT}/gym/box/#", f"{ROOT}/+/+/#", f"{ROOT}/+/+/up/#"]
)
def test_filters_of_the_platform(pattern: str) -> None:
    assert may_subscribe(Principal(PLATFORM, "ingest"), pattern)
    assert not may_subscribe(Principal("gym", "box"), pattern)
