"""Rpc: messages in, messages out."""
