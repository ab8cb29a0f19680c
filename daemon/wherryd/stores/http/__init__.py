"""Requests to the servers of stores, each sent once.

``transport``  the one HTTP session of a store: time-outs, and nothing that is repeated behind our back
``sending``    a body on its way, and how much of it has arrived
``sendfile``   from a file into a connection, without a copy
``route``      proxies and certificates
``answers``    what the answers of every server have in common

What is asked, and as whom, is the stores' own (``s3``, ``gs``).
"""
