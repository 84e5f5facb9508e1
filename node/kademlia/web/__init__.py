"""The peer's HTTP endpoints: `kademlia.web.api` routes them, `kademlia.web.site` bounds what clients may cost."""
