"""HTTP, as the outside sees it: routes turn requests into commands and outcomes into answers."""
