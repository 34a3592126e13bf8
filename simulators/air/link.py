"""The air between Bumble's controllers: its local link, with packets that carry the address their connection was made with.

Bumble 0.0.236 sends data under the controller's random address of the moment. A host that scans under a random address and connects under
its public one, as BlueZ does, is then not recognised by its peer ("no connection for ..."), and every packet is lost.
"""

from __future__ import annotations

import asyncio

from bumble.controller import Controller
from bumble.core import PhysicalTransport
from bumble.hci import Address, LeFeatureMask
from bumble.link import LocalLink

# bluetoothd's kernel side uses these two when they are offered, and Bumble's controller answers them incompletely (its issue 841)
_NOT_OFFERED = LeFeatureMask.LL_PRIVACY | LeFeatureMask.LE_EXTENDED_ADVERTISING


class AirLink(LocalLink):
    """See the module."""

    def send_acl_data(self, sender_controller: Controller, destination_address: Address, transport: PhysicalTransport, data: bytes) -> None:
        """Carry one packet; on a connection that is gone it is lost, as on the air."""
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if connection is not None and receiver is not None:
            asyncio.get_running_loop().call_soon(receiver.on_link_acl_data, connection.self_address, transport, data)


def offer_less(controller: Controller) -> None:
    """Take the two features away that a Linux host would use wrongly."""
    controller.le_features &= ~_NOT_OFFERED
