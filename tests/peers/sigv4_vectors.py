"""Prints requests to App Mesh as botocore signs them, for `mesh::sigv4::tests`: one JSON object on a line.

    .venv/bin/python tests/peers/sigv4_vectors.py > tests/golden/sigv4/botocore.jsonl

The requests are those of botocore's own client, with names, tags, pages and owners drawn from a fixed seed, so the file is the
same each time. Nothing is sent.
"""

import datetime
import json
import random
import sys
import uuid
from urllib.parse import urlsplit

import botocore.auth
import botocore.session
from botocore.awsrequest import AWSResponse

CHANCE = random.Random(20260930)
LETTERS = "abcXYZ019-_.~ /%+&=?#:;,@!$'()*[]\"\\äß€🚀"
COUNT = 120


def text(most=24):
    return "".join(CHANCE.choice(LETTERS) for _ in range(CHANCE.randint(1, most)))


def name():
    # botocore itself takes a name of dots as a step in the path.
    drawn = text()
    return drawn if drawn.strip(".") else "checkout"


def maybe(**members):
    return {key: value for key, value in members.items() if CHANCE.random() < 0.5}


def route():
    targets = [{"virtualNode": name(), "weight": CHANCE.randint(0, 100)} for _ in range(CHANCE.randint(1, 3))]
    return {"httpRoute": {"match": {"prefix": "/" + text(8)}, "action": {"weightedTargets": targets}}}


def calls(client):
    arn = f"arn:aws:appmesh:us-east-1:000000000000:mesh/{name()}"
    owner = {"meshOwner": f"{CHANCE.randint(0, 10**12 - 1):012d}"}
    page = {"limit": CHANCE.randint(1, 100), "nextToken": text()}
    router = {"meshName": name(), "virtualRouterName": name()}
    named = {**router, "routeName": name()}
    tags = [{"key": text(8), "value": text(8)} for _ in range(CHANCE.randint(1, 3))]
    return [
        lambda: client.create_mesh(meshName=name(), **maybe(tags=tags)),
        lambda: client.list_meshes(**maybe(**page)),
        lambda: client.describe_route(**named, **maybe(**owner)),
        lambda: client.update_route(**named, spec=route(), **maybe(**owner)),
        lambda: client.create_route(**named, spec=route(), **maybe(**owner, tags=tags)),
        lambda: client.delete_route(**named, **maybe(**owner)),
        lambda: client.list_routes(**router, **maybe(**page, **owner)),
        lambda: client.describe_virtual_service(meshName=name(), virtualServiceName=name()),
        lambda: client.tag_resource(resourceArn=arn, tags=tags),
        lambda: client.untag_resource(resourceArn=arn, tagKeys=[tag["key"] for tag in tags]),
        lambda: client.list_tags_for_resource(resourceArn=arn, **maybe(**page)),
    ]


def main():
    uuid.uuid4 = lambda: uuid.UUID(int=CHANCE.getrandbits(128))
    session = botocore.session.Session()
    sent = []

    def capture(request, **_):
        sent.append(request)
        return AWSResponse(request.url, 200, {}, type("Raw", (), {"stream": lambda *_: [b"{}"], "read": lambda *_: b"{}"})())

    for number in range(COUNT):
        at = datetime.datetime(2026, 9, 30, tzinfo=datetime.timezone.utc) + datetime.timedelta(
            seconds=CHANCE.randint(0, 10**8)
        )
        botocore.auth.get_current_datetime = lambda remove_tzinfo=True, at=at: at.replace(tzinfo=None)
        secret = "".join(CHANCE.choice("abcXYZ019+/") for _ in range(40))
        host = CHANCE.choice(["127.0.0.1:7071", "mesh.shop.internal", "[::1]:7071"])
        client = session.create_client(
            "appmesh",
            region_name=CHANCE.choice(["us-east-1", "eu-central-1", "local"]),
            endpoint_url=f"http://{host}",
            aws_access_key_id=f"AKID{number}",
            aws_secret_access_key=secret,
            aws_session_token=CHANCE.choice([None, "a token/of=STS"]),
        )
        client.meta.events.register("before-send", capture)
        CHANCE.choice(calls(client))()
        request = sent.pop()
        url = urlsplit(request.url)
        body = request.body or b""
        headers = {
            key.lower(): value.decode() if isinstance(value, bytes) else str(value)
            for key, value in request.headers.items()
        }
        # What varies from run to run and from machine to machine, and is not signed.
        for unsigned in ["user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "content-length"]:
            assert f";{unsigned}" not in headers["authorization"], unsigned
            headers.pop(unsigned, None)
        print(
            json.dumps(
                {
                    "secret": secret,
                    "now_ms": int(at.timestamp() * 1000),
                    "method": request.method,
                    "path": url.path,
                    "query": url.query,
                    "headers": {**headers, "host": host},
                    "body": body.decode() if isinstance(body, bytes) else body,
                },
                sort_keys=True,
            )
        )


if __name__ == "__main__":
    sys.exit(main())
