"""Callbacks for other people's trainers: ``lightning`` and ``transformers``, a module each.

Nothing of Wherry imports them, and each imports its framework, which Wherry does not bring.
"""
