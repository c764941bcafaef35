"""Board profiles and bitstreams as data. Adding a board is adding `profiles/NAME.json`."""
