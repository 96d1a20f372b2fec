"""Drives all 38 operations of App Mesh at an endpoint with boto3, and prints a table: one row for each operation, one
column for each case. Exits with 1 when a case did not end as it must, or an operation has none.

    .venv/bin/python tests/peers/appmesh_operations.py URL [unavailable]

The endpoint has to be empty, keep the default quotas of AWS, and belong to account 000000000000. `unavailable` checks
instead that an endpoint whose store fails says so to every operation that writes, and goes on reading.
"""
import sys

import boto3
import botocore.config
import botocore.exceptions

URL = sys.argv[1]
ACCOUNT = "000000000000"
client = boto3.client(
    "appmesh", endpoint_url=URL, region_name="eu-central-1", aws_access_key_id="any", aws_secret_access_key="any",
    config=botocore.config.Config(retries={"max_attempts": 1, "mode": "standard"}, proxies={}),
)
OPERATIONS = sorted(client.meta.service_model.operation_names)
METHODS = {operation: method for method, operation in client.meta.method_to_api_mapping.items()}
results = {operation: {} for operation in OPERATIONS}
failures = []


def note(operation, case, problem=None):
    before = results[operation].get(case, "ok")
    results[operation][case] = "ok" if problem is None and before == "ok" else "FAILED"
    if problem is not None:
        failures.append(f"{operation}, {case}: {problem}")


def call(operation, case, code=None, check=None, **arguments):
    """One call; `code` is the error that it must end with, and `check` looks at the answer."""
    try:
        answer = getattr(client, METHODS[operation])(**arguments)
    except botocore.exceptions.ClientError as error:
        found = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if found != code:
            note(operation, case, f"{found} instead of {code}: {error}")
            return None
        # The SDK has a class for every error that the model lists for the operation.
        listed = [shape.name for shape in client.meta.service_model.operation_model(operation).error_shapes]
        modelled = {shape.name: shape.metadata["error"]["httpStatusCode"]
                    for shape in client.meta.service_model.operation_model(operation).error_shapes}
        if found not in listed:
            note(operation, case, f"{found} is not an error of {operation}: {listed}")
        elif modelled[found] != status:
            note(operation, case, f"{found} has status {modelled[found]}, not {status}")
        elif not error.response["Error"].get("Message"):
            note(operation, case, "no message")
        else:
            note(operation, case)
        return None
    if code is not None:
        note(operation, case, f"worked instead of {code}")
    elif answer["ResponseMetadata"]["HTTPStatusCode"] != 200:
        note(operation, case, f"status {answer['ResponseMetadata']['HTTPStatusCode']}")
    elif check is not None and not check(answer):
        note(operation, case, f"answered {answer}")
    else:
        note(operation, case)
    return answer


HTTP = {"port": 8080, "protocol": "http"}
NODE = {"listeners": [{"portMapping": HTTP}], "serviceDiscovery": {"dns": {"hostname": "h"}}}
ROUTER = {"listeners": [{"portMapping": HTTP}]}
GATEWAY = {"listeners": [{"portMapping": {"port": 80, "protocol": "http"}}]}
SERVICE = {"provider": {"virtualRouter": {"virtualRouterName": "router"}}}


def route(weight=1, node="node"):
    return {"httpRoute": {"match": {"prefix": "/"},
                          "action": {"weightedTargets": [{"virtualNode": node, "weight": weight}]}}}


def gateway_route(service="service"):
    return {"httpRoute": {"match": {"prefix": "/"},
                          "action": {"target": {"virtualService": {"virtualServiceName": service}}}}}


