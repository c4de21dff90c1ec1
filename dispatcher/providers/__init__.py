"""One adapter for each kind of provider; the only room that imports httpx."""
