"""The neighbour of reserve over HTTP: a FastAPI route that takes the same body, validates it alike, and does nothing.

The annotated return type lets Pydantic write the answer, the faster of FastAPI's two ways. Served like the gateway.
"""

import socket

import uvicorn
from fastapi import FastAPI

from app.api.schemas import ReserveBody

app = FastAPI()


@app.post("/inventory/v1/reservations", status_code=201)
async def reserve(body: ReserveBody) -> dict[str, str]:
    """Holds nothing."""
    return {"token": "0-AAAAAAAAAAAAAAAAAAAAAA", "status": "held", "sku": body.sku}


def main() -> None:
    """Serves with the settings of `app.workflows.serving`, on a free port that it prints."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(f"The baseline answers on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="none", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, timeout_keep_alive=75,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
