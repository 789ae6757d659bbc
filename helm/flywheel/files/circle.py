"""Recommend, click, and wait until the list has changed: the circle through every running part. Standard library only.

Reads RECOMMENDER and COLLECTOR (URLs), KEY (an API key that may recommend and write) and SECONDS_TO_WAIT.
Exits 0 when the click changed the list, 1 with one sentence when it did not.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid


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
    click = {"user_id": user, "item_id": shown[0], "kind": "click", "request_id": before["request_id"], "position": 0}
    accepted = call(f"{collector}/v1/events", click)
    print(f"shown {shown}; clicked {shown[0]}: {accepted['results'][0]['status']}")
    started = time.monotonic()
    while time.monotonic() - started < float(os.environ.get("SECONDS_TO_WAIT", "60")):
        items = [item["item_id"] for item in slate()["slate"]]
        if items != shown:
            print(f"after {time.monotonic() - started:.1f} s the list is {items}")
            return
        time.sleep(0.2)
    sys.exit(f"the list did not change within {os.environ.get('SECONDS_TO_WAIT', '60')} s of the click")


main()
