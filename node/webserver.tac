"""A peer on UDP 8468 with a webserver on port 8080: `twistd -noy node/webserver.tac`.

KADEMLIA_CONFIG may name a configuration file; without one the peer is on 127.0.0.1 and forgets when it ends.
"""

import os

from kademlia.launch import application_of

application = application_of(os.environ.get("KADEMLIA_CONFIG"), webserver=True)
