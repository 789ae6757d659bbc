"""A bare uvicorn endpoint: reads a body and answers 20 items that are always the same. What others cost is held to it.

Run with a port as the only argument.
"""

import sys
from typing import Any

import msgspec
import uvicorn

_SLATE = [{"item_id": f"item-{row:07d}", "score": 0.1234, "source": "sequence", "position": row} for row in range(20)]
_BODY = msgspec.json.encode({"request_id": "0" * 32, "slate": _SLATE, "surface": "home", "fallbacks": []})
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer any request."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, loop="uvloop", lifespan="off"
    )
