"""A bare peer on UDP 8468, without a webserver: `twistd -noy node/server.tac`.

KADEMLIA_CONFIG may name a configuration file; without one the peer is on 127.0.0.1 and forgets when it ends.
"""

import os

from kademlia.launch import application_of

application = application_of(os.environ.get("KADEMLIA_CONFIG"), webserver=False)