# Kind, member of its name, what it is in, a spec, another one, one that the SDK takes and the API refuses.
KINDS = [
    ("Mesh", "meshName", {}, {"egressFilter": {"type": "ALLOW_ALL"}}, {}, {"egressFilter": {"type": "SOME"}}),
    ("VirtualNode", "virtualNodeName", {"meshName": "mesh"}, NODE, {**NODE, "backends": []},
     {"listeners": [{"portMapping": {"port": 70000, "protocol": "http"}}]}),
    ("VirtualRouter", "virtualRouterName", {"meshName": "mesh"}, ROUTER, {},
     {"listeners": [{"portMapping": HTTP}, {"portMapping": HTTP}]}),
    ("Route", "routeName", {"meshName": "mesh", "virtualRouterName": "router"}, route(), route(2), route(101)),
    ("VirtualService", "virtualServiceName", {"meshName": "mesh"}, SERVICE, {},
     {"provider": {"virtualRouter": {"virtualRouterName": "r" * 256}}}),
    ("VirtualGateway", "virtualGatewayName", {"meshName": "mesh"}, GATEWAY,
     {**GATEWAY, "backendDefaults": {}},
     {"listeners": [{"portMapping": {"port": 80, "protocol": "tcp"}}]}),
    ("GatewayRoute", "gatewayRouteName", {"meshName": "mesh", "virtualGatewayName": "gateway"}, gateway_route(),
     {**gateway_route(), "priority": 5}, {**gateway_route(), "priority": 1001}),
]
NAMES = {"Mesh": "mesh", "VirtualNode": "node", "VirtualRouter": "router", "Route": "route",
         "VirtualService": "service", "VirtualGateway": "gateway", "GatewayRoute": "gateway-route"}


def plural(kind):
    return "Meshes" if kind == "Mesh" else f"{kind}s"


def member(kind):
    return kind[0].lower() + kind[1:]


def fill():
    """One resource of each kind, and all that can be refused about creating and updating it."""
    for kind, named, within, spec, other, wrong in KINDS:
        create, update, describe = f"Create{kind}", f"Update{kind}", f"Describe{kind}"
        own = {**within, named: NAMES[kind]}
        data = member(kind)
        tags = [{"key": "team", "value": "payments"}, {"key": "empty", "value": ""}]
        call(create, "bad request", "BadRequestException", **own, spec=wrong)
        if kind != "Mesh":
            gone = {**own, "meshName": "nowhere"}
            call(create, "not found", "NotFoundException", **gone, spec=spec)
            call(create, "other owner", "NotFoundException", **own, spec=spec, meshOwner="111111111111")
        if kind == "Route":
            call(create, "dangling", "NotFoundException", **own, spec=route(1, "nowhere"))
        if kind == "GatewayRoute":
            call(create, "dangling", "NotFoundException", **own, spec=gateway_route("nowhere"))
        token = f"create-{kind}"
        first = call(create, "works", **own, spec=spec, tags=tags, clientToken=token,
                     check=lambda a: a[data]["metadata"]["version"] == 1 and a[data]["spec"] == spec
                     and a[data]["status"] == {"status": "ACTIVE"} and a[data][named] == own[named]
                     and a[data]["metadata"]["meshOwner"] == ACCOUNT)
        call(create, "same token", **own, spec=spec, tags=tags, clientToken=token,
             check=lambda a: a[data]["metadata"] == first[data]["metadata"])
        call(create, "token of another", "ConflictException", **own, spec=other, clientToken=token)
        call(create, "name is taken", "ConflictException", **own, spec=spec)
        call(describe, "works", **own, check=lambda a: a[data]["metadata"]["uid"] == first[data]["metadata"]["uid"])
        call(update, "bad request", "BadRequestException", **own, spec=wrong)
        call(update, "works", **own, spec=other, clientToken=f"update-{kind}",
             check=lambda a: a[data]["metadata"]["version"] == 2 and a[data]["spec"] == other)
        call(update, "same token", **own, spec=other, clientToken=f"update-{kind}",
             check=lambda a: a[data]["metadata"]["version"] == 2)
        call(update, "token of another", "ConflictException", **own, spec=spec, clientToken=f"update-{kind}")
        call(update, "works", **own, spec=spec, check=lambda a: a[data]["metadata"]["version"] == 3)
        none = {**own, named: "nowhere"}
        call(describe, "not found", "NotFoundException", **none)
        call(update, "not found", "NotFoundException", **none, spec=spec)
        if kind != "Mesh":
            call(describe, "other owner", "NotFoundException", **own, meshOwner="111111111111")
            call(update, "other owner", "NotFoundException", **own, spec=spec, meshOwner="111111111111")
        call(describe, "own owner", **own, meshOwner=ACCOUNT)
        call(describe, "bad request", "BadRequestException", **{**own, named: "n" * 256})
        tag_cases(first[data]["metadata"]["arn"])


