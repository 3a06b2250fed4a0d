import socket

import pytest

from gateway.embedded import free_port
from gateway.embedded.ports import HIGHEST, LOWEST, free_ports
from gateway.errors import InvalidRequest


def test_a_free_port_is_kept() -> None:
    port = free_port()
    assert free_port(port) == port


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - to collide with it.
def test_a_port_somebody_listens_on_is_replaced(address: str) -> None:
    with socket.create_server((address, 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port


def test_a_port_with_remains_of_closed_connections_is_kept() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = server.accept()
        # The side that closes first keeps the port in TIME_WAIT.
        served.close()
        assert client.recv(1) == b""
        client.close()
    assert free_port(port) == port


def test_ports_chosen_together_differ_and_lie_outside_the_range_of_outgoing_connections() -> None:
    ports = free_ports([0] * 200)
    assert len(set(ports)) == 200
    assert min(ports) >= LOWEST
    assert max(ports) <= HIGHEST


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        free_port(port)
    assert caught.value.code == "invalid_port"
    assert caught.value.hint
