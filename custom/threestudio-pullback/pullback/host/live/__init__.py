"""Looking on in a browser, by viser: while a run samples, and at what it has made."""
