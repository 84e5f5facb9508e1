"""Tests of the peer: `trial kademlia`."""
