"""References: what a server says of data that stays where it is."""
