"""Recommend, click, and wait until the list is that of a user who clicked: the circle through every running part.

Standard library only. Reads RECOMMENDER and COLLECTOR (URLs), KEY (an API key that may recommend and write) and
SECONDS_TO_WAIT. Exits 0 when the click has changed the list, 1 with one sentence when it has not.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

NOBODY = "no_history"


def call(url: str, body: dict) -> dict:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['KEY']}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{url} answered {error.code}: {error.read().decode(errors='replace')[:500]}")
    except OSError as error:
        sys.exit(f"{url} does not answer: {error}")


def main() -> None:
    recommender, collector = os.environ["RECOMMENDER"], os.environ["COLLECTOR"]
    user = f"helm-test-{uuid.uuid4().hex}"

    def slate() -> dict:
        return call(f"{recommender}/v1/recommend", {"user_id": user, "n": 5})

    before = slate()
    shown = [item["item_id"] for item in before["slate"]]
    if not shown:
        sys.exit("the list is empty: send items to the collector first")
    if NOBODY not in before["fallbacks"]:
        sys.exit(f"a user who never was here has a history: {before['fallbacks']}")
    click = {"user_id": user, "item_id": shown[0], "kind": "click", "request_id": before["request_id"], "position": 0}
    accepted = call(f"{collector}/v1/events", click)
    print(f"shown {shown}; clicked {shown[0]}: {accepted['results'][0]['status']}")
    started, limit = time.monotonic(), float(os.environ.get("SECONDS_TO_WAIT", "60"))
    while time.monotonic() - started < limit:
        now = slate()
        items = [item["item_id"] for item in now["slate"]]
        # Lists differ by exploration too; that the user has a history comes from the click alone.
        if NOBODY not in now["fallbacks"] and items != shown:
            print(f"after {time.monotonic() - started:.2f} s the list is {items}")
            return
        time.sleep(0.05)
    sys.exit(f"the click did not change the list within {limit:.0f} s")


main()
