"""What client and daemon agree on: messages, names, places on the machine, and the transport.

The daemon may import this package and ``wherry.errors``, and nothing else of the client.
"""

PROTOCOL = 8
"""Newest protocol number that this code speaks (``Hello`` exchanges it)."""

VERSION = "0.1.0"
"""This distribution's version; a look into its metadata would cost 20 ms at each start."""
