"""The network interface by which the ranks of several machines reach each other.

gloo asks a name server for this machine's own address otherwise. Where /etc/hosts gives its name
127.0.1.1, as Debian's installer does, the other machines are told that address, and reach none.
"""

import ipaddress
import os
import socket
from typing import Any

import psutil
from torch.distributed import Store  # type: ignore[attr-defined]

from deepsort_reid.core.errors import TrainingError
from deepsort_reid.core.launch import PATIENCE

VARIABLE = "GLOO_SOCKET_IFNAME"
FIRST = "address-of-rank-0"


def own_address(address: str, port: int, store: Store) -> str:
    """This machine's address, as seen by rank 0's machine; empty on that machine itself.

    Args:
        address: the name or address of rank 0's machine.
        port: at which it is met there.
        store: is told how rank 0's machine is reached from another one.

    Raises:
        TrainingError: it cannot be reached any more.
    """
    try:
        with socket.create_connection((address, port), timeout=PATIENCE) as connection:
            there, here = str(connection.getpeername()[0]), str(connection.getsockname()[0])
    except OSError as error:
        raise TrainingError(
            f"{address}:{port}, where rank 0 is, cannot be reached any more: {error}"
        ) from error
    if here == there or ipaddress.ip_address(there.partition("%")[0]).is_loopback:
        return ""
    store.set(FIRST, there)
    return here


def address_of_first(store: Store) -> str:
    """The address of rank 0's machine, as the others reach it and have told the store."""
    return store.get(FIRST).decode()


def choose(address: str) -> None:
    """Let gloo use the interface that has this address, unless the user has chosen one."""
    if VARIABLE not in os.environ and (name := interface_of(address)):
        os.environ[VARIABLE] = name


def interface_of(address: str) -> str | None:
    """The name of the interface with an address; None if there is none."""
    interfaces: dict[str, list[Any]] = psutil.net_if_addrs()
    for name, addresses in interfaces.items():
        if any(found.address.partition("%")[0] == address for found in addresses):
            return name
    return None