def tag_cases(arn):
    call("ListTagsForResource", "works", resourceArn=arn,
         check=lambda a: a["tags"] == [{"key": "empty", "value": ""}, {"key": "team", "value": "payments"}])
    call("TagResource", "works", resourceArn=arn, tags=[{"key": "team", "value": "checkout"}])
    call("UntagResource", "works", resourceArn=arn, tagKeys=["empty", "never there"])
    call("ListTagsForResource", "works", resourceArn=arn,
         check=lambda a: a["tags"] == [{"key": "team", "value": "checkout"}])
    many = [{"key": f"k{n:02}", "value": "v"} for n in range(50)]
    call("TagResource", "too many tags", "TooManyTagsException", resourceArn=arn, tags=many)
    call("TagResource", "bad request", "BadRequestException", resourceArn=arn,
         tags=[{"key": "k", "value": "v" * 257}])
    call("UntagResource", "bad request", "BadRequestException", resourceArn=arn, tagKeys=["k" * 129])
    call("ListTagsForResource", "bad request", "BadRequestException", resourceArn="arn:aws:s3:::bucket")
    missing = arn.rsplit("/", 1)[0] + "/nowhere"
    for operation, more in [("TagResource", {"tags": []}), ("UntagResource", {"tagKeys": []}), ("ListTagsForResource", {})]:
        call(operation, "not found", "NotFoundException", resourceArn=missing, **more)


def pages(operation, key, expected, **arguments):
    """The SDK's own paginator goes through small pages to the same end as one large page."""
    paginator = client.get_paginator(METHODS[operation])
    found = [item for page in paginator.paginate(**arguments, PaginationConfig={"PageSize": 2}) for item in page[key]]
    note(operation, "pages", None if len(found) == expected else f"{len(found)} items in pages, not {expected}")
    call(operation, "bad token", "BadRequestException", **arguments, nextToken="00")
    call(operation, "bad request", "BadRequestException", **arguments, limit=101)


def lists_and_limits():
    """Fills each kind up to its quota and pages through it. Quotas of 200 take a while and are counted once."""
    limits = {"Mesh": 15, "VirtualNode": 200, "Route": 50, "VirtualGateway": 3, "GatewayRoute": 10}
    for kind, named, within, spec, _, _ in KINDS:
        list_all, key = f"List{plural(kind)}", member(plural(kind))
        count = limits.get(kind, 5)
        for number in range(1, count):
            getattr(client, METHODS[f"Create{kind}"])(**within, **{named: f"{kind}-{number}"}, spec=spec)
        if kind in limits:
            call(f"Create{kind}", "quota", "LimitExceededException", **within, **{named: "one-more"}, spec=spec)
        expected = min(count, 100)
        call(list_all, "works", **within,
             check=lambda a: len(a[key]) == expected and a[key][0]["meshOwner"] == ACCOUNT
             and ("nextToken" in a) == (count > 100))
        pages(list_all, key, count, **within)
        if kind != "Mesh":
            call(list_all, "not found", "NotFoundException", **{**within, "meshName": "nowhere"})
            call(list_all, "own owner", **within, meshOwner=ACCOUNT)
            call(list_all, "other owner", "NotFoundException", **within, meshOwner="111111111111")
    arn = client.describe_mesh(meshName="mesh")["mesh"]["metadata"]["arn"]
    client.tag_resource(resourceArn=arn, tags=[{"key": f"k{n:02}", "value": ""} for n in range(4)])
    pages("ListTagsForResource", "tags", 5, resourceArn=arn)


