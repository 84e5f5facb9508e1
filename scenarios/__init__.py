"""Break a Kademlia network on purpose and judge, with evidence, whether the data survived."""
