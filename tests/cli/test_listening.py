import socket

import pytest

from luthier.cli.serve import _listen
from luthier.core.errors import Unavailable
from luthier.core.settings import Settings


def test_the_listener_names_tcp_so_that_answers_leave_at_once():
    with _listen(Settings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        port = listener.getsockname()[1]
        with pytest.raises(Unavailable, match="choose another by --port"):
            _listen(Settings(port=port))
