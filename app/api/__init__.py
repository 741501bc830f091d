"""HTTP: what the outside sees. The only importer of fastapi. Routes turn requests into commands and outcomes into answers."""
