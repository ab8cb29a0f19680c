"""An S3 bucket as a store, on AWS or any server that speaks its protocol.

``store``      the verbs
``multipart``  big files, in parts (``stores.stepwise``)
``sender``     one request: with which credentials, at what time, in which region; sent again only if refused
``signing``    Signature Version 4 with the content hash that we have
``answers``    what a status and an error code mean
``listing``    pages of keys
``identity``   from a set of credentials to keys, through botocore
``place``      host, path and region of the bucket
``traits``     in what servers differ
``ways``       what each set of credentials leads to: its keys and its place

Requests go out by ``stores.http``. Every body carries its SHA-256 in the signature (Amazon S3 API
Reference, "Signature Calculations for the Authorization Header": x-amz-content-sha256), and in a header of
its own where the server takes that. Where it does not say that it has compared them, the bytes of files are
compared as they leave.
"""

from wherryd.stores.s3.store import S3Store

__all__ = ["S3Store"]