def tear_down():
    """What is in use stays, and in the order of AWS's messages everything goes."""
    call("DeleteMesh", "in use", "ResourceInUseException", meshName="mesh")
    for kind in ("VirtualNode", "VirtualRouter", "VirtualService", "VirtualGateway"):
        named = next(entry[1] for entry in KINDS if entry[0] == kind)
        call(f"Delete{kind}", "in use", "ResourceInUseException", meshName="mesh", **{named: NAMES[kind]})
    order = ["GatewayRoute", "VirtualGateway", "VirtualService", "Route", "VirtualRouter", "VirtualNode", "Mesh"]
    for kind in order:
        named, within = next((entry[1], entry[2]) for entry in KINDS if entry[0] == kind)
        paginator = client.get_paginator(METHODS[f"List{plural(kind)}"])
        items = [item[named] for page in paginator.paginate(**within) for item in page[member(plural(kind))]]
        for name in items:
            call(f"Delete{kind}", "works", **within, **{named: name},
                 check=lambda a: a[member(kind)]["status"] == {"status": "DELETED"})
        call(f"Delete{kind}", "not found", "NotFoundException", **within, **{named: NAMES[kind]})
        call(f"Delete{kind}", "bad request", "BadRequestException", **within, **{named: "n" * 256})
        if kind != "Mesh":
            call(f"Delete{kind}", "other owner", "NotFoundException", **within, **{named: "x"}, meshOwner="111111111111")


def unavailable():
    """The store fails: whatever writes says so, and reading works."""
    for kind, named, within, spec, _, _ in KINDS:
        own = {**within, named: NAMES[kind]}
        call(f"Create{kind}", "unavailable", "ServiceUnavailableException", **{**own, named: "new"}, spec=spec)
        call(f"Update{kind}", "unavailable", "ServiceUnavailableException", **own, spec=spec)
        arn = call(f"Describe{kind}", "still reads", **own)[member(kind)]["metadata"]["arn"]
        call(f"List{plural(kind)}", "still reads", **within)
        call("TagResource", "unavailable", "ServiceUnavailableException", resourceArn=arn, tags=[{"key": "a", "value": "b"}])
        call("UntagResource", "unavailable", "ServiceUnavailableException", resourceArn=arn, tagKeys=["a"])
        call("ListTagsForResource", "still reads", resourceArn=arn)
    for kind in ("Route", "GatewayRoute"):
        named, within = next((entry[1], entry[2]) for entry in KINDS if entry[0] == kind)
        call(f"Delete{kind}", "unavailable", "ServiceUnavailableException", **within, **{named: NAMES[kind]})
    # These are in use, so that nothing would be written.
    for operation in ("DeleteMesh", "DeleteVirtualNode", "DeleteVirtualRouter", "DeleteVirtualService", "DeleteVirtualGateway"):
        results[operation]["unavailable"] = "in use"


def table():
    cases = []
    for row in results.values():
        cases += [case for case in row if case not in cases]
    width = max(len(operation) for operation in OPERATIONS)
    print(" " * width, "  ".join(cases))
    for operation in OPERATIONS:
        print(operation.ljust(width), "  ".join(results[operation].get(case, "-").ljust(len(case)) for case in cases))
    done = sum(len(row) for row in results.values())
    print(f"{len(OPERATIONS)} operations, {done} cells, {len(failures)} failures")


if "unavailable" in sys.argv[2:]:
    unavailable()
elif "fill" in sys.argv[2:]:
    fill()
else:
    fill()
    lists_and_limits()
    tear_down()
for operation in OPERATIONS:
    if not results[operation] and "fill" not in sys.argv[2:]:
        failures.append(f"{operation} was not called")
table()
for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(1 if failures or len(OPERATIONS) != 38 else 0)
